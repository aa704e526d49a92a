r"""Images as rows for normalised models: uniform dequantisation, then a logit.

A density has no meaning on the 256 values of a pixel: noise that fills the gaps makes it one on [0, 1], and the mean
log-likelihood then bounds that of the discrete image from below (Theis, van den Oord and Bethge, *A note on the
evaluation of generative models*, 2016, arXiv:1511.01844). The logit takes the cube to the whole space: Dinh,
Sohl-Dickstein and Bengio, *Density estimation using Real NVP*, 2017, arXiv:1605.08803; Papamakarios, Pavlakou and
Murray, *Masked autoregressive flow for density estimation*, 2017, arXiv:1705.07057.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batches import ArrayBatches
from ..checks import require_finite
from ..streams import generator_at, saved_position
from ..typing import Batch

__all__ = ["DequantisedBatches", "LogitTransform", "dequantise"]

_LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class LogitTransform:
    r"""From pixels in [0, 1] to the whole line: :math:`z = \mathrm{logit}(\alpha + (1 - 2\alpha) x)` in each coordinate.

    With log-likelihoods in nats per image of D pixels,

    .. math:: \log p_x(x) = \log p_z(z) + \log |\det dz/dx|,

    so a model of z reports ``log_prob(forward(x))`` in logit space and adds ``log_abs_det(x)`` for dequantised pixels in
    [0, 1]. Pixels in [0, 256], of which bits per dimension are, take off D log 256 more.

    Args:
        alpha: how far the ends stay from 0 and 1, in (0, 0.5). The literature's likelihoods depend on it in logit space:
            1e-6 for MNIST (Papamakarios et al.), 0.05 for colour images (Dinh et al.). A larger one makes shorter tails.

    Raises:
        ValueError: ``alpha`` outside (0, 0.5).

    >>> LogitTransform(alpha=0.05).forward(torch.tensor([0.0, 0.5, 1.0]))
    tensor([-2.9444,  0.0000,  2.9444])
    """

    alpha: float = 1e-6

    def __post_init__(self) -> None:
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float) or not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha must be a number in (0, 0.5), got {self.alpha!r}")

    def forward(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] to logits, any shape.

        Raises:
            ValueError: a value outside [0, 1], or NaN.
        """
        log_s, log_rest = self._logs(x)
        return log_s - log_rest

    def inverse(self, z: Tensor) -> Tensor:
        """Logits to pixels, any shape.

        Where a model puts z beyond ``logit(alpha)``, the pixel is as much as ``alpha / (1 - 2 alpha)`` outside [0, 1]; it
        is not clamped, which would not be an inverse.
        """
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)

    def log_abs_det(self, x: Tensor) -> Tensor:
        r"""The logarithm of the volume change :math:`\log |\det dz/dx|` in nats, summed over pixels.

        Args:
            x: ``(B, *event)`` in [0, 1].

        Returns:
            ``(B,)``: the sum of :math:`\log(1 - 2\alpha) - \log s - \log(1 - s)` with :math:`s = \alpha + (1 - 2\alpha) x`.

        Raises:
            ValueError: a value outside [0, 1], or NaN.
        """
        log_s, log_rest = self._logs(x)
        return (math.log1p(-2 * self.alpha) - log_s - log_rest).flatten(1).sum(dim=1)

    def _logs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # a device-to-host sync; a NaN fails the comparison too
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise ValueError("pixels must lie in [0, 1], and some do not; dequantise bytes with dequantise(x) first")
        # 1 - s from 1 - x: in float32 an s near 1 is rounded by as much as a tenth of alpha = 1e-6
        span = 1 - 2 * self.alpha
        return torch.log(self.alpha + span * x), torch.log(self.alpha + span * (1 - x))


def dequantise(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Bytes with uniform noise, ``(x + u) / 256`` with u in [0, 1): float32 in [0, 1], any shape.

    Args:
        x: uint8.
        generator: of the noise, on any device: the noise is drawn there and moved to ``x``.

    Raises:
        ValueError: ``x`` is not uint8.
    """
    if x.dtype != torch.uint8:
        raise ValueError(f"only bytes are dequantised, got {x.dtype}; give the image's uint8 values")
    device = x.device if generator is None else generator.device
    noise = torch.rand(x.shape, generator=generator, device=device).to(x.device)
    return noise.add_(x).div_(_LEVELS)


class DequantisedBatches:
    """An endless stream of dequantised images whose noise is new in every batch, after a logit if one is given.

    The noise of batch ``n`` comes from a generator seeded from ``(seed, n)``, the order from one seeded as in
    :func:`chainfree.batches.batches`, so a position is one integer.

    Args:
        x: bytes, ``(N, *event)`` uint8, kept as they are. Give ``images.x.flatten(1)`` to models of flat rows.
        transform: to logits; without one, rows are pixels in [0, 1].
        y: labels, ``(N,)``, on the same device.
        size: rows in every batch, at most N.
        seed: of the order and of the noise.
        shuffle: as in :func:`chainfree.batches.batches`.

    Raises:
        ValueError: not uint8 rows, labels of another length, ``size`` or ``seed`` not a whole number in its range.

    >>> stream = DequantisedBatches(torch.zeros(6, 4, dtype=torch.uint8), size=2, transform=LogitTransform(alpha=0.05))
    >>> next(stream).x.shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        x: Tensor,
        *,
        transform: LogitTransform | None = None,
        y: Tensor | None = None,
        size: int,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if x.dtype != torch.uint8 or x.dim() < 2 or not x.numel():
            raise ValueError(
                f"x must be uint8 rows (N, *event), got {x.dtype} {tuple(x.shape)}; give the image's bytes"
            )
        if y is not None:
            if y.shape != x.shape[:1]:
                raise ValueError(
                    f"y has shape {tuple(y.shape)} for {len(x)} rows of x; give one label per row, shape (N,)"
                )
            require_finite("y", y)
        self._bytes = ArrayBatches(x, y, size=size, seed=seed, shuffle=shuffle)
        self._transform, self._seed = transform, seed
        self._position = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._bytes)
        # drawn on the CPU whatever the device, so that the noise is the same everywhere
        pixels = dequantise(
            batch.x, generator=generator_at(torch.device("cpu"), "dequantised", self._seed, self._position)
        )
        self._position += 1
        return Batch(pixels if self._transform is None else self._transform.forward(pixels), batch.y)

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that were taken, and what identifies the stream."""
        return {**self._identity(), "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to a saved position.

        Raises:
            ValueError: the state belongs to other rows, or to another size, seed, order or transform.
        """
        position = saved_position(state, self._identity())
        self._bytes.load_state_dict({**self._bytes.state_dict(), "position": position})
        self._position = position

    def _identity(self) -> dict[str, Any]:
        rows = {name: value for name, value in self._bytes.state_dict().items() if name != "position"}
        alpha = 0.0 if self._transform is None else self._transform.alpha  # 0 is not the alpha of any transform
        return {**rows, "kind": "dequantised", "alpha": alpha}
