"""The experiments with fitted generators run from end to end with tiny settings, and refuse what they cannot use."""

from __future__ import annotations

import math
import os

import pytest

from chainfree.experiments import EDThenGenerator, StackedMNIST

pytest.importorskip("zuko")
pytest.importorskip("ot")


def test_ed_then_generator() -> None:
    tiny = EDThenGenerator(
        rows=500,
        energy_steps=20,
        generator_steps=10,
        samples=32,
        flow_steps=10,
        log_z_samples=500,
        proposals=64,
        drawn=500,
        compared=100,
        langevin_steps=4,
        langevin_step_sizes=(0.01,),
        check_every=2,
    )
    figures, picture = tiny.run()
    assert {"modes", "worst_share_error", "sampling_speedup", "log_z_error_flow", "langevin_reached"} <= set(figures)
    assert 0 <= figures["modes"] <= 25 and figures["sampling_speedup"] > 0
    one = figures["by_seed"][0]
    assert one["log_z_lower_variational"] <= one["log_z_lower_importance"]
    assert math.isfinite(one["log_z_quadrature"])
    assert len(picture.axes) == 5


@pytest.mark.skipif("CHAINFREE_DATA" not in os.environ, reason="CHAINFREE_DATA names no folder with mnist.npz")
def test_stacked_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    monkeypatch.setattr(
        "chainfree.experiments.stacked_mnist.train_image_classifier",
        lambda images, labels, *, seed: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).requires_grad_(False),
    )
    tiny = StackedMNIST(
        energy_widths=(4,), generator_widths=(8, 4), latent=4, steps=2, batch=4, evaluate_every=1, samples=20
    )
    figures, picture = tiny.run()
    assert 1 <= figures["modes"] <= 20 and figures["kl"] > 0 and figures["rounds"] == 2
    assert len(figures["looks"]) == 2 and len(picture.axes) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": (0, 1)}, "one seed at a time"),
        ({"estimator": "magic"}, "'local' or 'paper', got 'magic'"),
        ({"steps": 0}, "steps .*got 0"),
    ],
)
def test_stacked_mnist_refuses(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StackedMNIST(**options)  # type: ignore[arg-type]
