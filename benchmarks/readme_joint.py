"""The README's rows about joint energy models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["joint_rows"]

_TASKS = {
    "jem_har": ("human activity", "labels a class"),
    "jem_adult": ("census", "labels"),
    "jem_mnist": ("MNIST", "labels a class"),
}
_METHODS = {
    "tilted_energy_discrepancy": "tilted normal classes with energy discrepancy",
    "jem_energy_discrepancy": "energy discrepancy",
    "jem_vera": "VERA",
    "jem_sgld": "chains (JEM)",
    "jem_meg": "MEG",
    "virtual_adversarial": "virtual adversarial",
    "self_training_discriminant": "self-trained discriminant",
    "normal_classes": "the normal classes alone",
    "supervised": "supervised network",
    "logistic_regression": "logistic regression",
}


def joint_rows(records: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What, result and file, for every comparison there is and every number of labels in it."""
    rows = []
    for name, (title, unit) in _TASKS.items():
        if name not in records:
            continue
        figures = records[name]["figures"]
        for labels, accuracy in figures["accuracy"].items():
            shown = [method for method in _METHODS if method in accuracy]
            shown.sort(key=lambda method: -accuracy[method]["mean"])
            count = "all labels" if labels == "all" else f"{labels} {unit}"
            found = "; ".join(
                f"{_METHODS[method]} {_percent(accuracy[method])} ({_percent(figures['ece'][labels][method])})"
                for method in shown
            )
            rows.append((f"{title}, {count}: test accuracy in % (calibration error)", found, name))
    return rows


def _percent(found: Mapping[str, float]) -> str:
    return f"{100 * found['mean']:.1f}"
