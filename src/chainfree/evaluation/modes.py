"""Whether samples cover the modes of their data, and in the right shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min
from torch import Tensor

from ..checks import require_finite, require_positive, require_positive_int

__all__ = ["MixtureModes", "ModeCoverage", "mixture_modes", "mode_coverage"]


@dataclass(frozen=True)
class ModeCoverage:
    """Which classes samples fall into.

    Args:
        modes: number of classes with at least one sample.
        kl: KL(samples || data) between the distributions over classes, in nats.
    """

    modes: int
    kl: float


def mode_coverage(
    labels: Tensor | NDArray[np.integer],
    classes: int,
    reference: Tensor | NDArray[np.floating] | None = None,
) -> ModeCoverage:
    r"""Count the classes that occur among samples, and compare their shares with the data's.

    The field's two numbers for StackedMNIST (Metz et al. 2017, arXiv:1611.02163; Lin et al. 2018, arXiv:1712.04086; Kumar
    et al. 2019, arXiv:1901.08508): with :math:`\hat p_k` the share of samples in class k and :math:`q_k` that of the data,

    .. math:: \mathrm{KL}(\hat p \| q) = \sum_k \hat p_k \log(\hat p_k / q_k).

    The estimate is too high by about (K - 1) / 2N nats for N samples of the data itself, so compare only equal N.

    Args:
        labels: the class of each sample, ``(N,)`` whole numbers; for stacked images those of
            :func:`chainfree.evaluation.classify_stacked`, numbered as :func:`chainfree.datasets.stacked_classes` does.
        classes: K, how many there are.
        reference: the data's share of each class in the same numbering, ``(K,)``, scaled to sum to one; equal by
            default. The exact one of a stream is :attr:`chainfree.datasets.StackedDigits.class_shares`.

    Returns:
        Both numbers; the divergence is infinite where samples fall into a class that the data never shows.

    Raises:
        ValueError: no labels, labels that are no whole numbers from 0 to K - 1, or a reference that is no distribution
            over K classes.

    >>> mode_coverage(torch.tensor([0, 0, 1, 1]), 4)
    ModeCoverage(modes=2, kl=0.6931471805599453)
    """
    require_positive_int("classes", classes)
    y = torch.as_tensor(labels).detach().cpu()
    if y.dim() != 1 or not len(y) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(
            f"labels must be whole numbers (N,), got {y.dtype} {tuple(y.shape)}; give one class per sample"
        )
    y = y.long()
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}, got {int(y.min())} to {int(y.max())}; check classes")
    counts = torch.bincount(y, minlength=classes)
    samples = counts.double() / len(y)
    data = _shares("reference", reference, classes)
    # xlogy: a class without samples adds 0, whatever its share among the data
    kl = torch.special.xlogy(samples, samples).sum() - torch.special.xlogy(samples, data).sum()
    return ModeCoverage(int((counts > 0).sum()), max(float(kl), 0.0))  # rounding may take equal shares below 0


@dataclass(frozen=True, eq=False)
class MixtureModes:
    """How samples spread over the components of a Gaussian mixture.

    Args:
        shares: of the samples that are nearest to each mean, ``(K,)`` float64.
        covered: number of components with at least one sample in their ball.
        within: share of the samples that lie in the ball of their nearest mean. For exact samples of separate components
            in two dimensions and three standard deviations it is ``1 - exp(-9/2) = 0.989``.
        worst_relative_error: the largest of ``|share - weight| / weight`` over components.
    """

    shares: Tensor
    covered: int
    within: float
    worst_relative_error: float


def mixture_modes(
    x: Tensor,
    means: Tensor,
    *,
    std: float,
    deviations: float = 3.0,
    weights: Tensor | None = None,
) -> MixtureModes:
    """Assign samples to the nearest mean of a mixture of separate round Gaussians of one width.

    The ball of a component has the radius ``deviations * std``; samples outside every ball count towards the share of
    their nearest mean all the same. Srivastava et al. 2017, *VEEGAN*, arXiv:1705.07761, who take three deviations.

    Args:
        x: samples, ``(N, D)``.
        means: ``(K, D)`` in the same units.
        std: standard deviation of each component in every direction.
        deviations: radius of a ball in standard deviations.
        weights: of the components, ``(K,)``, positive, scaled to sum to one; equal by default.

    Raises:
        ValueError: shapes that do not fit, no samples, values that are not finite, a radius or weights not above zero.
    """
    require_positive("std", std)
    require_positive("deviations", deviations)
    if x.dim() != 2 or means.dim() != 2 or not len(x) or not len(means) or x.shape[1] != means.shape[1]:
        raise ValueError(
            f"x must be (N, D) and means (K, D) with the same D, got {tuple(x.shape)} and {tuple(means.shape)}; "
            "give at least one row of each"
        )
    require_finite("x", x)
    require_finite("means", means)
    wanted = _shares("weights", weights, len(means))
    if not bool((wanted > 0).all()):
        raise ValueError("weights must be above 0, since errors are relative to them; leave empty components out")
    nearest, distance = pairwise_distances_argmin_min(*(rows.detach().cpu().double().numpy() for rows in (x, means)))
    index = torch.from_numpy(nearest).long()
    close = torch.from_numpy(distance) <= deviations * std
    shares = torch.bincount(index, minlength=len(means)).double() / len(x)
    return MixtureModes(
        shares=shares,
        covered=len(index[close].unique()),
        within=float(close.double().mean()),
        worst_relative_error=float(((shares - wanted).abs() / wanted).max()),
    )


def _shares(name: str, given: Tensor | NDArray[np.floating] | None, classes: int) -> Tensor:
    if given is None:
        return torch.full((classes,), 1 / classes, dtype=torch.float64)
    shares = torch.as_tensor(given).detach().cpu().double()
    if shares.shape != (classes,):
        raise ValueError(f"{name} must have one entry for each of {classes} classes, got shape {tuple(shares.shape)}")
    total = float(shares.sum())
    if not (bool((shares >= 0).all()) and 0 < total < float("inf")):
        raise ValueError(
            f"{name} must be finite, at least 0 and not all 0, got a sum of {total:g}; give shares or counts"
        )
    return shares / total
