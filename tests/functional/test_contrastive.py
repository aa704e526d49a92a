"""The energy's side of every game, against sums by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.functional.contrastive import PenaltyAt, contrast, require_penalty_at


def _rows(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_sum_of_its_terms(weighted: bool) -> None:
    x, fake = _rows(5, 0), _rows(7, 1)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    log_density = _rows(7, 2)[:, 0] if weighted else None
    found = contrast(
        lambda v: 0.5 * scale * v.square().sum(1),
        x,
        fake,
        gradient_penalty=0.3,
        energy_square=0.2,
        log_density=log_density,
    )
    data, samples = 0.35 * x.square().sum(1), 0.35 * fake.square().sum(1)
    weights = torch.full((7,), 1 / 7, dtype=torch.float64)
    if log_density is not None:
        weights = torch.exp(-samples - log_density)
        weights = weights / weights.sum()
        assert found.weights is not None
        torch.testing.assert_close(found.weights.values, weights)
    else:
        assert found.weights is None
    expected = data.mean() - (weights * samples).sum() + 0.15 * (0.7 * x).square().sum(1).mean()
    expected = expected + 0.2 * (data.square().mean() + samples.square().mean())
    torch.testing.assert_close(found.loss.detach(), expected)
    torch.testing.assert_close(found.data.detach(), data)
    torch.testing.assert_close(found.samples.detach(), samples)
    # weights are constants: d/d scale by hand
    (gradient,) = torch.autograd.grad(found.loss, scale)
    slope = data.mean() - (weights * samples).sum() + 2 * 0.15 * (0.7 * x).square().sum(1).mean()
    slope = slope + 2 * 0.2 * (data.square().mean() + samples.square().mean())
    torch.testing.assert_close(gradient, slope / 0.7)


def test_every_row_is_evaluated_once_and_the_caller_s_are_left_alone() -> None:
    passes: list[int] = []
    x, fake = _rows(2, 0), _rows(4, 1)

    def energy(v: Tensor) -> Tensor:
        passes.append(len(v))
        return v.square().sum(1)

    contrast(energy, x, fake)
    assert passes == [6]
    contrast(energy, x, fake, gradient_penalty=1.0)
    assert sum(passes) == 12
    assert not x.requires_grad
    with pytest.raises(ContractError, match="squeeze the last axis"):
        contrast(lambda v: v[:, :1], x, fake)


@pytest.mark.parametrize(("n", "m"), [(6, 4), (5, 7), (1, 1), (1, 3)])
def test_a_penalty_at_both_is_that_of_every_other_row(n: int, m: int) -> None:
    x, fake = _rows(n, 0), _rows(m, 1)
    found = contrast(lambda v: (v**3).sum(1), x, fake, gradient_penalty=0.3, penalty_at="both")
    torch.testing.assert_close(found.data.detach(), (x**3).sum(1))
    torch.testing.assert_close(found.samples.detach(), (fake**3).sum(1))
    halves = x[::2], fake[::2]
    square = sum((3 * rows**2).square().sum(1).mean() for rows in halves) / 2
    torch.testing.assert_close(found.loss.detach(), (x**3).sum(1).mean() - (fake**3).sum(1).mean() + 0.15 * square)


@pytest.mark.parametrize(("n", "m", "every"), [(7, 4, 3), (6, 9, 2), (2, 3, 5), (8, 8, 4)])
@pytest.mark.parametrize("at", ["data", "both"])
def test_a_penalty_at_some_rows_leaves_energies_as_they_were(n: int, m: int, every: int, at: PenaltyAt) -> None:
    x, fake = _rows(n, 0), _rows(m, 1)
    asked: list[Tensor] = []

    def energy(v: Tensor) -> Tensor:
        asked.append(v.detach())
        return (v**3).sum(1)

    found = contrast(energy, x, fake, gradient_penalty=0.3, penalty_at=at, penalty_every=every)
    torch.testing.assert_close(found.data.detach(), (x**3).sum(1))
    torch.testing.assert_close(found.samples.detach(), (fake**3).sum(1))
    picked = [x[::every]] if at == "data" else [x[:: 2 * every], fake[:: 2 * every]]
    torch.testing.assert_close(asked[0], torch.cat(picked))  # what is differentiated twice
    assert sum(map(len, asked)) == n + m
    square = sum((3 * rows**2).square().sum(1).mean() for rows in picked) / len(picked)
    torch.testing.assert_close(found.loss.detach(), (x**3).sum(1).mean() - (fake**3).sum(1).mean() + 0.15 * square)


def test_only_a_penalty_at_both_bounds_an_energy_that_is_flat_at_the_data() -> None:
    x, fake = -1 - _rows(8, 0).abs(), 1 + _rows(8, 1).abs()

    def loss(scale: float, at: PenaltyAt) -> float:
        return float(
            contrast(lambda v: scale * v.relu().sum(1), x, fake, gradient_penalty=1.0, penalty_at=at).loss.detach()
        )

    gap = float(fake.sum(1).mean())
    # at the data nothing is lost by a steeper wall
    assert [loss(scale, "data") for scale in (1.0, 10.0, 100.0)] == pytest.approx([-gap, -10 * gap, -100 * gap])
    # the slope is (1, 1, 1) at every sample and 0 at the data: -gap s + 3 s^2 / 4 is least at 2 gap / 3
    best = 2 * gap / 3
    assert loss(best, "both") == pytest.approx(-(gap**2) / 3)
    assert min(loss(0.9 * best, "both"), loss(1.1 * best, "both")) > loss(best, "both")


@pytest.mark.parametrize("at", ["data", "both"])
def test_the_best_energy_solves_its_poisson_equation(at: PenaltyAt) -> None:
    """In one dimension gamma m E' = F_p - F_q less a constant: (F_p - F_q) / gamma m, with m the data's or the mixture."""
    x, fake = _rows(40_000, 0)[:, :1], 0.7 + _rows(40_000, 1)[:, :1]
    edges = torch.linspace(-2.5, 3.2, 20, dtype=torch.float64)
    slopes = torch.zeros(len(edges) - 1, dtype=torch.float64, requires_grad=True)

    def energy(v: Tensor) -> Tensor:
        # every bin has a slope of its own
        return ((v - edges[:-1]).clamp_min(0).minimum(edges.diff()) * slopes).sum(1)

    loss = contrast(energy, x, fake, gradient_penalty=0.2, penalty_at=at).loss
    (gradient,) = torch.autograd.grad(loss, slopes, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(g, slopes, retain_graph=True)[0] for g in gradient])
    best = -torch.linalg.solve(curvature, gradient.detach())
    p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.7, 1.0)
    centres = (edges[:-1] + edges[1:]) / 2
    density = p.log_prob(centres).exp()
    if at == "both":
        density = 0.5 * (density + q.log_prob(centres).exp())
    expected = (p.cdf(centres) - q.cdf(centres)) / (0.2 * density)
    middle = (centres > -1.5) & (centres < 2.0)
    torch.testing.assert_close(best[middle], expected[middle], rtol=0.12, atol=0.0)


def test_across_a_gap_neither_penalty_counts() -> None:
    x, fake = -1 - _rows(8, 0).abs(), 1 + _rows(8, 1).abs()
    for at in ("data", "both"):
        losses = [
            float(
                contrast(
                    lambda v, s=scale: s * v.clamp(-0.9, 0.9).sum(1), x, fake, gradient_penalty=1.0, penalty_at=at
                ).loss.detach()
            )
            for scale in (1.0, 100.0)
        ]
        assert losses == pytest.approx([-5.4, -540.0])


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="penalty_at must be 'data' or 'both', got 'samples'"):
        require_penalty_at("samples")
