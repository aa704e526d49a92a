"""What a training run is told: the keys of a config file and the flags of ``chainfree train``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..checks import require_in_unit_interval, require_non_negative, require_positive, require_positive_int
from ..energies.layers import Activation
from ..engine import Constant, Cosine, Guard, OptimizerSettings, ScheduleSettings
from ..losses import EnergyDiscrepancy
from ..perturbations import Gaussian, LogUniform, MeanPool, OrnsteinUhlenbeck, Perturbation

__all__ = [
    "BaseSettings",
    "LossSettings",
    "NetworkSettings",
    "Schedule",
    "TrainSettings",
]

_LARGEST_SEED = 2**63 - 1  # of torch's generators


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network.

    Args:
        kind: auto takes Fourier features up to three features, a convolutional network for images, else a perceptron.
        width: units of a hidden layer (mlp, fourier).
        depth: hidden layers (mlp, fourier).
        activation: of every hidden layer.
        spectral_norm: hold hidden layers at norm one (mlp, conv, resnet).
        frequencies: random Fourier frequencies (fourier).
        frequency_scale: their standard deviation in radians per unit (fourier).
        channels: of each stage (conv, resnet).
        blocks: residual blocks a stage (resnet).
    """

    kind: Literal["auto", "mlp", "fourier", "conv", "resnet"] = "auto"
    width: int = 128
    depth: int = 3
    activation: Activation = "gelu"
    spectral_norm: bool = False
    frequencies: int = 32
    frequency_scale: float = 4.0
    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 2


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """The density that the network tilts; it is fitted to the training rows first.

    Args:
        kind: a Gaussian with Ledoit-Wolf covariance, a Gaussian mixture by scikit-learn, or none; auto takes a Gaussian for
            flat rows and none for images.
        components: of the mixture.
        regularisation: added to the mixture's variances, in squared units of the (scaled) data.
    """

    kind: Literal["auto", "gaussian", "mixture", "none"] = "auto"
    components: int = 10
    regularisation: float = 1e-2

    def __post_init__(self) -> None:
        require_positive_int("components", self.components)
        require_non_negative("regularisation", self.regularisation)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Energy discrepancy.

    Args:
        perturbation: how information is lost.
        t: variance of the noise, or [low, high] for one drawn per datum, uniform in its logarithm; the time of ou.
        window: side of a patch in pixels (mean_pool).
        draws: M, draws per datum.
        w: weight of the datum among its draws.
        chunk: draws evaluated at a time, to bound memory.
    """

    perturbation: Literal["gaussian", "ou", "mean_pool"] = "gaussian"
    t: float | tuple[float, float] = (0.01, 2.0)
    window: int = 2
    draws: int = 4
    w: float = 1.0
    chunk: int | None = None

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> EnergyDiscrepancy:
        """The loss."""
        return EnergyDiscrepancy(perturbation=self._perturbation(), draws=self.draws, w=self.w, chunk=self.chunk)

    def _perturbation(self) -> Perturbation:
        if isinstance(self.t, tuple):
            if self.perturbation != "gaussian":
                raise ValueError(f"a range t={list(self.t)} needs perturbation gaussian, got {self.perturbation!r}")
            return Gaussian(t=LogUniform(low=self.t[0], high=self.t[1]))
        if self.perturbation == "ou":
            return OrnsteinUhlenbeck(time=self.t)
        if self.perturbation == "mean_pool":
            return MeanPool(window=self.window, t=self.t)
        return Gaussian(t=self.t)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over time.

    Args:
        kind: cosine falls to zero, constant stays.
        warmup: steps of linear rise.
    """

    kind: Literal["cosine", "constant"] = "cosine"
    warmup: int = 50

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> ScheduleSettings:
        """The engine's schedule."""
        return Cosine(warmup=self.warmup) if self.kind == "cosine" else Constant(warmup=self.warmup)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A training run.

    Args:
        data: a file (.csv, .csv.gz, .parquet, .npy, .npz), "toy:NAME", "digits", "mnist", "fashion_mnist" or "adbench:NAME".
        anomaly: for digits, mnist and fashion_mnist: the class that is held out of training as the anomaly.
        drop: columns of a table to leave out.
        key: the array of an .npz file.
        held_out: share of the rows kept for validation.
        scaling: auto bends heavy-tailed features and standardises, linear only standardises, none leaves them.
        network: the network.
        base: the density that the network tilts.
        loss: energy discrepancy.
        optimizer: AdamW.
        schedule: of the learning rate.
        steps: rounds of training.
        batch: rows a step.
        seed: of everything random.
        clip: largest gradient norm.
        ema: decay of the moving average that is kept as the result; 0 keeps the last step.
        precision: bf16 runs the network under autocast.
        accumulate: batches a step.
        compile: use torch.compile.
        device: where to train.
        threads: of the processor; all by default.
        guard: what counts as divergence.
        patience: evaluations on held-out rows without a new best before training stops early.
        evaluate_every: steps between them.
        log_every: steps between lines of metrics.
        checkpoint_every: steps between checkpoints.
        tensorboard: also write TensorBoard files.
        name: of the run; from the data by default.
        out: folder of runs.
    """

    data: str
    anomaly: int | None = None
    drop: tuple[str, ...] = ()
    key: str | None = None
    held_out: float = 0.1
    scaling: Literal["auto", "linear", "none"] = "auto"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    base: BaseSettings = field(default_factory=BaseSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(lr=4e-3))
    schedule: Schedule = field(default_factory=Schedule)
    steps: int = 8_000
    batch: int = 128
    seed: int = 0
    clip: float | None = None
    ema: float = 0.998
    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = 1
    compile: bool = False
    device: str = "cpu"
    threads: int | None = None
    guard: Guard = field(default_factory=Guard)
    patience: int | None = None
    evaluate_every: int = 1000
    log_every: int = 100
    checkpoint_every: int = 1000
    tensorboard: bool = False
    name: str | None = None
    out: str = "runs"

    def __post_init__(self) -> None:
        whole = ["steps", "batch", "accumulate", "evaluate_every", "log_every", "checkpoint_every"]
        whole += [name for name in ("threads", "patience") if getattr(self, name) is not None]
        for name in whole:
            require_positive_int(name, getattr(self, name))
        require_in_unit_interval("ema", self.ema)
        require_non_negative("seed", self.seed)
        if self.seed > _LARGEST_SEED:
            raise ValueError(f"seed must be at most 2**63 - 1, got {self.seed!r}")
        if self.name is not None and (Path(self.name).name != self.name or self.name in ("", "..")):
            raise ValueError(
                f"name must be the name of one folder, got {self.name!r}; give the folder around it as out"
            )
        require_positive("held_out", self.held_out)
        if self.clip is not None:
            require_positive("clip", self.clip)
        if not self.held_out < 1:
            raise ValueError(f"held_out must be a share between 0 and 1, got {self.held_out!r}")
        if self.anomaly is not None and self.data not in ("digits", "mnist", "fashion_mnist"):
            raise ValueError(f"anomaly names a class of digits, mnist or fashion_mnist; data is {self.data!r}")
        if self.anomaly is not None and not 0 <= self.anomaly <= 9:
            raise ValueError(f"anomaly must be a class from 0 to 9, got {self.anomaly!r}")
