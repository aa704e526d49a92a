"""What is learned from rows with holes, against what whole rows of the same density say."""

from __future__ import annotations

import math

import pytest
import torch

from chainfree.energies import MLP, Gaussian, TabularMixture
from chainfree.fitting import IncompleteRows, fit_incomplete_tabular_mixture, fit_tilted
from chainfree.perturbations import Gaussian as Noise


def _classes(n: int, seed: int) -> torch.Tensor:
    """Two codes that are nearly a function of each other, and a number whose mean they are."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(4, (n,), generator=generator)
    same = torch.rand(n, generator=generator) < 0.97
    second = torch.where(same, first, torch.randint(4, (n,), generator=generator))
    number = first.float() + 0.3 * torch.randn(n, generator=generator)
    return torch.stack([first.float(), second.float(), number], 1)


def _holes(x: torch.Tensor, share: float, seed: int) -> IncompleteRows:
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(x.shape, generator=generator) >= share
    others = torch.stack([column[torch.randperm(len(x), generator=generator)] for column in x.T], 1)
    return IncompleteRows(torch.where(known, x, others), known)


def test_a_mixture_is_found_through_the_holes() -> None:
    x, new = _classes(3000, 0), _classes(4000, 1)
    whole = fit_incomplete_tabular_mixture(IncompleteRows(x, torch.ones_like(x, dtype=torch.bool)), [4, 4, None])
    rows = _holes(x, 0.3, 2)
    found = fit_incomplete_tabular_mixture(rows, [4, 4, None], turns=2, seed=0)
    # what stood in the holes at first: columns by themselves
    guessed = fit_incomplete_tabular_mixture(
        IncompleteRows(rows.x, torch.ones_like(rows.known)), [4, 4, None], turns=2, seed=0
    )
    best, ours, naive = (float(mixture.log_prob(new).mean()) for mixture in (whole, found, guessed))
    assert best - ours < 0.2 * (best - naive), (best, ours, naive)
    again = fit_incomplete_tabular_mixture(rows, [4, 4, None], turns=2, seed=0)
    torch.testing.assert_close(again.log_prob(new), found.log_prob(new))


def _banana(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=generator)
    return torch.stack([x, x.square() - 1 + 0.3 * torch.randn(n, generator=generator)], 1)


def _one_normal(x: torch.Tensor) -> TabularMixture:
    return TabularMixture([None, None], components=1).set_(
        weights=torch.ones(1),
        means=x.mean(0, keepdim=True),
        covariances=torch.cov(x.T).unsqueeze(0),
        shown_means=torch.zeros(1, 0),
        shown_scales=torch.ones(1, 0),
        shares=torch.zeros(0, 1),
    )


def test_a_tilt_is_found_through_the_holes() -> None:
    """A third of the cells is unknown, and holds what the base would put there."""
    x, held, new = _banana(6000, 0), _banana(1000, 1), _banana(4000, 2)
    base = _one_normal(x)
    known = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) >= 1 / 3
    known_held = torch.rand(held.shape, generator=torch.Generator().manual_seed(4)) >= 1 / 3

    def fitted(rows: torch.Tensor | IncompleteRows, by: torch.Tensor | IncompleteRows) -> float:
        torch.manual_seed(0)
        network = MLP(dim=2, width=64, depth=2, activation="relu")
        fit = fit_tilted(rows, base, network, perturbation=Noise(t=0.1), held_out=by, steps=600, seed=0)
        if isinstance(by, IncompleteRows):
            assert fit.held_out_base == pytest.approx(float(base.log_marginal(by.x, by.known).mean()), abs=1e-4)
            assert fit.held_out is not None and fit.held_out > fit.held_out_base
        return float((-fit.energy(new) - fit.log_z.value).mean())

    filled = base.sample_given(x, known, generator=torch.Generator().manual_seed(5))
    best, naive = fitted(x, held), fitted(filled, held)
    ours = fitted(IncompleteRows(x.masked_fill(~known, torch.nan), known), IncompleteRows(held, known_held))
    assert best - ours < 0.5 * (best - naive), (best, ours, naive)


def test_the_likelihood_of_what_is_known_is_that_of_many_draws() -> None:
    """Against the mean weight of 2,000 draws of the base given what is known, row by row."""
    x, held = _banana(2000, 0), _banana(500, 1)
    base = _one_normal(x)
    known = torch.rand(held.shape, generator=torch.Generator().manual_seed(4)) >= 1 / 3
    torch.manual_seed(0)
    network = MLP(dim=2, width=64, depth=2, activation="relu")
    fit = fit_tilted(
        x, base, network, perturbation=Noise(t=0.1), held_out=IncompleteRows(held, known), steps=300, seed=0
    )
    drawn = base.sample_given(held, known, draws=2000, generator=torch.Generator().manual_seed(6))
    log_mean = torch.logsumexp(-fit.energy.network(drawn).view(500, 2000), 1) - math.log(2000)
    expected = float((base.log_marginal(held, known) + log_mean).mean()) - fit.log_z.value
    # forty draws are half a fiftieth of a nat too low here, eight would be five times that
    assert fit.held_out is not None and fit.held_out_base is not None
    assert expected - 0.04 < fit.held_out < expected + 0.01
    assert expected - fit.held_out_base > 0.2


def test_refusals() -> None:
    x = torch.randn(10, 2)
    with pytest.raises(ValueError, match=r"x and known are \(N, D\) both, got \(10, 2\) and \(10, 3\)"):
        IncompleteRows(x, torch.ones(10, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"known is boolean, got torch.float32"):
        IncompleteRows(x, torch.ones_like(x))
    rows = IncompleteRows(x, torch.ones_like(x, dtype=torch.bool))
    for setting, value, why in (
        ("turns", -1, "turns must be 0 or more, got -1"),
        ("pooled", 0, "pooled must be a whole"),
    ):
        with pytest.raises(ValueError, match=why):
            fit_incomplete_tabular_mixture(rows, [None, None], **{setting: value})
    with pytest.raises(TypeError, match="a Gaussian has no sample_given"):
        fit_tilted(rows, Gaussian([0.0, 0.0]), MLP(dim=2), perturbation=Noise(t=0.1), steps=1)
