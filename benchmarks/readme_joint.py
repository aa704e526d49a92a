"""The README's rows about joint energy models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["joint_rows"]

_TASKS = {
    "jem_har": ("human activity", "labels a class"),
    "jem_adult": ("census", "labels"),
    "jem_mnist": ("MNIST, every digit set upright", "labels a class"),
    "jem_mnist_pixels": ("MNIST as it is", "labels a class"),
}
_NAMES = {
    "sgld": "chains",
    "jem": "",
    "vera": "VERA",
    "meg": "MEG",
}


def joint_rows(records: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What, result and file, for every comparison there is and every number of labels in it.

    Of each kind of method the one is shown that was the most accurate in the search, on held-out rows; all are in the file.
    """
    rows = []
    for name, (title, unit) in _TASKS.items():
        if name not in records:
            continue
        figures = records[name]["figures"]
        search = records[f"{name.removesuffix('_pixels')}_search"]["figures"]
        for labels, accuracy in figures["accuracy"].items():
            held_out = _held_out(search, labels)
            best: dict[str, str] = {}
            offered: dict[str, int] = {}
            for method in sorted(accuracy, key=held_out.__getitem__):
                kind = _kind(figures["methods"][labels][method])
                best[kind] = method
                offered[kind] = offered.get(kind, 0) + len(search["candidates"][labels][method])
            count = "all labels" if labels == "all" else f"{labels} {unit}"
            found = "; ".join(
                f"{kind} ({offered[kind]}): {_plain(best[kind])}{_of(accuracy[best[kind]])} "
                f"({_percent(figures['ece'][labels][best[kind]])})"
                for kind in _KINDS
                if kind in best
            )
            rows.append(
                (
                    f"{title}, {count}: test accuracy in % (calibration error), of each kind (settings tried) the best on "
                    "held-out rows",
                    found,
                    name,
                )
            )
    return rows + [row for row in (_outside(records), _rounds(records), _ends(records)) if row is not None]


_KINDS = (
    "joint energies",
    "tilts without a term of the density",
    "networks without a density",
    "without a network",
    "supervised network",
)


def _held_out(search: Mapping[str, Any], labels: str) -> dict[str, float]:
    """Every method's accuracy on held-out rows with the settings that were chosen."""
    found = {}
    for method, settings in search["chosen"][labels].items():
        plain = {key: value for key, value in settings.items() if key != "temperature"}
        (accuracy,) = (
            tried["accuracy"] for tried in search["candidates"][labels][method] if tried["settings"] == plain
        )
        found[method] = accuracy
    return found


def _kind(settings: Mapping[str, Any]) -> str:
    if settings["kind"] != "network":
        return "without a network"
    if settings.get("marginal", "none") != "none":
        return "joint energies"
    if "base" in settings:
        return "tilts without a term of the density"
    more = {"adversarial_radius", "class_entropy", "class_balance"} & settings.keys()
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
    energies = {method: told["energy"].get(method) for method in told["max_probability"]}  # a linear one has none
    found = "; ".join(
        f"{_plain(method) or 'supervised '}{'none' if energy is None else format(energy['mean'], '.3f')} "
        f"({told['max_probability'][method]['mean']:.3f})"
        for method, energy in sorted(energies.items(), key=lambda item: -item[1]["mean"] if item[1] else 0.0)
    )
    what = (
        "Fashion-MNIST against digits: AUROC by energy (by the largest p(y given x)); energy discrepancy's noise was chosen "
        "with training digits in sight, VERA's and MEG's entropy weight is a hundredth"
    )
    return what, found, "jem_fashion_ood"


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
    told = "; ".join(
        f"{_WAYS[way]} {ends['ended_well']} ended well, {ends['raised']} raised, {ends['silent']} went wrong silently"
        for way, ends in found["by_way"].items()
    )
    return f"joint models at too high a learning rate, {found['seeds']} seeds", told, "joint_stability"


_WAYS = {
    "vera": "VERA",
    "sgld": "chains",
    "vera, free": "VERA with level and slope left free",
    "sgld, free": "chains with the level left free",
}


def _percent(found: Mapping[str, float]) -> str:
    return f"{100 * found['mean']:.1f}"
