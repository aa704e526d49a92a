"""The one energy contract and the argument checks that everything shares."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .typing import Energy

__all__ = [
    "ContractError",
    "energy_values",
    "log_prob_values",
    "logit_values",
    "require_eager",
    "require_finite",
    "require_floats",
    "require_in_unit_interval",
    "require_non_negative",
    "require_positive",
    "require_positive_int",
    "require_rows",
    "require_symmetric",
]


class ContractError(ValueError):
    """An energy returned something that is not one number per row."""


def energy_values(energy: Energy, x: Tensor) -> Tensor:
    """Evaluate ``energy`` on ``x`` and hold it to the contract ``(B, *event) -> (B,)``.

    Half-precision energies (under autocast) come back as float32: what follows takes exponentials of differences.

    Args:
        energy: the energy.
        x: rows, ``(B, *event)``.

    Returns:
        Energies in nats, ``(B,)``, at least float32.

    Raises:
        ContractError: the shape is not ``(B,)``, or the result is not a floating-point tensor.
    """
    values = energy(x)
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise ContractError(
            f"the energy returned {_describe(values)}; it must return a floating-point tensor of shape (B,)"
        )
    rows = x.shape[0]
    if values.shape != (rows,):
        if values.shape == (rows, 1):
            remedy = "squeeze the last axis: energy(x).squeeze(-1)"
        elif values.dim() == 0:
            remedy = "it returned one number for the whole batch; do not average over rows"
        else:
            remedy = "return one number per row, shape (B,)"
        raise ContractError(
            f"the energy returned shape {tuple(values.shape)} for {rows} rows of shape {tuple(x.shape[1:])}; {remedy}"
        )
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def log_prob_values(density: Any, x: Tensor) -> Tensor:
    """Evaluate ``density.log_prob`` on ``x`` and hold it to ``(B,)``.

    Raises:
        ContractError: another shape, for which broadcasting would give a wrong number without a word.
    """
    values: Tensor = density.log_prob(x)
    if values.shape != (x.shape[0],):
        raise ContractError(
            f"log_prob returned shape {tuple(values.shape)} for {x.shape[0]} rows; return one number per row "
            "(torch.distributions: wrap in Independent)"
        )
    return values


def logit_values(classifier: Callable[[Tensor], Tensor], x: Tensor, classes: int) -> Tensor:
    """Evaluate ``classifier`` on ``x`` and hold it to ``(B, K)``, at least float32.

    Raises:
        ContractError: another shape.
    """
    values = classifier(x)
    if values.shape != (x.shape[0], classes):
        raise ContractError(
            f"the network returned shape {tuple(values.shape)} for {x.shape[0]} rows; return one logit for each of "
            f"{classes} classes, shape (B, {classes})"
        )
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _describe(value: object) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def require_rows(x: Tensor, event: Sequence[int | None], like: Tensor) -> None:
    """Raise ``ContractError`` unless ``x`` is ``(B, *event)`` of the type of ``like``, where ``None`` allows any size.

    Broadcasting would turn rows of another width into wrong energies without a word.
    """
    given = x.shape[1:]
    if len(given) != len(event) or any(e is not None and e != g for e, g in zip(event, given, strict=True)):
        wanted = ", ".join("any" if e is None else str(e) for e in event)
        raise ContractError(
            f"the energy takes rows of shape ({wanted}), got {tuple(given)}; reshape or select features"
        )
    if x.dtype != like.dtype:
        raise ContractError(
            f"the energy is of {like.dtype}, the rows of {x.dtype}; convert one of them with .to(dtype)"
        )


def _require(name: str, value: Any, holds: Callable[[float], bool], wanted: str) -> None:
    try:
        fits = not isinstance(value, bool) and isinstance(value, int | float) and holds(float(value))
    except OverflowError as error:  # an int that no float can hold
        raise ValueError(f"{name} is too large a number to count with; lower it") from error
    if not fits:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def require_positive(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite number above zero."""
    _require(name, value, lambda v: math.isfinite(v) and v > 0, "a finite number above 0")


def require_non_negative(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite number of at least zero."""
    _require(name, value, lambda v: math.isfinite(v) and v >= 0, "a finite number of at least 0")


def require_in_unit_interval(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``0 <= value < 1``."""
    _require(name, value, lambda v: 0 <= v < 1, "a number in [0, 1)")


def require_positive_int(name: str, value: int) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number above zero."""
    if not isinstance(value, numbers.Integral):  # NumPy's too: searches over settings draw them
        raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
    _require(name, value if isinstance(value, bool) else int(value), lambda v: v > 0, "a whole number above 0")


def require_symmetric(name: str, matrix: Tensor) -> None:
    """Raise ``ValueError`` unless matrices ``(..., D, D)`` are symmetric, to rounding error."""
    difference = (matrix - matrix.mT).abs().amax()
    if bool(difference > 1e-5 * matrix.abs().amax()):
        raise ValueError(f"{name} must be symmetric, off by {float(difference):g}; give (A + A.T) / 2")


def require_eager(energy: Any, what: str) -> None:
    """Raise ``ContractError`` if the energy is compiled: torch would say so deep in a backward pass, about donated buffers.

    Args:
        energy: the energy.
        what: needs second derivatives, for the message.
    """
    if hasattr(energy, "_orig_mod"):
        raise ContractError(
            f"{what} differentiates the energy twice, which torch.compile does not; train without compile"
        )


def require_floats(x: Tensor, what: str) -> None:
    """Raise ``ContractError`` unless rows are floating-point numbers, which noise can be added to."""
    if not x.is_floating_point():
        raise ContractError(f"{what} takes rows of floats, got {x.dtype}; convert them with .float()")


def require_finite(name: str, values: Tensor) -> None:
    """Raise ``ValueError`` that names the first row with a NaN or an infinity."""
    if values.is_floating_point():
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            bad = ~finite.reshape(len(values), -1).all(dim=1) if values.dim() else ~finite.reshape(1)
            count, first = int(bad.sum()), int(bad.nonzero()[0])
            raise ValueError(
                f"{name} has NaN or infinite values in {count} of {len(bad)} rows, first in row {first}; "
                "drop or fill these rows"
            )
