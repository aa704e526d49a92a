"""The census table as numbers: what a network without a notion of columns takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...datasets import DataError, find

__all__ = ["Census", "adult_columns"]

_LABEL, _POSITIVE = "income", ">50K"


class Census(NamedTuple):
    """``(N, D)`` float32, and whether the income is above 50,000 dollars, ``(N,)`` int64."""

    x: Tensor
    y: Tensor


def adult_columns(*, held_out: float | None) -> tuple[Census, Census]:
    """Rows to learn from and to be judged by: numbers standardised, categories as indicators.

    Capital gains and losses are taken by log(1 + x) first. A missing cell is a category of its own. Scales and categories are
    those of the rows that are learned from.

    Args:
        held_out: share of the training rows that are judged, drawn once for all; ``None`` to judge the test rows.

    Raises:
        DataError: the files are missing.
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as missing:
        raise ImportError("tables of text need pandas: pip install 'chainfree[tables]'") from missing
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    frames = []
    for part in ("train", "test"):
        path = find(f"tabular/adult_{part}.csv.gz")
        frame = pd.read_csv(path, keep_default_na=False)  # an empty cell is a category, as no number is missing
        if _LABEL not in frame:
            raise DataError(f"{path}: has no column {_LABEL!r}; fetch the original file")
        frames.append(frame)
    if held_out is not None:
        judged = np.random.default_rng(0).random(len(frames[0])) < held_out
        frames = [frames[0][~judged], frames[0][judged]]
    rows = frames[0].drop(columns=_LABEL)
    numbers = [str(name) for name in rows if pd.api.types.is_numeric_dtype(rows[name])]
    skewed = [name for name in numbers if name.startswith("capital_")]
    encoder = ColumnTransformer(
        [
            ("skewed", make_pipeline(FunctionTransformer(np.log1p), StandardScaler()), skewed),
            ("numbers", StandardScaler(), [name for name in numbers if name not in skewed]),
            (
                "categories",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                [name for name in rows if name not in numbers],
            ),
        ]
    ).fit(rows)

    def census(frame: pd.DataFrame) -> Census:
        x = encoder.transform(frame.drop(columns=_LABEL))
        y = frame[_LABEL].str.rstrip(".").eq(_POSITIVE).to_numpy(dtype=np.int64)
        return Census(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)), torch.from_numpy(y))

    return census(frames[0]), census(frames[1])
