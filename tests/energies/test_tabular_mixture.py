"""Mixtures of products against sums over all that rows can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import TabularMixture

# two numbers, one of three categories, a number that may be hidden in two ways, a category of two
COLUMNS = [None, None, 3, None, 3, 2]
STATES = {3: 4}
COMPONENTS = 4


def _mixture(seed: int = 0) -> TabularMixture:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = normal(COMPONENTS, 2, 2)
    return (
        TabularMixture(COLUMNS, components=COMPONENTS, states=STATES)
        .double()
        .set_(
            weights=normal(COMPONENTS).exp(),
            means=1.5 * normal(COMPONENTS, 2),
            covariances=0.3 * root @ root.mT + 0.2 * torch.eye(2),
            shown_means=normal(COMPONENTS, 1),
            shown_scales=0.5 * normal(COMPONENTS, 1).exp(),
            shares=normal(8, COMPONENTS).exp(),
        )
    )


def test_the_density_is_that_of_scipy() -> None:
    mixture = _mixture()
    x = mixture.sample(50, generator=torch.Generator().manual_seed(1))
    total = torch.zeros(50, dtype=torch.float64)
    for k in range(COMPONENTS):
        covariance = mixture.factors[k] @ mixture.factors[k].T
        numbers = stats.multivariate_normal(mixture.means[k].numpy(), covariance.numpy()).pdf(x[:, :2].numpy())
        shown = stats.norm(float(mixture.shown_means[k, 0]), float(mixture.shown_scales[k, 0])).pdf(x[:, 3].numpy())
        third = np.where(x[:, 4].numpy() == 0, shown, stats.norm.pdf(x[:, 3].numpy()))
        shares = mixture.log_shares[:, k].exp()
        codes = x.long()
        of_codes = shares[codes[:, 2]] * shares[3 + codes[:, 4]] * shares[6 + codes[:, 5]]
        total += mixture.log_weights[k].exp() * torch.from_numpy(numbers * third) * of_codes
    torch.testing.assert_close(mixture.log_prob(x), total.log(), rtol=0, atol=1e-12)
    assert mixture.log_z == 0.0
    torch.testing.assert_close(mixture.log_joint(x).logsumexp(1), mixture.log_prob(x))


def test_its_sum_over_everything_is_one() -> None:
    mixture = _mixture()
    axis = torch.linspace(-9, 9, 61, dtype=torch.float64)
    codes = [torch.arange(size, dtype=torch.float64) for size in (3, 3, 2)]
    rows = torch.cartesian_prod(axis, axis, codes[0], axis, codes[1], codes[2])
    mass = sum(float(mixture.log_prob(part).exp().sum()) for part in rows.split(200_000))
    assert mass * 0.3**3 == pytest.approx(1.0, abs=4e-3)  # of the grid


def test_draws_follow_the_density() -> None:
    mixture = _mixture()
    x = mixture.sample(40_000, generator=torch.Generator().manual_seed(2))
    for place, start, size in ((2, 0, 3), (4, 3, 3), (5, 6, 2)):
        truth = (mixture.log_weights + mixture.log_shares[start : start + size]).exp().sum(1)
        counts = torch.bincount(x[:, place].long(), minlength=size)
        assert stats.chisquare(counts.numpy(), 40_000 * truth.numpy()).pvalue > 1e-4
    weights = mixture.log_weights.exp()
    torch.testing.assert_close(x[:, :2].mean(0), weights @ mixture.means, atol=0.05, rtol=0)
    hidden = x[x[:, 4] != 0, 3]
    assert stats.kstest(hidden.numpy(), "norm").pvalue > 1e-4
    assert torch.equal(x, mixture.sample(40_000, generator=torch.Generator().manual_seed(2)))
    assert mixture.sample(0).shape == (0, 6)


@pytest.mark.parametrize("known", [(0, 2), (2, 3, 4), (0, 1, 5), (), (3, 4)])
def test_draws_given_some_columns_have_the_conditional_density(known: tuple[int, ...]) -> None:
    """By weights over draws of the whole, which know nothing of conditionals."""
    mixture, draws = _mixture(), 30_000
    row = torch.tensor([0.4, -0.6, 1.0, 0.7, 0.0, 1.0], dtype=torch.float64)
    fixed = torch.zeros(draws, 6, dtype=torch.bool)
    fixed[:, list(known)] = True
    given = mixture.sample_given(row.expand(draws, 6), fixed, generator=torch.Generator().manual_seed(3))
    assert torch.equal(given[fixed], row.expand(draws, 6)[fixed])
    # proposals: of the free columns wide and even, weighted by the joint density
    generator = torch.Generator().manual_seed(4)
    wide = row.repeat(400_000, 1)
    log_q = torch.zeros(400_000, dtype=torch.float64)
    for place, size in enumerate(COLUMNS):
        if place in known:
            continue
        if size is None:
            wide[:, place] = 3 * torch.randn(400_000, generator=generator, dtype=torch.float64)
            log_q += torch.distributions.Normal(0.0, 3.0).log_prob(wide[:, place])
        else:
            wide[:, place] = torch.randint(size, (400_000,), generator=generator).double()
    weights = torch.softmax(mixture.log_prob(wide) - log_q, 0)
    ess = 1 / float(weights.square().sum())
    for place, size in enumerate(COLUMNS):
        for power in (1, 2):
            truth = float(weights @ wide[:, place] ** power)
            spread = float(weights @ (wide[:, place] ** power - truth).square()) ** 0.5
            error = 4 * spread * (1 / ess + 1 / draws) ** 0.5 + 1e-9
            assert float((given[:, place] ** power).mean()) == pytest.approx(truth, abs=error), (place, size, power)
    if 1 not in known and 2 not in known:
        truth = float(weights @ (wide[:, 1] * (wide[:, 2] == 2)))
        assert float((given[:, 1] * (given[:, 2] == 2)).mean()) == pytest.approx(truth, abs=0.05)


def test_several_draws_of_each_row_are_as_many_rows_draws() -> None:
    mixture = _mixture()
    x = mixture.sample(3, generator=torch.Generator().manual_seed(0))
    fixed = torch.zeros(3, 6, dtype=torch.bool)
    fixed[0, [0, 2]] = fixed[1, [1, 3, 4]] = True
    several = mixture.sample_given(x, fixed, draws=20_000, generator=torch.Generator().manual_seed(1)).view(3, -1, 6)
    for row in range(3):
        alone = mixture.sample_given(
            x[row].expand(20_000, 6), fixed[row].expand(20_000, 6), generator=torch.Generator().manual_seed(row)
        )
        assert torch.equal(several[row][:, fixed[row]], alone[:, fixed[row]])
        for place in (~fixed[row]).nonzero().flatten().tolist():
            found, expected = several[row][:, place].numpy(), alone[:, place].numpy()
            if COLUMNS[place] is None:
                assert stats.ks_2samp(found, expected).pvalue > 1e-4
            else:
                counts = [np.bincount(codes.astype(int), minlength=3) + 1 for codes in (found, expected)]
                assert stats.chi2_contingency(np.stack(counts)).pvalue > 1e-4
    with pytest.raises(ValueError, match="draws must be a whole number above 0, got 0"):
        mixture.sample_given(x, fixed, draws=0)


def test_the_density_of_some_cells_is_the_sum_over_the_others() -> None:
    mixture = _mixture()
    row = torch.tensor([0.4, -0.6, 1.0, 0.7, 0.0, 1.0], dtype=torch.float64)
    axis = torch.linspace(-12, 12, 481, dtype=torch.float64)
    free = {0: axis, 2: torch.arange(3.0).double(), 5: torch.arange(2.0).double()}
    fixed = torch.ones(6, dtype=torch.bool)
    fixed[list(free)] = False
    rows = row.repeat(len(axis) * 6, 1)
    rows[:, list(free)] = torch.cartesian_prod(*free.values())
    summed = torch.logsumexp(mixture.log_prob(rows), 0) + np.log(0.05)
    nonsense = torch.where(fixed, row, 1e6)
    found = mixture.log_marginal(nonsense.repeat(2, 1), fixed.repeat(2, 1))
    torch.testing.assert_close(found, summed.expand(2))
    x = mixture.sample(5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixture.log_marginal(x, torch.ones_like(x, dtype=torch.bool)), mixture.log_prob(x))
    nothing = mixture.log_marginal(x, torch.zeros_like(x, dtype=torch.bool))
    torch.testing.assert_close(nothing, torch.zeros(5, dtype=torch.float64))


def test_rows_may_know_different_columns() -> None:
    mixture = _mixture()
    x = mixture.sample(6, generator=torch.Generator().manual_seed(5))
    fixed = torch.zeros(6, 6, dtype=torch.bool)
    fixed[0, [0, 1]] = fixed[1, [3, 4]] = fixed[2, 0] = fixed[3, [1, 2]] = True
    fixed[4] = True
    nonsense = torch.where(fixed, x, 1e6)  # what is not known is not looked at
    drawn = mixture.sample_given(nonsense, fixed, generator=torch.Generator().manual_seed(6))
    assert torch.equal(drawn[fixed], x[fixed]) and torch.equal(drawn[4], x[4])
    assert bool((drawn.abs() < 1e3).all())


def test_refusals() -> None:
    with pytest.raises(ValueError, match="a mixture has columns and components, got 0 and 2"):
        TabularMixture([], components=2)
    mixture = _mixture()
    x = mixture.sample(3)
    halves = torch.zeros(3, 6, dtype=torch.bool)
    halves[:, 3] = True
    with pytest.raises(ValueError, match="the same of a number and its state"):
        mixture.sample_given(x, halves)
    with pytest.raises(ContractError, match="rows of shape"):
        mixture(x[:, :4])
    flat = TabularMixture([None, None], components=1)
    with pytest.raises(ValueError, match="not positive definite"):
        flat.set_(
            weights=torch.ones(1),
            means=torch.zeros(1, 2),
            covariances=torch.ones(1, 2, 2),
            shown_means=torch.zeros(1, 0),
            shown_scales=torch.zeros(1, 0),
            shares=torch.zeros(0, 1),
        )


def test_cells_that_are_not_fixed_may_be_anything() -> None:
    mixture = TabularMixture([None, 2], components=2, states={0: 1}).set_(
        weights=torch.tensor([0.01, 0.99]),
        means=torch.zeros(2, 0),
        covariances=torch.zeros(2, 0, 0),
        shown_means=torch.tensor([[-50.0], [50.0]]),
        shown_scales=torch.ones(2, 1),
        shares=torch.tensor([[1.0, 1.0], [1e-9, 1e-9]]),
    )
    rows = torch.tensor([[torch.nan, 0.0]]).repeat(2000, 1)
    drawn = mixture.sample_given(
        rows, torch.zeros(2000, 2, dtype=torch.bool), generator=torch.Generator().manual_seed(0)
    )
    assert float(drawn[:, 0].mean()) == pytest.approx(49.0, abs=1.0)


def test_reserved_codes_are_never_drawn() -> None:
    mixture = TabularMixture([4, None], components=2, reserved={0: 2})
    assert float(mixture.sample(2000)[:, 0].max()) == 1.0
    assert float(mixture.log_prob(torch.tensor([[3.0, 0.0]]))) > -10


def test_draws_of_many_numbers_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = _mixture()
    monkeypatch.setattr("chainfree.energies.tabular_mixture._MOST_ENTRIES", 300)
    drawn = mixture.sample(5000, generator=torch.Generator().manual_seed(0))
    truth = mixture.log_weights.exp() @ mixture.means
    torch.testing.assert_close(drawn[:, :2].mean(0), truth, atol=0.12, rtol=0)


def test_draws_given_columns_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = _mixture()
    x = mixture.sample(200, generator=torch.Generator().manual_seed(0))
    fixed = torch.zeros_like(x, dtype=torch.bool)
    fixed[:, 0] = True
    fixed[::3, 1] = True

    def drawn() -> Tensor:
        return mixture.sample_given(x, fixed, draws=3, generator=torch.Generator().manual_seed(1))

    whole = drawn()
    parts: list[int] = []
    split = Tensor.split
    monkeypatch.setattr(
        Tensor, "split", lambda self, size, *a, **k: parts.append(size) or split(self, min(size, 7), *a, **k)
    )
    torch.testing.assert_close(drawn(), whole)
    assert parts
    torch.testing.assert_close(whole[:, 0], x[:, 0].repeat_interleave(3))


def _with_one_shape() -> tuple[TabularMixture, TabularMixture]:
    """The same mixture, its one covariance kept once and for every component."""
    mixture = _mixture()
    shape = (mixture.factors @ mixture.factors.mT)[:1]
    settings = {
        "weights": mixture.log_weights.exp(),
        "means": mixture.means,
        "shown_means": mixture.shown_means,
        "shown_scales": mixture.shown_scales,
        "shares": mixture.log_shares.exp(),
    }
    shared = TabularMixture(COLUMNS, components=COMPONENTS, states=STATES, shared_shape=True).double()
    full = TabularMixture(COLUMNS, components=COMPONENTS, states=STATES).double()
    return shared.set_(covariances=shape, **settings), full.set_(covariances=shape.expand(COMPONENTS, 2, 2), **settings)


def test_one_shape_for_all_components_is_the_same_density_and_the_same_draws() -> None:
    shared, full = _with_one_shape()
    x = full.sample(300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shared.sample(300, generator=torch.Generator().manual_seed(0)), x)
    torch.testing.assert_close(shared.log_joint(x), full.log_joint(x))
    fixed = torch.rand(300, len(COLUMNS), generator=torch.Generator().manual_seed(1)) < 0.5
    for number, state in STATES.items():
        fixed[:, number] = fixed[:, state]
    drawn = [m.sample_given(x, fixed, generator=torch.Generator().manual_seed(2)) for m in (shared, full)]
    torch.testing.assert_close(*drawn)
    assert shared.factors.shape == (1, 2, 2)


def test_pooled_mixtures_are_mixed_in_equal_parts() -> None:
    first, second = _mixture(0), _mixture(1)
    whole = TabularMixture.pooled([first, second])
    x = first.sample(100, generator=torch.Generator().manual_seed(0))
    expected = torch.logsumexp(torch.stack([first.log_prob(x), second.log_prob(x)]), 0) - np.log(2)
    torch.testing.assert_close(whole.log_prob(x), expected)
    assert whole.components == 2 * COMPONENTS and first.components == COMPONENTS
    assert whole.sample(50, generator=torch.Generator().manual_seed(0)).shape == (50, 6)
    assert TabularMixture.pooled([first]) is first
    with pytest.raises(ValueError, match="mixtures is empty"):
        TabularMixture.pooled([])
    with pytest.raises(ValueError, match="the mixtures are of other columns"):
        TabularMixture.pooled([TabularMixture([None, 2], components=1), TabularMixture([2, None], components=1)])
    with pytest.raises(ValueError, match="do not share it"):
        TabularMixture.pooled([_with_one_shape()[0], first])
