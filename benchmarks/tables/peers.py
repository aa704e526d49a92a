"""Synthesizers from PyPI and SDMetrics' scores, run by an interpreter of their own.

They need pandas below 3, which the rest does not. This file imports nothing of the project: ``make peers`` builds its
environment, and :mod:`benchmarks.tables.synthesis` calls it as

    .venv-peers/bin/python benchmarks/tables/peers.py {ctgan,tvae,smote} ABOUT.json REAL.csv MADE.csv
    .venv-peers/bin/python benchmarks/tables/peers.py scores ABOUT.json REAL.csv MADE.csv SCORES.json
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch


def main() -> None:
    warnings.filterwarnings("ignore")
    task, about_path, real_path, made_path, *rest = sys.argv[1:]
    about = json.loads(Path(about_path).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    torch.manual_seed(about["seed"])
    np.random.seed(about["seed"])  # CTGAN and TVAE draw from it
    real = read(real_path, about)
    if task == "scores":
        Path(rest[0]).write_text(json.dumps(scores(real, read(made_path, about), about)), encoding="utf-8")
    else:
        {"ctgan": ctgan, "tvae": tvae, "smote": smote}[task](real, about).to_csv(made_path, index=False)


def read(path: str, about: dict[str, Any]) -> pd.DataFrame:
    """Categories as text, whole numbers as integers."""
    frame = pd.read_csv(path, dtype=dict.fromkeys(about["categories"], str), keep_default_na=False)
    return frame.astype(dict.fromkeys(about["whole"], "int64"))


def ctgan(real: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """By its defaults: 300 epochs."""
    from ctgan import CTGAN

    model = CTGAN(cuda=False)
    model.fit(real, discrete_columns=about["categories"])
    made: pd.DataFrame = model.sample(about["rows"])
    return made


def tvae(real: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """By its defaults: 300 epochs."""
    from ctgan import TVAE

    model = TVAE(cuda=False)
    model.fit(real, discrete_columns=about["categories"])
    made: pd.DataFrame = model.sample(about["rows"])
    return made


def smote(real: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """Rows between a row and one of its five neighbours of the same class: as many as there are of each class."""
    from imblearn.over_sampling import SMOTE, SMOTENC

    target = about["target"]
    X, y = real.drop(columns=target), real[target]
    wanted = {label: 2 * count for label, count in y.value_counts().items()}
    places = [place for place, name in enumerate(X.columns) if name in about["categories"]]
    settings: dict[str, Any] = {"sampling_strategy": wanted, "random_state": about["seed"]}
    sampler = SMOTENC(categorical_features=places, **settings) if places else SMOTE(**settings)
    numbers = [name for name in X.columns if name not in about["categories"]]
    grown, labels = sampler.fit_resample(X.astype(dict.fromkeys(numbers, "float64")), y)
    made = grown.assign(**{target: labels}).iloc[len(real) :][list(real.columns)]
    made[about["whole"]] = made[about["whole"]].round().astype("int64")
    return made.sample(about["rows"], replace=about["rows"] > len(made), random_state=about["seed"])


def scores(real: pd.DataFrame, made: pd.DataFrame, about: dict[str, Any]) -> dict[str, float]:
    """SDMetrics': shapes of columns, trends of their pairs, and how little a logistic regression tells rows apart."""
    from sdmetrics.reports.single_table import QualityReport
    from sdmetrics.single_table import LogisticDetection

    kinds = {name: {"sdtype": "categorical" if name in about["categories"] else "numerical"} for name in real.columns}
    metadata = {"columns": kinds}
    report = QualityReport()
    report.generate(real, made, metadata, verbose=False)
    by_property = report.get_properties().set_index("Property")["Score"]
    return {
        "shape": float(by_property["Column Shapes"]),
        "pair_trend": float(by_property["Column Pair Trends"]),
        "detection": float(LogisticDetection.compute(real, made, metadata)),
    }


if __name__ == "__main__":
    main()
