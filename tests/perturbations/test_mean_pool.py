"""Mean-pool perturbation: exact invariants and the covariance of a projection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.perturbations import MeanPool


def _patches(x: Tensor, k: int) -> Tensor:
    """``(..., H, W)`` to ``(..., patches, k * k)`` by plain indexing."""
    h, w = x.shape[-2] // k, x.shape[-1] // k
    rows = [x[..., k * i : k * i + k, k * j : k * j + k].flatten(-2) for i in range(h) for j in range(w)]
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize(("window", "size"), [(2, (4, 6)), (3, (6, 3)), (4, (4, 4))])
def test_patch_means_stay(window: int, size: tuple[int, int], generator: torch.Generator) -> None:
    perturbation = MeanPool(window=window, t=2.0)
    x = torch.randn(5, 2, *size, generator=generator, dtype=torch.float64)
    perturbed = perturbation.perturb(x, generator=generator)
    recovered = perturbation.recover(perturbed, 3, generator=generator)
    means = _patches(x, window).mean(-1)
    torch.testing.assert_close(_patches(perturbed.y, window).mean(-1), means, rtol=0, atol=1e-14)
    torch.testing.assert_close(_patches(recovered, window).mean(-1), means.expand(3, *means.shape), rtol=0, atol=1e-14)
    assert float((perturbed.y - x).abs().max()) > 0.5
    assert float((recovered - perturbed.y).abs().max()) > 0.5


@pytest.mark.parametrize(("window", "t"), [(2, 1.0), (2, 0.3), (3, 2.0)])
def test_noise_has_the_covariance_of_the_projection(window: int, t: float, generator: torch.Generator) -> None:
    n, area = 20_000, window * window
    perturbation = MeanPool(window=window, t=t)
    x = torch.zeros(n, 1, 2 * window, window, dtype=torch.float64)
    perturbed = perturbation.perturb(x, generator=generator)
    noises = [perturbed.y, (perturbation.recover(perturbed, 1, generator=generator) - perturbed.y)[0]]
    block = t * (np.eye(area) - np.ones((area, area)) / area)
    expected = np.kron(np.eye(2), block)  # two patches, independent
    for noise in noises:
        covariance = np.cov(_patches(noise, window).reshape(n, -1).numpy().T)
        # an entry's standard error is at most t sqrt(2 / n)
        np.testing.assert_allclose(covariance, expected, atol=5 * t * np.sqrt(2 / n))
    pixel = noises[0][:, 0, 0, 0].numpy()
    assert stats.kstest(pixel, stats.norm(0, np.sqrt(block[0, 0])).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 1, 5, 4), (2, 1, 4, 5), (8, 16)])
def test_images_that_do_not_divide_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sides divisible by window=2, got \("):
        MeanPool(window=2).perturb(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 0}, "window must be a whole number"),
        ({"window": 2.0}, "window must be a whole number"),
        ({"window": 1}, "patches of one pixel"),
        ({"t": 0.0}, "t must be a finite number above 0"),
        ({"t": -1.0}, "t must be a finite number above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MeanPool(**options)
