"""``chainfree evaluate``, ``score`` and ``plot``: what a trained run is good for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chainfree.checks import energy_values
from chainfree.cli.run_folder import RunFolder

Run = Callable[..., Any]


@pytest.mark.parametrize(
    "data",
    [
        ("--data", "toy:25gaussians"),
        ("--data", "rows.csv"),
        ("--data", "digits", "--anomaly", "3", "--scaling", "none"),
    ],
    ids=["toy", "table", "digits"],
)
@pytest.mark.usefixtures("csv", "only_summary")
def test_evaluate_says_what_train_said(data: tuple[str, ...], chainfree: Run, tiny: tuple[str, ...]) -> None:
    trained = chainfree("train", *data, *tiny, "--name", "run")
    assert trained.status == 0, trained.err
    path = Path("runs/run/report/summary.json")
    before = json.loads(path.read_text())
    path.unlink()
    evaluated = chainfree("evaluate", "runs/run")
    assert evaluated.status == 0, evaluated.err
    assert json.loads(path.read_text()) == before  # to the last digit
    assert evaluated.out.strip() in trained.out


def test_scores_are_the_energies_of_the_library(
    chainfree: Run, trained: Path, make_table: Callable[..., np.ndarray], save_csv: Callable[..., Path]
) -> None:
    x = make_table(50, seed=9)
    model = RunFolder.open(trained).model()
    with torch.no_grad():
        expected = energy_values(model.in_data_units(), torch.from_numpy(x).float()).numpy()
    rng = np.random.default_rng(0)
    files = {
        "same.csv": (x, "a,b,c"),
        "shuffled.csv": (x[:, [2, 0, 1]], "c,a,b"),
        "more.csv": (np.column_stack([rng.normal(size=50), x[:, 1], x[:, 0], x[:, 2]]), "z,b,a,c"),
    }
    for name, (rows, header) in files.items():
        save_csv(Path(name), rows, header)
        ended = chainfree("score", str(trained), name, "--out", "out/energies.csv")
        assert ended.status == 0, ended.err
        lines = Path("out/energies.csv").read_text().splitlines()
        assert lines[0] == "energy"
        scores = np.array([float(line) for line in lines[1:]])
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5, err_msg=name)
        assert f"{np.median(scores):.4g} (median)" in ended.out
        assert ended.out.startswith("50 rows scored")


def test_text_in_a_column_that_is_ignored_does_not_matter(chainfree: Run, trained: Path) -> None:
    Path("new.csv").write_text("a,name,b,c\n0.1,x,10,20\n0.2,,11,21\n")
    assert chainfree("score", str(trained), "new.csv", "--out", "e.csv").status == 0


def test_a_far_row_has_a_higher_energy(chainfree: Run, trained: Path) -> None:
    Path("new.csv").write_text("a,b,c\n0,10,20\n40,-30,90\n")
    assert chainfree("score", str(trained), "new.csv", "--out", "e.csv").status == 0
    near, far = np.loadtxt("e.csv", skiprows=1)
    assert far > near + 100


def test_arrays_are_scored_by_position(chainfree: Run, tiny: tuple[str, ...], no_pictures: None) -> None:
    digits = ("--data", "digits", "--anomaly", "3", "--scaling", "none")
    assert chainfree("train", *digits, *tiny, "--name", "run").status == 0
    x = np.random.default_rng(0).random((7, 64))
    np.savez("new.npz", a=x, b=x[:3])
    assert chainfree("score", "runs/run", "new.npz", "--key", "a", "--out", "e.csv").status == 0
    model = RunFolder.open("runs/run").model()
    expected = energy_values(model.in_data_units(), torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(np.loadtxt("e.csv", skiprows=1), expected, rtol=1e-5)
    np.save("narrow.npy", x[:, :63])
    assert "63 columns" in chainfree("score", "runs/run", "narrow.npy", "--out", "n.csv").refused()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n", "there is no column 'c'"),
        ("a,b,c\n1,2,\n", "missing values"),
        ("a,b,c\n1,2,inf\n", "infinite values"),
        ("a,b,c\n1,2,1e31\n", "values above 1e+30"),
        ("a,b,c\n1,2,x\n", "is not numeric"),
        ("a,b,c\n", "no rows"),
        ("a,b,c,c\n1,2,3,4\n", "more than once"),
        ("a,b,c\n1,2\n", "cannot be read as CSV"),
        ("", "is empty"),
        # a normal base is quadratic: beyond float32 there is no energy to tell
        ("a,b,c\n1,2,1e29\n", "too far out"),
    ],
)
def test_rows_that_cannot_be_scored(content: str, says: str, chainfree: Run, trained: Path) -> None:
    Path("new.csv").write_text(content)
    assert says in chainfree("score", str(trained), "new.csv", "--out", "energies.csv").refused()
    assert not Path("energies.csv").exists()


def test_other_refusals_of_score(chainfree: Run, trained: Path) -> None:
    run = str(trained)
    assert "--out must end in .csv" in chainfree("score", run, "rows.csv", "--out", "e.txt").refused()
    assert "no such file" in chainfree("score", run, "none.csv", "--out", "e.csv").refused()
    assert "cannot write" in chainfree("score", run, "rows.csv", "--out", "rows.csv/e.csv").refused()
    assert "is for .npz files" in chainfree("score", run, "rows.csv", "--key", "x", "--out", "e.csv").refused()
    assert "no run folder" in chainfree("score", "nowhere", "rows.csv", "--out", "e.csv").refused()
    for arguments in [(), (run,), (run, "rows.csv"), (run, "rows.csv", "e.csv"), (run, "rows.csv", "--out")]:
        assert "score --help" in chainfree("score", *arguments).refused()
    assert not list(Path().glob("e.*"))


def test_plot_draws_again(chainfree: Run, trained: Path) -> None:
    before = {p.name for p in (trained / "report").iterdir()}
    for path in (trained / "report").iterdir():
        path.unlink()
    ended = chainfree("plot", str(trained))
    assert ended.status == 0, ended.err
    assert {p.name for p in (trained / "report").iterdir()} == before
    assert {Path(line).name for line in ended.out.splitlines()} == before - {"summary.json"}


def _spoil(run: Path, name: str, content: str | bytes | None) -> None:
    path = run / name
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.toml", None, "no run folder"),
        ("config.toml", "steps = ", "not valid TOML"),
        ("config.toml", b"\xff\xfe", "not valid TOML"),
        ("config.toml", "steps = 5", "data is missing"),
        ("schema.json", None, "missing or damaged"),
        ("schema.json", "{", "missing or damaged"),
        ("schema.json", "[]", "missing or damaged"),
        ("schema.json", '{"event_shape": [3], "columns": null}', "missing or damaged"),
        ("schema.json", '{"event_shape": [], "columns": null, "digest": ""}', "is damaged"),
        ("schema.json", '{"event_shape": [3.5], "columns": null, "digest": ""}', "is damaged"),
        ("schema.json", '{"event_shape": [3], "columns": "abc", "digest": ""}', "is damaged"),
        ("model.safetensors", None, "train the run to its end"),
        ("model.safetensors", b"", "does not fit"),
        ("model.safetensors", b"\xff" * 100, "does not fit"),
        ("metrics.jsonl", "{]\n", "is damaged"),
        ("metrics.jsonl", "null\n", "is damaged"),
        ("metrics.jsonl", '{"loss": 1.0}\n', "is damaged"),
        ("metrics.jsonl", '{"step": "1", "loss": 1.0}\n', "is damaged"),
        ("metrics.jsonl", '{"step": 1, "loss": "low"}\n', "log plain numbers"),
        ("metrics.jsonl", b"\xff\n", "is damaged"),
        ("report/summary.json", "{]", "is damaged"),
        ("report/summary.json", "[]", "is damaged"),
        ("report/summary.json", "{}", "is damaged"),
    ],
)
def test_a_spoilt_run_is_named(
    name: str, content: str | bytes | None, says: str, chainfree: Run, trained: Path
) -> None:
    _spoil(trained, name, content)
    message = chainfree("plot", str(trained)).refused()
    assert says in message
    assert (
        str(trained if name == "config.toml" and content is None else Path(name).name) in message or "data" in message
    )


def test_another_shape_does_not_load(chainfree: Run, trained: Path) -> None:
    config = (trained / "config.toml").read_text()
    (trained / "config.toml").write_text(config.replace("width = 8", "width = 9"))
    assert "does not fit the energy in config.toml" in chainfree("evaluate", str(trained)).refused()


def test_data_that_have_gone_are_named(chainfree: Run, trained: Path) -> None:
    Path("rows.csv").unlink()
    assert "rows.csv: there is no such file" in chainfree("evaluate", str(trained)).refused()
