"""Fits of mixtures of products against scikit-learn's, and against the mixture that made the rows."""

from __future__ import annotations

import pytest
import torch
from sklearn.mixture import GaussianMixture

from chainfree.energies import TabularMixture
from chainfree.fitting import choose_mixture_size, fit_tabular_mixture


def _two_clusters(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    turned = torch.randn(n, 2, generator=generator) @ torch.tensor([[1.0, 0.5], [0.0, 0.3]]) + 2
    return torch.cat([turned, 0.5 * torch.randn(n, 2, generator=generator) - 1])


def test_without_a_prior_it_is_scikit_learns() -> None:
    x = _two_clusters(400)
    ours = fit_tabular_mixture(x, [None, None], components=2, prior_rows=1e-6, least_variance=1e-6)
    theirs = GaussianMixture(2, tol=1e-6, random_state=0).fit(x.double().numpy())
    assert float(ours.log_prob(x).mean()) == pytest.approx(theirs.score(x.double().numpy()), abs=1e-3)
    order = ours.means[:, 0].argsort()
    by_place = torch.from_numpy(theirs.means_[theirs.means_[:, 0].argsort()]).float()
    torch.testing.assert_close(ours.means[order], by_place, atol=0.02, rtol=0)


def _true_mixture() -> TabularMixture:
    """Five binary and one three-valued column, a number, and one that may be hidden; three classes."""
    columns = [2, 2, 2, 2, 2, 3, None, None, 2]
    likely = torch.tensor([[0.9, 0.8, 0.1, 0.2, 0.5], [0.1, 0.2, 0.9, 0.5, 0.8], [0.5, 0.1, 0.2, 0.9, 0.1]]).T
    shares = torch.stack([1 - likely, likely], 1).flatten(0, 1)
    more = torch.tensor([[0.8, 0.1, 0.2], [0.1, 0.8, 0.2], [0.1, 0.1, 0.6], [0.9, 0.4, 0.6], [0.1, 0.6, 0.4]])
    return TabularMixture(columns, components=3, states={7: 8}).set_(
        weights=torch.tensor([0.5, 0.3, 0.2]),
        means=torch.tensor([[0.0], [3.0], [-3.0]]),
        covariances=torch.tensor([1.0, 0.25, 0.5]).view(3, 1, 1),
        shown_means=torch.tensor([[0.0], [2.0], [-1.0]]),
        shown_scales=torch.tensor([[1.0], [0.5], [0.3]]),
        shares=torch.cat([shares, more]),
    )


def test_the_mixture_that_made_the_rows_is_found() -> None:
    truth = _true_mixture()
    x = truth.sample(6000, generator=torch.Generator().manual_seed(0))
    new = truth.sample(6000, generator=torch.Generator().manual_seed(1))
    columns = [2, 2, 2, 2, 2, 3, None, None, 2]
    found = fit_tabular_mixture(x, columns, states={7: 8})
    # as many free parameters as 29 for three components cost 0.5 * 29 / 6000 nats a row
    gap = float((truth.log_prob(new) - found.log_prob(new)).mean())
    assert 0 < gap < 0.02, (gap, found.components)
    alone = fit_tabular_mixture(x, columns, states={7: 8}, components=1)
    assert float((truth.log_prob(new) - alone.log_prob(new)).mean()) > 1.0
    torch.testing.assert_close(found.log_prob(new), fit_tabular_mixture(x, columns, states={7: 8}).log_prob(new))


def test_with_a_prior_of_far_more_rows_all_components_have_one_shape() -> None:
    x = _two_clusters(20)
    found = fit_tabular_mixture(x, [None, None], components=len(x), prior_rows=1e6, least_variance=0.3)
    torch.testing.assert_close(found.factors, found.factors[:1].expand(40, 2, 2), atol=1e-3, rtol=0)


def test_numbers_too_many_for_their_products_are_fitted_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 70, generator=generator) @ torch.randn(70, 70, generator=generator) / 8
    x[:150] += 3
    found = fit_tabular_mixture(x, [None] * 70, components=2, prior_rows=5.0)
    scatter = torch.stack([(part - part.mean(0)).T @ (part - part.mean(0)) for part in (x[:150], x[150:])])
    pooled = scatter.sum(0) / 300
    expected = (scatter + 5 * pooled) / 155 + 1e-3 * torch.eye(70)
    order = found.means[:, 0].argsort(descending=True)
    torch.testing.assert_close((found.factors @ found.factors.mT)[order], expected, atol=1e-3, rtol=1e-3)


def test_one_shape_for_all_components_is_scikit_learns() -> None:
    x = _two_clusters(400)
    ours = fit_tabular_mixture(
        x, [None, None], components=2, prior_rows=1e-6, least_variance=1e-6, iterations=500, shared_shape=True
    )
    theirs = GaussianMixture(2, covariance_type="tied", tol=1e-6, max_iter=500, random_state=0).fit(x.double().numpy())
    assert float(ours.log_prob(x).mean()) == pytest.approx(theirs.score(x.double().numpy()), abs=1e-3)
    shape = torch.from_numpy(theirs.covariances_).float()
    torch.testing.assert_close((ours.factors @ ours.factors.mT)[0], shape, atol=0.02, rtol=0)


def test_several_starts_are_pooled_and_tell_new_rows_better() -> None:
    generator = torch.Generator().manual_seed(0)

    def ring(n: int) -> torch.Tensor:
        angles = 6.2832 * torch.rand(n, generator=generator)
        return torch.stack([angles.cos(), angles.sin()], 1) + 0.05 * torch.randn(n, 2, generator=generator)

    x, new = ring(400), ring(4000)
    alone = [
        fit_tabular_mixture(x, [None, None], components=16, prior_rows=1.0, seed=seed).log_prob(new)
        for seed in range(3)
    ]
    pooled = fit_tabular_mixture(x, [None, None], components=16, prior_rows=1.0, starts=3)
    assert pooled.components == 48
    torch.testing.assert_close(pooled.log_prob(new), torch.stack(alone).logsumexp(0) - torch.tensor(3.0).log())
    assert float(pooled.log_prob(new).mean()) > max(float(found.mean()) for found in alone)


def test_the_size_that_is_chosen_is_the_one_that_is_fitted() -> None:
    x, columns = _true_mixture().sample(2000, generator=torch.Generator().manual_seed(0)), [2] * 5 + [3, None, None, 2]
    size = choose_mixture_size(x, columns, states={7: 8}, most_components=8)
    chosen = fit_tabular_mixture(x, columns, states={7: 8}, most_components=8)
    given = fit_tabular_mixture(x, columns, states={7: 8}, **size._asdict())
    assert size.components in (2, 4, 8)
    torch.testing.assert_close(chosen.log_prob(x), given.log_prob(x))
    assert choose_mixture_size(x, columns, states={7: 8}, components=3, prior_rows=2.0) == (3, 2.0)


def test_refusals() -> None:
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match="starts must be a whole number above 0, got 0"):
        fit_tabular_mixture(x, [None, None], starts=0)
    with pytest.raises(
        ValueError, match="components of a shared shape do not share it with another start's, got 2 starts"
    ):
        fit_tabular_mixture(x, [None, None], starts=2, shared_shape=True)
    with pytest.raises(ValueError, match="most_components must be a whole number above 0, got 0"):
        choose_mixture_size(x, [None, None], most_components=0)
    with pytest.raises(ValueError, match="5 rows cannot hold 6 components; lower them"):
        fit_tabular_mixture(x, [None, None], components=6)
    with pytest.raises(ValueError, match="prior_rows must be a finite number above 0, got 0"):
        fit_tabular_mixture(x, [None, None], prior_rows=0)
    with pytest.raises(ValueError, match="a mixture is fitted to rows, got none"):
        fit_tabular_mixture(x[:0], [None, None])
    with pytest.raises(ValueError, match="rows has NaN or infinite values in 1 of 5 rows"):
        fit_tabular_mixture(x.index_fill(0, torch.tensor([1]), torch.nan), [None, None])
    one = fit_tabular_mixture(x[:1], [None, None])
    assert one.components == 1 and bool(torch.isfinite(one.log_prob(x)).all())
