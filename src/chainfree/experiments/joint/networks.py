"""Networks as classifiers: supervised, virtually adversarial, and joint energies by every training of the marginal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ...batches import batches
from ...checks import require_in_unit_interval, require_non_negative, require_positive, require_positive_int
from ...energies import MLP, ConvNet, GaussianClasses, JointEnergy, TemperedClasses, TiltedLogits
from ...energies.layers import Activation
from ...engine import Cosine, Engine, OptimizerSettings, Precision, require_precision
from ...generators import LatentGenerator
from ...objectives import Joint, VirtualAdversarial
from ...semi_supervised import semi_supervised_batches
from ...typing import Batches
from .marginals import KNOWN, Marginal, MarginalSettings
from .normal_classes import NormalClasses

__all__ = ["FittedNetwork", "Network"]

_ROWS_AT_A_TIME = 2000
_LEAST_PROBE = 0.1  # in radii, of three digits


@dataclass(frozen=True)
class FittedNetwork:
    """A trained joint energy with its averaged weights.

    Args:
        energy: over the network's coordinates.
        coordinates: from the task's rows to these.
        generator: that learned along, if one did, over the network's coordinates.
        seconds: of training, from the engine's report.
    """

    energy: JointEnergy
    coordinates: nn.Module
    generator: LatentGenerator | None
    seconds: float

    @torch.no_grad()
    def logits(self, x: Tensor, /) -> Tensor:
        """``(N, *event) -> (N, K)``."""
        return torch.cat([self.energy.logits(self.coordinates(part)) for part in x.split(_ROWS_AT_A_TIME)])


@dataclass(frozen=True, kw_only=True)
class Network:
    """Settings of a network and of its training.

    Args:
        marginal: how the density of rows is learned; ``"none"`` for a classifier only.
        marginal_settings: see :class:`MarginalSettings`.
        marginal_weight, marginal_rows, classification, class_entropy, class_balance: see
            :class:`chainfree.objectives.Joint`; the shares are those of the labelled rows.
        adversarial_radius: of virtual adversarial training in units of the data; 0 for none.
        adversarial_probe: see :class:`chainfree.objectives.VirtualAdversarial`. A bfloat16 has three digits, so there it is
            to be of the radius' order.
        base: tilt the normal classes of :class:`chainfree.energies.GaussianClasses` in place of starting from nothing. The
            network's coordinates are then the principal ones of their covariance at unit variance.
        base_em_steps, base_shrinkage: of their fit.
        base_temperature: see :class:`chainfree.energies.TemperedClasses`.
        widths: units of a perceptron's layers, or channels of a convolutional network's.
        activation: smooth for losses with derivatives in the rows.
        lr: of the energy, by Adam.
        generator_lr: of the other players; as ``lr`` by default.
        first_moment: of Adam for all players.
        weight_decay: of the energy.
        steps: of training.
        batch: rows a step drawn from all.
        labelled: rows a step drawn from those with labels.
        ema: decay of the moving average that is kept.
        precision: see :class:`chainfree.Engine`.
    """

    marginal: Marginal = "none"
    marginal_settings: MarginalSettings = MarginalSettings()  # noqa: RUF009  (frozen)
    marginal_weight: float = 1.0
    marginal_rows: int | None = None
    classification: float = 1.0
    class_entropy: float = 0.0
    class_balance: float = 0.0
    adversarial_radius: float = 0.0
    adversarial_probe: float = 1e-2
    base: bool = False
    base_em_steps: int = 4
    base_shrinkage: float = 0.01
    base_temperature: float = 1.0
    widths: Sequence[int] = (1000, 500, 500, 250, 250, 250)
    activation: Activation = "leaky_relu"
    lr: float = 1e-3
    generator_lr: float | None = None
    first_moment: float = 0.9
    weight_decay: float = 0.0
    steps: int = 1000
    batch: int = 128
    labelled: int = 64
    ema: float = 0.99
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.marginal not in KNOWN:
            raise ValueError(f"marginal must be one of {', '.join(KNOWN)}, got {self.marginal!r}")
        if self.marginal == "denoising" and self.activation in ("relu", "leaky_relu"):
            raise ValueError(f"denoising takes second derivatives, which {self.activation} has not; use silu")
        with torch.device("meta"):
            MLP(1, width=self.widths, activation=self.activation)  # refuses what no network can be made of
        NormalClasses(em_steps=self.base_em_steps, shrinkage=self.base_shrinkage)
        require_positive("base_temperature", self.base_temperature)
        for name in (
            "marginal_weight",
            "classification",
            "class_entropy",
            "class_balance",
            "adversarial_radius",
            "weight_decay",
        ):
            require_non_negative(name, getattr(self, name))
        for name in ("steps", "batch", "labelled"):
            require_positive_int(name, getattr(self, name))
        if self.marginal_rows is not None:
            require_positive_int("marginal_rows", self.marginal_rows)
            if self.marginal_rows >= self.batch:
                raise ValueError(
                    f"marginal_rows of {self.marginal_rows!r} are all {self.batch!r} of the batch; leave it out"
                )
        require_positive("adversarial_probe", self.adversarial_probe)
        require_precision(self.precision)
        if self.precision == "bf16" and self.adversarial_probe < _LEAST_PROBE * self.adversarial_radius:
            raise ValueError(
                f"bf16 rounds a probe of {self.adversarial_probe!r} away beside a radius of {self.adversarial_radius!r}; "
                "make it as long as the radius"
            )
        require_positive("lr", self.lr)
        require_in_unit_interval("first_moment", self.first_moment)
        require_in_unit_interval("ema", self.ema)
        if self.generator_lr is not None:
            require_positive("generator_lr", self.generator_lr)

    def fit(self, x: Tensor, y: Tensor, *, classes: int, seed: int) -> FittedNetwork:
        """See :class:`chainfree.experiments.joint.methods.Method`."""
        coordinates, logits = self._classifier(x, y, classes, seed)
        energy = JointEnergy(logits, classes)
        rows = _in_parts(coordinates, x)
        marginal, generator = self.marginal_settings.build(self.marginal, rows, seed)
        adversarial = None
        if self.adversarial_radius:
            adversarial = VirtualAdversarial(radius=self.adversarial_radius, probe=self.adversarial_probe)
        objective = Joint(
            marginal,
            marginal_weight=self.marginal_weight,
            marginal_rows=self.marginal_rows,
            classification=self.classification,
            class_entropy=self.class_entropy,
            class_balance=self.class_balance,
            class_shares=(torch.bincount(y[y >= 0], minlength=classes).double() / (y >= 0).sum()).tolist(),
            virtual_adversarial=adversarial,
        )
        betas = (self.first_moment, 0.999)
        others = OptimizerSettings(lr=self.generator_lr or self.lr, betas=betas)
        own = OptimizerSettings(lr=self.lr, betas=betas, weight_decay=self.weight_decay)
        engine = Engine(
            energy,
            objective,
            seed=seed,
            optimizer={player: own if player == "energy" else others for player in objective.players(energy)},
            schedule=Cosine(warmup=min(50, self.steps // 10)),
            ema=self.ema,
            precision=self.precision,
        )
        if self.marginal == "none" and adversarial is None and not self.class_entropy + self.class_balance:
            few = y >= 0  # nothing is learned from the others
            labelled = min(self.labelled, int(few.sum()))
            stream: Batches = batches(rows[few], size=labelled, y=y[few], seed=seed)
        else:
            stream = semi_supervised_batches(rows, y, size=self.batch, labelled=self.labelled, seed=seed)
        report = engine.fit(stream, steps=self.steps)
        if report.stopped == "interrupted":  # half a training is no classifier, and its scores no result
            raise KeyboardInterrupt(f"training was stopped by {engine.interrupted_by} at step {report.steps}")
        averaged = None if generator is None else engine.averaged(generator)
        return FittedNetwork(cast(JointEnergy, engine.averaged()), coordinates, averaged, report.seconds)

    def _classifier(self, x: Tensor, y: Tensor, classes: int, seed: int) -> tuple[nn.Module, nn.Module]:
        """Coordinates, and logits over them."""
        network = self._network(x, classes, seed)
        if not self.base:
            return nn.Identity(), network
        base = GaussianClasses.fit(x.double(), y, em_steps=self.base_em_steps, shrinkage=self.base_shrinkage).to(
            x.dtype
        )
        values, vectors = torch.linalg.eigh(base.factor.double() @ base.factor.double().T)
        to_principal = _Affine((vectors * values.rsqrt()).T.to(x.dtype), centre=base.centre)
        principal = GaussianClasses(to_principal(base.means), torch.eye(base.dim), base.log_weights.exp())
        # the network keeps the rows' own scales, in which features are alike
        behind = nn.Sequential(_Affine((vectors * values.sqrt()).to(x.dtype)), network)
        return to_principal, TiltedLogits(TemperedClasses(principal, self.base_temperature), behind)

    def _network(self, x: Tensor, classes: int, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if x.dim() == 2:
                return MLP(x.shape[1], width=self.widths, activation=self.activation, outputs=classes)
            channels, size = x.shape[1:3]
            return ConvNet(
                channels=channels, size=size, widths=self.widths, activation=self.activation, outputs=classes
            )


class _Affine(nn.Module):
    """A(x - c) for rows, with fixed numbers."""

    matrix: Tensor
    centre: Tensor

    def __init__(self, matrix: Tensor, centre: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix.clone())
        self.register_buffer("centre", matrix.new_zeros(len(matrix)) if centre is None else centre.clone())

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) @ self.matrix.T


@torch.no_grad()
def _in_parts(coordinates: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([coordinates(part) for part in x.split(_ROWS_AT_A_TIME)])
