"""``chainfree train --method vera`` and ``chainfree sample``."""

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

from chainfree.cli.parsing import parse_settings
from chainfree.cli.run_folder import RunFolder
from chainfree.cli.settings import TrainSettings
from chainfree.energies import Coordinates
from chainfree.generators import ResidualGenerator

Run = Callable[..., Any]

VERA = ("--method", "vera", "--vera.width", "8", "--vera.depth", "1", "--vera.samples", "16")


def _settings(*flags: str) -> TrainSettings:
    return parse_settings(TrainSettings, flags, command="train")


@pytest.fixture
def run(chainfree: Run, tiny: tuple[str, ...], csv: Path, no_pictures: None) -> Path:
    """A run of VERA on the table of the columns a, b, c."""
    ended = chainfree("train", "--data", "rows.csv", *tiny, *VERA, "--name", "run")
    assert ended.status == 0, ended.err
    return Path("runs/run")


# -- training ------------------------------------------------------------------------------------------------------------


def test_a_toy_run_leaves_all_its_files(chainfree: Run, tiny: tuple[str, ...]) -> None:
    flags = ("--log_every", "2", "--evaluate_every", "4")
    ended = chainfree("train", "--data", "toy:25gaussians", *tiny, *VERA, *flags)
    assert ended.status == 0, ended.err
    run = Path("runs/25gaussians")
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "config.toml",
        "generator.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "report",
        "schema.json",
    ]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 5]
    of_all_players = {"energy_data", "energy_samples", "entropy", "sigma", "negatives_ess", "lr_energy", "lr_generator"}
    assert all(of_all_players <= record.keys() and np.isfinite(list(record.values())).all() for record in records)
    assert "held_out_loss" in records[1]
    pictures = {"curves.png", "density.png", "energies.png", "landscape.png", "samples.png"}
    assert {p.name for p in (run / "report").iterdir()} == pictures | {"summary.json"}
    summary = json.loads((run / "report" / "summary.json").read_text())
    assert {"held_out_loss", "log_z", "held_out_nll", "nll_gap"} <= summary.keys()
    ended = chainfree("evaluate", str(run))
    assert ended.status == 0, ended.err
    assert json.loads((run / "report" / "summary.json").read_text()) == summary


def test_the_energy_and_the_generator_learn_the_density(chainfree: Run, only_summary: None) -> None:
    """A Gaussian of the data's moments, which both start as, is densest in the empty middle of the ring of modes."""
    small = ("--batch", "64", "--network.width", "32", "--vera.width", "32", "--vera.samples", "64", "--threads", "1")
    common = ("train", "--data", "toy:8gaussians", "--method", "vera", *small, "--ema", "0.95")
    gaps, middle = {}, {}
    for steps in ("1", "400"):
        assert chainfree(*common, "--optimizer.lr", "4e-3", "--steps", steps, "--name", steps).status == 0
        gaps[steps] = json.loads(Path(f"runs/{steps}/report/summary.json").read_text())["nll_gap"]
        assert chainfree("sample", f"runs/{steps}", "--rows", "2000", "--out", "rows.csv").status == 0
        radii = np.linalg.norm(np.loadtxt("rows.csv", delimiter=",", skiprows=1), axis=1)
        middle[steps] = float((radii < 1.4).mean())  # the ring has radius 2.8
    assert gaps["1"] > 0.5
    assert gaps["400"] < 0.1
    assert middle["1"] > 0.15
    assert middle["400"] < 0.1


@pytest.mark.parametrize(
    ("columns", "entropy", "weighted"), [(2, "bank", True), (4, "local", True), (5, "local", False)]
)
@pytest.mark.usefixtures("no_pictures")
def test_what_the_shape_decides_is_written_down(
    columns: int, entropy: str, weighted: bool, chainfree: Run, tiny: tuple[str, ...]
) -> None:
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, columns)))
    assert chainfree("train", "--data", "rows.npy", *tiny, *VERA, "--name", "run").status == 0
    vera = RunFolder.open("runs/run").settings().vera
    assert (vera.latent, vera.entropy, vera.weighted) == (columns, entropy, weighted)
    assert vera.gradient_penalty == (0.0 if weighted else 0.1)
    record = json.loads(Path("runs/run/metrics.jsonl").read_text().splitlines()[-1])
    assert ("negatives_ess" in record) == weighted
    assert ("entropy" in record) == (entropy == "bank")


def test_the_config_of_a_run_trains_the_same_run(chainfree: Run, tiny: tuple[str, ...], run: Path) -> None:
    assert chainfree("train", "runs/run/config.toml", "--name", "second").status == 0
    first, second = (asdict(RunFolder.open(f"runs/{name}").settings()) for name in ("run", "second"))
    assert first | {"name": "second"} == second
    for name in ("model.safetensors", "generator.safetensors", "metrics.jsonl"):
        assert (run / name).read_bytes() == Path("runs/second", name).read_bytes()


def test_defaults_are_those_of_the_method() -> None:
    ed, vera = _settings("--data", "a.csv"), _settings("--method", "vera", "--data", "a.csv")
    assert (ed.steps, ed.optimizer.lr, ed.optimizer.betas) == (8000, 4e-3, (0.9, 0.999))
    assert (vera.steps, vera.optimizer.lr, vera.optimizer.betas) == (3000, 1e-3, (0.5, 0.99))
    # whatever is given wins, in whatever order and place
    Path("config.toml").write_text("data = 'a.csv'\nmethod = 'vera'\nsteps = 8000\n[optimizer]\nlr = 2e-3\n")
    mixed = _settings("--optimizer.betas", "[0.1,0.2]", "--config", "config.toml")
    assert (mixed.steps, mixed.optimizer.lr, mixed.optimizer.betas) == (8000, 2e-3, (0.1, 0.2))
    again = _settings("--config", "config.toml", "--method", "ed")
    assert (again.steps, again.optimizer.lr, again.optimizer.betas) == (8000, 2e-3, (0.9, 0.999))


@pytest.mark.parametrize(
    ("entropy", "players"), [("bank", {"energy", "generator"}), ("paper", {"energy", "posterior", "generator"})]
)
@pytest.mark.usefixtures("csv", "no_pictures")
def test_every_player_has_its_rate(entropy: str, players: set[str], chainfree: Run, tiny: tuple[str, ...]) -> None:
    flags = ("--vera.entropy", entropy, "--vera.lr", "3e-4", "--schedule.kind", "constant", "--schedule.warmup", "0")
    assert chainfree("train", "--data", "rows.csv", *tiny, *VERA, *flags, "--name", "run").status == 0
    record = json.loads(Path("runs/run/metrics.jsonl").read_text().splitlines()[-1])
    rates = {key.removeprefix("lr_"): value for key, value in record.items() if key.startswith("lr_")}
    assert rates == {player: 1e-3 if player == "energy" else 3e-4 for player in players}


def test_without_scaling_the_generator_starts_where_the_data_are(
    chainfree: Run, tiny: tuple[str, ...], make_table: Callable[..., np.ndarray], no_pictures: None
) -> None:
    rows = 20 * make_table(400)
    rows[:, 1] = np.random.default_rng(0).integers(0, 2, size=400) * 1e-3 + 50  # hardly varies
    np.save("rows.npy", rows)
    flags = ("--scaling", "none", "--vera.samples", "64", "--steps", "1")
    assert chainfree("train", "--data", "rows.npy", *tiny, *VERA, *flags, "--name", "run").status == 0
    assert chainfree("sample", "runs/run", "--rows", "4000", "--out", "new.csv").status == 0
    drawn = np.loadtxt("new.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(drawn.mean(0), rows.mean(0), atol=0.2 * rows.std(0).max())
    assert 0.5 < np.sqrt((drawn.var(0) / rows.var(0).mean()).mean()) < 2
    assert "coordinates.loc" not in load_file("runs/run/generator.safetensors")


def test_nothing_is_drawn_from_the_global_generator(run: Path, chainfree: Run, tiny: tuple[str, ...]) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert chainfree("train", "--data", "rows.csv", *tiny, *VERA, "--name", "again").status == 0
    assert chainfree("sample", str(run), "--out", "new.csv").status == 0
    assert torch.equal(before, torch.get_rng_state())
    assert Path("runs/again/generator.safetensors").read_bytes() == (run / "generator.safetensors").read_bytes()


# -- samples -------------------------------------------------------------------------------------------------------------


def test_samples_are_a_table_like_the_one_trained_on(chainfree: Run, run: Path) -> None:
    pd = pytest.importorskip("pandas", reason="tables are read by pandas")
    ended = chainfree("sample", str(run), "--rows", "500", "--out", "new.csv")
    assert ended.status == 0, ended.err
    assert "500 rows drawn to new.csv: a, b, c" in ended.out
    new, old = pd.read_csv("new.csv"), pd.read_csv("rows.csv")
    assert list(new.columns) == list(old.columns) == ["a", "b", "c"]
    assert new.shape == (500, 3)
    assert (new.dtypes == old.dtypes).all()
    # a generator over standardised rows starts as wide as they are
    np.testing.assert_allclose(new.mean(), old.mean(), atol=0.5)
    assert chainfree("score", str(run), "new.csv", "--out", "scores.csv").status == 0


def test_samples_are_those_of_the_saved_generator(chainfree: Run, run: Path) -> None:
    """Built from the library's parts alone, without the program: what a person would load into a service."""
    net, coordinates = ResidualGenerator(3, 3, width=8, depth=1), Coordinates(3)
    weights = load_file(run / "generator.safetensors")
    for name, module in {"generator": net, "coordinates": coordinates}.items():
        own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
        module.load_state_dict(own)
    with torch.no_grad():
        drawn = net.eval().sample(40, generator=torch.Generator().manual_seed(7)).x
    assert chainfree("sample", str(run), "--rows", "40", "--seed", "7", "--out", "new.csv").status == 0
    new = np.loadtxt("new.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(new, coordinates.inverse(drawn.double()).numpy())


def test_samples_are_seeded(chainfree: Run, run: Path) -> None:
    for name, seed in [("one", "1"), ("again", "1"), ("two", "2")]:
        assert chainfree("sample", str(run), "--rows", "9000", "--seed", seed, "--out", f"{name}.csv").status == 0
    one, again, two = (Path(f"{name}.csv").read_bytes() for name in ("one", "again", "two"))
    assert one == again != two
    rows = np.loadtxt("one.csv", delimiter=",", skiprows=1)
    assert len(np.unique(rows, axis=0)) == 9000  # parts are not drawn twice


def test_the_moving_average_is_what_is_saved(
    chainfree: Run, tiny: tuple[str, ...], csv: Path, no_pictures: None
) -> None:
    furthest = {}
    for ema in ("0", "0.9"):
        flags = ("--ema", ema, "--name", ema, "--optimizer.lr", "0.05", "--schedule.warmup", "0")
        assert chainfree("train", "--data", "rows.csv", *tiny, *VERA, *flags).status == 0
        (checkpoint,) = Path(f"runs/{ema}/checkpoints").iterdir()
        last = torch.load(checkpoint, weights_only=True)["modules"]["objective"]
        saved = load_file(f"runs/{ema}/generator.safetensors")
        furthest[ema] = max(float((saved[k] - last[k]).abs().max()) for k in saved if "perceptron" in k)
    assert furthest["0"] == 0
    assert furthest["0.9"] > 1e-3


def test_a_large_offset_does_not_eat_a_small_spread(
    chainfree: Run, tiny: tuple[str, ...], make_table: Callable[..., np.ndarray], no_pictures: None
) -> None:
    for name, shift in [("near", 0.0), ("far", 2.0**40)]:
        np.save(f"{name}.npy", make_table() + shift)
        assert chainfree("train", "--data", f"{name}.npy", *tiny, *VERA, "--name", name).status == 0
        assert chainfree("sample", f"runs/{name}", "--rows", "50", "--out", f"{name}.csv").status == 0
    near, far = (np.loadtxt(f"{name}.csv", delimiter=",", skiprows=1) for name in ("near", "far"))
    np.testing.assert_allclose(far - 2.0**40, near, atol=2e-3)
    assert Path("near.csv").read_text().startswith("x0,x1,x2\n")


def test_names_with_commas_are_quoted(chainfree: Run, tiny: tuple[str, ...], no_pictures: None) -> None:
    pd = pytest.importorskip("pandas", reason="tables are read by pandas")
    names = ["a,b", 'c"d', "é"]
    np.savez("rows.npz", x=np.random.default_rng(0).normal(size=(60, 3)), columns=np.array(names))
    assert chainfree("train", "--data", "rows.npz", *tiny, *VERA, "--name", "run").status == 0
    assert chainfree("sample", "runs/run", "--out", "new.csv").status == 0
    new = pd.read_csv("new.csv")
    assert list(new.columns) == names
    assert new.shape == (1000, 3)


# -- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--method", "gan"), "method"),
        (("--vera.samples", "16"), "add --method vera"),
        ((*VERA, "--vera.latent", "-1"), "latent must be"),
        ((*VERA, "--vera.width", "0"), "width must be"),
        ((*VERA, "--vera.depth", "0"), "depth must be"),
        ((*VERA, "--vera.frequencies", "-1"), "frequencies must be"),
        ((*VERA, "--vera.samples", "0"), "samples must be"),
        ((*VERA, "--vera.samples", "many"), "vera.samples"),
        ((*VERA, "--vera.entropy", "none"), "vera.entropy"),
        ((*VERA, "--vera.entropy_weight", "-1"), "entropy_weight must be"),
        ((*VERA, "--vera.gradient_penalty", "-0.1"), "gradient_penalty must be"),
        ((*VERA, "--vera.weighted", "maybe"), "vera.weighted"),
        ((*VERA, "--vera.covering", "-1"), "covering must be"),
        ((*VERA, "--vera.share", "0"), "share must be"),
        ((*VERA, "--vera.wide", "0"), "wide must be"),
        ((*VERA, "--vera.lr", "0"), "lr must be"),
        ((*VERA, "--vera.nsamples", "3"), "did you mean vera.samples"),
        ((*VERA, "--vera.gradient_penalty", "0.1", "--compile", "true"), "leave --compile out"),
    ],
)
def test_settings(flags: tuple[str, ...], says: str, chainfree: Run, tiny: tuple[str, ...]) -> None:
    assert says in chainfree("train", "--data", "toy:moons", *tiny, *flags).refused()
    assert not list(Path().iterdir())


def test_images_are_refused(chainfree: Run, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from chainfree.cli.sources import Source

    images = Source("images", torch.rand(40, 1, 8, 8), torch.rand(10, 1, 8, 8))
    monkeypatch.setattr("chainfree.cli.train.load_source", lambda _: images, raising=True)
    message = chainfree("train", "--data", "mnist", *tiny, *VERA).refused()
    assert "flat rows" in message
    assert "--method ed" in message
    assert not list(Path().iterdir())


def test_a_run_of_energy_discrepancy_has_no_generator(chainfree: Run, trained: Path) -> None:
    message = chainfree("sample", str(trained), "--out", "new.csv").refused()
    assert "--method vera" in message
    assert "fit_generator" in message
    assert not Path("new.csv").exists()


def test_what_cannot_be_drawn_is_refused(chainfree: Run, run: Path) -> None:
    for arguments, says in [
        ((), "run"),
        ((str(run),), "out"),
        (("nowhere", "--out", "new.csv"), "no run folder"),
        ((str(run), "--out", "new.txt"), "must end in .csv"),
        ((str(run), "--out", "nowhere/\0.csv"), "not valid text"),
        ((str(run), "--out", "new.csv", "--rows", "0"), "above 0"),
        ((str(run), "--out", "new.csv", "--rows", "x"), "rows"),
        ((str(run), "--out", "new.csv", "--rows", "1" + 13 * "0"), "not enough memory"),
        ((str(run), "--out", "new.csv", "--seed", "-1"), "seed must be"),
        ((str(run), "--out", "new.csv", "--seed", str(2**63)), "seed must be"),
        ((str(run), "--out", "/dev/null/new.csv"), "choose another --out"),
    ]:
        assert says in chainfree("sample", *arguments).refused(), arguments
    weights = run / "generator.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    assert "is damaged" in chainfree("sample", str(run), "--out", "new.csv").refused()
    weights.unlink()
    assert "train the run to its end" in chainfree("sample", str(run), "--out", "new.csv").refused()
    assert not Path("new.csv").exists()
