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
    return rows + [row for row in (_outside(records), _rounds(records), _ends(records)) if row is not None]


def _outside(records: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if "jem_fashion_ood" not in records:
        return None
    told = records["jem_fashion_ood"]["figures"]["auroc"]["mnist"]
    shown = [method for method in _METHODS if method in told["energy"]]
    shown.sort(key=lambda method: -told["energy"][method]["mean"])
    found = "; ".join(
        f"{_METHODS[method]} {told['energy'][method]['mean']:.3f} ({told['max_probability'][method]['mean']:.3f})"
        for method in shown
    )
    return "Fashion-MNIST against digits: AUROC by energy (by the largest p(y given x))", found, "jem_fashion_ood"


def _rounds(records: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if "joint_step" not in records:
        return None
    found = "; ".join(
        f"{name} {ratios['ratio, vera']:.1f} times"
        for name, ratios in records["joint_step"]["figures"]["by_network"].items()
    )
    return "steps a second of a joint model by VERA against chains of 20 steps, equal network", found, "joint_step"


def _ends(records: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if "joint_stability" not in records:
        return None
    found = records["joint_stability"]["figures"]
    return (
        f"{found['seeds']} joint models at too high a learning rate, by VERA and by chains",
        f"{found['ended_well']} ended well, {found['raised']} raised, {found['silent']} went wrong silently",
        "joint_stability",
    )


def _percent(found: Mapping[str, float]) -> str:
    return f"{100 * found['mean']:.1f}"
