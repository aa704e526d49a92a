"""What synthetic rows are worth, by hand where it is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

synthesis = pytest.importorskip("benchmarks.tables.synthesis")

ABOUT = {"categories": ["town", "target"], "whole": ["age"], "target": "target", "rows": 400, "seed": 0}


def rows(seed: int, count: int = 400) -> pd.DataFrame:
    source = np.random.default_rng(seed)
    age = source.integers(20, 80, count)
    above = (age + source.normal(0, 10, count) > 50).astype(int).astype(str)
    return pd.DataFrame({"age": age, "town": source.choice(["Ulm", "Bonn"], count), "target": above.astype(object)})


def test_distances_are_to_the_nearest_fitted_row_in_standard_deviations() -> None:
    fitted = pd.DataFrame({"age": [0, 10, 20], "town": ["Ulm", "Ulm", "Bonn"], "target": ["0", "0", "1"]})
    asked = pd.DataFrame({"age": [10, 12, 20], "town": ["Ulm", "Ulm", "Ulm"], "target": ["0", "0", "1"]})
    found = synthesis.distances(fitted, asked, ABOUT)
    # the copy; two tenths of the standard deviation, 10; another town, one
    np.testing.assert_allclose(found, [0, 0.2, 1], atol=1e-12)


def test_copies_are_all_found_and_nothing_else() -> None:
    source = np.random.default_rng(0)
    fitted = pd.DataFrame({"wage": source.normal(1e5, 3e4, 5000).round(6), "age": source.integers(0, 99, 5000)})
    fresh = fitted.assign(wage=fitted["wage"] + 1e-5)
    assert synthesis.copied(pd.concat([fitted, fresh]), fitted) == 0.5


def test_a_category_that_no_fitted_row_has_is_no_copy() -> None:
    fitted = pd.DataFrame({"age": [0, 10], "town": ["Ulm", "Bonn"], "target": ["0", "1"]})
    asked = pd.DataFrame({"age": [0], "town": ["Rom"], "target": ["0"]})
    assert synthesis.distances(fitted, asked, ABOUT)[0] > 0.7


def test_fresh_rows_train_as_well_and_are_not_told_apart() -> None:
    real, fresh = rows(0), rows(1)
    assert synthesis.tstr_auroc(fresh, real, 0) > 0.85
    assert 0.4 < synthesis.told_apart(real, fresh, 0) < 0.6


def test_wrong_rows_are_told_apart_and_train_the_other_way() -> None:
    real, wrong = rows(0), rows(1)
    wrong["target"] = wrong["target"].map({"0": "1", "1": "0"})
    assert synthesis.tstr_auroc(wrong, real, 0) < 0.15
    assert synthesis.told_apart(real, wrong, 0) > 0.8


def test_rows_of_one_class_train_nothing() -> None:
    made = rows(1).assign(target="0")
    assert synthesis.tstr_auroc(made, rows(0), 0) == 0.5


def test_rows_with_new_categories_are_left_out() -> None:
    fitted, asked = rows(0), rows(1)
    asked.loc[asked.index[:3], "town"] = "Rom"
    assert len(synthesis.known_rows(asked, fitted, ABOUT)) == len(asked) - 3
