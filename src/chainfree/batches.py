"""Endless streams of batches whose position is one integer, so that a resumed run sees exactly what it would have seen.

Every order and every draw is a pure function of the seed and a counter: nothing else has to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .checks import require_finite, require_positive_int
from .streams import event_text, generator_at, require_whole, saved_position
from .typing import Batch, Density

__all__ = ["ArrayBatches", "NoBatches", "SampledBatches", "batches", "checked_rows"]

_BATCHES_PER_BLOCK = 64


def batches(
    x: Tensor | NDArray[Any],
    *,
    size: int,
    y: Tensor | NDArray[Any] | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> ArrayBatches:
    """An endless stream of batches from rows in memory.

    Args:
        x: rows, ``(N, *event)``; float64 stays, other real numbers become float32. What has its type already is not
            copied, and stays on its device.
        size: rows in every batch, at most N.
        y: labels, ``(N,)``: whole numbers become int64 (by convention -1 where unlabelled), floats stay.
        seed: of the order of the rows.
        shuffle: a new order every epoch, whose last ``N mod size`` rows are left out of that epoch; otherwise the rows
            in turn, wrapping round, so that all are seen.

    Raises:
        ValueError: no rows, fewer rows than ``size``, NaN or infinite values, labels of another length, or a type that
            is not real numbers.

    >>> next(batches(torch.arange(6.0).reshape(3, 2), size=2, shuffle=False)).x
    tensor([[0., 1.],
            [2., 3.]])
    """
    return ArrayBatches(*checked_rows(x, y), size=size, seed=seed, shuffle=shuffle)


def checked_rows(x: Tensor | NDArray[Any], y: Tensor | NDArray[Any] | None) -> tuple[Tensor, Tensor | None]:
    """Rows and labels as streams hold them: see :func:`batches` for what is converted and what refused."""
    rows = _tensor("x", x)
    if rows.dim() < 2 or not rows[:1].numel():
        remedy = "reshape to (N, 1)" if rows.dim() == 1 and len(rows) else "give at least one row of numbers"
        raise ValueError(f"x must be rows of shape (N, *event), got shape {tuple(rows.shape)}; {remedy}")
    rows = rows if rows.dtype == torch.float64 else rows.to(torch.float32)
    require_finite("x", rows)
    labels = None
    if y is not None:
        labels = _tensor("y", y)
        if labels.shape != rows.shape[:1]:
            raise ValueError(
                f"y has shape {tuple(labels.shape)} for {len(rows)} rows of x; give one label per row, shape (N,)"
            )
        labels = labels if labels.is_floating_point() else labels.to(torch.int64)
        require_finite("y", labels)
        labels = labels.to(rows.device)
    return rows, labels


class ArrayBatches:
    """The stream that :func:`batches` makes: ``size`` rows at a time, each gathered by one ``index_select``.

    The order of an epoch is a permutation drawn from a generator that is seeded from ``(purpose, seed, epoch)``.

    Args:
        x: rows, ``(N, *event)``, checked by :func:`batches`.
        y: labels, ``(N,)``, on the same device.
        size, seed, shuffle: see :func:`batches`.
        purpose: streams of one seed with different purposes have orders that know nothing of each other.

    Raises:
        ValueError: ``size`` is not a whole number from 1 to N, or ``seed`` is not a whole number.
    """

    def __init__(
        self, x: Tensor, y: Tensor | None, *, size: int, seed: int, shuffle: bool, purpose: str = "array"
    ) -> None:
        require_positive_int("size", size)
        require_whole("seed", seed)
        if size > len(x):
            raise ValueError(f"size must be at most the number of rows, got size={size} for {len(x)} rows; lower size")
        self._x, self._y = x, y
        self._size, self._seed, self._shuffle, self._purpose = size, seed, shuffle, purpose
        self._position = 0
        self._order: tuple[int, Tensor] | None = None  # the epoch and its permutation

    @property
    def rows(self) -> int:
        """Number of rows, N."""
        return len(self._x)

    @property
    def epoch(self) -> int:
        """Full passes before the next batch: counted in rows, or if shuffled in permutations used up."""
        if self._shuffle:
            return self._position // (len(self._x) // self._size)
        return self._position * self._size // len(self._x)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        index = self._shuffled() if self._shuffle else self._in_turn()
        self._position += 1
        y = None if self._y is None else self._y.index_select(0, index)
        return Batch(self._x.index_select(0, index), y)

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that were taken, and what identifies the stream."""
        return {"position": self._position, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to a saved position.

        The rows are compared by number and shape, not by value: a table read on another machine may differ in the last
        digit.

        Raises:
            ValueError: the state belongs to other rows, or to another size, seed or order.
        """
        self._position = saved_position(state, self._identity())

    def _identity(self) -> dict[str, Any]:
        return {
            "kind": "array",
            "rows": len(self._x),
            "event": event_text(self._x),
            "size": self._size,
            "seed": self._seed,
            "shuffle": int(self._shuffle),
        }

    def _shuffled(self) -> Tensor:
        epoch, place = divmod(self._position, len(self._x) // self._size)
        if self._order is None or self._order[0] != epoch:
            # drawn on the CPU whatever the device, so that the order is the same everywhere
            generator = generator_at(torch.device("cpu"), self._purpose, self._seed, epoch)
            self._order = epoch, torch.randperm(len(self._x), generator=generator).to(self._x.device)
        return self._order[1][place * self._size : (place + 1) * self._size]

    def _in_turn(self) -> Tensor:
        start = self._position * self._size % len(self._x)
        return torch.arange(start, start + self._size, device=self._x.device).remainder_(len(self._x))


class SampledBatches:
    """An endless stream of fresh draws from a density.

    The draws are made in blocks of 64 batches by a generator seeded from ``(seed, number of the block)``, on the device
    of the density's parameters and buffers.

    Args:
        density: what is drawn from.
        size: rows in every batch.
        seed: of the draws.

    Raises:
        ValueError: ``size`` or ``seed`` is not a whole number in its range; later, draws that are not finite or not of
            the shape ``(n, *event)``.

    >>> from chainfree.datasets import toy_density
    >>> next(SampledBatches(toy_density("moons"), size=8)).x.shape
    torch.Size([8, 2])
    """

    def __init__(self, density: Density, *, size: int, seed: int = 0) -> None:
        require_positive_int("size", size)
        require_whole("seed", seed)
        self._density, self._size, self._seed = density, size, seed
        self._position = 0
        self._block: tuple[int, Tensor] | None = None  # its number and its draws
        # one draw, from its own generator, says what the rows look like
        self._event = event_text(self._draw(1, "probe", 0))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        number, place = divmod(self._position, _BATCHES_PER_BLOCK)
        if self._block is None or self._block[0] != number:
            self._block = None  # two blocks at once would double the memory
            self._block = number, self._draw(self._size * _BATCHES_PER_BLOCK, "sampled", number)
        self._position += 1
        return Batch(self._block[1][place * self._size : (place + 1) * self._size])

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that were taken, and what identifies the stream."""
        return {"position": self._position, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to a saved position.

        Raises:
            ValueError: the state belongs to another kind of density, event shape, size or seed.
        """
        self._position = saved_position(state, self._identity())

    def _identity(self) -> dict[str, Any]:
        return {
            "kind": "sampled",
            "density": type(self._density).__name__,
            "event": self._event,
            "size": self._size,
            "seed": self._seed,
        }

    def _draw(self, n: int, purpose: str, number: int) -> Tensor:
        generator = generator_at(_device(self._density), purpose, self._seed, number)
        with torch.no_grad():
            draws = self._density.sample(n, generator=generator)
        if draws.dim() < 2 or len(draws) != n:
            raise ValueError(
                f"{type(self._density).__name__}.sample({n}) has shape {tuple(draws.shape)}; return ({n}, *event)"
            )
        require_finite(f"the draws of {type(self._density).__name__}", draws)
        return draws


class NoBatches:
    """An endless stream of empty batches, for objectives that learn from an energy and not from rows."""

    def __next__(self) -> Batch:
        return Batch(torch.empty(0, 1))

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {"kind": "none"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to move.

        Raises:
            ValueError: the state belongs to a stream of rows.
        """
        if state.get("kind") != "none":
            raise ValueError(f"the saved position is of {state.get('kind')!r} data; resume with the same data")


def _device(density: Density) -> torch.device:
    if isinstance(density, nn.Module):
        first = next(chain(density.parameters(), density.buffers()), None)
        if first is not None:
            return first.device
    return torch.device("cpu")


def _tensor(name: str, values: Tensor | NDArray[Any]) -> Tensor:
    """Real numbers as a tensor; floats of 32 or 64 bits keep their type."""
    if isinstance(values, np.ndarray):
        kind = values.dtype.kind
        if kind not in "biuf":
            raise ValueError(f"{name} is an array of {values.dtype}, not real numbers; convert it, e.g. to float32")
        # torch knows no foreign byte orders and no long doubles, and warns of read-only memory
        if values.dtype.newbyteorder("=") == np.float64:
            wanted: type[np.generic] = np.float64
        else:
            wanted = np.float32 if kind == "f" or name == "x" else np.int64
        return torch.from_numpy(np.require(values, dtype=wanted, requirements=["C", "W"]))
    if not isinstance(values, Tensor):
        raise ValueError(
            f"{name} is a {type(values).__name__}; give a tensor or a numpy array (of a data frame: to_numpy())"
        )
    if values.is_complex() or values.layout != torch.strided:
        raise ValueError(f"{name} is {values.dtype} with {values.layout}; give a dense tensor of real numbers")
    return values.detach()
