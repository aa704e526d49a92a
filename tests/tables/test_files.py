"""What becomes of a file's cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from chainfree.cli.main import main
from chainfree.datasets import DataError
from chainfree.tables import read_file


def _file(folder: Path, lines: list[str]) -> str:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_numbers_with_leading_zeros_are_text(tmp_path: Path) -> None:
    path = _file(tmp_path, ["code,a,b,zero", "007,1,0.5,0", "012,2,-0.25,0", ",3,00.5,0"])
    frame = read_file(path)
    assert frame["code"].tolist()[:2] == ["007", "012"] and frame["code"].isna().tolist() == [False, False, True]
    assert [frame[name].dtype.kind for name in ("a", "b", "zero")] == ["i", "f", "i"]


def test_a_slip_is_no_name_and_spaces_are_none(tmp_path: Path) -> None:
    frame = read_file(_file(tmp_path, ["a,b", *(f"{k},{k % 3:03d} " for k in range(500)), "0120,002"]))
    assert frame["a"].dtype.kind == "i" and frame["a"].iloc[-1] == 120
    assert set(frame["b"]) == {"000", "001", "002"}


def test_rows_with_a_name_of_their_own_keep_their_cells(tmp_path: Path) -> None:
    frame = read_file(_file(tmp_path, ["zip,n", '"1",00501,2', '"2",10001,3', '"3",02115,4']))
    assert frame["zip"].tolist() == ["00501", "10001", "02115"] and frame["n"].tolist() == [2, 3, 4]


def test_columns_of_one_name_are_looked_at_one_by_one(tmp_path: Path) -> None:
    frame = read_file(_file(tmp_path, ["a,a", "1,01", "2,02"]))
    assert frame.iloc[:, 0].tolist() == [1, 2] and frame.iloc[:, 1].tolist() == ["01", "02"]


def test_dates_are_dates(tmp_path: Path) -> None:
    lines = ["day,when,no,mixed,zone", "2024-02-29,2024-02-29 12:30,2024-02-30,2024-01-01,2024-01-01T00:00Z"]
    frame = read_file(_file(tmp_path, [*lines, ",2024-03-01T00:00:01.5,2024-01-01,soon,2024-01-01T00:00Z"]))
    assert frame["day"].tolist() == [pd.Timestamp("2024-02-29"), pd.NaT]
    assert frame["when"].tolist() == [pd.Timestamp("2024-02-29 12:30"), pd.Timestamp("2024-03-01T00:00:01.5")]
    assert [frame[name][0] for name in ("no", "mixed")] == ["2024-02-30", "2024-01-01"]
    assert (frame["zone"] == pd.Timestamp("2024-01-01", tz="UTC")).all()


def test_dates_of_several_zones_are_instants(tmp_path: Path) -> None:
    frame = read_file(
        _file(tmp_path, ["at", "2024-01-01 10:00:00+01:00", "2024-07-01 10:00:00+02:00", "2024-01-01T09:00:00Z"])
    )
    hours = pd.to_datetime(["2024-01-01 09:00", "2024-07-01 08:00", "2024-01-01 09:00"], utc=True)
    assert frame["at"].tolist() == hours.tolist()


def test_whole_numbers_with_holes_stay_whole(tmp_path: Path) -> None:
    frame = read_file(_file(tmp_path, ["a,b,c", "1,1.5,", ",,", "3,2.0,"]))
    assert str(frame["a"].dtype) == "Int64" and frame["a"].tolist()[::2] == [1, 3]
    assert frame["b"].dtype.kind == "f" and frame["c"].isna().all()


def test_files_of_another_make_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="save it with commas between columns"):
        read_file(_file(tmp_path, ["a;b", "1;2"]))
    path = tmp_path / "latin.csv"
    path.write_bytes("a,b\nö,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 .* save it as that"):
        read_file(str(path))


def test_dates_are_fitted_scored_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = pd.date_range("2023-01-01", periods=90).strftime("%Y-%m-%d")
    path = _file(tmp_path, ["day,a", *(f"{day},{k % 7}" for k, day in enumerate(days))])
    out, rows, scores = (str(tmp_path / name) for name in ("model", "rows.csv", "scores.csv"))
    assert main(["train", "--data", path, "--task", "density", "--steps", "5", "--out", out, "--seed", "0"]) == 0
    assert main(["sample", out, "--rows", "50", "--out", rows]) == 0
    drawn = read_file(rows)["day"]
    assert drawn.dtype.kind == "M" and (drawn == drawn.dt.normalize()).all()
    assert drawn.between(pd.Timestamp("2022-10-01"), pd.Timestamp("2023-07-01")).all()
    assert main(["score", out, rows, "--out", scores]) == 0
    assert read_file(scores)["log_density"].notna().all()
    given = str(tmp_path / "given.csv")
    assert main(["sample", out, "--rows", "3", "--given", "day=2023-02-01", "--out", given]) == 0
    assert (read_file(given)["day"] == pd.Timestamp("2023-02-01")).all()
    capsys.readouterr()
    assert main(["score", out, _file(tmp_path, ["day,a", "soon,1"]), "--out", scores]) == 2
    assert "column 'day' takes dates as 2024-12-31" in capsys.readouterr().err


def test_what_was_fitted_with_zones_scores_a_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = pd.date_range("2023-01-01", periods=90, freq="h", tz="UTC").tz_convert("Europe/Berlin")
    frame = pd.DataFrame({"at": days, "a": range(90)})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    out = str(tmp_path / "model")
    data = str(tmp_path / "t.parquet")
    assert main(["train", "--data", data, "--task", "density", "--steps", "5", "--out", out, "--seed", "0"]) == 0
    scores = []
    for name in ("t.parquet", "t.csv"):
        assert main(["score", out, str(tmp_path / name), "--out", str(tmp_path / "s.parquet")]) == 0
        scores.append(pd.read_parquet(tmp_path / "s.parquet"))
    pd.testing.assert_frame_equal(*scores)
    rows = str(tmp_path / "rows.parquet")
    for given in ("2023-01-02 10:00:00", "2023-01-02T09:00Z", "2023-01-02 11:00:00+02:00"):
        assert main(["sample", out, "--rows", "3", "--given", f"at={given}", "--out", rows]) == 0
        assert (pd.read_parquet(rows)["at"] == pd.Timestamp("2023-01-02 10:00", tz="Europe/Berlin")).all(), given
    assert "Warning" not in capsys.readouterr().err


def test_keys_come_back_with_their_zeros(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, ["code,a", *(f"{k % 3:03d},{k % 7}" for k in range(60))])
    out = str(tmp_path / "model")
    assert main(["train", "--data", path, "--task", "synthesize", "--steps", "5", "--out", out, "--seed", "0"]) == 0
    rows = str(tmp_path / "rows.csv")
    assert main(["sample", out, "--rows", "20", "--out", rows]) == 0
    assert set(read_file(rows)["code"]) <= {"000", "001", "002"}
    scored = str(tmp_path / "more.csv")
    assert main(["sample", out, "--rows", "5", "--given", "code=002", "--out", scored]) == 0
    assert read_file(scored)["code"].tolist() == ["002"] * 5
    capsys.readouterr()
