"""The study of weights over dimensions, at sizes at which it runs in seconds."""

from __future__ import annotations

import pytest
import torch

from chainfree.energies import GaussianMixture
from chainfree.experiments import EXPERIMENTS, Dimensions
from chainfree.experiments.dimensions import _mixture, _with_wide

pytest.importorskip("zuko")


def test_every_kind_has_its_figures() -> None:
    tiny = Dimensions(dims=(2, 3), samples=16, rounds=5, batch=16, width=8, depth=1, flow_steps=5, held_out=4000)
    figures, picture = tiny.run()
    for kind in ("even", "mixture", "local", "flow"):
        assert set(figures[kind]["nll_gap"]) == {"2", "3"}
        assert all(len(values) == 1 for values in figures[kind]["nll_gap"].values())
        for shares in figures[kind]["effective_share"].values():
            assert shares == [None] if kind == "even" else 0 < shares[0] <= 1
    assert all(values[0] > 0 for values in figures["nll_gap_of_a_normal"].values())
    assert len(picture.axes) == 1


def test_the_data_are_standardised_and_the_proposal_covers_them() -> None:
    means, covariances = _mixture(5, 3, 0)
    x = GaussianMixture(means, covariances).sample(100_000, generator=torch.Generator().manual_seed(0))
    assert x.mean(0).abs().max() < 0.02
    assert (x.std(0) - 1).abs().max() < 0.02
    excess = GaussianMixture(means, covariances).log_prob(x) - _with_wide(means, covariances).log_prob(x)
    assert float(excess.max()) <= 0.6932  # at least half of its density everywhere


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dims": (1, 2)}, "dims"),
        ({"negatives": ("even", "none")}, "none"),
        ({"rounds": 0}, "rounds"),
        ({"gradient_penalty": -1.0}, "gradient_penalty"),
        ({"seeds": ()}, "seeds"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EXPERIMENTS["dimensions"](**changes)
