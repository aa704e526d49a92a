"""Settings from flags and TOML files, by jsonargparse from the type hints of the settings."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import tomli_w
from jsonargparse import ArgumentParser

from .errors import UsageError

__all__ = ["dump_settings", "parse_settings"]

Settings = TypeVar("Settings")

_LONGEST = 400


def parse_settings(kind: type[Settings], arguments: Sequence[str], *, command: str) -> Settings:
    """Settings from ``arguments``, where ``--config FILE`` and single flags may stand in any order; later ones win.

    Raises:
        UsageError: unknown keys, wrong types, values out of range, a config file that cannot be read.
        SystemExit: after ``--help``.
    """
    _check_config_files(arguments, kind)
    parser = ArgumentParser(
        prog=f"chainfree {command}", exit_on_error=False, parser_mode="toml", description=kind.__doc__
    )
    parser.add_argument("--config", action="config", help="a TOML file with any of the settings below")
    parser.add_class_arguments(kind, None)
    try:
        namespace = parser.parse_args(_listed(arguments))
        defaults_of = getattr(kind, "defaults_of", None)
        if defaults_of is not None:
            # of the method; whatever the arguments say, in whatever order, still wins
            parser.set_defaults(defaults_of(namespace["method"]))
            namespace = parser.parse_args(_listed(arguments))
        namespace.pop("config", None)
        settings: Settings = kind(**parser.instantiate_classes(namespace).as_dict())
    except OverflowError as error:
        raise UsageError("a number in the settings is too large to count with; lower it") from error
    except (ArgumentError, ValueError, TypeError) as error:
        raise UsageError(_one_line(str(error), kind)) from error
    return settings


def dump_settings(settings: Any) -> str:
    """The settings as TOML, defaults included, so that a run's config says all; ``None``, TOML's lack, is left out."""
    return tomli_w.dumps(_without_none(asdict(settings)))


def _without_none(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in record.items()
        if value is not None
    }


def _check_config_files(arguments: Sequence[str], kind: type) -> None:
    """Read every config file once for a clear message: jsonargparse's own speaks of its parser."""
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 < len(arguments):
            name = arguments[position + 1]
        elif argument.startswith("--config="):
            name = argument.removeprefix("--config=")
        else:
            continue
        try:
            table = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"cannot read the config file {name!r}: {error.strerror}; give the path of a .toml file"
            ) from error
        except (ValueError, RecursionError) as error:  # bad TOML, bad UTF-8, brackets without end
            raise UsageError(f"{name} is not valid TOML: {' '.join(str(error).split())}") from error
        _require_known(table, kind, kind)


def _require_known(table: dict[str, Any], kind: type, whole: type, prefix: str = "") -> None:
    """Every key is a setting, and settings that are tables are given as tables."""
    hints = get_type_hints(kind)
    for key, value in table.items():
        if key not in hints:
            raise UsageError(_unknown(f"{prefix}{key}", whole))
        if not is_dataclass(hints[key]):
            continue
        if not isinstance(value, dict):
            raise UsageError(f"setting {prefix}{key} is a table of settings; write them below [{prefix}{key}]")
        _require_known(value, cast(type, hints[key]), whole, f"{prefix}{key}.")


def _listed(arguments: Sequence[str]) -> list[str]:
    """``--drop a,b`` as the list that jsonargparse wants.

    Raises:
        UsageError: names that are not joined by commas, which would be taken for settings.
    """
    listed = [part for a in arguments for part in (a.split("=", 1) if a.startswith("--drop=") else [a])]
    for position, argument in enumerate(listed[:-1]):
        value = listed[position + 1]
        if argument == "--drop" and not value.startswith("["):
            following = listed[position + 2 : position + 3]
            if following and not following[0].startswith("-") and not following[0].endswith(".toml"):
                raise UsageError(f"--drop takes names joined by commas: --drop {value.rstrip(',')},{following[0]}")
            listed[position + 1] = json.dumps([name.strip() for name in value.split(",")])
    return listed


def _one_line(message: str, kind: type) -> str:
    """jsonargparse's message without its own vocabulary, and with a near name where a key is unknown."""
    text = re.sub(r"\s+", " ", message).strip()
    unknown = re.search(r"(?:nrecognized arguments: (?:--)?|does not accept option ')([\w.\-]+)", text)
    if unknown:
        return _unknown(unknown[1], kind)
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.Literal", "one of ").replace("NoneType", "nothing")
    text = re.sub(r'^Parser key "([^"]+)": ', r"setting \1: ", text)
    if text.startswith("the following arguments are required: "):
        missing = text.removeprefix("the following arguments are required: ")
        return f"{missing} is missing; give it as a flag (--{missing} ...) or in a config file"
    if "Does not validate against any of the Union" in text:
        key, _, rest = text.partition(":")
        return f"{key}: no allowed type fits{rest.rpartition('Given value:')[2]}; --help shows its type"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _unknown(name: str, kind: type) -> str:
    keys = _keys(kind)
    # by its last part too: --lr is optimizer.lr
    full = {key.rpartition(".")[2]: key for key in keys} | {key: key for key in keys}
    near = difflib.get_close_matches(name, full, n=3)
    hint = (
        f"did you mean {', '.join(dict.fromkeys(full[key] for key in near))}?" if near else "--help lists all settings"
    )
    return f"unknown setting {name!r}; {hint}"


def _keys(kind: type, prefix: str = "") -> list[str]:
    hints = get_type_hints(kind)
    found: list[str] = []
    for entry in fields(kind):
        found.append(prefix + entry.name)
        if is_dataclass(hints[entry.name]):
            found += _keys(hints[entry.name], f"{prefix}{entry.name}.")
    return found
