"""Bad data files, and run folders that were spoilt."""

from __future__ import annotations

import gzip
import io
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.faults.program import Case, in_process
from benchmarks.faults.settings import SEED, TINY


def file_cases(rng: random.Random) -> Iterator[Case]:
    for ending in (".csv", ".csv.gz", ".parquet", ".npy", ".npz", ".txt", ".xlsx", ""):
        for number in range(3):
            content = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200))) + b"\xff\x00"
            yield Case(f"random bytes {number} {ending}", lambda e=ending, c=content: _with_file(f"data{e}", c))
        yield Case(f"empty {ending}", lambda e=ending: _with_file(f"data{e}", b""))
    whole = _whole_files()
    for ending, content in whole.items():
        for _ in range(3):
            cut = content[: rng.randrange(1, len(content) - 1)]
            yield Case(f"{ending} cut at {len(cut)}", lambda e=ending, c=cut: _with_file(f"data{e}", c))
    good = "\n".join(f"{i},{i * i % 17}" for i in range(40))
    for name, text in {
        "no header": good,
        "ragged": "a,b\n" + good + "\n1,2,3",
        "text": "a,b\n" + good + "\n1,x",
        "missing": "a,b\n" + good + "\n1,",
        "NaN": "a,b\n" + good + "\n1,nan",
        "infinite": "a,b\n" + good + "\n1,inf",
        "too large": "a,b\n" + good + "\n1,1e31",
        "twice": "a,a\n" + good,
        "nameless": "a,\n" + good,
        "semicolons": "a;b\n" + good.replace(",", ";"),
        "few rows": "a,b\n1,2\n2,3",
        "no rows": "a,b\n",
        "constant": "a,b\n" + "1,2\n" * 40,
    }.items():
        yield Case(f"csv: {name}", lambda t=text: _with_file("data.csv", t.encode()))
    arrays = {
        "0-d": np.zeros(()),
        "1-d": np.zeros(40),
        "3-d": np.zeros((40, 2, 2)),
        "no rows": np.zeros((0, 3)),
        "no columns": np.zeros((40, 0)),
        "constant": np.ones((40, 2)),
        "complex": np.zeros((40, 2), dtype=complex),
        "text": np.full((40, 2), "a"),
        "dates": np.zeros((40, 2), dtype="M8[s]"),
        "records": np.zeros(40, dtype="f4,i4"),
        "objects": np.array([[1, {}]] * 40, dtype=object),
        "NaN": np.full((40, 2), np.nan),
        "infinite": np.full((40, 2), np.inf),
        "too large": np.arange(80.0).reshape(40, 2) * 1e30,
        "few rows": np.arange(10.0).reshape(5, 2),
    }
    for name, array in arrays.items():
        for ending in (".npy", ".npz"):
            yield Case(f"{ending}: {name}", lambda e=ending, a=array: _with_array(e, a))


def _whole_files() -> dict[str, bytes]:
    rows = np.random.default_rng(SEED).normal(size=(40, 3))
    text = "a,b,c\n" + "\n".join(",".join(map(str, row)) for row in rows)
    npy, npz, columns = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, rows)
    np.savez(npz, x=rows)
    parquet.write_table(pa.table({name: rows[:, i] for i, name in enumerate("abc")}), columns)
    return {
        ".csv.gz": gzip.compress(text.encode(), mtime=0),
        ".npy": npy.getvalue(),
        ".npz": npz.getvalue(),
        ".parquet": columns.getvalue(),
    }


def _with_file(name: str, content: bytes) -> str | None:
    Path(name).write_bytes(content)
    return in_process("train", "--data", name, *TINY)


def _with_array(ending: str, array: np.ndarray) -> str | None:
    if ending == ".npy":
        np.save("data.npy", array)
    else:
        np.savez("data.npz", array)
    return in_process("train", "--data", f"data{ending}", *TINY)


def run_cases(rng: random.Random) -> Iterator[Case]:
    """A trained run with one file spoilt, and rows that it cannot score."""
    spoils: list[tuple[str, bytes | None]] = [
        (name, content)
        for name in ("config.toml", "schema.json", "model.safetensors")
        for content in (None, b"", b"null\n", bytes(rng.randrange(256) for _ in range(60)) + b"\xff")
    ]
    # a config of nothing but a comment is one without data; the metrics are only drawn
    spoils += [("report/summary.json", b"[]"), ("report/summary.json", b"{"), ("metrics.jsonl", b"null\n")]
    for name, content in spoils:
        command = ("plot", "spoilt")
        yield Case(f"spoilt {name} {(content or b'')[:6]!r}", lambda n=name, c=content, a=command: _spoilt(n, c, a))
    for name, content in {
        "a column short": b"x0,x1\n1,2\n",
        "no number": b"x0,x1,x2\n1,2,x\n",
        "missing": b"x0,x1,x2\n1,2,\n",
        "too large": b"x0,x1,x2\n1,2,1e31\n",
        "far out": b"x0,x1,x2\n1,2,1e29\n",
        "empty": b"",
    }.items():
        yield Case(f"score: {name}", lambda c=content: _scored(c))


def _spoilt(name: str, content: bytes | None, arguments: tuple[str, ...]) -> str | None:
    shutil.rmtree("spoilt", ignore_errors=True)
    shutil.copytree("good", "spoilt")
    path = Path("spoilt", name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return in_process(*arguments)


def _scored(content: bytes) -> str | None:
    Path("new.csv").write_bytes(content)
    problem = in_process("score", "good", "new.csv", "--out", "energies.csv")
    return problem or ("scores were written" if Path("energies.csv").exists() else None)
