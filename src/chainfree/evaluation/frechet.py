"""The Fréchet distance between samples, from TorchMetrics (extra ``images``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rows import flat_pair

__all__ = ["frechet_distance"]


def frechet_distance(data: Tensor, samples: Tensor) -> float:
    r""":math:`\lVert\mu - \nu\rVert^2 + \operatorname{tr}(A + B - 2 (A B)^{1/2})` of the two sets' means and covariances.

    The squared 2-Wasserstein distance between normals with the moments of the rows. Heusel, Ramsauer, Unterthiner, Nessler,
    Hochreiter, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017, arXiv
    1706.08500, whose FID takes the features of one network (Inception) at 50,000 samples: distances in other features, as in
    those of :func:`image_features`, are no FID and compare among themselves alone. Finite samples of one law are apart too:
    report held-out data beside generated rows, for as many.

    Args:
        data: features of images, ``(N, *event)``, at least two; flattened.
        samples: ``(M, *event)``.

    Returns:
        In squared units of the rows.

    Raises:
        ImportError: TorchMetrics is not installed.
        ValueError: rows that are not finite floats of one shape, or fewer than two.
    """
    rows = [torch.from_numpy(part) for part in flat_pair("data", data, "samples", samples)]
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise ImportError("TorchMetrics is missing: pip install 'chainfree[images]'") from error
    # of these rows alone, whatever other processes there are
    metric = FrechetInceptionDistance(feature=_AsTheyAre(rows[0].shape[1]), sync_on_compute=False)
    for part, real in zip(rows, (True, False), strict=True):
        metric.update(part, real=real)
    return float(metric.compute())


class _AsTheyAre(nn.Module):
    """The extractor for rows that are features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x
