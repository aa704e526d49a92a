"""Priors for latents that are there, on densities whose log-likelihood is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from chainfree.energies import MLP
from chainfree.fitting import fit_latent_prior
from chainfree.samplers import sample_tilted


def _ring(n: int, seed: int) -> Tensor:
    """A thin circle of radius 2, even in its angle; its density is known."""
    source = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=source)
    radius = 2 + 0.1 * torch.randn(n, generator=source)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _log_density(z: Tensor) -> Tensor:
    radius = z.norm(dim=1)
    return torch.distributions.Normal(2.0, 0.1).log_prob(radius) - (2 * math.pi * radius).log()


def test_a_thin_sheet_is_learned_and_its_likelihood_is_that_of_the_truth() -> None:
    torch.manual_seed(0)
    z = _ring(4000, 0)
    network = MLP(2, width=64, depth=2, activation="relu")
    fitted = fit_latent_prior(z, network, components=4, steps=1000, seed=0)
    fresh = _ring(2000, 1)
    log_prob = -fitted.energy(fresh).double() - fitted.log_z.value
    of_base = -fitted.energy.base(fresh)  # type: ignore[operator]
    truth = float(_log_density(fresh).mean())
    assert truth - 0.3 < float(log_prob.mean()) < truth + 0.03
    assert float(log_prob.mean()) > float(of_base.mean()) + 0.4  # four normals are no circle
    assert fitted.held_out == pytest.approx(float(log_prob.mean()), abs=0.15)
    drawn = sample_tilted(fitted.energy, 3000, proposals=32, generator=torch.Generator().manual_seed(2)).x
    assert float(drawn.norm(dim=1).mean()) == pytest.approx(2.0, abs=0.03)
    assert float(drawn.norm(dim=1).std()) < 0.17
    assert float(drawn.mean(0).norm()) < 0.12


def test_a_seed_fixes_it_and_no_rows_may_be_held_out() -> None:
    z = _ring(300, 3)
    torch.manual_seed(0)
    network = MLP(2, width=8, depth=1)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = []
    for _ in range(2):
        network.load_state_dict(state)
        found.append(fit_latent_prior(z, network, components=2, steps=20, held_out=0.0, seed=4))
    assert found[0].held_out is None
    assert torch.equal(found[0].energy(z), found[1].energy(z))


def test_without_steps_it_is_the_mixture() -> None:
    z, fresh = _ring(1000, 5), _ring(500, 6)
    fitted = fit_latent_prior(z, MLP(2, width=8, depth=1), components=4, steps=0, seed=0)
    torch.testing.assert_close(-fitted.energy(fresh), fitted.energy.base.log_prob(fresh))  # type: ignore[operator]
    assert fitted.log_z.value == 0 and fitted.steps == 0 and fitted.held_out == fitted.held_out_base
    assert fitted.held_out == pytest.approx(float(-fitted.energy(fresh).mean()), abs=0.3)


def test_the_mixture_is_judged_before_it_is_moved() -> None:
    """A device whose tensors have no values stands for an accelerator."""
    fitted = fit_latent_prior(_ring(300, 5), MLP(2, width=8, depth=1), components=2, steps=0, seed=0, device="meta")
    assert fitted.held_out is not None
    assert {part.device.type for part in fitted.energy.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("z", "changes", "words"),
    [
        (torch.zeros(5), {}, r"latents must be rows of shape \(N, latent_dim\), got \(5,\)"),
        (torch.full((5, 2), torch.nan), {}, "first in row 0"),
        (torch.randn(50, 2), {"held_out": 1.0}, "held_out"),
        (torch.randn(50, 2), {"components": 60}, "components"),
        (torch.randn(50, 2), {"noise": (0.5, 0.02), "components": 2}, "low must not be above high"),
        (torch.randn(50, 2), {"steps": -1, "components": 2}, "steps"),
    ],
)
def test_what_makes_no_prior_is_refused(z: Tensor, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_latent_prior(z, MLP(2, width=4), **changes)  # type: ignore[arg-type]
