"""Slanted pictures of signs set upright, by their moments.

People write the same digit at different slants, and pixels tell two slants of one digit further apart than two digits of
one slant. The slant is one number per picture, seen without a label: LeCun, Bottou, Bengio, Haffner, "Gradient-based
learning applied to document recognition", Proceedings of the IEEE 86(11), 1998 (their "deskewing").
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import require_finite

__all__ = ["deskewed"]


def deskewed(x: Tensor) -> Tensor:
    r"""Pictures sheared along their rows until row and column of the ink are uncorrelated.

    With ink as mass, s = cov(row, column) / var(row) is how many columns the middle of the ink moves per row; row r is moved
    back by s (r - mean row), between two pixels in proportion. Mass and centre of the ink stay where they were, but for
    what leaves the frame.

    Args:
        x: ``(B, 1, H, W)``, floats, at least 0, and 0 where there is no ink.

    Returns:
        ``(B, 1, H, W)``. A picture without ink, or with all of it in one row, stays as it is.

    Raises:
        ValueError: another shape, no floats, or a value below 0 or not finite.
    """
    if x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(f"x must be (B, 1, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floats, got {x.dtype}; divide bytes by 255")
    require_finite("x", x)
    if bool((x < 0).any()):
        raise ValueError("x must be ink of at least 0 on a ground of 0, got values below 0")
    ink = x.squeeze(1)
    b, height, width = ink.shape
    rows = torch.arange(height, device=x.device, dtype=x.dtype)
    columns = torch.arange(width, device=x.device, dtype=x.dtype)
    by_row = ink.sum(2)
    mass = by_row.sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    above = rows - (by_row * rows).sum(1, keepdim=True) / mass
    slant = ((ink @ columns) * above).sum(1) / (by_row * above.square()).sum(1)
    # in one row both moments are rounding errors: a slope of more than the frame is none
    slant = torch.where(slant.abs() < width, slant, 0).nan_to_num()
    source = columns + (slant.unsqueeze(1) * above).unsqueeze(2)
    left = source.floor()
    share = source - left
    padded = torch.nn.functional.pad(ink, (1, 1))
    first = (left + 1).clamp(0, width + 1).long()
    second = (left + 2).clamp(0, width + 1).long()
    moved = (1 - share) * padded.gather(2, first) + share * padded.gather(2, second)
    return moved.view(b, 1, height, width)
