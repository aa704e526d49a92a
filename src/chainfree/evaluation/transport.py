"""Distances between samples by optimal transport, from POT (extra ``transport``)."""

from __future__ import annotations

from torch import Tensor

from ..checks import require_finite, require_positive_int

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(x: Tensor, y: Tensor, *, seed: int, projections: int = 1000) -> float:
    """The sliced 2-Wasserstein distance between samples, in the units of the rows.

    Bonneel, Rabin, Peyré, Pfister, "Sliced and Radon Wasserstein Barycenters of Measures", 2015.

    Args:
        x: samples, ``(N, D)``.
        y: samples, ``(M, D)``. The distance of two sets of the same law is not zero: report that of data to data beside it.
        seed: of the directions.
        projections: how many directions are averaged over.

    Raises:
        ImportError: POT is not installed.
        ValueError: rows that are not finite.
    """
    require_positive_int("projections", projections)
    require_finite("x", x)
    require_finite("y", y)
    try:
        import ot  # two seconds to import
    except ImportError as error:
        raise ImportError("POT is missing: pip install 'chainfree[transport]'") from error
    rows = (part.detach().cpu().double().numpy() for part in (x, y))
    return float(ot.sliced_wasserstein_distance(*rows, n_projections=projections, seed=seed))
