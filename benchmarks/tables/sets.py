"""The tables that several benchmarks share."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from chainfree.datasets.locate import find

NAMES = ("adult", "bank_marketing", "california_housing", "default_credit_24k")


def table(name: str) -> tuple[pd.DataFrame, pd.Series]:
    """Columns with their own names and categories, and the target."""
    with np.load(find(f"tabular/{name}.npz"), allow_pickle=False) as file:
        values, is_category = file["X"], file["is_cat"]
        names = [str(column) for column in file["columns"]]
        labels = json.loads(str(file["categories_json"]))
        target = pd.Series(file["y"], name=str(file["target"]))
    columns = {}
    for place, column in enumerate(names):
        cells = values[:, place]
        if not is_category[place]:
            columns[column] = pd.Series(cells)
            continue
        known = labels.get(column)
        codes = np.where(np.isnan(cells), -1, cells).astype(int)
        columns[column] = pd.Series(
            [None if code < 0 else f"{known[code]}" if known else f"{code}" for code in codes], dtype=object
        )
    return pd.DataFrame(columns), target


def adult(part: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The census as it stands in its files, with empty cells, and whether incomes are above 50,000."""
    frame = pd.read_csv(find(f"tabular/adult_{part}.csv.gz"))
    income = frame.pop("income")
    return frame, income.str.contains(">").to_numpy().astype(int)
