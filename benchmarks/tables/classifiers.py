"""Classifiers of mixed frames that several benchmarks share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

__all__ = ["boosting", "logistic_regression"]


def boosting(frame: pd.DataFrame, seed: int) -> Any:
    """Gradient boosting by its defaults, text as categories."""
    text = make_column_selector(dtype_exclude="number")
    codes = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), text), remainder="passthrough"
    )
    categories = list(range(len(text(frame))))
    return make_pipeline(codes, HistGradientBoostingClassifier(random_state=seed, categorical_features=categories))


def logistic_regression() -> Any:
    """By its defaults, numbers standardised, an indicator for each category."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        (numbers, make_column_selector(dtype_include="number")),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=2000))
