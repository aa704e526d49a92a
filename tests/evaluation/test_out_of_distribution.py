"""Scores of rows unlike the data against Gaussian classes, whose scores are known by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.energies import MLP, ConvNet, GaussianClasses, JointEnergy
from chainfree.evaluation import anomaly_scores, max_probability_score, outlier_scores

MEANS = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.4], [0.4, 0.8]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


class _Logits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classes = GaussianClasses(MEANS, COVARIANCE, WEIGHTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes.log_joint(x)


def test_they_are_those_of_the_mixture_by_scipy() -> None:
    x = 3 * torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = outlier_scores(JointEnergy(_Logits(), classes=3), x, batch=7)

    def log_joint(rows: np.ndarray) -> np.ndarray:
        parts = [multivariate_normal(m, COVARIANCE.numpy()).logpdf(rows) for m in MEANS.numpy()]
        return np.stack(parts, 1) + np.log(WEIGHTS.numpy())

    rows = x.numpy()
    energies = -logsumexp(log_joint(rows), axis=1)
    np.testing.assert_allclose(found.energy, energies, rtol=1e-10)
    likeliest = np.exp(log_joint(rows).max(1) + energies)
    np.testing.assert_allclose(found.max_probability, np.log1p(-likeliest), rtol=1e-5)
    h = 1e-5
    slopes = [
        (logsumexp(log_joint(rows + h * e), axis=1) - logsumexp(log_joint(rows - h * e), axis=1)) / (2 * h)
        for e in np.eye(2)
    ]
    np.testing.assert_allclose(found.gradient_norm, np.hypot(*slopes), rtol=1e-6)


def test_rows_far_off_are_told_from_draws() -> None:
    energy = JointEnergy(_Logits(), classes=3)
    near = energy.network.classes.sample(400, generator=torch.Generator().manual_seed(1))
    found = outlier_scores(energy, torch.cat([near, near + 6.0]))
    labels = torch.arange(800) >= 400
    assert anomaly_scores(found.energy, labels).auroc > 0.97
    assert anomaly_scores(found.gradient_norm, labels).auroc > 0.97
    # a discriminant is never so sure as far away
    assert anomaly_scores(found.max_probability, labels).auroc < 0.5


def test_rows_that_a_network_is_very_sure_of_keep_their_order() -> None:
    class Gaps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, torch.zeros(len(x), 2)], dim=1)

    gaps = torch.linspace(20, 90, 50).unsqueeze(1)
    assert torch.softmax(Gaps()(gaps), 1).amax(1).unique().numel() == 1  # one, to all digits
    found = outlier_scores(JointEnergy(Gaps(), classes=3), gaps).max_probability
    assert bool((found.diff() < 0).all())
    torch.testing.assert_close(found, -gaps.squeeze(1).double() + np.log(2), rtol=1e-6, atol=1e-6)


def test_images_in_parts_as_in_one_and_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    energy = JointEnergy(ConvNet(size=8, widths=(4,), outputs=3), classes=3)
    x = torch.randn(5, 1, 8, 8, requires_grad=True)
    with torch.no_grad():
        parts, whole = outlier_scores(energy, x, batch=2), outlier_scores(energy, x)
    for part, all_ in zip(parts, whole, strict=True):
        assert part.shape == (5,) and not part.requires_grad
        torch.testing.assert_close(part, all_)
    assert x.grad is None and all(p.grad is None for p in energy.parameters())


@pytest.mark.parametrize(
    ("x", "options", "error", "words"),
    [
        (torch.zeros(0, 2), {}, ValueError, "no rows"),
        (torch.zeros(3, 2), {"batch": 0}, ValueError, "batch must"),
        (torch.zeros(3, 2, dtype=torch.int64), {}, ContractError, "rows of floats"),
        (torch.zeros(3, 4), {}, ContractError, "rows of shape"),
    ],
)
def test_what_cannot_be_scored_is_refused(x: Tensor, options: Any, error: type[Exception], words: str) -> None:
    energy = JointEnergy(MLP(2, width=4, outputs=3), classes=3)
    with pytest.raises(error, match=words):
        outlier_scores(energy, x, **options)


def test_doubt_is_told_where_probabilities_round_to_one() -> None:
    torch.testing.assert_close(
        max_probability_score(torch.tensor([[0.0, 0.0], [300.0, 0.0]])), torch.tensor([-math.log(2), -300.0]).double()
    )
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(max_probability_score(logits), (1 - logits.softmax(1).amax(1)).log())
    for shape in ((3,), (3, 1)):
        with pytest.raises(ValueError, match="K at least 2"):
            max_probability_score(torch.zeros(shape))
