"""What a training run is told: the keys of a config file and the flags of ``chainfree train``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..checks import require_in_unit_interval, require_non_negative, require_positive, require_positive_int
from ..energies.layers import Activation
from ..engine import Constant, Cosine, Guard, OptimizerSettings, Precision, ScheduleSettings
from ..losses import EnergyDiscrepancy
from ..perturbations import Gaussian, LogUniform, MeanPool, OrnsteinUhlenbeck, Perturbation

__all__ = [
    "BaseSettings",
    "LossSettings",
    "NetworkSettings",
    "Schedule",
    "TrainSettings",
    "VeraSettings",
]

_LARGEST_SEED = 2**63 - 1  # of torch's generators
# data dimensions up to which kernels around samples overlap: for a density estimate, for weights that need only be even
_BANK_DIMENSIONS = 3
_WEIGHTED_DIMENSIONS = 4


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
class VeraSettings:
    """VERA's generator and game.

    Args:
        latent: features of the latents; 0 for as many as the rows have.
        width: units of a hidden layer of the generator.
        depth: its hidden layers.
        frequencies: random Fourier frequencies of the latents, for many narrow modes.
        samples: of the generator a step.
        entropy: estimator of the entropy's gradient; auto takes the bank up to three features, the local volume beyond.
        entropy_weight: of the entropy in the generator's loss; another than 1 trains towards another temperature.
        gradient_penalty: of the energy at the data; by default 0 with weighted samples, else 0.1.
        weighted: weight samples by the energy over their density, towards maximum likelihood; auto does up to eight features.
        covering: weight of the cross-entropy that draws the generator to what the weights say it misses.
        share: rows of the wide density beside the samples, for every sample; with weighted samples only.
        wide: its standard deviation, in those of the data.
        lr: learning rate of the generator; by default the energy's.
    """

    latent: int = 0
    width: int = 128
    depth: int = 3
    frequencies: int = 0
    samples: int = 256
    entropy: Literal["auto", "bank", "local", "paper"] = "auto"
    entropy_weight: float = 1.0
    gradient_penalty: float | None = None
    weighted: Literal["auto"] | bool = "auto"
    covering: float = 1.0
    share: float = 0.25
    wide: float = 1.5
    lr: float | None = None

    def __post_init__(self) -> None:
        for name in ("latent", "frequencies", "entropy_weight", "covering"):
            require_non_negative(name, getattr(self, name))
        for name in ("width", "depth", "samples"):
            require_positive_int(name, getattr(self, name))
        for name in ("share", "wide"):
            require_positive(name, getattr(self, name))
        if self.gradient_penalty is not None:
            require_non_negative("gradient_penalty", self.gradient_penalty)
        if self.lr is not None:
            require_positive("lr", self.lr)

    def resolved(self, features: int) -> VeraSettings:
        """The same with every automatic choice made, for rows of so many features; a run records these."""
        weighted = features <= _WEIGHTED_DIMENSIONS if self.weighted == "auto" else self.weighted
        entropy = self.entropy
        if entropy == "auto":
            entropy = "bank" if features <= _BANK_DIMENSIONS else "local"
        penalty = (0.0 if weighted else 0.1) if self.gradient_penalty is None else self.gradient_penalty
        latent = self.latent or features
        return replace(self, latent=latent, entropy=entropy, gradient_penalty=penalty, weighted=weighted)


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

    Defaults are those of method ed; method vera has 3,000 steps, a learning rate of 1e-3 and betas 0.5 and 0.99.

    Args:
        data: a file (.csv, .csv.gz, .parquet, .npy, .npz), "toy:NAME", "digits", "mnist", "fashion_mnist" or "adbench:NAME".
        method: ed trains by energy discrepancy; vera against a generator, which can then be drawn from (flat rows only).
        anomaly: for digits, mnist and fashion_mnist: the class that is held out of training as the anomaly.
        drop: columns of a table to leave out.
        key: the array of an .npz file.
        held_out: share of the rows kept for validation.
        scaling: auto bends heavy-tailed features and standardises, linear only standardises, none leaves them.
        network: the network.
        base: the density that the network tilts.
        loss: energy discrepancy; with method vera only what held-out rows are judged by.
        vera: the generator and the game of method vera.
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
    method: Literal["ed", "vera"] = "ed"
    anomaly: int | None = None
    drop: tuple[str, ...] = ()
    key: str | None = None
    held_out: float = 0.1
    scaling: Literal["auto", "linear", "none"] = "auto"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    base: BaseSettings = field(default_factory=BaseSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    vera: VeraSettings = field(default_factory=VeraSettings)
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(lr=4e-3))
    schedule: Schedule = field(default_factory=Schedule)
    steps: int = 8_000
    batch: int = 128
    seed: int = 0
    clip: float | None = None
    ema: float = 0.998
    precision: Precision = "fp32"
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
        if self.method != "vera" and self.vera != VeraSettings():
            raise ValueError("settings of vera are for the method vera; add --method vera or leave them out")
        if self.anomaly is not None and self.data not in ("digits", "mnist", "fashion_mnist"):
            raise ValueError(f"anomaly names a class of digits, mnist or fashion_mnist; data is {self.data!r}")
        if self.anomaly is not None and not 0 <= self.anomaly <= 9:
            raise ValueError(f"anomaly must be a class from 0 to 9, got {self.anomaly!r}")

    @staticmethod
    def defaults_of(method: str) -> dict[str, Any]:
        """What a command or config file that names the method takes where it says nothing, by setting.

        The energy of VERA chases a moving target: a lower rate than energy discrepancy's, and a shorter memory.
        """
        return {"steps": 3_000, "optimizer.lr": 1e-3, "optimizer.betas": (0.5, 0.99)} if method == "vera" else {}
