"""Logistic losses against scikit-learn, scipy and their population minimisers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from chainfree.functional import conditional_noise_contrast, energy_discrepancy, noise_contrast
from chainfree.perturbations import Gaussian


def _rows(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("ratio", [1, 3])
def test_it_is_the_log_loss_of_the_posterior(ratio: int) -> None:
    data, noise = _rows(40), _rows(40 * ratio, seed=2)
    # P(data | row) = p / (p + nu q)
    posterior = torch.sigmoid(torch.cat([data, noise]) - math.log(ratio)).numpy()
    labels = np.concatenate([np.ones(40), np.zeros(40 * ratio)])
    expected = log_loss(labels, posterior, normalize=False) / 40
    assert float(noise_contrast(data, noise, ratio=ratio)) == pytest.approx(expected, rel=1e-12)


def test_far_from_either_side_it_stays_finite() -> None:
    value = noise_contrast(torch.tensor([-1e4]), torch.tensor([1e4]), ratio=1.0)
    assert float(value) == pytest.approx(2e4)


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan")])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio must be a finite number above 0"):
        noise_contrast(torch.zeros(1), torch.zeros(1), ratio=ratio)


def test_symmetric_pairs_are_energy_discrepancy_with_one_draw() -> None:
    """At M = 1 and w = 1 energy discrepancy is conditional noise contrast with noise N(x, 2t I)."""
    energy, x, t = lambda r: (r.square() * (1 + r.sin())).sum(1), _rows(30, 2), 0.4
    source = torch.Generator().manual_seed(4)
    ed = energy_discrepancy(energy, x, perturbation=Gaussian(t=t), draws=1, w=1.0, generator=source)
    pairs = conditional_noise_contrast(ed.data_energy, ed.draw_energy, torch.zeros(()))
    torch.testing.assert_close(pairs, ed.values)


def test_the_ratio_of_the_kernel_counts() -> None:
    """Pairs by q(y|x) from x ~ p: the loss is least where E(x) - E(y) is the truth, by enumeration over three states."""
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    q = torch.tensor([[0.0, 0.9, 0.1], [0.3, 0.0, 0.7], [0.6, 0.4, 0.0]], dtype=torch.float64)  # q[x, y]
    x, y = (part.flatten() for part in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"))
    keep = x != y
    x, y = x[keep], y[keep]
    weights = p[x] * q[x, y]
    log_ratio = (q[x, y] / q[y, x]).log()

    def loss(energy: Tensor) -> Tensor:
        return (weights * conditional_noise_contrast(energy[x], energy[y].unsqueeze(0), log_ratio.unsqueeze(0))).sum()

    truth = (-p.log()).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(truth), truth)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert all(loss(truth.detach() + 0.1 * _rows(3, seed=s)) > loss(truth) for s in range(5))
