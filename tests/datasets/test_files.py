"""Tables from files: pandas and numpy write them, and every fault has its own message."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainfree.datasets import DataError, Table, data_dir, find, read_arrays, read_table

EXTENSIONS = (".csv", ".csv.gz", ".parquet", ".npy", ".npz")


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(size=20) * 1e-5,
            "count": rng.integers(-(2**62), 2**62, size=20),
            "flag": rng.random(20) < 0.5,
            "odd, name": rng.normal(size=20).astype("float32") * 1e20,
        }
    )


def _write(frame: pd.DataFrame, path: Path) -> Path:
    if path.name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def _error(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path))
    return message


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".CSV"])
def test_frames_come_back(tmp_path: Path, ending: str) -> None:
    frame = _frame()
    table = read_table(_write(frame, tmp_path / f"t{ending}"))
    assert table.columns == tuple(frame.columns)
    assert table.values.dtype == np.float64 and table.values.flags.c_contiguous
    # float32 is written to CSV in its own shortest form
    np.testing.assert_allclose(table.values, frame.to_numpy(dtype=np.float64), rtol=1e-7)
    np.testing.assert_array_equal(table.values[:, :3], frame.iloc[:, :3].to_numpy(dtype=np.float64))


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i1", "u8", "?"])
def test_arrays_come_back(tmp_path: Path, dtype: str) -> None:
    x = (np.arange(12).reshape(4, 3) % 5).astype(dtype)
    np.save(tmp_path / "a.npy", x)
    np.savez_compressed(tmp_path / "a.npz", x=np.asfortranarray(x), y=np.arange(4))
    for path in (tmp_path / "a.npy", tmp_path / "a.npz"):
        table = read_table(path)
        assert table.columns == ("x0", "x1", "x2") and len(table) == 4
        np.testing.assert_array_equal(table.values, x.astype(np.float64))


def test_which_array_of_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, features=np.ones((2, 2)))
    assert read_table(path).values.sum() == 4
    np.savez(path, features=np.ones((2, 2)), y=np.zeros(2))
    message = _error(path)
    assert "'features'" in message and "'y'" in message and "key" in message
    assert read_table(path, key="features").values.sum() == 4
    assert "did you mean 'features'" in _error(path, key="feature")
    np.savez(path, x=np.ones((2, 2)), X=np.zeros((2, 2)))
    assert "'x', 'X'" in _error(path)
    assert "leave it out" in _error(_write(_frame(), tmp_path / "t.csv"), key="x")


def test_names_beside_the_array(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, X=np.ones((2, 2)), columns=np.array(["age", "pay"]))
    assert read_table(path).columns == ("age", "pay")
    assert read_table(path, columns=["pay"]).columns == ("pay",)
    np.savez(path, X=np.ones((2, 2)), columns=np.array(["age"]))
    assert "'columns'" in _error(path)
    assert set(read_arrays(path, ["columns", "X"])) == {"columns", "X"}


def test_choosing_columns(tmp_path: Path) -> None:
    frame = _frame().assign(city="Oslo")
    path = _write(frame, tmp_path / "t.parquet")
    table = read_table(path, columns=["flag", "height"])
    np.testing.assert_array_equal(table.values, frame[["flag", "height"]].to_numpy(dtype=np.float64))
    assert read_table(path, drop=["city", "flag"]).columns == ("height", "count", "odd, name")
    assert "did you mean 'height'" in _error(path, drop=["heigth"])
    assert "there are 'height', 'count'" in _error(path, columns=["weight", "zzz"])
    assert "more than once" in _error(path, columns=["flag", "flag"])
    assert "both" in _error(path, columns=["flag"], drop=["flag"])
    assert "no columns are left" in _error(path, drop=list(frame.columns))
    assert "no columns are left" in _error(path, columns=[])
    assert "list of names" in _error(path, drop="city")


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_bad_cells_are_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    frame = _frame()

    def message(name: str, value: object, rows: list[int]) -> str:
        bad = frame.astype(object if isinstance(value, str) else np.float64)
        bad.loc[rows, name] = value
        if isinstance(value, str):
            bad[name] = bad[name].astype(str)
        _write(bad, path)
        assert name not in read_table(path, drop=[name]).columns
        return _error(path)

    assert "'count' has missing values in 2 of 20 rows, first in row 3" in message("count", np.nan, [3, 7])
    assert "'height' has infinite values in 1 of 20 rows, first in row 5" in message("height", -np.inf, [5])
    assert "'height' has values above 1e+30 in 1 of 20 rows, first in row 0" in message("height", -1e31, [0])
    text = message("count", "unknown", [4])
    assert "'count' is not numeric" in text and "'unknown'" in text and "--drop" in text


def test_columns_that_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {
        "when": pd.Series(pd.date_range("2020-01-01", periods=3, freq="1ns")),
        "list": pd.Series([[1], [2], [3]]),
        "bytes": pd.Series([b"\xff", b"", b"a"]),
        "kind": pd.Series(["a", "b", "a"], dtype="category"),
    }
    for name, column in columns.items():
        _write(pd.DataFrame({"a": [1, 2, 3], name: column}), path)
        assert f"'{name}' is not numeric" in _error(path)
    _write(pd.DataFrame({"a": pd.Series([5, 7, 5], dtype="category"), "b": pd.Series([True, None, False])}), path)
    assert read_table(path, drop=["b"]).values.ravel().tolist() == [5, 7, 5]
    assert "'b' has missing values in 1 of 3 rows, first in row 1" in _error(path)


def test_a_stored_index_is_no_column(tmp_path: Path) -> None:
    frame = _frame().iloc[[3, 1, 5]]
    assert read_table(_write(frame, tmp_path / "t.parquet")).columns == tuple(frame.columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,a\n1,2\n", "'a' is there more than once"),
        (b"a,b\n", "no rows"),
        (b"\n\n", "cannot be read as CSV"),
        (b"a,b\n1,2,3\n", "Expected 2 columns, got 3"),
        (b"a,b\n1\n", "Expected 2 columns, got 1"),
        (b",a\n0,1\n", "column 1 has no name"),
        (b"a;b\n1;2\n", "commas"),
        (b"1.5,2\n3,4\n", "add a header line"),
        (b"a,b\n1,2\n,3\n", "'a' has missing values in 1 of 2 rows, first in row 1"),
        (b"a,b\n1,1e400\n", "'b' has infinite values"),
        (b"a,b\n1,\n", "'b' has missing values"),
        (b"\xff\xfea\x00\n\x001\x00", "cannot be read as CSV"),
        (b"a\n2020-01-01\n", "'a' is not numeric"),
    ],
)
def test_bad_csv(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    assert message in _error(path)


def test_a_header_of_positions_is_fine(tmp_path: Path) -> None:
    path = _write(pd.DataFrame(np.ones((3, 2))), tmp_path / "t.csv")
    assert read_table(path).columns == ("0", "1")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.float64(1.0), "rows and columns"),
        (np.ones(3), "x.reshape(-1, 1)"),
        (np.ones((2, 2, 2)), "x.reshape(len(x), -1)"),
        (np.ones((0, 2)), "no rows"),
        (np.ones((2, 0)), "no columns"),
        (np.ones((2, 2), dtype=complex), "complex"),
        (np.array([["a"]]), "<U1"),
        (np.array([["2020"]], dtype="M8[s]"), "datetime64"),
        (np.zeros((2, 1), dtype=[("a", "f8")]), "save it as float64"),
        (np.array([[np.nan, 1.0]]), "'x0' has missing"),
        (np.array([[1.0, np.inf]]), "'x1' has infinite"),
        (np.array([[1.0, 1e31]]), "'x1' has values above"),
        (np.array([[1, None]], dtype=object), "Object arrays cannot be loaded"),
    ],
)
def test_bad_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=array)
    assert message in _error(tmp_path / "a.npy")
    assert message in _error(tmp_path / "a.npz")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "bang"),)

    (tmp_path / "a.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(tmp_path / "b.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "b.npy").read_bytes())
    for name in ("a.npy", "b.npy", "c.npz"):
        _error(tmp_path / name)
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_missing_empty_and_cut_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    assert "no such file" in _error(path)
    path.mkdir()
    assert "folder" in _error(path)
    path.rmdir()
    path.touch()
    assert "empty" in _error(path)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)), columns=["a", "b", "c"])
    if ending == ".npy":
        np.save(path, frame.to_numpy())
    elif ending == ".npz":
        np.savez(path, frame.to_numpy())
    else:
        _write(frame, path)
    whole = path.read_bytes()
    np.testing.assert_array_equal(read_table(path).values, frame.to_numpy())
    for cut in (3, len(whole) // 2, len(whole) - 9):
        if ending == ".csv" and cut != 3:
            continue  # a cut text is a shorter text
        path.write_bytes(whole[:cut])
        _error(path)
    if ending != ".csv":  # a changed byte in the middle: found wherever the format has a checksum
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 0xFF
        path.write_bytes(changed)
        if ending in (".csv.gz", ".npz"):
            _error(path)


def test_two_arrays_in_one_npy_are_refused(tmp_path: Path) -> None:
    with open(tmp_path / "a.npy", "wb") as file:
        np.save(file, np.ones((2, 2)))
        np.save(file, np.ones((2, 2)))
    assert "after the array's end" in _error(tmp_path / "a.npy")


def test_bytes_after_an_npz_array_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((2, 2)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue() + b"more")
    assert "after its end" in _error(tmp_path / "a.npz")


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = _write(_frame(), tmp_path / f"t{ending}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'chainfree[tables]'" in _error(path)


def test_other_paths(tmp_path: Path) -> None:
    assert "unknown kind of file '.xlsx'" in _error(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="cannot be opened"):
        read_table("a\0b.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not a plain file" in _error(tmp_path / "pipe.csv")


def _good(ending: str) -> bytes:
    buffer = io.BytesIO()
    x = np.arange(40.0).reshape(20, 2)
    frame = pd.DataFrame({"a": x[:, 0], "c": pd.Categorical([1, 2] * 10)})
    if ending == ".npy":
        np.save(buffer, x)
    elif ending == ".npz":
        np.savez_compressed(buffer, x=x)
    elif ending == ".parquet":
        frame.to_parquet(buffer)
    else:
        frame.to_csv(buffer, index=False)
    content = buffer.getvalue()
    return gzip.compress(content) if ending == ".csv.gz" else content


GOOD = {ending: _good(ending) for ending in EXTENSIONS}
PREFIXES = [b"", b"a,b\n1,2\n", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"PAR1", b"\x1f\x8b\x08\x00"]


def _finite_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        table = read_table(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert table.values.shape == (len(table), len(table.columns)) and len(table) > 0
        assert np.isfinite(table.values).all()


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(EXTENSIONS), st.sampled_from(PREFIXES), st.binary(max_size=200))
def test_random_bytes_give_a_table_or_a_data_error(tmp_path: Path, ending: str, prefix: bytes, tail: bytes) -> None:
    _finite_or_refused(tmp_path / f"t{ending}", prefix + tail)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(EXTENSIONS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_give_a_table_or_a_data_error(
    tmp_path: Path, ending: str, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(GOOD[ending])
    for where, value in changes:
        content[int(where * len(content))] = value
    _finite_or_refused(tmp_path / f"t{ending}", bytes(content))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("ab,\n\"'01.e-+ \r\t;naNinf#x\u00e9"), max_size=60))
def test_random_text_gives_a_table_or_a_data_error(tmp_path: Path, text: str) -> None:
    _finite_or_refused(tmp_path / "t.csv", text.encode())


def test_a_table_checks_itself() -> None:
    for columns, values in [
        (("a",), np.ones((2, 2))),
        (("a", "a"), np.ones((2, 2))),
        (("a",), np.ones((2, 1), dtype=np.float32)),
        (("a",), np.ones(2)),
        (("a",), np.full((2, 1), np.nan)),
    ]:
        with pytest.raises(DataError):
            Table(columns, values)


def test_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.npy").touch()
    monkeypatch.setenv("CHAINFREE_DATA", str(tmp_path))
    assert data_dir() == tmp_path and find("a.npy") == tmp_path / "a.npy"
    with pytest.raises(DataError, match=r"has no b\.npy"):
        find("b.npy")
    monkeypatch.setenv("CHAINFREE_DATA", str(tmp_path / "a.npy"))
    with pytest.raises(DataError, match=r"CHAINFREE_DATA is .* not a folder"):
        data_dir()
    assert find("a.npy", tmp_path) == tmp_path / "a.npy"
    with pytest.raises(DataError, match="data_dir is"):
        find("a.npy", tmp_path / "nowhere")
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("CHAINFREE_DATA")
        else:
            monkeypatch.setenv("CHAINFREE_DATA", unset)
        assert data_dir() is None
        with pytest.raises(DataError, match="set CHAINFREE_DATA"):
            find("a.npy")
