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
_NAMES = {
    "sgld": "chains",
    "jem": "",
    "vera": "VERA",
    "meg": "MEG",
}


def joint_rows(records: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What, result and file, for every comparison there is and every number of labels in it.

    Of each kind of method the one with the best accuracy is shown; all are in the file.
    """
    rows = []
    for name, (title, unit) in _TASKS.items():
        if name not in records:
            continue
        figures = records[name]["figures"]
        for labels, accuracy in figures["accuracy"].items():
            best: dict[str, str] = {}
            for method in sorted(accuracy, key=lambda method: accuracy[method]["mean"]):
                best[_kind(figures["methods"][labels][method])] = method
            count = "all labels" if labels == "all" else f"{labels} {unit}"
            found = "; ".join(
                f"{kind}: {_plain(best[kind])}{_of(accuracy[best[kind]])} ({_percent(figures['ece'][labels][best[kind]])})"
                for kind in _KINDS
                if kind in best
            )
            rows.append(
                (f"{title}, {count}: test accuracy in % (calibration error), the best of each kind", found, name)
            )
    return rows + [row for row in (_outside(records), _rounds(records), _ends(records)) if row is not None]


_KINDS = ("joint energies", "networks without a density", "without a network", "supervised network")


def _kind(settings: Mapping[str, Any]) -> str:
    if settings["kind"] != "network":
        return "without a network"
    if settings.get("marginal", "none") != "none":
        return "joint energies"
    more = {"adversarial_radius", "class_entropy", "class_balance", "base"} & settings.keys()
    return "networks without a density" if more else "supervised network"


def _plain(method: str) -> str:
    """A method's name in words, with a space after it; nothing for the supervised network, whose kind says it."""
    words = [_NAMES.get(word, word) for word in method.split("_")]
    return "" if method == "supervised" else " ".join(filter(None, words)) + " "


def _of(found: Mapping[str, Any]) -> str:
    ended = [value for value in found["seeds"] if value is not None]
    diverged = len(found["seeds"]) - len(ended)
    return f"{_percent(found)} ± {100 * found['std']:.1f}" + (
        f", {diverged} of {len(found['seeds'])} diverged" if diverged else ""
    )


def _outside(records: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if "jem_fashion_ood" not in records:
        return None
    figures = records["jem_fashion_ood"]["figures"]
    told = figures["auroc"]["mnist"]
    found = "; ".join(
        f"{_plain(method) or 'supervised '}{energy['mean']:.3f} ({told['max_probability'][method]['mean']:.3f})"
        for method, energy in sorted(told["energy"].items(), key=lambda item: -item[1]["mean"])
    )
    return "Fashion-MNIST against digits: AUROC by energy (by the largest p(y given x))", found, "jem_fashion_ood"


def _rounds(records: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if "joint_step" not in records:
        return None
    found = "; ".join(
        f"{name} {ratios['ratio, vera']:.1f} times ({ratios['ratio, vera, penalty at all rows']:.1f})"
        for name, ratios in records["joint_step"]["figures"]["by_network"].items()
    )
    what = (
        "steps a second of a joint model by VERA against chains of 20 steps, equal network; entropy on a quarter of the "
        "samples, the slope's penalty on a quarter of the rows (on all)"
    )
    return what, found, "joint_step"


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
