"""Energy discrepancy with a reference, against the likelihood and sums by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from chainfree.energies import MLP, Gaussian, GaussianMixture, Tilted
from chainfree.functional import energy_discrepancy, referenced_discrepancy, shared_contrast, stabilised_contrast
from chainfree.losses import EnergyDiscrepancy
from chainfree.perturbations import Gaussian as GaussianNoise


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_seeded(seed))


def _wide(dim: int, variance: float = 4.0) -> Gaussian:
    return Gaussian(torch.zeros(dim, dtype=torch.float64), variance * torch.eye(dim, dtype=torch.float64))


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0])
def test_shared_draws_are_those_of_every_row(w: float) -> None:
    data, draws = _rows(6), _rows(20, seed=2)
    expected = stabilised_contrast(data, draws.unsqueeze(1).expand(20, 6), w)
    torch.testing.assert_close(shared_contrast(data, draws, w), expected)
    by_hand = (w / 20 + (data[:, None] - draws).exp().mean(1)).log()
    torch.testing.assert_close(shared_contrast(data, draws, w), by_hand)


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("among", [1, 4, 20])
def test_a_row_meets_every_group_of_draws(w: float, among: int) -> None:
    data, draws = _rows(6), _rows(20, seed=2)
    groups = [stabilised_contrast(data, g.unsqueeze(1).expand(among, 6), w) for g in draws.split(among)]
    torch.testing.assert_close(shared_contrast(data, draws, w, among=among), torch.stack(groups).mean(0))


def test_pairs_are_told_apart_by_logistic_regression() -> None:
    """M = 1 at w = 1 is the cross-entropy of which of a pair is the datum, over all pairs."""
    data, draws = 10 * _rows(6), 10 * _rows(20, seed=2)
    logits = (draws.unsqueeze(0) - data.unsqueeze(1)).flatten()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    torch.testing.assert_close(shared_contrast(data, draws, 1.0, among=1).mean(), expected)


def test_draws_must_fill_their_groups() -> None:
    with pytest.raises(ValueError, match="6 draws are not in groups of 4"):
        shared_contrast(_rows(2), _rows(6), 1.0, among=4)


def test_many_rows_share_draws_in_blocks() -> None:
    """What is kept grows with the rows, not with their square."""
    energy, x = lambda r: r.square().sum(1), _rows(1300, 2)
    found = referenced_discrepancy(
        energy,
        x,
        perturbation=GaussianNoise(t=1.0),
        reference=_wide(2),
        share=1.0,
        draws=3,
        among=4,
        generator=_seeded(5),
    )
    drawn = _wide(2).sample(3 * 1300, generator=_seeded(5))
    assert found.draw_energy.shape == (3 * 1300,)  # a multiple of blocks and groups
    reference = _wide(2)
    g = lambda r: energy(r) + reference.log_prob(r)  # noqa: E731
    first = shared_contrast(g(x[:434]), g(drawn[:1300]), 1.0, among=4)
    last = shared_contrast(g(x[867:]), g(drawn[2600:]), 1.0, among=4)
    torch.testing.assert_close(found.values[:434], first)
    torch.testing.assert_close(found.values[867:], last)


def test_where_no_draw_has_mass_the_gradient_is_zero() -> None:
    data = torch.zeros(2, requires_grad=True)
    draws = torch.full((3,), math.inf, requires_grad=True)
    values = shared_contrast(data, draws, 1.0)
    values.sum().backward()
    torch.testing.assert_close(values.detach(), torch.full((2,), -math.log(3)))
    assert not bool(data.grad.any()) and not bool(draws.grad.any())  # type: ignore[union-attr]
    assert bool(torch.isnan(shared_contrast(torch.zeros(2), torch.tensor([0.0, math.nan]), 1.0)).all())


def test_with_many_draws_it_is_the_negative_log_likelihood() -> None:
    energy = GaussianMixture(torch.tensor([[-1.0], [1.5]], dtype=torch.float64), 0.3)
    x = energy.sample(50, generator=_seeded(1))
    found = referenced_discrepancy(
        lambda r: energy(r) + 3.0,  # log Z = -3
        x,
        perturbation=GaussianNoise(t=1.0),
        reference=_wide(1),
        share=1.0,
        draws=20_000,
        among=None,
        generator=_seeded(2),
    )
    expected = -energy.log_prob(x) + _wide(1).log_prob(x)  # the reference is no part of the model
    torch.testing.assert_close(found.values, expected, rtol=0, atol=0.02)
    torch.testing.assert_close(found.data_energy, energy(x) + 3.0)


@pytest.mark.parametrize(("draws", "among"), [(1, 1), (2, 4), (1, None), (4, None)])
def test_the_truth_is_the_minimiser_with_few_draws_too(draws: int, among: int | None) -> None:
    """In the mean over the data, by the derivative along a family through the truth."""
    truth = GaussianMixture(torch.tensor([[-3.0], [3.0]], dtype=torch.float64), 0.5, weights=[0.3, 0.7])
    x = truth.sample(6_000, generator=_seeded(1))
    slopes = []
    for seed in range(40):
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
        part = x[seed * 150 : (seed + 1) * 150]
        found = referenced_discrepancy(
            lambda r, s=shift: truth(r) + s * torch.tanh(r[:, 0]),
            part,
            perturbation=GaussianNoise(t=1.0),
            reference=_wide(1, 16.0),
            share=1.0,
            draws=draws,
            among=among,
            generator=_seeded(100 + seed),
        )
        slopes.append(float(torch.autograd.grad(found.values.mean(), shift)[0]))
    stacked = torch.tensor(slopes)
    assert abs(float(stacked.mean())) < 4 * float(stacked.std()) / 40**0.5
    assert float(stacked.std()) < 0.2


def test_without_the_datum_among_its_draws_no_mass_is_an_infinite_loss() -> None:
    """At w = 0 nothing bounds it, and a number in its place would hide that."""
    draws = torch.full((3,), math.inf)
    assert bool((shared_contrast(torch.zeros(2), draws, 0.0) == -math.inf).all())


def test_the_weights_of_far_modes_count() -> None:
    """Which is what small noise alone does not see."""
    means = torch.tensor([[-5.0], [5.0]], dtype=torch.float64)
    x = GaussianMixture(means, 1.0, weights=[0.2, 0.8]).sample(4_000, generator=_seeded(1))

    def slope(loss: EnergyDiscrepancy) -> float:
        values = []
        for weight in (0.45, 0.55):
            energy = GaussianMixture(means, 1.0, weights=[weight, 1 - weight])
            values.append(float(loss(energy, x, generator=_seeded(2)).loss))
        return (values[1] - values[0]) / 0.1

    small = GaussianNoise(t=0.1)
    assert abs(slope(EnergyDiscrepancy(perturbation=small))) < 1e-3
    assert slope(EnergyDiscrepancy(perturbation=small, reference=_wide(1, 36.0))) > 0.3


def test_the_other_rows_have_the_plain_discrepancy() -> None:
    energy, x = lambda r: (r.square() * (1 + r.sin())).sum(1), _rows(10, 2)
    noise = GaussianNoise(t=0.5)
    found = referenced_discrepancy(
        energy, x, perturbation=noise, reference=_wide(2), share=0.3, draws=4, generator=_seeded(5)
    )
    source = _seeded(5)
    drawn = _wide(2).sample(12, generator=source)
    plain = energy_discrepancy(energy, x[3:], perturbation=noise, draws=4, generator=source)
    torch.testing.assert_close(found.values[3:], plain.values)
    reference = _wide(2)
    g = lambda r: energy(r) + reference.log_prob(r)  # noqa: E731
    torch.testing.assert_close(found.values[:3], shared_contrast(g(x[:3]), g(drawn), 1.0))
    assert found.draw_energy.shape == (40,)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_tilt_of_the_reference_is_contrasted_without_its_density(share: float) -> None:
    torch.manual_seed(0)
    base, x = _wide(2), _rows(10, 2)
    tilted = Tilted(base, MLP(2, width=8, depth=2)).double()
    last = list(tilted.network.parameters())[-2]
    torch.nn.init.normal_(last)
    asked: list[int] = []

    class Counted(torch.nn.Module):
        def log_prob(self, rows: Tensor) -> Tensor:
            asked.append(len(rows))
            return base.log_prob(rows)

        def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
            return base.sample(n, generator=generator)

    counted = Counted()
    loss = EnergyDiscrepancy(perturbation=GaussianNoise(t=0.5), reference=counted, share=share)
    both = (tilted, Tilted(counted, tilted.network))
    torch.nn.init.normal_(last, generator=_seeded(3))  # Tilted has set it to zero
    values, gradients, rows = [], [], []
    for energy in both:
        asked.clear()
        found = loss(energy, x, generator=_seeded(5))
        value = found.loss
        values.append(value)
        gradients.append(torch.autograd.grad(value, last)[0])
        rows.append(sum(asked))
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(
        found.metrics["energy_data"], tilted.network(x).mean().detach()
    )  # of one kind in all rows
    count = round(10 * share)
    assert rows == [
        count + 4 * count,
        (10 - count) * 5,
    ]  # the plain energy has asked its own base for all of them beside


def test_settings_are_checked() -> None:
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
            EnergyDiscrepancy(reference=_wide(1), share=share)
    with pytest.raises(ValueError, match="among"):
        EnergyDiscrepancy(reference=_wide(1), among=0)
    with pytest.raises(ValueError, match="among must be at most the draws, 2 for each of 3 rows"):
        EnergyDiscrepancy(reference=_wide(1), share=1.0, draws=2, among=7)(lambda x: x.sum(1), _rows(3, 1))
    with pytest.raises(ValueError, match="not taken in chunks"):
        EnergyDiscrepancy(reference=_wide(1), chunk=2)
