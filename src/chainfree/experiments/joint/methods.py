"""Classifiers of few labels, as settings that know how to fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from .classical import Discriminant, LabelSpreading, LogisticRegression
from .marginals import KNOWN, MarginalSettings
from .networks import Network
from .normal_classes import NormalClasses

__all__ = ["METHODS", "Fitted", "Method", "method"]


class Fitted(Protocol):
    """What came out."""

    def logits(self, x: Tensor, /) -> Tensor:
        """Log-probabilities of the classes up to a constant a row, ``(N, *event) -> (N, K)``."""
        ...


class Method(Protocol):
    """Settings of a classifier."""

    def fit(self, x: Tensor, y: Tensor, *, classes: int, seed: int) -> Fitted:
        """Learn from rows ``(N, *event)`` with classes ``(N,)``, -1 where there is no label."""
        ...


def _network(**settings: Any) -> Network:
    """One flat table for the network and for what trains its marginal; a setting of another marginal or term is refused."""
    names = {field.name for field in dataclasses.fields(MarginalSettings)} & settings.keys()
    marginal = settings.get("marginal", "none")
    idle = names - KNOWN.get(marginal, names)
    if not settings.get("base", False):
        idle |= {name for name in settings if name.startswith("base_")}
    if settings.get("base_em_steps") == 0:
        idle |= {"base_shrinkage"} & settings.keys()
    if marginal == "none":
        idle |= {"marginal_weight", "marginal_rows"} & settings.keys()
    if not settings.get("adversarial_radius", 0.0):
        idle |= {"adversarial_probe"} & settings.keys()
    if idle:
        raise ValueError(f"{', '.join(sorted(idle))} would do nothing here; leave it out")
    given = MarginalSettings(**{name: settings.pop(name) for name in names})
    return Network(marginal_settings=given, **settings)


def _normal_classes(**settings: Any) -> NormalClasses:
    if settings.get("em_steps") == 0 and "shrinkage" in settings:
        raise ValueError("shrinkage would do nothing here, as it is of the steps of em_steps; leave it out")
    return NormalClasses(**settings)


METHODS: dict[str, Callable[..., Method]] = {
    "logistic_regression": LogisticRegression,
    "discriminant": Discriminant,
    "label_spreading": LabelSpreading,
    "normal_classes": _normal_classes,
    "network": _network,
}


def method(settings: Mapping[str, Any]) -> Method:
    """The method of a config table: its ``kind`` and that kind's settings.

    Raises:
        ValueError: no such kind, an unknown setting, or one out of its range.
    """
    given = dict(settings)
    kind = given.pop("kind", None)
    if kind not in METHODS:
        raise ValueError(f"kind must be one of {', '.join(METHODS)}, got {kind!r}")
    try:
        return METHODS[kind](**given)
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from error
