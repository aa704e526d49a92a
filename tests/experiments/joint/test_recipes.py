"""Recipes have the settings that their search chose."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from chainfree.experiments import JointComparison, JointOutside, JointSearch

ROOT = Path(__file__).parents[3]


def test_a_search_of_another_task_is_no_choice_and_presets_take_what_they_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.chosen import carried, config_of

    settings = {"kind": "discriminant"}
    search = {"task": "har", "methods": {"10": {"a": settings, "b": settings}}}
    tried = {name: [{"settings": settings}] for name in ("a", "b")}
    chosen = {"10": {name: {**settings, "temperature": 2.0} for name in ("a", "b")}}
    made = {"task": "har", "balanced": True, "candidates": {"10": tried}, "chosen": chosen}
    config = config_of(search, made, {"task": "har", "methods": {}})
    assert config == {"task": "har", "methods": chosen}
    for other in ({"task": "adult"}, {"balanced": False}):
        with pytest.raises(ValueError, match=f"another {next(iter(other))} than"):
            config_of(search, made | other, config)
    preset = carried({"task": "other", "methods": {"10": {"b": settings}}}, config)
    assert preset == {"task": "other", "methods": {"10": {"b": chosen["10"]["b"]}}}


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/jem_*/search.toml")), ids=lambda path: path.parent.name)
def test_recipes_have_the_settings_that_their_search_chose(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ROOT / "results" / f"{path.parent.name}_search.json"
    config = path.with_name("config.toml")
    settings = tomllib.loads(path.read_text())
    assert settings.pop("experiment") == "joint_search"
    JointSearch(**settings)
    if not record.is_file():
        pytest.skip("the search has not been made yet")
    figures = json.loads(record.read_text())["figures"]
    compared = tomllib.loads(config.read_text())
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.chosen import carried, config_of

    assert compared == config_of(settings, figures, compared)  # refuses another search than the recipe's
    assert compared["task"] == settings["task"]
    assert compared.get("balanced") == settings.get("balanced")
    for other in config.parent.glob("*.toml"):
        preset = tomllib.loads(other.read_text())
        if preset["experiment"] == compared["experiment"]:
            assert preset == carried(preset, compared)
    kind = {"joint_comparison": JointComparison, "joint_outside": JointOutside}[compared.pop("experiment")]
    kind(**compared)
    assert not set(compared.get("seeds", range(5))) & set(settings.get("seeds", (100, 101)))
