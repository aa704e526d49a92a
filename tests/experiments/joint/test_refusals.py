"""Settings out of range are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chainfree.experiments import JointComparison, JointSearch, JointTraining
from chainfree.experiments.joint.methods import method


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: method({"kind": "forest"}), "kind must be one of logistic_regression, .*got 'forest'"),
        (lambda: method({"kind": "network", "lrr": 1.0}), "network: .*lrr"),
        (
            lambda: method({"kind": "network", "marginal": "denoising", "noise": 0.0, "activation": "silu"}),
            "noise must",
        ),
        (lambda: method({"kind": "network", "marginal": "denoising"}), "use silu"),
        (lambda: method({"kind": "network", "marginal": "verra"}), "marginal must be one of none"),
        (lambda: method({"kind": "network", "noise": 0.1}), "noise would do nothing here"),
        (lambda: method({"kind": "network", "base_em_steps": 2}), "base_em_steps would do nothing here"),
        (lambda: method({"kind": "network", "marginal_rows": 2}), "marginal_rows would do nothing here"),
        (lambda: method({"kind": "network", "adversarial_probe": 2.0}), "adversarial_probe would do nothing here"),
        (lambda: method({"kind": "network", "precision": "fp16"}), "precision must be 'fp32' or 'bf16', got 'fp16'"),
        (lambda: method({"kind": "network", "marginal": "sgld", "marginal_rows": 0}), "marginal_rows"),
        (
            lambda: method({"kind": "network", "marginal": "sgld", "marginal_rows": 8, "batch": 8}),
            "marginal_rows of 8 are all 8 of the batch; leave it out",
        ),
        (
            lambda: method({"kind": "network", "adversarial_radius": 1.0, "precision": "bf16"}),
            "bf16 rounds a probe of 0.01 away beside a radius of 1.0; make it as long as the radius",
        ),
        (
            lambda: method({"kind": "normal_classes", "em_steps": 0, "shrinkage": 0.1}),
            "shrinkage would do nothing here",
        ),
        (
            lambda: method({"kind": "network", "base": True, "base_em_steps": 0, "base_shrinkage": 0.1}),
            "base_shrinkage would do nothing here",
        ),
        (lambda: method({"kind": "network", "base": True, "base_temperature": -1.0}), "base_temperature must"),
        (lambda: method({"kind": "network", "base": True, "base_shrinkage": 7.0}), "shrinkage must"),
        (lambda: method({"kind": "network", "widths": []}), "width must"),
        (lambda: method({"kind": "network", "activation": "nope"}), "activation must"),
        (lambda: method({"kind": "network", "marginal": "sgld", "restarts": 2.0}), "restarts must"),
        (lambda: method({"kind": "network", "marginal": "vera", "entropy_samples": -3}), "entropy_samples must"),
        (lambda: method({"kind": "normal_classes", "em_steps": 1.5}), "em_steps must"),
        (lambda: method({"kind": "network", "steps": 0}), "steps must"),
        (lambda: method({"kind": "label_spreading", "alpha": 1.0}), "alpha must"),
        (lambda: method({"kind": "discriminant", "self_training": 2.0}), "self_training must"),
        (lambda: JointComparison(task="nope", methods={"all": {"a": {"kind": "discriminant"}}}), "task must be one of"),
        (lambda: JointComparison(task="har", methods={}), "methods is empty"),
        (lambda: JointComparison(task="har", methods={"few": {}}), "by number of labels"),
        (lambda: JointComparison(task="har", methods={"10": {}}), r"methods\.10 is empty"),
        (lambda: JointTraining(task="har"), "task must be one of fashion"),
        (lambda: JointTraining(shift=1.5), "shift must"),
        (lambda: JointTraining(betas=(0.0,)), "betas are two numbers"),
        (lambda: JointTraining(ema=3.0), "ema must"),
        (lambda: JointTraining(depth=27), "depth must be 6n"),
        (lambda: JointTraining(minutes=0.0), "minutes must"),
        (lambda: JointTraining(seeds=(0, 1)), "one seed at a time"),
        (lambda: JointTraining(precision="fp16"), "precision must"),
        (lambda: JointTraining(device="nowhere"), "device must"),
        (lambda: JointTraining(marginal="verra"), "marginal must"),  # type: ignore[arg-type]
        (lambda: JointSearch(task="har", methods={"all": {"a": {"kind": "discriminant"}}}, budget=0), "budget must"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
