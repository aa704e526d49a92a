"""How far means of draws may go from a column's own mean, by cells whose values are known.

Copas, "Regression, prediction and shrinkage", JRSS B 45(3), 1983: what was fitted to some rows departs too far on others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..fitting import IncompleteRows
from ..samplers import weighted_given
from ..tables import NumberColumn
from .density_model import DensityModel

__all__ = ["Shrinkage", "held_out_shrinkage"]

_MOST_ROWS = 2000
_HIDINGS = 3  # of each row, other cells each time
_LEAST_SHARE = 0.1  # of cells, hidden
_PRIOR_SPREAD = 0.5  # of a slope around 1


class Shrinkage(NamedTuple):
    """Of one column of numbers, in the table's units.

    Args:
        centre: mean of the cells that were known, of all rows.
        slope: of values on means of draws, from 0 to 1.
    """

    centre: float
    slope: float

    def __call__(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means ``(N,)`` taken as far back."""
        return self.centre + self.slope * (means - self.centre)


def held_out_shrinkage(
    model: DensityModel, held: IncompleteRows, rows: IncompleteRows, *, proposals: int, seed: int
) -> dict[str, Shrinkage]:
    """By column of numbers: known cells of held-out rows are hidden and filled, and regressed on what they were filled with.

    As many cells are hidden as are unknown, a tenth at least. Slopes have a normal prior around 1, of standard deviation a
    half, so that few cells say little.

    Args:
        model: which the held-out rows have stopped and not taught.
        held: held-out rows, encoded.
        rows: all rows, whose known cells say what a column's mean is.
        proposals: of each row that means are of.
        seed: of what is hidden and of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder = model.encoder
    order = torch.randperm(len(held), generator=generator)[:_MOST_ROWS]
    hidden = held[order.repeat(_HIDINGS)]
    columns = [column for column in encoder.schema.columns if isinstance(column, NumberColumn)]
    hide = _hidden(model, hidden.known, generator)
    known = hidden.known & ~hide
    drawn = weighted_given(
        model.energy,
        hidden.x.to(model.device),
        known.to(model.device),
        proposals=proposals,
        generator=torch.Generator(model.device).manual_seed(seed),
    )
    parts: dict[str, list[NDArray[np.float64]]] = {column.name: [] for column in columns}
    for found in drawn:
        weights = found.weights.cpu().numpy()
        numbers = encoder.decode_numbers(found.x.cpu().flatten(0, 1), within=True)
        for name, means in parts.items():
            means.append((weights * numbers[name].reshape(weights.shape)).sum(1))
    truth, of_all = encoder.decode_numbers(hidden.x), encoder.decode_numbers(rows.x)
    shrinkage = {}
    for column in columns:
        place = encoder.places(column.name)[0]
        asked, there = hide[:, place].numpy(), rows.known[:, place].numpy()
        own = of_all[column.name][there]
        centre = float((np.round(own) if column.whole else own).mean())  # whole numbers are spread out in the tensors
        means = np.concatenate(parts[column.name])[asked]
        shrinkage[column.name] = Shrinkage(centre, _slope(means - centre, truth[column.name][asked] - centre))
    return shrinkage


def _hidden(model: DensityModel, known: Tensor, generator: torch.Generator) -> Tensor:
    """Known cells that are hidden, the tensors' columns of a table's column together, ``(N, D)``."""
    encoder = model.encoder
    share = max(_LEAST_SHARE, 1 - float(known.float().mean()))
    hide = torch.zeros_like(known)
    for name in encoder.schema.names:
        hide[:, encoder.places(name)] = torch.rand(len(known), 1, generator=generator) < share
    return hide & known


def _slope(means: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Posterior mean of the slope of values on means, from 0 to 1."""
    squares = float(means @ means)
    if not squares:
        return 1.0
    spread = float(values @ values) / max(1, len(values))  # nothing explained: the more careful side
    precision = squares / spread if spread > 0 else np.inf
    if not np.isfinite(precision):
        return 1.0
    of_cells = float(means @ values) / squares
    prior = _PRIOR_SPREAD**-2
    return float(np.clip((precision * of_cells + prior) / (precision + prior), 0, 1))
