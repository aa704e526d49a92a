"""A generator for any energy, so that sampling is as free of chains as training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..batches import NoBatches
from ..checks import require_in_unit_interval
from ..engine import Engine, OptimizerSettings
from ..engine.callbacks import Callback
from ..engine.seeding import generator_for
from ..entropy import EntropyEstimator, PriorBank
from ..generators.base import LatentGenerator
from ..objectives import Amortised, WeightedNegatives
from ..typing import Energy

__all__ = ["GeneratorFit", "fit_generator"]

# the kernels of a few hundred means overlap in the plane, and leave gaps in space
_BANK_DIMENSIONS = 2


@dataclass(frozen=True)
class GeneratorFit:
    """What :func:`fit_generator` returns.

    Args:
        generator: with the moving average's weights, in evaluation mode and without gradients.
        seconds: of the fit.
        rounds: done.
    """

    generator: LatentGenerator
    seconds: float
    rounds: int


def fit_generator(
    energy: Energy,
    generator: LatentGenerator,
    *,
    entropy: EntropyEstimator | None = None,
    negatives: WeightedNegatives | None = None,
    samples: int = 512,
    steps: int = 3000,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.5, 0.99),
    start: float = 0.02,
    annealing: float = 0.6,
    ema: float = 0.998,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
) -> GeneratorFit:
    r"""Fit a generator to a frozen energy; see :class:`chainfree.objectives.Amortised` for the loss.

    Scale the energy's rows to about unit variance first (:class:`chainfree.energies.InCoordinates` does the reverse):
    the generator's noise scale and the defaults here are in those units.

    Modes get the shares they have at the temperature at which they part: afterwards no gradient moves mass between them.
    Where shares matter and dimensions are few, draw by :func:`chainfree.samplers.resample`.

    Args:
        energy: ``(B, *event) -> (B,)``, trained by anything; it is neither changed nor differentiated in its weights.
        generator: where to start; a copy is fitted.
        entropy: estimator of the entropy's gradient. By default the bank (:class:`chainfree.entropy.PriorBank`) in one and
            two data dimensions, where it sees crossing sheets too, and the local volume beyond.
        negatives: proposals for the covering term. By default none.
        samples: of the generator a round.
        steps: rounds.
        lr, betas: of Adam; the rate falls along a cosine.
        start, annealing: the energy's weight in the first round, and the share of the rounds in which it rises to 1.
        ema: decay of the moving average of the weights.
        seed: of the draws; equal seeds give equal generators.
        callbacks: of the engine.

    Raises:
        ValueError: a setting out of its range.
        TrainingDivergedError: the energy is not bounded below where the generator went, or not finite.
        KeyboardInterrupt: SIGINT or SIGTERM came; half a fit is not returned.
    """
    require_in_unit_interval("annealing", annealing)
    net = copy.deepcopy(generator)
    if entropy is None and net.dim <= _BANK_DIMENSIONS:
        entropy = PriorBank()
    objective = Amortised(
        net,
        entropy=entropy,
        negatives=negatives,
        samples=samples,
        start=start,
        annealing=round(annealing * steps),
    )
    engine = Engine(
        _Frozen(energy),
        objective,
        seed=seed,
        optimizer=OptimizerSettings(lr=lr, betas=betas),
        ema=ema,
        device=net.log_sigma.device,
        callbacks=callbacks,
    )
    report = engine.fit(NoBatches(), steps=steps)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt(f"the generator's fit was stopped by {engine.interrupted_by} at step {report.steps}")
    averaged = engine.averaged(net)
    # averaged weights never made the batch statistics that were copied along with them
    averaged.recalibrate(samples, generator=generator_for(net.log_sigma.device, seed + 1))
    return GeneratorFit(averaged, report.seconds, report.steps)


class _Frozen(nn.Module):
    """The energy as the engine wants it, and out of its reach: a copy without gradients in evaluation mode."""

    def __init__(self, energy: Energy) -> None:
        super().__init__()
        if isinstance(energy, nn.Module):
            energy = copy.deepcopy(energy).requires_grad_(False)
        self.energy = energy
        self.train(False)

    def train(self, mode: bool = True) -> _Frozen:
        """Stay in evaluation mode: a frozen energy does not drop units."""
        return super().train(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Energy, ``(B, *event) -> (B,)``."""
        return self.energy(x)
