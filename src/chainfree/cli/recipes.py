"""``chainfree recipes``: the experiments that come with chainfree."""

from __future__ import annotations

import inspect
import tomllib
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from .. import plotting
from .errors import UsageError
from .tables import text_table
from .threads import set_threads

__all__ = ["recipes", "recipes_folder"]


def recipes(
    name: str | None = None,
    out: str = "results",
    threads: int | None = None,
    preset: str = "config",
    jobs: int | None = None,
) -> int:
    """List the recipes, or run one that is an experiment.

    Args:
        name: of a recipe; without it they are listed.
        out: folder for the experiment's ``NAME.json`` and ``NAME.png``.
        threads: of the processor; all by default.
        preset: the recipe's config file without ``.toml``; results of another than ``config`` are named NAME_PRESET.
        jobs: trainings at a time, each in a process of its own; by default what the recipe says.
    """
    folder = recipes_folder()
    found = sorted(path.name for path in folder.iterdir() if any(path.glob("*.toml")))
    if name is None:
        print(text_table(["recipe", "what it shows"], [[n, _title(folder / n)] for n in found]))  # noqa: T201
        print(f"\nconfig files in {folder}")  # noqa: T201
        return 0
    if name not in found:
        raise UsageError(f"no recipe is called {name!r}; there are {', '.join(found)}")
    if threads is not None:
        set_threads(threads)
    presets = sorted(path.stem for path in (folder / name).glob("*.toml"))
    if preset != "config" and preset not in presets:
        raise UsageError(f"{name} has no preset {preset!r}; there are {', '.join(presets)}")
    config = folder / name / f"{preset}.toml"
    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    except ValueError as error:
        raise UsageError(f"{config} is not valid TOML: {error}") from error
    experiments = [] if config.is_file() else _experiments(folder / name)
    if experiments:
        flags = " or ".join(f"--preset {preset}" for preset in experiments)
        raise UsageError(f"{name} has no config.toml yet; run chainfree recipes {name} {flags}")
    if "experiment" not in settings:
        files = ", ".join(str(path) for path in sorted((folder / name).glob("*.toml")))
        raise UsageError(f"{name} is a training run: chainfree train CONFIG, with CONFIG one of {files}")
    _run(config, settings, Path(out), threads, jobs)
    return 0


def _experiments(folder: Path) -> list[str]:
    """The presets that are experiments and no training runs; a damaged one is no reason to fail here."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        with suppress(ValueError):
            if "experiment" in tomllib.loads(path.read_text(encoding="utf-8")):
                found.append(path.stem)
    return found


def recipes_folder() -> Path:
    """Where the recipes lie: in the package when it was installed from a wheel, beside ``src`` in a checkout."""
    installed = Path(str(resources.files("chainfree"))) / "_recipes"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "recipes"


def _title(folder: Path) -> str:
    readme = folder / "README.md"
    first = readme.read_text(encoding="utf-8").partition("\n")[0] if readme.is_file() else ""
    return first.lstrip("# ")


def _run(config: Path, settings: dict[str, Any], out: Path, threads: int | None, jobs: int | None) -> None:
    # pictures belong to an experiment, so this needs the plot extra
    from ..experiments import EXPERIMENTS, Recorder

    name, kind = config.parent.name, settings.pop("experiment")
    if not isinstance(kind, str) or kind not in EXPERIMENTS:
        raise UsageError(f"{config}: no experiment is called {kind!r}; there are {', '.join(EXPERIMENTS)}")
    if jobs is not None:
        if "jobs" not in inspect.signature(EXPERIMENTS[kind]).parameters:
            raise UsageError(f"{name} trains one thing at a time; leave out --jobs")
        settings["jobs"] = jobs
    try:
        experiment = EXPERIMENTS[kind](**settings)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{config}: {error}") from error
    given = {"threads": threads, "jobs": jobs}
    flags = "".join(f" --{flag} {number}" for flag, number in given.items() if number is not None)
    command = f"chainfree recipes {name}{flags}"
    if config.stem != "config":
        command, name = f"{command} --preset {config.stem}", f"{name}_{config.stem}"
    recorder = Recorder(name, command, out, experiment.seeds)
    figures, picture = experiment.run()
    path = recorder.write(figures)
    print(path.read_text(encoding="utf-8"))  # noqa: T201
    print(f"{path} and {plotting.save(picture, out / f'{name}.png')}")  # noqa: T201
