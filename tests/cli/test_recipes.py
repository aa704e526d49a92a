"""``chainfree recipes`` and ``doctor``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from chainfree.cli.parsing import parse_settings
from chainfree.cli.recipes import recipes_folder
from chainfree.cli.settings import TrainSettings
from chainfree.experiments import EXPERIMENTS

Run = Callable[..., Any]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a recipes folder with one recipe called ``mine``."""
    folder = tmp_path / "recipes" / "mine"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# Mine and no other\n\nMore.\n")
    monkeypatch.setattr("chainfree.cli.recipes.recipes_folder", lambda: folder.parent)
    return lambda toml: (folder / "config.toml").write_text(toml) and None


def test_every_recipe_is_listed(chainfree: Run) -> None:
    ended = chainfree("recipes")
    assert ended.status == 0
    assert {p.name for p in recipes_folder().iterdir() if p.is_dir()} <= set(ended.out.split())
    assert str(recipes_folder()) in ended.out


def test_every_recipe_can_be_read() -> None:
    """Not run: that takes minutes. But no key of them is misspelt and no value out of its range."""
    configs = sorted(recipes_folder().glob("*/*.toml"))
    assert len(configs) >= 5
    for path in configs:
        settings = tomllib.loads(path.read_text())
        if "experiment" in settings:
            EXPERIMENTS[settings.pop("experiment")](**settings)
        else:
            parse_settings(TrainSettings, ["--config", str(path)], command="train")


def test_an_experiment_runs_and_is_recorded(chainfree: Run, recipe: Callable[[str], None]) -> None:
    recipe('experiment = "nearsightedness"\nrows = 256\nt = [32.0]\ndraws = 4\ngrid = 7\nseeds = [5]\n')
    listed = chainfree("recipes")
    assert "Mine and no other" in listed.out
    ended = chainfree("recipes", "mine", "--out", "there", "--threads", "1")
    assert ended.status == 0, ended.err
    record = json.loads(Path("there/mine.json").read_text())
    assert record["command"] == "chainfree recipes mine --threads 1"
    assert (record["threads"], record["seeds"]) == (1, [5])
    assert set(record["figures"]) == {"score matching", "maximum likelihood", "ED, t = 32"}
    assert json.dumps(record, indent=2) in ended.out
    assert Path("there/mine.png").read_bytes().startswith(b"\x89PNG")


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """An experiment that says how many it would have trained at a time."""

    jobs: int = 2
    seeds: Sequence[int] = (0,)

    def run(self) -> tuple[dict[str, Any], Figure]:
        return {"jobs": self.jobs}, Figure()


@pytest.mark.parametrize(("flags", "jobs"), [(["--jobs", "1"], 1), ([], 3)])
def test_trainings_at_a_time_can_be_chosen(
    chainfree: Run, recipe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, flags: list[str], jobs: int
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "side_by_side", SideBySide)
    recipe('experiment = "side_by_side"\njobs = 3\n')
    ended = chainfree("recipes", "mine", "--out", "there", *flags)
    assert ended.status == 0, ended.err
    record = json.loads(Path("there/mine.json").read_text())
    assert record["figures"] == {"jobs": jobs}
    assert record["command"] == " ".join(["chainfree recipes mine", *flags])


def test_an_experiment_of_one_training_at_a_time_says_so(chainfree: Run, recipe: Callable[[str], None]) -> None:
    recipe('experiment = "nearsightedness"')
    ended = chainfree("recipes", "mine", "--jobs", "2")
    assert ended.status != 0
    assert "leave out --jobs" in ended.err


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("experiment = ", "not valid TOML"),
        ('experiment = "nothing"', "there are nearsightedness"),
        ("experiment = [1]", "no experiment is called"),
        ("experiment = {a = 1}", "no experiment is called"),
        ('experiment = "nearsightedness"\nrwos = 3', "rwos"),
        ('experiment = "nearsightedness"\nrows = 0', "rows must be"),
        ('experiment = "nearsightedness"\nrows = "many"', "rows must be"),
        ('experiment = "nearsightedness"\nt = 3.0', "t must be a list"),
        ('experiment = "nearsightedness"\nt = [0.0]', "t must be"),
        ('experiment = "nearsightedness"\nseeds = []', "seeds must be"),
        ('experiment = "ablation"\ndensity = "moonz"', "moonz"),
        ("steps = 5", "is a training run"),
    ],
)
def test_recipes_that_cannot_be_run(toml: str, says: str, chainfree: Run, recipe: Callable[[str], None]) -> None:
    recipe(toml)
    assert says in chainfree("recipes", "mine", "--out", "there").refused()
    assert not Path("there").exists()


def test_experiments_say_what_their_settings_are() -> None:
    for kind in EXPERIMENTS.values():
        assert kind.__doc__ is not None
        for field in fields(kind):
            assert field.name in kind.__doc__, (kind, field.name)


def test_doctor_tells_of_the_data(chainfree: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data").mkdir()
    Path("data/some.npz").write_bytes(b"")
    for value, says in [("data", "some.npz"), ("", "is not set"), ("nowhere", "not a folder")]:
        monkeypatch.setenv("CHAINFREE_DATA", value)
        ended = chainfree("doctor")
        assert ended.status == 0
        (line,) = [line for line in ended.out.splitlines() if line.startswith("data ")]
        assert says in line
        assert "torch " in ended.out


def test_doctor_names_what_is_missing(chainfree: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    known = metadata.version

    def version(name: str) -> str:
        if name == "pyarrow":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "missing: pip install 'chainfree[tables]'" in chainfree("doctor").out
