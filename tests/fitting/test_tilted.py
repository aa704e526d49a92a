"""Tilts of a base against densities that are known."""

from __future__ import annotations

import math

import pytest
import torch

from chainfree.energies import MLP, Gaussian, GaussianMixture
from chainfree.fitting import fit_tilted
from chainfree.perturbations import Gaussian as Noise

TRUTH = GaussianMixture(torch.tensor([[-1.2, 0.0], [1.2, 0.5]]), 0.3, weights=[0.3, 0.7])


def _rows(n: int, seed: int) -> torch.Tensor:
    return TRUTH.sample(n, generator=torch.Generator().manual_seed(seed))


def _network() -> MLP:
    torch.manual_seed(0)
    return MLP(dim=2, width=64, depth=2, activation="relu")


def test_a_normal_is_tilted_to_a_mixture_and_normalised() -> None:
    rows, held, new = _rows(4000, 0), _rows(1000, 1), _rows(4000, 2)
    base = Gaussian.fit(rows)
    fit = fit_tilted(rows, base, _network(), perturbation=Noise(t=0.1), held_out=held, steps=800, seed=0)
    assert fit.held_out is not None and fit.held_out_base is not None
    assert fit.held_out_base == pytest.approx(float(base.log_prob(held).mean()), abs=1e-4)
    likelihood = float((-fit.energy(new) - fit.log_z.value).mean())
    best, before = float(TRUTH.log_prob(new).mean()), float(base.log_prob(new).mean())
    assert best - likelihood < 0.1 * (best - before)
    # log Z by a grid
    axis = torch.linspace(-7, 7, 281)
    mass = torch.logsumexp(-fit.energy(torch.cartesian_prod(axis, axis)), 0) + 2 * math.log(0.05)
    assert float(mass) == pytest.approx(fit.log_z.value, abs=4 * fit.log_z.standard_error + 1e-3)
    assert not any(p.requires_grad for p in fit.energy.parameters())


def test_where_there_is_nothing_to_learn_the_base_comes_back() -> None:
    base = Gaussian([0.0, 0.0])
    rows = base.sample(200, generator=torch.Generator().manual_seed(0))
    held = base.sample(500, generator=torch.Generator().manual_seed(1))
    fit = fit_tilted(rows, base, _network(), perturbation=Noise(t=0.1), held_out=held, steps=400, patience=2, seed=0)
    assert fit.steps < 400 and "no better" in fit.stopped
    if fit.held_out == fit.held_out_base:
        assert fit.log_z.value == 0.0
        torch.testing.assert_close(fit.energy(held), -base.log_prob(held))
    else:  # by chance: less than the error of 500 rows
        assert fit.held_out is not None and fit.held_out_base is not None
        assert 0 < fit.held_out - fit.held_out_base < 0.05


def test_without_held_out_rows_it_trains_to_the_end() -> None:
    rows = _rows(500, 0)
    fit = fit_tilted(rows, Gaussian.fit(rows), _network(), perturbation=Noise(t=0.1), steps=30, seed=0)
    assert (fit.steps, fit.held_out, fit.held_out_base) == (30, None, None)


def test_refusals() -> None:
    rows = _rows(50, 0)
    with pytest.raises(ValueError, match="steps must be a whole number above 0, got 0"):
        fit_tilted(rows, Gaussian.fit(rows), _network(), perturbation=Noise(t=0.1), steps=0)
    with pytest.raises(ValueError, match="lr must be a finite number above 0, got 0"):
        fit_tilted(rows, Gaussian.fit(rows), _network(), perturbation=Noise(t=0.1), lr=0)
