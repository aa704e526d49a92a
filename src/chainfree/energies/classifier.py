"""A classifier's logits as an energy over rows and classes.

Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi, Swersky, "Your Classifier is Secretly an Energy Based Model and You Should Treat
it Like One", ICLR 2020, arXiv 1912.03263.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..checks import ContractError, logit_values, require_positive, require_positive_int
from .layers import full_precision, zero_last_layer_

__all__ = ["ClassDensity", "ClassEnergy", "JointEnergy", "TemperedClasses", "TiltedLogits"]


class ClassDensity(Protocol):
    """A normalised density over rows and classes."""

    def log_joint(self, x: Tensor, /) -> Tensor:
        r""":math:`\log p(x, y)` in nats for every class, ``(B, *event) -> (B, K)``."""
        ...


class JointEnergy(nn.Module):
    r""":math:`E(x, y) = -f_y(x)`, :math:`E(x) = -\log\sum_y e^{f_y(x)}`, :math:`p(y \mid x) = \operatorname{softmax} f(x)`.

    The module itself is the marginal energy of rows, so every loss, sampler and estimator takes it.

    Args:
        network: f, ``(B, *event) -> (B, K)``: logits whose common level is free and becomes the rows' log-density.
        classes: K, at least 2.

    Raises:
        ValueError: fewer than two classes.

    >>> from chainfree.energies import MLP
    >>> energy = JointEnergy(MLP(dim=3, outputs=4), classes=4)
    >>> energy(torch.zeros(5, 3)).shape, energy.logits(torch.zeros(5, 3)).shape
    (torch.Size([5]), torch.Size([5, 4]))
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        require_positive_int("classes", classes)
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.network = network
        self.classes = classes

    def logits(self, x: Tensor) -> Tensor:
        """f, ``(B, *event) -> (B, K)``.

        Raises:
            ContractError: the network returned another shape.
        """
        return logit_values(self.network, x, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Energy of rows in nats, ``(B, *event) -> (B,)``."""
        return -torch.logsumexp(self.logits(x), dim=1)

    def joint(self, x: Tensor, y: Tensor) -> Tensor:
        """Energy of rows with their classes ``(B,)`` in nats, ``(B,)``.

        Raises:
            ValueError: on the processor, a class that there is not; -1 stands for none.
        """
        if y.device.type == "cpu" and len(y):  # elsewhere looking would wait
            low, high = (int(end) for end in y.aminmax())
            if low < 0 or high >= self.classes:
                raise ValueError(
                    f"y must be classes from 0 to {self.classes - 1}, got {low} to {high}; leave out the others"
                )
        return -self.logits(x).gather(1, y.unsqueeze(1)).squeeze(1)

    def class_log_probs(self, x: Tensor, *, temperature: float = 1.0) -> Tensor:
        r""":math:`\log p(y \mid x)` in nats, ``(B, K)``, of logits divided by a temperature.

        Args:
            x: rows, ``(B, *event)``.
            temperature: of :func:`chainfree.evaluation.fit_temperature` on held-out rows; above 1 makes less sure.
        """
        require_positive("temperature", temperature)
        return torch.log_softmax(self.logits(x) / temperature, dim=1)

    def departure(self, x: Tensor, logits: Tensor) -> Tensor:
        """How far energies are from those of the base that the logits are tilted from, or from 0, in nats, ``(B,)``.

        The network says what its base is by a method ``base_energy(x)``, ``(B, *event) -> (B,)``, as :class:`TiltedLogits`
        has it.

        Args:
            x: rows, ``(B, *event)``.
            logits: of these rows, ``(B, K)``.
        """
        level = torch.logsumexp(logits, dim=1)
        base_energy = getattr(self.network, "base_energy", None)
        return -level if base_energy is None else -level - base_energy(x)

    def given(self, y: int) -> ClassEnergy:
        """The energy of the rows of one class.

        Raises:
            ValueError: no such class.
        """
        return ClassEnergy(self, y)


class ClassEnergy(nn.Module):
    r""":math:`E(x \mid y) = -f_y(x)`, up to a constant: what rows of class y are drawn from."""

    def __init__(self, energy: JointEnergy, y: int) -> None:
        super().__init__()
        if isinstance(y, bool) or not isinstance(y, int) or not 0 <= y < energy.classes:
            raise ValueError(f"y must be a class from 0 to {energy.classes - 1}, got {y!r}")
        self.energy = energy
        self.y = y

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, *event) -> (B,)``."""
        return -self.energy.logits(x)[:, self.y]


class TiltedLogits(nn.Module):
    r""":math:`f_y(x) = \log p_0(x, y) + g_y(x)`: a generative classifier corrected by a network that starts at zero.

    Args:
        base: p_0, such as :class:`chainfree.energies.GaussianClasses`. Its parameters are not trained.
        network: g, ``(B, *event) -> (B, K)``; its last linear or convolutional layer is set to zero.

    Raises:
        TypeError: the base has no ``log_joint``.
        ValueError: the network has no layer that could be zero.
    """

    def __init__(self, base: ClassDensity, network: nn.Module) -> None:
        super().__init__()
        _require_class_density(base)
        if isinstance(base, nn.Module):
            base.requires_grad_(False)
        zero_last_layer_(network)
        self.base = base
        self.network = network

    @torch.no_grad()
    def base_energy(self, x: Tensor) -> Tensor:
        """Of rows, in nats, ``(B, *event) -> (B,)``."""
        with full_precision(x):
            return -torch.logsumexp(self.base.log_joint(x), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(B, *event) -> (B, K)``.

        Raises:
            ContractError: base and network differ in their number of classes.
        """
        with full_precision(x):
            log_base = self.base.log_joint(x)
        correction = cast(Tensor, self.network(x))
        if correction.shape != log_base.shape:
            raise ContractError(
                f"the base has logits of shape {tuple(log_base.shape)}, the network of {tuple(correction.shape)}; give "
                "the network one output a class"
            )
        return log_base + correction


class TemperedClasses(nn.Module):
    r"""The same density of rows with less certain classes: :math:`p_0(x)\,p_0(y \mid x)^{1/T} / \sum_k p_0(k \mid x)^{1/T}`.

    Generative classifiers count every feature as new evidence, also where one repeats what another has said, and are
    far too sure with many features. One number mends most of it, and the density of rows stays what it was.

    Args:
        base: p_0, a density over rows and classes; a module is held as a part of this one.
        temperature: T, above 0; above 1 for less certainty.

    Raises:
        TypeError: the base has no ``log_joint``.
        ValueError: a temperature that is not above 0.
    """

    def __init__(self, base: ClassDensity, temperature: float) -> None:
        super().__init__()
        _require_class_density(base)
        require_positive("temperature", temperature)
        self.base = base
        self.temperature = temperature

    def log_joint(self, x: Tensor, /) -> Tensor:
        r""":math:`\log p(x, y)` in nats, ``(B, *event) -> (B, K)``."""
        log_joint = self.base.log_joint(x)
        log_rows = torch.logsumexp(log_joint, dim=1, keepdim=True)
        return log_rows + torch.log_softmax((log_joint - log_rows) / self.temperature, dim=1)


def _require_class_density(base: ClassDensity) -> None:
    if not callable(getattr(base, "log_joint", None)):
        raise TypeError(f"base must be a density over rows and classes with log_joint(x), got a {type(base).__name__}")
