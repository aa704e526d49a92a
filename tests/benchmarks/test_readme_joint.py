"""The README's rows about joint energy models, from records made up here."""

from __future__ import annotations

from typing import Any

from benchmarks.readme_joint import joint_rows


def _spread(*seeds: float | None) -> dict[str, Any]:
    ended = [seed for seed in seeds if seed is not None]
    return {"mean": sum(ended) / len(ended), "std": 0.01, "seeds": list(seeds)}


METHODS: dict[str, dict[str, Any]] = {
    "supervised": {"kind": "network", "temperature": 2.0},
    "logistic_regression": {"kind": "logistic_regression"},
    "jem_vera": {"kind": "network", "marginal": "vera"},
    "jem_sgld": {"kind": "network", "marginal": "sgld"},
    "tilted": {"kind": "network", "base": True},
    "virtual_adversarial": {"kind": "network", "adversarial_radius": 1.0},
}


def test_of_each_kind_the_best_on_held_out_rows_is_shown() -> None:
    held_out = dict.fromkeys(METHODS, 0.5) | {"jem_vera": 0.6, "jem_sgld": 0.7}
    plain = {name: {k: v for k, v in own.items() if k != "temperature"} for name, own in METHODS.items()}
    candidates = {name: [{"settings": plain[name], "accuracy": value}] for name, value in held_out.items()}
    candidates["jem_vera"] += 2 * [{"settings": {"other": 1}, "accuracy": 0.9}]
    accuracy = {name: _spread(0.5, 0.5) for name in METHODS} | {
        "jem_vera": _spread(0.9, 0.9),
        "jem_sgld": _spread(0.8, None),
    }
    records = {
        "jem_har": {
            "figures": {
                "accuracy": {"10": accuracy},
                "ece": {"10": {name: _spread(0.125) for name in METHODS}},
                "methods": {"10": METHODS},
            }
        },
        "jem_har_search": {"figures": {"chosen": {"10": METHODS}, "candidates": {"10": candidates}}},
    }
    ((what, found, file),) = joint_rows(records)
    assert what.startswith("human activity, 10 labels a class: test accuracy") and file == "jem_har"
    # chains were the better of the joint energies on held-out rows, whatever the test says
    assert found == (
        "joint energies (4): chains 80.0 ± 1.0, 1 of 2 diverged (12.5); "
        "tilts without a term of the density (1): tilted 50.0 ± 1.0 (12.5); "
        "networks without a density (1): virtual adversarial 50.0 ± 1.0 (12.5); "
        "without a network (1): logistic regression 50.0 ± 1.0 (12.5); supervised network (1): 50.0 ± 1.0 (12.5)"
    )


def test_digits_are_told_from_clothes_by_energies_and_by_certainty_alone() -> None:
    told = {
        "max_probability": {"supervised": _spread(0.7), "logistic_regression": _spread(0.8), "jem_vera": _spread(0.6)},
        "energy": {"supervised": _spread(0.75), "jem_vera": _spread(0.9)},
    }
    ((_, found, _),) = joint_rows({"jem_fashion_ood": {"figures": {"auroc": {"mnist": told}}}})
    assert found == "VERA 0.900 (0.600); supervised 0.750 (0.700); logistic regression none (0.800)"
