"""Normal classes with one covariance, from labelled and other rows, without a network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ...checks import require_in_unit_interval, require_positive_int
from ...energies import GaussianClasses, JointEnergy

__all__ = ["FittedClasses", "NormalClasses"]


class FittedClasses(nn.Module):
    """What came out.

    Args:
        classes: over flat rows.
    """

    def __init__(self, classes: GaussianClasses) -> None:
        super().__init__()
        self.classes = classes

    def logits(self, x: Tensor, /) -> Tensor:
        """Log-densities of rows and classes in nats, ``(N, *event) -> (N, K)``."""
        return self.classes.log_joint(x.flatten(1).double())

    forward = logits

    @property
    def energy(self) -> JointEnergy:
        """Of rows ``(N, *event)``, normalised."""
        return JointEnergy(self, len(self.classes.log_weights))


@dataclass(frozen=True, kw_only=True)
class NormalClasses:
    """Settings of :meth:`chainfree.energies.GaussianClasses.fit`."""

    em_steps: int = 4
    shrinkage: float = 0.01

    def __post_init__(self) -> None:
        if self.em_steps != 0:
            require_positive_int("em_steps", self.em_steps)
        require_in_unit_interval("shrinkage", self.shrinkage)

    def fit(self, x: Tensor, y: Tensor, *, classes: int, seed: int) -> FittedClasses:
        """See :class:`chainfree.experiments.joint.methods.Method`."""
        return FittedClasses(
            GaussianClasses.fit(x.flatten(1).double(), y, em_steps=self.em_steps, shrinkage=self.shrinkage)
        )
