"""``chainfree recipes NAME --preset``: a recipe's other config files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
TOML = 'experiment = "nearsightedness"\nrows = {rows}\nt = [32.0]\ndraws = 4\ngrid = 7\nseeds = [5]\n'


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of two sizes."""
    folder = tmp_path / "recipes" / "mine"
    folder.mkdir(parents=True)
    monkeypatch.setattr("chainfree.cli.recipes.recipes_folder", lambda: folder.parent)
    (folder / "config.toml").write_text(TOML.format(rows=0))  # cannot be run: it is not the one that is
    (folder / "large.toml").write_text(TOML.format(rows=256))


def test_a_preset_is_run_and_its_result_does_not_replace_the_other(chainfree: Run) -> None:
    ended = chainfree("recipes", "mine", "--preset", "large", "--out", "there")
    assert ended.status == 0, ended.err
    record = json.loads(Path("there/mine_large.json").read_text())
    assert record["command"] == "chainfree recipes mine --preset large"
    assert Path("there/mine_large.png").is_file()
    assert not Path("there/mine.json").exists()


def test_a_recipe_without_its_config_names_what_there_is(chainfree: Run, tmp_path: Path) -> None:
    (tmp_path / "recipes" / "mine" / "config.toml").unlink()
    refused = chainfree("recipes", "mine", "--out", "there").refused()
    assert "no config.toml yet; run chainfree recipes mine --preset large" in refused


def test_a_preset_that_is_not_there_is_refused(chainfree: Run) -> None:
    refused = chainfree("recipes", "mine", "--preset", "huge", "--out", "there").refused()
    assert "'huge'" in refused
    assert "config, large" in refused
