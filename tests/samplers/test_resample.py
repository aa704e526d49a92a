"""Resampled draws of a linear generator have the energy's law, whatever the generator's."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from chainfree.energies import GaussianClasses, JointEnergy
from chainfree.generators import LinearGenerator
from chainfree.samplers import resample, resample_class


def _net(scale: float = 1.3) -> LinearGenerator:
    return LinearGenerator(scale * torch.eye(2, dtype=torch.float64), sigma=0.3)


def _energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (x - 0.5).square().sum(1)


def _source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_law_is_the_energy_s() -> None:
    found = resample(_energy, _net(), 1000, proposals=4000, generator=_source())
    for column in (found.x[:, 0], found.x[:, 1]):
        assert stats.kstest(column.numpy(), "norm", args=(0.5, 1.0)).pvalue > 1e-3
    assert (
        stats.kstest(_net().sample(1000, generator=_source()).x[:, 0].detach().numpy(), "norm", args=(0.5, 1)).pvalue
        < 1e-3
    )
    assert 1000 < float(found.effective_sample_size) < 4000


def test_only_the_given_source_is_used_and_the_net_stays() -> None:
    net, state = _net().train(), torch.get_rng_state()
    one, two = (resample(_energy, net, 10, proposals=50, generator=_source(3)).x for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), state) and net.training
    assert not one.requires_grad


def test_refusals() -> None:
    with pytest.raises(ValueError, match="n=5 and proposals=4"):
        resample(_energy, _net(), 5, proposals=4)
    with pytest.raises(ValueError, match="not finite"):
        resample(lambda x: torch.full((len(x),), torch.inf), _net(), 5, proposals=10)


class _Logits(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        means = torch.tensor([[-1.0, 0.0], [1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
        self.classes = GaussianClasses(
            means, torch.eye(2, dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes.log_joint(x)


def test_draws_of_all_rows_become_draws_of_a_class() -> None:
    logits = _Logits()
    energy = JointEnergy(logits, classes=3)
    rows = logits.classes.sample(20_000, generator=_source())
    for y, (first, second) in enumerate(logits.classes.means.tolist()):
        found = resample_class(energy, rows, y, 1000, generator=_source(1))
        for column, mean in ((found.x[:, 0], first), (found.x[:, 1], second)):
            assert stats.kstest(column.numpy(), "norm", args=(mean, 1.0)).pvalue > 1e-3
        shares = torch.softmax(logits.classes.log_joint(rows), 1)[:, y]
        assert float(found.effective_sample_size) == pytest.approx(float(shares.sum() ** 2 / shares.square().sum()))
    far = torch.full((20, 2), 60.0, dtype=torch.float64)  # all of class 1
    with pytest.raises(ValueError, match="expected to be of class 2; draw more"):
        resample_class(energy, far, 2, 5)
    with pytest.raises(ValueError, match="NaN or infinite"):
        resample_class(energy, far.fill_(torch.nan), 1, 5)
    with pytest.raises(ValueError, match="n=5 and 4"):
        resample_class(energy, rows[:4], 0, 5)
    with pytest.raises(ValueError, match="y must be a class"):
        resample_class(energy, rows, 3, 5)
