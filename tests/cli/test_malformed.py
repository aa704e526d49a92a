"""Whatever it is given, the program does what was asked or refuses in one line: never status 1, never a traceback."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainfree.cli import main

TINY = ("--steps", "2", "--batch", "8", "--network.width", "4", "--network.depth", "1", "--threads", "1")

fuzz = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def quick(no_pictures: None) -> None:
    """No pictures; they have tests of their own."""


@contextlib.contextmanager
def _new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        rows = np.random.default_rng(0).normal(size=(40, 3))
        np.save("rows.npy", rows)
        yield Path()


def _sound(*arguments: str) -> int:
    """Call the program; a result or a one-line refusal that leaves nothing, anything else is a failure."""
    before = {path for path in Path().rglob("*") if path.is_file()}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(arguments))
    text = err.getvalue()
    assert status in (0, 2), (status, text)
    assert "Traceback" not in text
    if status == 2:
        assert out.getvalue() == ""
        assert len(text.splitlines()) == 1 and text.startswith("chainfree: "), text
        assert {path for path in Path().rglob("*") if path.is_file()} == before
    return status


# values of every kind for any flag; large sizes are only such as are refused before memory is taken
VALUES = st.one_of(
    st.sampled_from(
        ["0", "1", "2", "-1", "0.5", "1e-3", "1e400", "nan", "inf", "-inf", "true", "false", "null", "none", "None", ""]
    ),
    st.sampled_from(["[1,2]", "[0.1,0.2]", "[]", "[[1]]", "{}", '{"a": 1}', "[nan]", "a", "auto", "--", "-", "=", "é"]),
    st.sampled_from(["gaussian", "mixture", "none", "linear", "mlp", "resnet", "ou", "mean_pool", "constant", "bf16"]),
    st.text(max_size=6),
)
FLAGS = st.sampled_from(
    [
        "--anomaly", "--drop", "--key", "--held_out", "--scaling", "--network", "--network.kind", "--network.width",
        "--network.depth", "--network.activation", "--network.spectral_norm", "--network.frequencies",
        "--network.frequency_scale", "--network.channels", "--network.blocks", "--base", "--base.kind",
        "--base.components", "--base.regularisation", "--loss", "--loss.perturbation", "--loss.t", "--loss.window",
        "--loss.draws", "--loss.w", "--loss.chunk", "--optimizer", "--optimizer.betas", "--optimizer.eps",
        "--optimizer.weight_decay", "--schedule", "--schedule.kind", "--schedule.warmup", "--steps", "--batch",
        "--seed", "--clip", "--ema", "--precision", "--accumulate", "--device", "--threads", "--guard",
        "--guard.limit", "--guard.every", "--guard.tries", "--guard.backoff", "--patience", "--evaluate_every",
        "--log_every", "--checkpoint_every", "--tensorboard", "--name", "--config", "--resume", "--nonsense", "-x",
        "--method", "--vera", "--vera.latent", "--vera.weighted", "--vera.entropy",
    ]
)  # fmt: skip


@fuzz
@given(flags=st.lists(st.tuples(FLAGS, VALUES), min_size=1, max_size=3), joined=st.booleans())
def test_random_flags(flags: list[tuple[str, str]], joined: bool) -> None:
    given_flags = [f"{f}={v}" for f, v in flags] if joined else list(itertools.chain(*flags))
    with _new_folder():
        # a low rate last, so that nothing diverges and no number of steps takes long
        _sound("train", "--data", "rows.npy", *TINY, *given_flags, "--optimizer.lr", "1e-6")


VERA_FLAGS = st.sampled_from(
    [
        "latent", "width", "depth", "frequencies", "samples", "entropy", "entropy_weight", "gradient_penalty", "weighted",
        "covering", "share", "wide", "lr", "nonsense",
    ]
)  # fmt: skip


@fuzz
@given(flags=st.lists(st.tuples(VERA_FLAGS, VALUES), min_size=1, max_size=3))
def test_random_flags_of_vera(flags: list[tuple[str, str]]) -> None:
    small = ("--vera.samples", "4", "--vera.width", "4", "--vera.depth", "1")
    with _new_folder():
        given_flags = [f"--vera.{f}={v}" for f, v in flags]
        _sound("train", "--data", "rows.npy", *TINY, "--method", "vera", *small, *given_flags, "--vera.lr", "1e-6")


@fuzz
@given(
    arguments=st.lists(
        st.one_of(st.sampled_from(["evaluate", "score", "sample", "plot", "--out", "--key", "."]), VALUES)
    )
)
def test_random_words(arguments: list[str]) -> None:
    with _new_folder():
        _sound(*arguments)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=4), st.integers(10**300, 10**310)
)
KEYS = st.one_of(
    st.sampled_from(
        ["steps", "batch", "network", "loss", "width", "t", "kind", "drop", "seed", "guard", "out", "name"]
    ),
    st.text(min_size=1, max_size=5),
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value if v is not None) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None) + "}"
    return repr(value)


@fuzz
@given(table=st.dictionaries(KEYS, NESTED, max_size=4), lost=st.booleans())
def test_random_config_files(table: dict[str, Any], lost: bool) -> None:
    lines = [f"{json.dumps(key)} = {_toml(value)}" for key, value in table.items() if value is not None]
    with _new_folder():
        data = [] if lost else ['data = "rows.npy"']
        Path("config.toml").write_text("\n".join([*data, *lines]), encoding="utf-8", errors="replace")
        _sound("train", "config.toml", *TINY, "--optimizer.lr", "1e-6", "--name", "run", "--out", "runs")


@fuzz
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-16"))))
def test_random_bytes_as_a_config_file(content: bytes) -> None:
    with _new_folder():
        Path("config.toml").write_bytes(content)
        assert _sound("train", "config.toml") == 2


CELLS = st.one_of(
    st.floats(width=32).map(repr), st.sampled_from(["", "x", "1e400", '"', "1;2", "\x00", "é", "NaN", "inf"])
)
CSV = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=30).map("\n".join)


@fuzz
@given(
    ending=st.sampled_from([".csv", ".csv.gz", ".parquet", ".npy", ".npz", ".CSV", ".txt", ""]),
    content=st.one_of(
        st.binary(max_size=80),
        CSV.map(str.encode),
        CSV.map(lambda text: gzip.compress(text.encode())),
        st.binary(max_size=40).map(lambda tail: b"\x93NUMPY\x01\x00" + tail),
        st.binary(max_size=40).map(lambda tail: b"PK\x03\x04" + tail),
        st.binary(max_size=40).map(lambda middle: b"PAR1" + middle + b"PAR1"),
    ),
)
def test_random_files(ending: str, content: bytes) -> None:
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    with _new_folder():
        Path(f"data{ending}").write_bytes(content)
        _sound("train", "--data", f"data{ending}", *TINY, "--optimizer.lr", "1e-6")


@fuzz
@given(
    shape=st.lists(st.integers(0, 30), max_size=4),
    dtype=st.sampled_from(["f2", "f4", "f8", "g", "i1", "u8", "?", "c8", "U3", "S3", "O", "M8[s]", "i4,f4"]),
    fill=st.sampled_from([0, 1, "range", "normal", "nan", "huge"]),
    npz=st.booleans(),
)
def test_random_arrays(shape: list[int], dtype: str, fill: Any, npz: bool) -> None:
    size = int(np.prod(shape))
    values = {
        "range": np.arange(size, dtype=float),
        "normal": np.random.default_rng(0).normal(size=size),
        "nan": np.full(size, np.nan),
        "huge": np.full(size, 1e38),
    }
    flat = values[fill] if isinstance(fill, str) else np.full(size, fill)
    try:
        with np.errstate(all="ignore"):
            array = flat.reshape(shape).astype(np.dtype(dtype))
    except (TypeError, ValueError):
        return  # no such array
    with _new_folder():
        if npz:
            np.savez("data.npz", array)
        else:
            np.save("data.npy", array)
        _sound("train", "--data", f"data.np{'z' if npz else 'y'}", *TINY, "--optimizer.lr", "1e-6")


@pytest.mark.usefixtures("only_summary")
@settings(fuzz, max_examples=25)
@given(
    name=st.sampled_from(["config.toml", "schema.json", "metrics.jsonl", "model.safetensors", "report/summary.json"]),
    where=st.floats(0, 1),
    how=st.sampled_from(["cut", "zero", "junk", "null"]),
    command=st.sampled_from(["evaluate", "score", "resume"]),
)
def test_spoilt_runs(trained: Path, name: str, where: float, how: str, command: str) -> None:
    path = trained / name
    whole = path.read_bytes()
    at = int(where * len(whole))
    spoilt = {
        "cut": whole[:at],
        "zero": whole[:at] + b"\0" + whole[at + 1 :],
        "junk": whole[:at] + b"[\xff" + whole[at:],
        "null": b"null\n",
    }
    kept = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    path.write_bytes(spoilt[how])
    out, err = io.StringIO(), io.StringIO()
    arguments = {
        "evaluate": ["evaluate", str(trained)],
        "score": ["score", str(trained), "rows.csv", "--out", "scores.csv"],
        "resume": ["train", "--resume", str(trained)],
    }
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(arguments[command])
    finally:
        for p in trained.rglob("*"):
            if p.is_file() and p not in kept:
                os.unlink(p)
        for p, content in kept.items():
            p.parent.mkdir(exist_ok=True, parents=True)
            p.write_bytes(content)
    assert status in (0, 2), err.getvalue()
    assert "Traceback" not in err.getvalue()
    if status == 2:
        assert len([line for line in err.getvalue().splitlines() if line.startswith("chainfree: ")]) == 1
