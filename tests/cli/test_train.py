"""``chainfree train``: every kind of data, and what a run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chainfree.checks import energy_values
from chainfree.cli.run_folder import RunFolder
from chainfree.energies import Coordinates, FourierMLP, GaussianMixture, InCoordinates, Tilted


def _printed(out: str, label: str) -> float:
    (line,) = [line for line in out.splitlines() if line.startswith(label)]
    return float(line.split()[-1])


def test_a_toy_run_leaves_all_its_files(chainfree: Callable[..., Any], tiny: tuple[str, ...]) -> None:
    ended = chainfree(
        "train", "--data", "toy:25gaussians", *tiny, "--log_every", "2", "--checkpoint_every", "2", "--loss.t", "0.5"
    )
    assert ended.status == 0, ended.err
    run = Path("runs/25gaussians")
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "config.toml",
        "metrics.jsonl",
        "model.safetensors",
        "report",
        "schema.json",
    ]
    assert [p.name for p in Path("runs").iterdir()] == ["25gaussians"]
    settings = RunFolder.open(run).settings()
    assert (settings.data, settings.steps, settings.batch, settings.loss.t) == ("toy:25gaussians", 5, 16, 0.5)
    assert (settings.network.width, settings.network.depth, settings.threads) == (8, 1, 1)
    schema = json.loads((run / "schema.json").read_text())
    assert (schema["event_shape"], schema["columns"], set(schema)) == ([2], None, {"event_shape", "columns", "digest"})
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 5]
    assert all(np.isfinite(record["loss"]) and record["lr"] > 0 for record in records)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-000000004.pt", "step-000000005.pt"]
    pictures = {"curves.png", "density.png", "energies.png", "landscape.png"}
    assert {p.name for p in (run / "report").iterdir()} == pictures | {"summary.json"}
    assert all((run / "report" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    summary = json.loads((run / "report" / "summary.json").read_text())
    # the table printed is the summary, rounded
    for label, key in [
        ("held-out loss", "held_out_loss"),
        ("log Z", "log_z"),
        ("held-out NLL", "held_out_nll"),
        ("NLL above the truth", "nll_gap"),
        ("MSE of log-density", "mse_log_density"),
    ]:
        assert _printed(ended.out, label) == pytest.approx(summary[key], abs=5.1e-5)


def test_the_config_of_a_run_says_all_its_settings(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    flags = ["--drop", "b", "--held_out", "0.25", "--seed", "7", "--clip", "1.5", "--ema", "0", "--base.kind", "none"]
    flags += [
        "--loss.t",
        "[0.1,2]",
        "--loss.chunk",
        "2",
        "--optimizer.betas",
        "[0.5,0.9]",
        "--schedule.kind",
        "constant",
    ]
    assert chainfree("train", "--data", str(csv), "--name", "first", *tiny, *flags).status == 0
    assert chainfree("train", "runs/first/config.toml", "--name", "second").status == 0
    first, second = (asdict(RunFolder.open(f"runs/{name}").settings()) for name in ("first", "second"))
    assert first | {"name": "second"} == second
    assert first["drop"] == ("b",)
    assert (first["loss"]["t"], first["loss"]["chunk"], first["optimizer"]["betas"]) == ((0.1, 2.0), 2, (0.5, 0.9))
    assert (first["clip"], first["ema"], first["seed"], first["held_out"]) == (1.5, 0.0, 7, 0.25)
    # settings are all that a run depends on
    weights = [Path(f"runs/{name}/model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]


def test_flags_after_a_config_file_win(chainfree: Callable[..., Any], tiny: tuple[str, ...], no_pictures: None) -> None:
    Path("config.toml").write_text('data = "toy:25gaussians"\nsteps = 3\nseed = 4\n[network]\nwidth = 16\n')
    assert chainfree("train", "config.toml", *tiny, "--name", "run").status == 0
    settings = RunFolder.open("runs/run").settings()
    assert (settings.steps, settings.seed, settings.network.width, settings.network.depth) == (5, 4, 8, 1)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "npy", "npz"])
def test_every_kind_of_file_gives_the_same_run(
    kind: str,
    chainfree: Callable[..., Any],
    tiny: tuple[str, ...],
    make_table: Callable[..., np.ndarray],
    no_pictures: None,
) -> None:
    pd = pytest.importorskip("pandas", reason="files are written by pandas")
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    x = make_table()
    np.save("reference.npy", x)
    name = Path(f"rows.{kind}")
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    writers: dict[str, Callable[[], Any]] = {
        "csv": lambda: frame.to_csv(name, index=False),
        "csv.gz": lambda: frame.to_csv(name, index=False),
        "parquet": lambda: frame.to_parquet(name),
        "npy": lambda: np.save(name, x),
        "npz": lambda: np.savez(name, rows=x, other=np.zeros(2)),
    }
    writers[kind]()
    key = ["--key", "rows"] if kind == "npz" else []
    ended = chainfree("train", "--data", str(name), *key, *tiny, "--name", "run")
    assert ended.status == 0, ended.err
    assert "108 training, 12 held out" in ended.out
    assert chainfree("train", "--data", "reference.npy", *tiny, "--name", "reference").status == 0
    assert Path("runs/run/model.safetensors").read_bytes() == Path("runs/reference/model.safetensors").read_bytes()
    named = kind in ("csv", "csv.gz", "parquet")
    assert RunFolder.open("runs/run").columns() == (("a", "b", "c") if named else ("x0", "x1", "x2"))
    # the data are found from wherever the run is looked at
    assert Path(RunFolder.open("runs/run").settings().data) == name.resolve()


def test_digits_are_an_anomaly_problem(chainfree: Callable[..., Any], tiny: tuple[str, ...]) -> None:
    ended = chainfree("train", "--data", "digits", "--anomaly", "3", "--scaling", "none", *tiny)
    assert ended.status == 0, ended.err
    run = Path("runs/digits_without_3")
    summary = json.loads((run / "report" / "summary.json").read_text())
    # 183 threes among 1,797 digits; half of the 1,614 others are tested, a tenth of the other half held out
    assert summary["rows"]["test_anomalies"] == 183
    assert summary["rows"]["test"] == 807 + 183
    assert (summary["rows"]["train"], summary["rows"]["held_out"]) == (726, 81)
    table = summary["anomaly"]
    assert {"chainfree", "IsolationForest"} < set(table)
    for method, scores in table.items():
        assert 0 <= scores["auroc"] <= 1
        assert f"{scores['auroc']:.4f}" in next(line for line in ended.out.splitlines() if line.startswith(method))
    assert {p.name for p in (run / "report").iterdir()} == {"summary.json", "curves.png", "energies.png", "ranked.png"}


def test_images_of_the_data_folder(chainfree: Callable[..., Any], tiny: tuple[str, ...], no_pictures: None) -> None:
    import os

    folder = os.environ.get("CHAINFREE_DATA")
    if not folder or not Path(folder, "fashion_mnist.npz").is_file():
        pytest.skip("CHAINFREE_DATA names no folder with fashion_mnist.npz")
    ended = chainfree(
        "train", "--data", "fashion_mnist", *tiny, "--base.kind", "none", "--network.channels", "[4,4]", "--steps", "2",
        "--loss.perturbation", "mean_pool", "--loss.t", "0.01", "--loss.draws", "1",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert RunFolder.open("runs/fashion_mnist").event_shape() == (1, 28, 28)


# -- names ---------------------------------------------------------------------------------------------------------------


def test_runs_without_a_name_never_meet(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    for _ in range(3):
        assert chainfree("train", "--data", "rows.csv", *tiny, "--out", "here").status == 0
    assert sorted(p.name for p in Path("here").iterdir()) == ["rows_csv", "rows_csv-2", "rows_csv-3"]


def test_a_name_is_given_once(chainfree: Callable[..., Any], tiny: tuple[str, ...], trained: Path) -> None:
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    ended = chainfree("train", "--data", "rows.csv", *tiny, "--name", "run", "--out", ".")
    assert "--resume run" in ended.refused()
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


# -- what is saved -------------------------------------------------------------------------------------------------------


def test_heavy_tails_are_bent_and_saved(
    chainfree: Callable[..., Any],
    tiny: tuple[str, ...],
    make_table: Callable[..., np.ndarray],
    save_csv: Callable[[Path, np.ndarray, str], Path],
    no_pictures: None,
) -> None:
    x = make_table(400)
    x[:, 1] = np.random.default_rng(1).standard_t(1.5, size=400) * 1e3
    save_csv(Path("rows.csv"), x, "a,b,c")
    for scaling in ("auto", "linear"):
        assert chainfree("train", "--data", "rows.csv", *tiny, "--scaling", scaling, "--name", scaling).status == 0
    heavy = {s: load_file(f"runs/{s}/model.safetensors")["coordinates.heavy"].tolist() for s in ("auto", "linear")}
    assert heavy == {"auto": [False, True, False], "linear": [False, False, False]}


def test_the_saved_model_is_an_energy_in_the_datas_units(
    chainfree: Callable[..., Any], trained: Path, make_table: Callable[..., np.ndarray]
) -> None:
    """Built from the library's parts alone, without the program: what a person would load into a service."""
    x = torch.from_numpy(make_table()).float()
    from chainfree.energies import Gaussian

    network = FourierMLP(3, width=8, depth=1, activation="gelu", features=32, scale=4.0, seed=0)
    energy = InCoordinates(Tilted(Gaussian(torch.zeros(3)), network), Coordinates(3))
    energy.load_state_dict(load_file(trained / "model.safetensors"))
    with torch.no_grad():
        expected = energy_values(energy, x)
    assert chainfree("score", str(trained), "rows.csv", "--out", "scores.csv").status == 0
    scores = np.loadtxt("scores.csv", skiprows=1)
    np.testing.assert_allclose(scores, expected.numpy(), rtol=2e-5, atol=2e-5)
    assert np.std(scores) > 0.1


@pytest.mark.usefixtures("csv", "no_pictures")
def test_the_moving_average_is_what_is_saved(chainfree: Callable[..., Any], tiny: tuple[str, ...]) -> None:
    """Of the weights themselves the last checkpoint tells."""
    furthest = {}
    for ema in ("0", "0.9"):
        flags = ("--ema", ema, "--name", ema, "--optimizer.lr", "0.1", "--schedule.warmup", "0")
        assert chainfree("train", "--data", "rows.csv", *tiny, *flags).status == 0
        (checkpoint,) = Path(f"runs/{ema}/checkpoints").iterdir()
        last = torch.load(checkpoint, weights_only=True)["modules"]["energy"]
        saved = load_file(f"runs/{ema}/model.safetensors")
        furthest[ema] = max(float((saved[f"energy.{k}"] - v).abs().max()) for k, v in last.items() if "layers" in k)
    assert furthest["0"] == 0
    assert furthest["0.9"] > 1e-3


def test_a_mixture_base_comes_back(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    flags = ["--base.kind", "mixture", "--base.components", "3", "--scaling", "linear"]
    assert chainfree("train", "--data", "rows.csv", *tiny, *flags, "--name", "run").status == 0
    base = RunFolder.open("runs/run").model().energy.base
    assert isinstance(base, GaussianMixture)
    assert base.means.shape == (3, 3)
    assert float(base.means.abs().max()) > 0.1  # not the zeros of an empty model
    # still a density: it integrates to one, by importance sampling from its own moments' normal
    from chainfree.energies import Gaussian
    from chainfree.evaluation import log_z_importance

    wide = Gaussian(torch.zeros(3), 2.0 * torch.eye(3))
    log_z = log_z_importance(lambda x: -base.log_prob(x), wide, generator=torch.Generator().manual_seed(0))
    assert abs(log_z.value) < 5 * log_z.standard_error + 1e-3


def test_a_large_offset_does_not_eat_a_small_spread(
    chainfree: Callable[..., Any],
    tiny: tuple[str, ...],
    make_table: Callable[..., np.ndarray],
    save_csv: Callable[[Path, np.ndarray, str], Path],
    no_pictures: None,
) -> None:
    x = make_table()
    for name, shift in [("near", 0.0), ("far", 2.0**40)]:  # float32 would keep steps of 131,072 there
        save_csv(Path(f"{name}.csv"), x + shift, "a,b,c")
        assert chainfree("train", "--data", f"{name}.csv", *tiny, "--name", name).status == 0
        assert chainfree("score", f"runs/{name}", f"{name}.csv", "--out", f"{name}_scores.csv").status == 0
    near, far = (np.loadtxt(f"{name}_scores.csv", skiprows=1) for name in ("near", "far"))
    np.testing.assert_allclose(far, near, atol=2e-2)


def test_without_scaling_a_float64_table_is_trained_on_too(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path
) -> None:
    assert chainfree("train", "--data", "rows.csv", *tiny, "--scaling", "none", "--name", "run").status == 0
    assert chainfree("score", "runs/run", "rows.csv", "--out", "scores.csv").status == 0


def test_an_energy_without_a_partition_function_is_still_a_run(
    chainfree: Callable[..., Any], tiny: tuple[str, ...]
) -> None:
    """A perceptron without a base has mass everywhere: no NLL can be had, and the run says so."""
    flags = ["--base.kind", "none", "--network.kind", "mlp", "--name", "run"]
    ended = chainfree("train", "--data", "toy:25gaussians", *tiny, *flags)
    assert ended.status == 0, ended.err
    summary = json.loads(Path("runs/run/report/summary.json").read_text())
    assert "log_z" not in summary
    assert "held_out_nll" not in summary
    assert "log Z was not found" in ended.out
    assert not Path("runs/run/report/density.png").exists()
    assert chainfree("evaluate", "runs/run").status == 0


# -- ends ----------------------------------------------------------------------------------------------------------------


def test_patience_ends_a_training_early_with_its_best_weights(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    flags = ["--steps", "400", "--evaluate_every", "5", "--log_every", "5", "--patience", "2"]
    flags += ["--optimizer.lr", "0.3", "--ema", "0", "--schedule.warmup", "0"]  # far too fast: it soon gets worse
    ended = chainfree("train", "--data", "rows.csv", *tiny, *flags, "--name", "run")
    assert ended.status == 0, ended.err
    assert "no better held_out_loss" in ended.out
    records = [json.loads(line) for line in Path("runs/run/metrics.jsonl").read_text().splitlines()]
    losses = [record["held_out_loss"] for record in records]
    assert len(losses) < 80
    best = min(range(len(losses)), key=losses.__getitem__)
    assert best == len(losses) - 3  # patience 2: two evaluations without a new best, then no more
    assert _printed(ended.out, "held-out loss") == pytest.approx(losses[best], abs=1e-4)


def test_a_run_that_learnt_its_rows_by_heart_says_so(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    flags = ["--steps", "400", "--evaluate_every", "5", "--log_every", "5", "--ema", "0"]
    flags += ["--optimizer.lr", "0.3", "--schedule.warmup", "0"]  # far too fast: it soon gets worse
    ended = chainfree("train", "--data", "rows.csv", *tiny, *flags, "--name", "run")
    assert ended.status == 0, ended.err
    records = [json.loads(line) for line in Path("runs/run/metrics.jsonl").read_text().splitlines()]
    best = min(record["held_out_loss"] for record in records)
    assert _printed(ended.out, "held-out loss") > best + 0.1
    assert f"the held-out loss was {best:.4g} at step" in ended.out and "--patience" in ended.out
    # one that ends at its best does not
    quiet = chainfree("train", "--data", "rows.csv", *tiny, *flags, "--name", "quiet", "--patience", "2")
    assert quiet.status == 0 and "by heart" not in quiet.out


def test_divergence_is_status_3_and_leaves_the_last_good_state(
    chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path
) -> None:
    flags = ["--optimizer.lr", "1000", "--schedule.warmup", "0", "--steps", "200", "--guard.limit", "100"]
    flags += ["--guard.every", "10", "--guard.backoff", "0.9", "--name", "run"]
    ended = chainfree("train", "--data", "rows.csv", *tiny, *flags)
    assert ended.status == 3, ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("chainfree: training diverged: ")
    assert "lower lr" in last
    assert "Traceback" not in ended.err
    assert "held-out" not in ended.out
    (checkpoint,) = sorted(Path("runs/run/checkpoints").iterdir())[-1:]
    state = torch.load(checkpoint, weights_only=True)
    assert all(bool(torch.isfinite(v).all()) for v in state["modules"]["energy"].values())
    assert not Path("runs/run/model.safetensors").exists()
    assert "train the run to its end" in chainfree("evaluate", "runs/run").refused()


def test_two_rows_of_flags_train_one_way(chainfree: Callable[..., Any], tiny: tuple[str, ...], csv: Path) -> None:
    """Nothing is trained on what the seed does not name: the global generators are left alone."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert chainfree("train", "--data", "rows.csv", *tiny, "--name", "run").status == 0
    assert torch.equal(before, torch.get_rng_state())
