"""Telescoping ratios: the sum of the bridges is the log-density."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from chainfree.energies import MLP, Gaussian, Telescope
from chainfree.losses import TelescopingRatios


class Quadratic(nn.Module):
    """The log-ratio of two normals on the line is quadratic, so this one is no approximation."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.cat([x, x.square()], dim=1)).squeeze(1)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_best_bridges_make_the_density_normalised() -> None:
    """Data N(1, 0.2^2), noise N(0, 1): a single ratio would be a chasm."""
    data = 1 + 0.2 * torch.randn(40_000, 1, dtype=torch.float64, generator=_seeded(1))
    energy = Telescope(Gaussian(torch.zeros(1, dtype=torch.float64)), [Quadratic() for _ in range(4)])
    loss = TelescopingRatios(power=1.0)
    optimizer = torch.optim.LBFGS(energy.parameters(), max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(energy, data, generator=_seeded(2)).loss
        value.backward()
        return value

    optimizer.step(closure)
    x = torch.linspace(0.6, 1.4, 9, dtype=torch.float64).unsqueeze(1)
    truth = 0.5 * ((x[:, 0] - 1) / 0.2).square() + math.log(0.2) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(energy(x).detach(), truth, rtol=0, atol=0.06)  # log Z is 0, not fitted


def test_bridges_at_zero_are_coins() -> None:
    energy = Telescope(Gaussian(torch.zeros(2)), [MLP(2), MLP(2), MLP(2)])
    x = torch.randn(7, 2, generator=_seeded())
    output = TelescopingRatios()(energy, x, generator=_seeded(1))
    torch.testing.assert_close(output.loss.detach(), torch.tensor(6 * math.log(2)))
    torch.testing.assert_close(output.metrics["least_bridge_loss"], torch.tensor(2 * math.log(2)))
    torch.testing.assert_close(energy(x), -energy.noise.log_prob(x))


def test_waymarks_have_the_variance_of_both_ends() -> None:
    """Noise and data of variance 1 give every waymark variance 1; the first is the data, the last the noise."""
    seen: list[Tensor] = []

    class Sees(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return self.last(x).squeeze(1)

    energy = Telescope(Gaussian(torch.zeros(1)), [Sees(), Sees(), Sees()])
    x = torch.randn(50_000, 1, generator=_seeded(1))
    TelescopingRatios(power=2.0)(energy, x, generator=_seeded(2))
    marks = [part for pair in seen for part in pair.split(len(x))]
    assert torch.equal(marks[0], x) and torch.equal(marks[1], marks[2]) and torch.equal(marks[3], marks[4])
    assert all(float(mark.var()) == pytest.approx(1, abs=0.03) for mark in marks)
    correlation = [float((mark * x).mean()) for mark in marks]
    assert correlation[1] == pytest.approx((1 - (1 / 9) ** 2) ** 0.5, abs=0.03)
    assert correlation[-1] == pytest.approx(0, abs=0.03)


def test_a_compiled_telescope_is_one() -> None:
    class Compiled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

    energy = Telescope(Gaussian(torch.zeros(1)), [MLP(1)])
    x = torch.zeros(3, 1)
    losses = [TelescopingRatios()(e, x, generator=_seeded()).loss for e in (energy, Compiled(energy))]
    assert torch.equal(losses[0], losses[1])


def test_only_telescopes_are_trained() -> None:
    with pytest.raises(TypeError, match=r"train a chainfree\.energies\.Telescope, got a MLP"):
        TelescopingRatios()(MLP(2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="at least one bridge"):
        Telescope(Gaussian([0.0]), [])
    with pytest.raises(TypeError, match="must be a density"):
        Telescope(lambda x: x, [MLP(2)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="power"):
        TelescopingRatios(power=0.0)
