"""Rows of natural image patches and of four tables, each with a training, a validation and a test part.

Patches as in Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for Density Estimation", NeurIPS 2017, arXiv
1705.07057: 8 by 8 grey pixels of BSDS images, uniform noise added, over 256, the patch's mean subtracted, the last pixel
dropped: 63 features. The sample of patches is another one than theirs, so published figures compare only roughly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chainfree.datasets import find

PIXELS, LEVELS = 64, 256
SPLIT_SEED = 0
TRAIN_SHARE, VALID_SHARE = 0.70, 0.15

# Columns of a table and the widths of the bins that they are given as: noise, uniform over a bin, makes them continuous. Left
# out: categories, and columns that are one value for many rows even so. Wide bins of noise flatten what is left of peaks, and
# decide much of the likelihood where most rows are in a few of them, as payments are: figures compare methods, not tables.
HOUSING = {
    "MedInc": 1e-4, "HouseAge": 1.0, "AveRooms": 0.0, "AveBedrms": 0.0, "Population": 1.0, "AveOccup": 0.0,
    "Latitude": 0.01, "Longitude": 0.01,
}  # fmt: skip
THOUSANDS = 1e3  # of dollars: in single ones, a fifth of all payments are the same, 0
CREDIT = {"LIMIT_BAL": 1e4, "AGE": 1.0} | {
    f"{kind}_AMT{month}": THOUSANDS for kind in ("BILL", "PAY") for month in range(1, 7)
}
COVTYPE = {
    "Elevation": 1.0, "Aspect": 1.0, "Slope": 1.0, "Horizontal_Distance_To_Roadways": 1.0, "Hillshade_9am": 1.0,
    "Hillshade_Noon": 1.0, "Hillshade_3pm": 1.0, "Horizontal_Distance_To_Fire_Points": 1.0,
}  # fmt: skip
HIGGS_LEFT_OUT = (8, 12, 16, 20, 23)  # four b-tags of three values each, and a mass with 7 % of the rows at one value


@dataclass(frozen=True)
class Parts:
    """Rows ``(N, dim)`` in units in which densities are reported.

    Args:
        train, valid, test: what methods are fitted to, chosen by, and scored on once.
        notes: what was done to the columns.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    notes: str = ""


def patches() -> Parts:
    """Natural image patches; each training patch also mirrored, with noise of its own."""
    file = np.load(find("bsds300_patches8.npz"))
    train = torch.from_numpy(file["x_train"])
    rows = torch.cat([_rows(train, seed=0), _rows(train.flip(-1), seed=1)])
    notes = "150000 patches and their mirror images, each with its own uniform noise, to train on"
    valid, test = (_rows(torch.from_numpy(file[f"x_{part}"]), seed) for part, seed in (("valid", 2), ("test", 3)))
    return Parts("bsds300_patches8", rows, valid, test, notes)


def _rows(pixels: Tensor, seed: int) -> Tensor:
    noise = torch.rand(len(pixels), PIXELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    grey = (pixels.flatten(1).double() + noise) / LEVELS
    return (grey - grey.mean(1, keepdim=True))[:, :-1].float()


def table(name: str) -> Parts:
    """A table's numeric columns without discrete ones, in 70, 15 and 15 % of its rows; units are the training rows'."""
    file = np.load(find(f"tabular/{name}.npz"))
    if name == "higgs_7k":
        both = np.concatenate([file["x_train"], file["x_test"]])
        kept = {str(i): 1e-3 for i in range(both.shape[1]) if i not in HIGGS_LEFT_OUT}
        columns = [str(i) for i in range(both.shape[1])]
    else:
        both, columns = file["X"], [str(c) for c in file["columns"]]
        kept = {"california_housing": HOUSING, "default_credit_24k": CREDIT, "covtype_first10k": COVTYPE}[name]
    draws = np.random.default_rng(SPLIT_SEED)
    order = draws.permutation(len(both))
    rows = both[order][:, [columns.index(c) for c in kept]].astype(np.float64)
    bins = np.array(list(kept.values()))
    # bins of thousands are counted from below, narrower ones are what the file has
    coarse = bins >= THOUSANDS
    rows[:, coarse] = np.floor(rows[:, coarse] / bins[coarse]) * bins[coarse]
    rows += bins * draws.random(rows.shape)
    first, second = round(TRAIN_SHARE * len(rows)), round((TRAIN_SHARE + VALID_SHARE) * len(rows))
    rows = (rows - rows[:first].mean(0)) / rows[:first].std(0)
    train, valid, test = (torch.from_numpy(part).float() for part in np.split(rows, [first, second]))
    noted = ", ".join(f"{c} ({width:g})" if width else c for c, width in kept.items())
    return Parts(name, train, valid, test, f"columns (width of the uniform noise): {noted}; standardised")


TABLES = ("california_housing", "default_credit_24k", "higgs_7k", "covtype_first10k")
DATASETS: dict[str, Callable[[], Parts]] = {
    "bsds300_patches8": patches,
    **{name: (lambda name=name: table(name)) for name in TABLES},
}


@dataclass(frozen=True)
class Whitening:
    r"""Principal components at unit variance, :math:`u = (x - m) A`, and its :math:`\log|\det A|`."""

    mean: Tensor
    matrix: Tensor
    constant: float

    @classmethod
    def fit(cls, x: Tensor) -> Whitening:
        rows = x.double()
        values, axes = torch.linalg.eigh(torch.cov(rows.T))
        values, axes = values.flip(0), axes.flip(1)  # the largest first
        return cls(rows.mean(0), axes / values.sqrt(), float(-0.5 * values.log().sum()))

    def __call__(self, x: Tensor) -> Tensor:
        return ((x.double() - self.mean) @ self.matrix).float()

    def log_abs_det(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.constant, dtype=torch.float64)
