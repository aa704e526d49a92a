"""Write what a recipe's search chose into its config: ``python -m benchmarks.chosen jem_har``.

The config keeps whatever else it says; a new one compares the search's task with five seeds.
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


def config_of(search: dict[str, Any], figures: dict[str, Any], config: dict[str, Any] | None) -> dict[str, Any]:
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
    if config is None:
        shared = {name: search[name] for name in ("task", "balanced", "jobs") if name in search}
        config = {"experiment": "joint_comparison", **shared, "seeds": [0, 1, 2, 3, 4]}
    return {name: value for name, value in config.items() if name != "methods"} | {"methods": figures["chosen"]}


def main() -> None:
    if not sys.argv[1:]:
        sys.exit("name a recipe that has a search: python -m benchmarks.chosen jem_har")
    for name in sys.argv[1:]:
        folder = RECIPES / name
        path = folder / "config.toml"
        search = tomllib.loads((folder / "search.toml").read_text(encoding="utf-8"))
        record = json.loads((RESULTS / f"{name}_search.json").read_text(encoding="utf-8"))
        before = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        config = config_of(search, record["figures"], before)
        path.write_text(tomli_w.dumps(config), encoding="utf-8")
        print(f"{path}: {sum(map(len, config['methods'].values()))} methods")


if __name__ == "__main__":
    main()
