"""Images that are mirrored, shifted and noised anew every time they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...batches import ArrayBatches
from ...checks import require_non_negative
from ...streams import generator_at
from ...typing import Batch

__all__ = ["AugmentedImages", "augmented"]


def augmented(x: Tensor, *, shift: int, noise: float, generator: torch.Generator) -> Tensor:
    """Each image mirrored with probability one half, moved by up to ``shift`` pixels with reflected edges, plus noise.

    Args:
        x: ``(B, C, H, W)``.
        shift: pixels, below height and width.
        noise: standard deviation of normal noise in units of the data.
        generator: source of randomness on the device of the images.

    Returns:
        ``(B, C, H, W)``; every image in one gather, with nothing brought to the host.
    """
    b, _, height, width = x.shape
    padded = F.pad(x, (shift,) * 4, mode="reflect") if shift else x
    down, across = torch.randint(0, 2 * shift + 1, (2, b), generator=generator, device=x.device)
    mirrored = torch.randint(0, 2, (b, 1), generator=generator, device=x.device) == 1
    rows = down.unsqueeze(1) + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device).expand(b, -1)
    columns = across.unsqueeze(1) + torch.where(mirrored, width - 1 - columns, columns)
    index = torch.arange(b, device=x.device)
    moved = padded.permute(0, 2, 3, 1)[index[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    drawn = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.add(moved, drawn, alpha=noise)


class AugmentedImages:
    """A stream of :func:`augmented` batches; a resumed one draws what the interrupted one would have drawn.

    Args:
        inner: batches of images.
        shift, noise: see :func:`augmented`.
        seed: of what is drawn here.
    """

    def __init__(self, inner: ArrayBatches, *, shift: int, noise: float, seed: int) -> None:
        require_non_negative("shift", shift)
        require_non_negative("noise", noise)
        self._inner, self._shift, self._noise, self._seed = inner, shift, noise, seed

    def __next__(self) -> Batch:
        position = int(self._inner.state_dict()["position"])
        batch = next(self._inner)
        source = generator_at(batch.x.device, "augmented", self._seed, position)
        return replace(batch, x=augmented(batch.x, shift=self._shift, noise=self._noise, generator=source))

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream of images, and what is done to them."""
        return {"images": self._inner.state_dict(), **self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move there.

        Raises:
            ValueError: it belongs to other data, or to images that were changed in another way.
        """
        if {name: state.get(name) for name in self._settings()} != self._settings():
            raise ValueError(f"the saved position is of images with another augmentation than {self._settings()}")
        self._inner.load_state_dict(state["images"])

    def _settings(self) -> dict[str, Any]:
        return {"shift": self._shift, "noise": self._noise, "seed": self._seed}
