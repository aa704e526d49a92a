"""What becomes of a file's cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainfree.cli.frames import read_frame
from chainfree.cli.main import main


def _file(folder: Path, lines: list[str]) -> str:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_numbers_with_leading_zeros_are_text(tmp_path: Path) -> None:
    path = _file(tmp_path, ["code,a,b,zero", "007,1,0.5,0", "012,2,-0.25,0", ",3,00.5,0"])
    frame = read_frame(path)
    assert frame["code"].tolist()[:2] == ["007", "012"] and frame["code"].isna().tolist() == [False, False, True]
    assert [frame[name].dtype.kind for name in ("a", "b", "zero")] == ["i", "f", "i"]


def test_columns_of_one_name_are_looked_at_one_by_one(tmp_path: Path) -> None:
    frame = read_frame(_file(tmp_path, ["a,a", "1,01", "2,02"]))
    assert frame.iloc[:, 0].tolist() == [1, 2] and frame.iloc[:, 1].tolist() == ["01", "02"]


def test_keys_come_back_with_their_zeros(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, ["code,a", *(f"{k % 3:03d},{k % 7}" for k in range(60))])
    out = str(tmp_path / "model")
    assert main(["train", "--data", path, "--task", "synthesize", "--steps", "5", "--out", out, "--seed", "0"]) == 0
    rows = str(tmp_path / "rows.csv")
    assert main(["sample", out, "--rows", "20", "--out", rows]) == 0
    assert set(read_frame(rows)["code"]) <= {"000", "001", "002"}
    scored = str(tmp_path / "more.csv")
    assert main(["sample", out, "--rows", "5", "--given", "code=002", "--out", scored]) == 0
    assert read_frame(scored)["code"].tolist() == ["002"] * 5
    capsys.readouterr()
