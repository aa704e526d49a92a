"""The sliced loss: that it is the mean of the function with every option, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from chainfree.energies import MLP
from chainfree.functional import sliced_score_matching
from chainfree.losses import SlicedScoreMatching


@pytest.mark.parametrize("projections", [1, 3])
@pytest.mark.parametrize("variance_reduction", [True, False])
def test_it_is_the_mean_of_the_function_with_every_option_passed_on(projections: int, variance_reduction: bool) -> None:
    energy, x = MLP(3, width=8, depth=2), torch.randn(9, 3)
    options: dict[str, Any] = {"projections": projections, "variance_reduction": variance_reduction}
    output = SlicedScoreMatching(**options)(energy, x, generator=torch.Generator().manual_seed(1))
    values = sliced_score_matching(energy, x, **options, generator=torch.Generator().manual_seed(1))
    assert torch.equal(output.loss, values.mean())
    assert torch.equal(output.metrics["loss"], output.loss.detach())
    torch.testing.assert_close(output.metrics["energy_data"], energy(x).mean().detach())


def test_the_defaults_are_one_projection_and_the_exact_first_term() -> None:
    assert SlicedScoreMatching() == SlicedScoreMatching(projections=1, variance_reduction=True)


@pytest.mark.parametrize("projections", [0, -1, 2.0])
def test_options_are_checked_when_it_is_made(projections: Any) -> None:
    with pytest.raises(ValueError, match=f"projections must be a whole number above 0, got {projections}"):
        SlicedScoreMatching(projections=projections)


def test_options_are_keywords_and_it_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SlicedScoreMatching(2)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        SlicedScoreMatching().projections = 5  # type: ignore[misc]
