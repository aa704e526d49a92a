"""Tensors, arrays and lists into float64 arrays, with the checks that every picture makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Array", "Floats", "float_array", "require_no_nan", "require_planar", "require_vector"]

Floats: TypeAlias = NDArray[np.float64]
Array: TypeAlias = Tensor | NDArray[Any] | Sequence[float] | Sequence[Sequence[float]]


def float_array(name: str, values: Array) -> Floats:
    """A float64 copy on the host: of a tensor on any device, with or without a graph, or of anything numpy reads.

    Raises:
        ValueError: the values are not numbers.
    """
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers of one shape: {error}") from error


def require_vector(name: str, values: Floats) -> None:
    """Raise ``ValueError`` unless ``values`` is ``(N,)`` with ``N > 0``."""
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} must have shape (N,) with N > 0, got {values.shape}; flatten it or leave it out")


def require_no_nan(name: str, values: Floats, *, infinite: bool = False) -> None:
    """Raise ``ValueError`` where there are NaNs or, unless ``infinite``, infinities."""
    bad = np.isnan(values) if infinite else ~np.isfinite(values)
    if bad.any():
        what = "NaN" if infinite else "NaN or infinite"
        raise ValueError(f"{name} has {what} values in {int(bad.sum())} of {values.size} places; drop them first")


def require_planar(name: str, values: Floats) -> None:
    """Raise ``ValueError`` unless ``values`` is ``(N, 2)``."""
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(f"{name} must have shape (N, 2), got {values.shape}; pick two columns, e.g. {name}[:, :2]")
