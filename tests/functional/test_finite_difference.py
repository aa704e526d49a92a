"""Finite-difference score matching against the derivatives that it stands for."""

from __future__ import annotations

import torch

from chainfree.energies import MLP, ConvNet
from chainfree.functional import finite_difference_score_matching, sliced_score_matching


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_is_sliced_score_matching_up_to_the_square_of_the_step() -> None:
    energy = MLP(3, width=16, depth=2).double()
    x = torch.randn(50, 3, dtype=torch.float64, generator=_seeded(1))
    # the same signs: both draw them from the same source
    sliced = sliced_score_matching(energy, x, variance_reduction=False, generator=_seeded(2)).detach()
    errors = []
    for step in (0.1, 0.05):
        found = finite_difference_score_matching(energy, x, step=step, generator=_seeded(2)).values.detach()
        errors.append((found - sliced).abs().max())
    assert 0 < errors[0] < 0.05
    torch.testing.assert_close(errors[0] / errors[1], torch.tensor(4.0, dtype=torch.float64), rtol=0.1, atol=0)


def test_quadratic_energies_have_no_error() -> None:
    factor = torch.randn(4, 4, dtype=torch.float64, generator=_seeded(3))
    precision = factor @ factor.T
    x = torch.randn(20, 4, dtype=torch.float64, generator=_seeded(1))
    found = finite_difference_score_matching(
        lambda r: 0.5 * (r @ precision * r).sum(1), x, step=0.7, generator=_seeded(5)
    )
    v = torch.empty_like(x).bernoulli_(0.5, generator=_seeded(5)).mul_(2).sub_(1)
    expected = 0.5 * (x @ precision * v).sum(1).square() - (v @ precision * v).sum(1)
    torch.testing.assert_close(found.values, expected)
    torch.testing.assert_close(found.data_energy, 0.5 * (x @ precision * x).sum(1))


def test_images_and_piecewise_linear_activations_are_allowed() -> None:
    energy = ConvNet(size=4, widths=(4,), activation="relu").double()
    x = torch.randn(6, 1, 4, 4, dtype=torch.float64, generator=_seeded(1))
    values = finite_difference_score_matching(energy, x, step=0.5, generator=_seeded()).values
    assert values.shape == (6,)
    # unlike the Laplacian, differences see the kinks
    curvature = sliced_score_matching(energy, x, variance_reduction=False, generator=_seeded())
    assert not torch.allclose(values, curvature, atol=1e-6)


def test_large_energies_lose_few_digits_in_single_precision() -> None:
    """The rounding that the docstring names: an offset of 100 nats at h = 0.1."""
    x = torch.randn(1000, 2, generator=_seeded(1))
    found = finite_difference_score_matching(
        lambda r: 0.5 * r.square().sum(1) + 100, x, step=0.1, generator=_seeded(2)
    ).values
    exact = finite_difference_score_matching(
        lambda r: 0.5 * r.square().sum(1), x.double(), step=0.1, generator=_seeded(2)
    )
    assert float((found - exact.values).abs().mean()) < 0.01
