"""Arrays from ``.npy`` and ``.npz`` files. Nothing is ever unpickled."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .wording import closest, listed, one_line

__all__ = ["array_of_npy", "array_of_npz", "members"]

# what numpy and zipfile raise on damaged files: wrong magic, bad headers, short bodies, absurd sizes, encrypted members
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    LookupError,
    OverflowError,
    MemoryError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def array_of_npy(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Column names and rows of a ``.npy`` file; :class:`DataError` if it is damaged or no table."""
    try:
        # opened here: numpy leaves the file open when it fails
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            if file.read(1):
                raise ValueError("there are bytes after the array's end")
    except _DAMAGE as error:
        raise DataError(
            f"cannot be read as .npy ({one_line(error)}); save plain numbers with numpy.save(path, x)"
        ) from error
    return _default_names(_require_matrix("the array", array)), array


def array_of_npz(path: str | os.PathLike[str], key: str | None) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Column names and rows of one array of an ``.npz`` file; :class:`DataError` if there is none."""
    keys = _keys(path)
    if key is None:
        usual = [name for name in ("x", "X") if name in keys]
        if len(usual) == 1:
            key = usual[0]
        elif len(keys) == 1:
            key = keys[0]
        else:
            raise DataError(f"which array is the table is not clear; give key as one of {listed(keys)}")
    named = "columns" in keys and key != "columns"
    arrays = members(path, [key, "columns"] if named else [key])
    array = _require_matrix(f"array {key!r}", arrays[key])
    if not named:
        return _default_names(array), array
    names = arrays["columns"]
    if names.dtype.kind != "U" or names.shape != (array.shape[1],):
        raise DataError(
            f"array 'columns' is {names.dtype} of shape {names.shape}, not {array.shape[1]} names as text; "
            f"save numpy.array(names, dtype=str), or leave it out"
        )
    return tuple(names.tolist()), array


def _keys(path: str | os.PathLike[str]) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except _DAMAGE as error:
        raise _bad_npz(error) from error


def members(path: str | os.PathLike[str], keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names in an ``.npz`` file; :class:`DataError` if one is missing or damaged."""
    there = _keys(path)
    for key in keys:
        if key not in there:
            raise DataError(f"has no array {key!r}{closest(key, there)}; it has {listed(there)}")
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for key in keys:
                with archive.open(key + ".npy") as member:
                    arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
                    # reading to the end makes zipfile compare the checksum
                    if member.read(1):
                        raise ValueError(f"array {key!r} has bytes after its end")
    except _DAMAGE as error:
        raise _bad_npz(error) from error
    return arrays


def _bad_npz(error: BaseException) -> DataError:
    return DataError(f"cannot be read as .npz ({one_line(error)}); save plain numbers with numpy.savez(path, x=x)")


def _require_matrix(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "biuf":
        what = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype}".split("[")[0]
        raise DataError(f"{name} holds {what}, not real numbers; save it as float64")
    if array.ndim == 1:
        raise DataError(
            f"{name} is 1-d with {len(array)} values; save x.reshape(-1, 1) for a column, or x.reshape(1, -1) for a row"
        )
    if array.ndim != 2:
        remedy = "save x.reshape(len(x), -1)" if array.ndim > 2 else "save rows and columns"
        raise DataError(f"{name} has shape {array.shape}, but a table has rows and columns; {remedy}")
    return array


def _default_names(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(array.shape[1]))
