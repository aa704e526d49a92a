"""Denoising score matching against closed forms and its limit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import MLP, ConvNet
from chainfree.functional import denoising_score_matching, exact_score_matching


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_seeded(seed))


def _scale(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _by_hand(energy: nn.Module, noised: Tensor, scale: Tensor, noise: Tensor, h: float = 1e-5) -> Tensor:
    """Half the squared residual with the gradient by central differences."""
    total = torch.zeros(len(noised), dtype=noised.dtype)
    flat = noised[0].numel()
    for i in range(flat):
        step = torch.zeros(flat, dtype=noised.dtype)
        step[i] = h
        step = step.view(noised.shape[1:])
        with torch.no_grad():
            slope = (energy(noised + step) - energy(noised - step)) / (2 * h)
        s, n = (part.expand_as(noised).flatten(1)[:, i] for part in (scale, noise))
        total += 0.5 * (s * slope - n).square()
    return total


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize(
    ("energy", "event", "scale"),
    [
        (MLP(3, width=16, depth=2), (3,), _scale(0.3)),
        (MLP(3, width=16, depth=2), (3,), torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)),
        (MLP(3, width=16, depth=2), (3,), torch.linspace(0.1, 1, 5, dtype=torch.float64).view(5, 1)),
        (ConvNet(size=4, widths=(4,), activation="softplus"), (1, 4, 4), _scale(0.3)),
    ],
    ids=["one", "per-feature", "per-row", "images"],
)
def test_values_are_those_of_finite_differences(
    energy: nn.Module, event: tuple[int, ...], scale: Tensor, antithetic: bool
) -> None:
    energy, x = energy.double(), _rows(5, *event)
    found = denoising_score_matching(energy, x, scale, antithetic=antithetic, generator=_seeded(3)).values
    noise = torch.randn(x.shape, dtype=x.dtype, generator=_seeded(3))
    signs = [1, -1] if antithetic else [1]
    expected = torch.stack([_by_hand(energy, x + s * scale * noise, scale, s * noise) for s in signs]).mean(0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_the_normal_that_fits_noised_data_has_the_least_loss() -> None:
    """Of E = a x^2 / 2 on N(0, 1) data under noise of scale s the loss is s^2 a^2 (1 + s^2) / 2 - a s^2 + 1/2."""
    x, s = _rows(200_000, 1), 0.5
    for a in (0.5, 1 / (1 + s**2), 1.0):
        found = denoising_score_matching(
            lambda r, a=a: 0.5 * a * r[:, 0].square(), x, _scale(s), generator=_seeded(2)
        ).values
        expected = 0.5 * s**2 * a**2 * (1 + s**2) - a * s**2 + 0.5
        error = float(found.detach().std() / len(x) ** 0.5)
        assert abs(float(found.detach().mean()) - expected) < 4 * error


def test_small_scales_tend_to_score_matching_and_antithetic_pairs_get_there() -> None:
    energy, x, s = MLP(3, width=16, depth=2).double(), _rows(50, 3), 1e-3
    repeated = x.repeat_interleave(4000, dim=0)
    spreads = {}
    for antithetic in (True, False):
        found = denoising_score_matching(
            energy, repeated, _scale(s), antithetic=antithetic, generator=_seeded(4)
        ).values
        noise = torch.randn(repeated.shape, dtype=x.dtype, generator=_seeded(4))
        spreads[antithetic] = ((found - 0.5 * noise.square().sum(1)) / s**2).detach().view(50, 4000)
    torch.testing.assert_close(spreads[True].mean(1), exact_score_matching(energy, x).detach(), rtol=0.05, atol=0.02)
    assert spreads[True].std() < 0.05 * spreads[False].std()  # the latter grows like 1/s


def test_a_step_down_the_gradient_is_the_denoised_row() -> None:
    """With a target scale the minimiser is E with s0^2 dE/dx = y - E[x | y], whatever the noise's scale."""
    x, s, s0 = _rows(100_000, 1), 0.7, 0.2
    shrink = 1 / (1 + s**2)  # E[x | y] = shrink y for N(0, 1) data

    def loss(a: float) -> float:
        energy = lambda r: 0.5 * a * r[:, 0].square()  # noqa: E731
        return float(
            denoising_score_matching(energy, x, _scale(s), target_scale=s0, generator=_seeded(1)).values.mean()
        )

    best = (1 - shrink) / s0**2
    assert loss(best) < min(loss(0.97 * best), loss(1.03 * best))


def test_a_target_scale_of_the_noise_s_own_changes_nothing() -> None:
    energy, x = MLP(3, width=16, depth=2).double(), _rows(5, 3)
    plain = denoising_score_matching(energy, x, _scale(0.3), generator=_seeded()).values
    torch.testing.assert_close(
        denoising_score_matching(energy, x, _scale(0.3), target_scale=0.3, generator=_seeded()).values, plain
    )


def test_energies_without_a_slope_are_refused() -> None:
    with pytest.raises(ContractError, match="no gradient in its rows"):
        denoising_score_matching(lambda r: torch.zeros(len(r)), torch.zeros(4, 2), torch.tensor(0.1))
