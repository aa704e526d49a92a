"""StackedMNIST: three digits as the channels of one image, so that the data have 1000 modes that can be counted.

Metz, Poole, Pfau and Sohl-Dickstein, *Unrolled generative adversarial networks*, 2017, arXiv:1611.02163. Whether a
generator covers the modes is measured by :func:`chainfree.evaluation.mode_coverage`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..checks import require_positive_int
from ..streams import event_text, generator_at, require_whole, saved_position
from ..typing import Batch
from .errors import DataError
from .images import Images, load_mnist

__all__ = ["StackedDigits", "scaled_pixels", "stacked_classes", "stacked_mnist"]

_CHANNELS = 3
_DIGITS = 10


def scaled_pixels(x: Tensor) -> Tensor:
    """Grey values 0 to 255 as float32 in [-1, 1]: ``x / 127.5 - 1``, any shape.

    >>> scaled_pixels(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    return x.float().div_(127.5).sub_(1.0)


def stacked_classes(digits: Tensor) -> Tensor:
    """The class ``100 a + 10 b + c`` of a stacked image with the digits a, b, c in its channels 0, 1, 2.

    Whatever names such a class does so through this function: with another order of the channels somewhere, the classes
    of samples and of data are not the same classes.

    Args:
        digits: ``(N, 3)`` int64, the digit in each channel, 0 to 9.

    Returns:
        ``(N,)`` int64, 0 to 999.

    >>> stacked_classes(torch.tensor([[1, 2, 3], [0, 0, 9]]))
    tensor([123,   9])
    """
    # a product and a sum, not a matrix product: CUDA has none for whole numbers
    return (digits * digits.new_tensor([100, 10, 1])).sum(dim=1)


def stacked_mnist(
    split: Literal["train", "test"], *, size: int, seed: int = 0, data_dir: str | os.PathLike[str] | None = None
) -> StackedDigits:
    """The stream of StackedMNIST: images ``(B, 3, 28, 28)`` in [-1, 1] with their classes 0 to 999.

    A fixed set of test images is the first batch of a stream:
    ``next(stacked_mnist("test", size=10_000))``.

    Args:
        split: ``"train"`` stacks the 60 000 training digits, ``"test"`` the 10 000 test digits.
        size: images in every batch.
        seed: of the draws.
        data_dir: as in :func:`chainfree.datasets.load_mnist`.

    Raises:
        ValueError: another ``split``, or ``size`` or ``seed`` outside its range.
        DataError: the files are missing, damaged, or cannot be downloaded.
    """
    return StackedDigits(load_mnist(split, data_dir), size=size, seed=seed)


class StackedDigits:
    """An endless stream of stacks of three digits, each drawn from all of them with replacement.

    Batch ``n`` is drawn by a generator seeded from ``(seed, n)``, so a position is one integer.

    Args:
        digits: ``(N, 1, H, W)`` with classes 0 to 9; kept as bytes, on their device, and not copied.
        size: images in every batch.
        seed: of the draws.

    Raises:
        ValueError: ``size`` or ``seed`` is not a whole number in its range.
        DataError: images of several channels, or classes other than 0 to 9.

    >>> digits = Images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([7, 7, 7, 7]))
    >>> batch = next(StackedDigits(digits, size=2))
    >>> batch.x.shape, batch.y
    (torch.Size([2, 3, 8, 8]), tensor([777, 777]))
    """

    def __init__(self, digits: Images, *, size: int, seed: int = 0) -> None:
        require_positive_int("size", size)
        require_whole("seed", seed)
        if digits.x.shape[1] != 1:
            raise DataError(f"stacks are made of images with one channel, got {digits.x.shape[1]}; give grey images")
        if not bool(((digits.y >= 0) & (digits.y < _DIGITS)).all()):
            low, high = int(digits.y.min()), int(digits.y.max())
            raise DataError(f"digits have classes 0 to 9, got {low} to {high}; leave the other images out")
        self._digits, self._size, self._seed = digits, size, seed
        self._position = 0

    @property
    def class_shares(self) -> Tensor:
        """The exact probability of each class in this stream, ``(1000,)`` float64 on the CPU."""
        share = torch.bincount(self._digits.y.cpu(), minlength=_DIGITS).double() / len(self._digits)
        return torch.einsum("a,b,c->abc", share, share, share).flatten()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        x, y = self._digits.x, self._digits.y
        # drawn on the CPU whatever the device, so that the stacks are the same everywhere
        generator = generator_at(torch.device("cpu"), "stacked", self._seed, self._position)
        picks = torch.randint(len(x), (self._size * _CHANNELS,), generator=generator).to(x.device)
        self._position += 1
        # neighbours in one gather of bytes become channels: a quarter of the memory traffic of gathering floats
        stacks = x.index_select(0, picks).view(self._size, _CHANNELS, *x.shape[2:])
        return Batch(scaled_pixels(stacks), stacked_classes(y.index_select(0, picks).view(self._size, _CHANNELS)))

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that were taken, and what identifies the stream."""
        return {"position": self._position, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to a saved position.

        Raises:
            ValueError: the state belongs to another number or shape of digits, or to another size or seed.
        """
        self._position = saved_position(state, self._identity())

    def _identity(self) -> dict[str, Any]:
        return {
            "kind": "stacked",
            "rows": len(self._digits),
            "event": event_text(self._digits.x),
            "size": self._size,
            "seed": self._seed,
        }
