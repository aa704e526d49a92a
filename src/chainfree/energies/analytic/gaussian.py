"""Multivariate normal energy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import require_rows, require_symmetric
from .base import AnalyticEnergy

__all__ = ["Gaussian"]


class Gaussian(AnalyticEnergy):
    r""":math:`E(x) = \tfrac12 (x-\mu)^\top \Sigma^{-1} (x-\mu)`, :math:`\log Z = \tfrac12 \log\det 2\pi\Sigma`.

    Args:
        mean: ``(dim,)``.
        covariance: ``(dim, dim)``, positive definite; the identity by default.

    Raises:
        ValueError: shapes that do not fit or a covariance that is not positive definite.

    >>> round(Gaussian([0.0]).log_z, 4)
    0.9189
    """

    def __init__(self, mean: Tensor | Sequence[float], covariance: Tensor | None = None) -> None:
        mean = torch.as_tensor(mean)
        mean = mean if mean.is_floating_point() else mean.to(torch.get_default_dtype())
        dim = mean.numel()
        covariance = torch.eye(dim, dtype=mean.dtype) if covariance is None else covariance
        if mean.shape != (dim,) or covariance.shape != (dim, dim):
            raise ValueError(
                f"mean must be (dim,) and covariance (dim, dim), got {tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        require_symmetric("covariance", covariance)
        # the factorisation in float64: log Z is a plain number, good to the last digit for float32 users too
        factor, info = torch.linalg.cholesky_ex(covariance.double())
        if int(info) != 0:
            raise ValueError("covariance is not positive definite; add a small multiple of the identity")
        super().__init__(dim, 0.5 * dim * math.log(2 * math.pi) + float(factor.diagonal().log().sum()))
        whiten = torch.linalg.solve_triangular(factor, torch.eye(dim, dtype=torch.float64), upper=False)
        self.mean: Tensor
        self.factor: Tensor
        self.whiten: Tensor
        self.register_buffer("mean", mean.clone())
        self.register_buffer("factor", factor.to(mean.dtype))
        self.register_buffer("whiten", whiten.to(mean.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), self.mean)
        return 0.5 * ((x - self.mean) @ self.whiten.T).square().sum(dim=-1)

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``."""
        return self.mean + self._normal(n, self.dim, like=self.mean, generator=generator) @ self.factor.T

    @classmethod
    def fit(cls, x: Tensor, *, shrinkage: float | None = None) -> Gaussian:
        """Mean and covariance of rows ``(N, dim)``, shrunk towards a multiple of the identity by Ledoit-Wolf.

        Args:
            x: data, at least two rows.
            shrinkage: a weight in [0, 1] instead of Ledoit-Wolf's.
        """
        from sklearn.covariance import LedoitWolf, ShrunkCovariance

        estimator = LedoitWolf() if shrinkage is None else ShrunkCovariance(shrinkage=shrinkage)
        estimator.fit(x.detach().cpu().double().numpy())
        covariance = torch.from_numpy(estimator.covariance_).to(x.dtype)
        return cls(torch.from_numpy(estimator.location_).to(x.dtype), covariance)
