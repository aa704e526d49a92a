"""Write what a recipe's search chose into its config: ``python -m benchmarks.chosen jem_har``.

The config keeps whatever else it says. A new one compares on the search's task with five seeds, or begins as it says below.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.common import RESULTS
from chainfree.experiments.joint.search import by_labels, candidates

RECIPES = Path("recipes")
BEGINNINGS: dict[str, dict[str, Any]] = {
    "jem_fashion_ood": {
        "experiment": "joint_outside",
        "outside": ["mnist", "uniform noise", "normal noise"],
        "samples_of": "jem_vera",
        # all rows are labelled: seeds are of the first weights and the order of rows alone
        "seeds": [0, 1, 2],
    }
}
PLAIN: dict[str, Any] = {"experiment": "joint_comparison", "seeds": [0, 1, 2, 3, 4]}


def config_of(search: dict[str, Any], figures: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The recipe with the settings that were chosen.

    Raises:
        ValueError: the search that was made is not the one of the recipe.
    """
    made = {
        labels: {name: [found["settings"] for found in tried] for name, tried in named.items()}
        for labels, named in figures["candidates"].items()
    }
    asked = {
        labels: {name: candidates(settings) for name, settings in named.items()}
        for labels, named in by_labels(search["methods"]).items()
    }
    if made != asked:
        raise ValueError("search.toml has other candidates than the search that was made; run it again")
    for key, default in (("task", None), ("balanced", True)):
        if figures.get(key, search.get(key, default)) != search.get(key, default):  # older records do not say
            raise ValueError(f"search.toml has another {key} than the search that was made; run it again")
    return {name: value for name, value in config.items() if name != "methods"} | {"methods": figures["chosen"]}


def carried(preset: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Another comparison of the recipe with the settings of the methods that it names."""
    methods = {
        labels: {name: config["methods"][labels][name] for name in named} for labels, named in preset["methods"].items()
    }
    return preset | {"methods": methods}


def main() -> None:
    if not sys.argv[1:]:
        sys.exit("name a recipe that has a search: python -m benchmarks.chosen jem_har")
    for name in sys.argv[1:]:
        folder = RECIPES / name
        path = folder / "config.toml"
        search = tomllib.loads((folder / "search.toml").read_text(encoding="utf-8"))
        record = json.loads((RESULTS / f"{name}_search.json").read_text(encoding="utf-8"))
        if path.is_file():
            before = tomllib.loads(path.read_text(encoding="utf-8"))
        else:
            shared = {key: search[key] for key in ("task", "balanced", "jobs") if key in search}
            before = {**BEGINNINGS.get(name, PLAIN), **shared}
        config = config_of(search, record["figures"], before)
        path.write_text(tomli_w.dumps(config), encoding="utf-8")
        print(f"{path}: {sum(map(len, config['methods'].values()))} methods")
        for other in sorted(folder.glob("*.toml")):
            preset = tomllib.loads(other.read_text(encoding="utf-8"))
            if other != path and preset["experiment"] == config["experiment"]:
                other.write_text(tomli_w.dumps(carried(preset, config)), encoding="utf-8")
                print(f"{other}: the same settings")


if __name__ == "__main__":
    main()
