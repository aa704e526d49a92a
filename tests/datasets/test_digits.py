"""The anomaly-detection problems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from chainfree.datasets import AnomalySplit, DataError, data_dir, load_adbench, load_digits_one_held_out


def _rows(*parts: torch.Tensor) -> list[bytes]:
    return sorted(row.tobytes() for part in parts for row in part.numpy())


def test_digits_against_scikit_learn() -> None:
    x, y = load_digits(return_X_y=True)
    split = load_digits_one_held_out(3, seed=0)
    assert len(split.x_train) == (y != 3).sum() // 2
    assert int(split.y_test.sum()) == (y == 3).sum()
    assert split.x_train.dtype == torch.float32 and float(split.x_train.max()) == 1.0
    scaled = torch.from_numpy((x / 16).astype(np.float32))
    assert _rows(split.x_train, split.x_test) == _rows(scaled)
    assert _rows(split.x_test[split.y_test == 1]) == _rows(scaled[y == 3])
    assert torch.equal(split.x_train, load_digits_one_held_out(3, seed=0).x_train)
    assert not torch.equal(split.x_train, load_digits_one_held_out(3, seed=1).x_train)
    for digit in (10, -1, True):
        with pytest.raises(ValueError, match="digit must be"):
            load_digits_one_held_out(digit, seed=0)


def test_adbench_from_files(tmp_path: Path) -> None:
    (tmp_path / "adbench").mkdir()
    x, y = np.arange(20, dtype=np.float32).reshape(10, 2), np.array([0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    np.savez(tmp_path / "adbench" / "22_Magic.gamma.npz", X=x, y=y)
    split = load_adbench("magic.gamma", 0, tmp_path)
    assert len(split.x_train) == 4 and split.y_test.tolist() == [0, 0, 0, 0, 1, 1]
    assert _rows(split.x_test[-2:]) == _rows(torch.from_numpy(x[y == 1]))
    with pytest.raises(DataError, match=r"has no table 'gamma'; it has magic\.gamma"):
        load_adbench("gamma", 0, tmp_path)
    np.savez(tmp_path / "adbench" / "1_bad.npz", X=x, y=y[:3])
    with pytest.raises(DataError, match="for each of the 10 rows"):
        load_adbench("bad", 0, tmp_path)


def test_real_adbench() -> None:
    folder = data_dir()
    if folder is None or not (folder / "adbench").is_dir():
        pytest.skip("CHAINFREE_DATA names no folder with adbench")
    split = load_adbench("cardiotocography", seed=0)
    with np.load(folder / "adbench" / "7_Cardiotocography.npz") as archive:
        assert len(split.x_train) + len(split.x_test) == len(archive["X"])
        assert int(split.y_test.sum()) == int(archive["y"].sum())


def test_a_split_checks_itself() -> None:
    x, y = torch.zeros(2, 2), torch.tensor([0, 1])
    AnomalySplit(x, x, y)
    for bad in [(x, x[:, :1], y), (x, x, y[:1]), (x, x, torch.tensor([0, 0])), (x.double(), x, y), (x[:0], x, y)]:
        with pytest.raises(DataError):
            AnomalySplit(*bad)
