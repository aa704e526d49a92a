"""Calibration, against scikit-learn and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor

from chainfree.evaluation.calibration import classifier_scores, fit_temperature, reliability


def _classified(n: int = 4000, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits whose softmax is the truth, made sharper by a factor."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, 4, generator=generator, dtype=torch.float64)
    y = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).squeeze(1)
    return sharpness * logits, y


def test_scores_are_scikit_learns() -> None:
    logits, y = _classified()
    p = torch.softmax(logits, 1)
    found = classifier_scores(logits, y)
    assert found.accuracy == pytest.approx(accuracy_score(y, p.argmax(1)))
    assert found.nll == pytest.approx(log_loss(y, p))
    by_hand = sum(float((p[i] - torch.eye(4)[y[i]]).square().sum()) for i in range(len(y))) / len(y)
    assert found.brier == pytest.approx(by_hand, rel=1e-6)


def test_bins_are_those_of_the_calibration_curve() -> None:
    logits, y = _classified(sharpness=2.0)
    confidence, answer = torch.softmax(logits, 1).max(1)
    accuracy, mean = calibration_curve((answer == y).numpy(), confidence.numpy(), n_bins=10)
    found = reliability(logits, y, bins=10)
    filled = found.shares > 0
    torch.testing.assert_close(found.accuracy[filled], torch.from_numpy(accuracy))
    torch.testing.assert_close(found.confidence[filled], torch.from_numpy(mean))
    by_hand = float((found.shares[filled] * torch.from_numpy(abs(accuracy - mean))).sum())
    assert found.expected_error == pytest.approx(by_hand)


def test_the_truth_is_calibrated_and_what_is_sharper_is_not() -> None:
    assert classifier_scores(*_classified()).ece < 0.02
    assert classifier_scores(*_classified(sharpness=3.0)).ece > 0.1


def test_the_temperature_undoes_what_was_done() -> None:
    for sharpness in (0.3, 1.0, 3.0):
        logits, y = _classified(sharpness=sharpness)
        assert fit_temperature(logits, y) == pytest.approx(sharpness, rel=0.06)
    for margin in (5, 10, 1e3, 1e4):  # all right: the colder the better
        assert fit_temperature(margin * torch.eye(4), torch.arange(4)) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.int16])
def test_classes_may_be_whole_numbers_of_any_type(kind: torch.dtype) -> None:
    logits, y = _classified()
    assert classifier_scores(logits, y.to(kind)) == classifier_scores(logits, y)
    assert fit_temperature(logits, y.to(kind)) == fit_temperature(logits, y)


def test_a_single_sure_row_lies_in_the_last_bin() -> None:
    found = reliability(torch.tensor([[1000.0, 0.0]]), torch.tensor([0]), bins=5)
    assert found.shares.tolist() == [0, 0, 0, 0, 1]
    assert found.expected_error == 0
    found = reliability(torch.tensor([[0.55, 0.45]]).log(), torch.tensor([0]), bins=10)
    assert int(found.shares.argmax()) == 5  # from 0.5 to 0.6


def test_what_cannot_be_judged_is_refused() -> None:
    logits = torch.zeros(3, 2)
    for y in (torch.tensor([0, 1, 2]), torch.tensor([0, -1, 1]), torch.tensor([0, 1]), torch.zeros(3)):
        with pytest.raises(ValueError, match=r"y must be classes|y whole numbers"):
            classifier_scores(logits, y)
    with pytest.raises(ValueError, match="finite"):
        reliability(torch.full((1, 2), math.nan), torch.tensor([0]))
    with pytest.raises(ValueError, match="bins"):
        reliability(logits, torch.zeros(3, dtype=torch.long), bins=0)


def test_probabilities_are_no_logits() -> None:
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.zeros(20, dtype=torch.long)
    with pytest.raises(ValueError, match="these are probabilities; give logits, or the probabilities' logarithms"):
        classifier_scores(logits.softmax(1), y)
    np.testing.assert_allclose(classifier_scores(logits, y), classifier_scores(logits.log_softmax(1), y), rtol=1e-5)
