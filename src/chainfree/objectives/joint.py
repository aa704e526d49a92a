"""Joint energy models: a classifier whose logits are trained as an energy of the rows too.

Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi, Swersky, ICLR 2020, arXiv 1912.03263; with VERA in the place of Langevin chains,
and with the classes' entropy on rows without labels, Grathwohl, Kelly, Hashemi, Norouzi, Swersky, Duvenaud, ICLR 2021, arXiv
2010.04230.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional

from ..checks import require_non_negative, require_positive, require_positive_int
from ..energies.classifier import JointEnergy
from ..functional.virtual_adversarial import virtual_adversarial_divergence
from ..typing import Batch, Energy, Loss, Objective, Update
from .parameters import trainable
from .single import as_objective

__all__ = ["Joint", "VirtualAdversarial"]

_ROUNDING = 1e-6  # of shares that were divided by their sum
_LEVEL_RATE = 0.02  # a batch's share in the level's moving average
_NAMES = {"loss": "marginal_loss"}  # of the marginal's metrics beside the joint objective's


@dataclass(frozen=True, kw_only=True)
class VirtualAdversarial:
    """The term of :func:`chainfree.functional.virtual_adversarial_divergence` in a joint objective.

    Args:
        radius: ε, in units of the data over all features.
        weight: of the term.
        probe, steps: of the power method.

    Raises:
        ValueError: a setting out of its range.
    """

    radius: float
    weight: float = 1.0
    probe: float = 1e-2
    steps: int = 1

    def __post_init__(self) -> None:
        require_positive("radius", self.radius)
        require_non_negative("weight", self.weight)
        require_positive("probe", self.probe)
        require_positive_int("steps", self.steps)


class Joint(nn.Module):
    r"""Cross-entropy of the labelled rows, any training of the marginal energy on the others, and terms without labels.

    .. math::
        \alpha\,E[-\log p(y \mid x)] + \lambda\,L_{\text{energy}} + \beta\,E[H(p(\cdot \mid x))]
        + \beta'\,\mathrm{KL}(E[p(\cdot \mid x)] \,\|\, \pi)
        + \text{virtual adversarial} + 2\kappa\,\bar m\,E[E(x)]

    The second term is whatever ``marginal`` yields for the player ``energy``; its other players keep their turns. If it has
    several turns of the energy a round, the terms of the classes are in every one.

    Rows: labels come from ``batch.y``, -1 where there is none. Of a batch with ``labelled`` rows at its front, as from
    :func:`chainfree.semi_supervised_batches`, these are for the cross-entropy and the others for all other terms; of any
    other batch, all rows are for all terms.

    The last term is over the labelled rows. Cross-entropy does not know the logits' common level, and a density is known up
    to a constant, so the level drifts until numbers lose their digits. A small κ holds its mean where it is free to be: near
    zero, or near the base's (:meth:`chainfree.energies.JointEnergy.departure`). :math:`\bar m` is the mean's moving average
    over the batches, held fixed: the force is that of :math:`\kappa\,E[E(x)]^2`, and hardly one on the energy's shape. A
    batch's own squared mean is too large by the energy's variance over its rows' number, which draws the density flat; the
    product of two halves' means is too small by the variance over the number of all labelled rows, where a batch takes none
    twice, which pays for driving them apart without end. What is left here is a fiftieth of the former.

    Args:
        marginal: an objective or a loss for :math:`E(x) = -\log\sum_y e^{f_y(x)}`; ``None`` trains a classifier only.
        marginal_weight: λ.
        marginal_rows: of the rows without labels in a batch, how many the marginal is trained on, from the first; all by
            default. Chains cost many passes a row where the terms of the classes cost a few.
        classification: α.
        class_entropy: β: classes are to be decided where there is no label.
        class_balance: β': answers are to have the shares π over a batch's unlabelled rows. With :math:`\beta = \beta'` and
            equal shares these two maximise the mutual information of rows and classes (Krause, Perona, Gomes, NeurIPS
            2010); without the second, a network that has few labels may well decide for one class everywhere.
        class_shares: π, positive numbers that sum to one; equal ones by default.
        virtual_adversarial: the term, or ``None``.
        level_weight: κ; without a marginal nothing is held.

    With ``Engine(compile=True)`` the marginal's passes through the energy are compiled; those of the classes' terms are not.

    Raises:
        ValueError: a weight below 0, shares that are none, a number of rows below 1.
    """

    def __init__(
        self,
        marginal: Objective | Loss | None,
        *,
        marginal_weight: float = 1.0,
        marginal_rows: int | None = None,
        classification: float = 1.0,
        class_entropy: float = 0.0,
        class_balance: float = 0.0,
        class_shares: Sequence[float] | None = None,
        virtual_adversarial: VirtualAdversarial | None = None,
        level_weight: float = 1e-3,
    ) -> None:
        super().__init__()
        require_non_negative("marginal_weight", marginal_weight)
        require_non_negative("classification", classification)
        require_non_negative("class_entropy", class_entropy)
        require_non_negative("class_balance", class_balance)
        require_non_negative("level_weight", level_weight)
        if marginal_rows is not None:
            require_positive_int("marginal_rows", marginal_rows)
        if class_shares is not None:
            for share in class_shares:
                require_positive("class_shares", share)
            if abs(sum(class_shares) - 1) > _ROUNDING:
                raise ValueError(f"class_shares must sum to one, got {sum(class_shares)!r}; divide by their sum")
        self.level: Tensor
        self.register_buffer("level", torch.zeros(()))
        self.log_shares: Tensor | None
        log_shares = None if class_shares is None else torch.tensor(class_shares, dtype=torch.float64).log().float()
        self.register_buffer("log_shares", log_shares)
        # a module is registered, so that it moves and is saved with this objective
        self.marginal: Objective | None = None if marginal is None else as_objective(marginal)
        self.marginal_weight = marginal_weight
        self.marginal_rows = marginal_rows
        self.classification = classification
        self.class_entropy = class_entropy
        self.class_balance = class_balance
        self.virtual_adversarial = virtual_adversarial
        self.level_weight = level_weight

    def players(self, energy: nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """Those of the marginal objective; else the energy alone.

        Raises:
            TypeError: the energy is no :class:`chainfree.energies.JointEnergy`.
        """
        if not isinstance(energy, JointEnergy):
            raise TypeError(
                f"classes need a chainfree.energies.JointEnergy, got a {type(energy).__name__}; wrap the network in it"
            )
        return {"energy": trainable(energy)} if self.marginal is None else self.marginal.players(energy)

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of the marginal objective, with the terms of the classes in those of the energy."""
        if self.marginal is None:
            loss, metrics = self._classes(energy, batch, generator)
            yield Update("energy", loss, {"loss": loss.detach(), **metrics})
            return
        for update in self.marginal.updates(energy, batch.unlabelled(self.marginal_rows), step, generator):
            if update.player != "energy":
                yield update
                continue
            loss, metrics = self._classes(energy, batch, generator)
            loss = self.marginal_weight * update.loss + loss
            marginal = {_NAMES.get(name, name): value for name, value in update.metrics.items()}
            limits = {_NAMES.get(name, name): limit for name, limit in update.limits.items()}
            yield Update("energy", loss, {**marginal, **metrics, "loss": loss.detach()}, limits)

    def _classes(self, energy: Energy, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        joint = cast(JointEnergy, energy)  # players() has looked; compiled, it is of another type
        if batch.y is None:
            raise ValueError("a joint objective needs labels, -1 where there is none; give y to the batches")
        if batch.y.is_floating_point():
            raise ValueError(f"labels must be whole numbers, -1 where there is none, got {batch.y.dtype}; call .long()")
        if batch.y.dtype != torch.int64:
            raise ValueError(f"labels must be of torch.int64, got {batch.y.dtype}; call .long()")
        if batch.y.device.type == "cpu":  # elsewhere looking would wait
            low, high = batch.y.aminmax()
            if int(high) >= joint.classes:
                raise ValueError(f"labels must be from 0 to {joint.classes - 1}, got {int(high)}; give more classes")
            if int(low) < -1:
                raise ValueError(f"labels must be -1 where there is none, got {int(low)}")
        if batch.labelled == len(batch):
            raise ValueError(
                "all rows were drawn for their labels; give rows for the other terms, or labelled=0 for both"
            )
        few = batch.labelled or len(batch)
        decided = self.class_entropy > 0 or self.class_balance > 0
        without = decided or self.virtual_adversarial is not None
        logits_of = joint.logits
        logits = logits_of(batch.x if without else batch.x[:few])
        y = batch.y[:few]
        known = (y >= 0).sum()
        # not the mean: without any label that would be 0/0
        summed = functional.cross_entropy(logits[:few], y, ignore_index=-1, reduction="sum")
        cross_entropy = summed / known.clamp_min(1)
        right = (logits[:few].argmax(1) == y).sum() / known.clamp_min(1)
        loss = self.classification * cross_entropy
        metrics = {"cross_entropy": cross_entropy.detach(), "accuracy": right.detach()}
        if self.marginal is not None and self.level_weight > 0:
            departure = joint.departure(batch.x[:few], logits[:few])
            mean = departure.mean()
            with torch.no_grad():
                level = self.level.lerp_(mean.to(self.level), _LEVEL_RATE).clone()
            loss = loss + 2 * self.level_weight * level.to(mean) * mean
            metrics["departure"] = mean.detach()
        if not without:
            return loss, metrics
        others = slice(batch.labelled, None)
        if decided:
            log_probs = torch.log_softmax(logits[others], dim=1)
            entropy = -(log_probs.exp() * log_probs).sum(1).mean()
            imbalance = self._imbalance(log_probs)
            loss = loss + self.class_entropy * entropy + self.class_balance * imbalance
            metrics |= {"class_entropy": entropy.detach(), "class_imbalance": imbalance.detach()}
        if self.virtual_adversarial is not None:
            term = self.virtual_adversarial
            divergence = virtual_adversarial_divergence(
                logits_of,
                batch.x[others],
                radius=term.radius,
                probe=term.probe,
                steps=term.steps,
                clean=logits[others],
                generator=generator,
            ).mean()
            loss = loss + term.weight * divergence
            metrics["virtual_adversarial"] = divergence.detach()
        return loss, metrics

    def _imbalance(self, log_probs: Tensor) -> Tensor:
        """Divergence of the mean answer from the shares, in nats."""
        rows, classes = log_probs.shape
        log_mean = torch.logsumexp(log_probs, dim=0) - math.log(rows)
        if self.log_shares is None:
            return (log_mean.exp() * (log_mean + math.log(classes))).sum()
        if len(self.log_shares) != classes:
            raise ValueError(
                f"there are {classes} classes and {len(self.log_shares)} class_shares; give one for each class"
            )
        return (log_mean.exp() * (log_mean - self.log_shares.to(log_mean))).sum()
