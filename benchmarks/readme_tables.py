"""The README's rows about estimators of tables."""

from __future__ import annotations

import statistics
from typing import Any

__all__ = ["table_rows"]


def table_rows(records: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What, result and file, of the files that are there."""
    makers = {
        "adbench": _outliers,
        "conformal": _alarms,
        "calibration_adult": _classes,
        "imputation": _imputation,
        "synthesis": _synthesis,
        "discrete": _discrete,
        "table_speed": _speed,
    }
    return [row for name, maker in makers.items() if name in records for row in maker(records[name]["figures"])]


def _outliers(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for part, count in (("all", "30"), ("held_from_tuning", "20")):
        area, rank = figures["mean_auroc"][part], figures["mean_rank"][part]
        told = "; ".join(f"{name} {area[name]:.4f} ({rank[name]:.2f})" for name in sorted(area, key=lambda m: -area[m]))
        which = f"the {count} on which no default was chosen" if part != "all" else f"{count} tables of ADBench"
        rows.append((f"outliers, {which}: mean AUROC (mean rank)", told, "adbench"))
    return rows


def _alarms(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    # with fewer than nineteen calibration rows nothing can be called an outlier at this level
    z = {name: values for name, values in figures["z_by_split"].items() if any(values)}
    rates = [figures["false_alarm_rate"][name] for name in z]
    every = [value for values in z.values() for value in values]
    beyond = sum(abs(value) > 2 for value in every) / len(every)
    told = f"mean {100 * statistics.mean(rates):.1f}%, at most {100 * max(rates):.1f}%; {100 * beyond:.0f}% of the "
    told += "splits are beyond two standard errors"
    what = f"fresh normal rows called outliers at level 5%, the {len(z)} of these tables that have rows enough for it"
    return [(what, told, "conformal")]


def _classes(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for labels, by_method in figures["accuracy"].items():
        told = "; ".join(
            f"{name} {100 * found['mean']:.1f} ± {100 * found['std']:.1f} ({100 * figures['ece'][labels][name]['mean']:.1f})"
            for name, found in by_method.items()
        )
        which = f"{labels} labels" if labels != "all" else "all labels"
        rows.append(
            (
                f"census by the estimators' defaults, {which}: test accuracy in % (calibration error)",
                told,
                "calibration_adult",
            )
        )
    return rows


def _imputation(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    accuracy = (
        "a fifth of the cells filled in: accuracy of categories (the iterative imputer's are the most frequent ones: a "
        "column's indicators are missing together)"
    )
    error = "a fifth of the cells filled in: error of numbers in standard deviations"
    return [
        (accuracy, _by_table(figures["categorical_accuracy"]), "imputation"),
        (error, _by_table(figures["numeric_error"]), "imputation"),
    ]


def _synthesis(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    trained = "synthetic rows: AUROC on real rows of a classifier trained on them"
    told_apart = "synthetic rows: AUROC of a classifier that tells them from real ones (0.5 is best)"
    return [
        (trained, _by_table(figures["tstr_auroc"]), "synthesis"),
        (told_apart, _by_table(figures["detection_boosting"]), "synthesis"),
    ]


def _by_table(figure: dict[str, Any]) -> str:
    """Every table's methods and their means."""
    return "; ".join(
        f"{_plain(table)} " + ", ".join(f"{name} {found['mean']:.3f}" for name, found in by_method.items())
        for table, by_method in figure.items()
    )


def _discrete(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    told = "; ".join(
        f"{name} {value:.2f} in [{figures['low'][name]:.2f}, {figures['high'][name]:.2f}] ({figures['mixture'][name]:.2f})"
        for name, value in figures["log_likelihood"].items()
    )
    return [("binary tables: test log-likelihood in nats (the mixture alone)", told, "discrete")]


def _speed(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    fits, rates = figures["fit_adult_s_by_estimator"], figures["score_rows_per_s_by_estimator"]
    slowest, slow = max(fits, key=fits.__getitem__), min(rates, key=rates.__getitem__)
    told = (
        f"fitted in {fits[slowest]:.0f} s at most ({slowest}), {rates[slow] / 1000:,.0f},000 rows scored a second at "
    )
    told += f"least ({slow})"
    return [("census, 32,561 rows of 14 columns, five estimators, two threads", told, "table_speed")]


def _plain(name: str) -> str:
    return name.partition("_")[0]
