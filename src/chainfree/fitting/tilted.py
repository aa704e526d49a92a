"""A network that tilts a base density to rows, and stops when rows that it has not seen gain nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..batches import ArrayBatches
from ..checks import energy_values, log_prob_values, require_positive, require_positive_int
from ..energies import Tilted
from ..engine import Cosine, Engine, OptimizerSettings
from ..engine.callbacks import Callback, HeldOut
from ..evaluation.log_z import LogZ, log_mean_weight
from ..losses import EnergyDiscrepancy
from ..perturbations import Perturbation
from ..samplers.tilted import require_conditional
from ..streams import generator_at
from ..typing import Density, Energy, LossOutput
from .incomplete import IncompleteRows

__all__ = ["TiltedFit", "fit_tilted"]

_ROWS_AT_ONCE = 8192
_MORE_DRAWS = 5  # for log Z at the end, times those while training; others, which no step was chosen by


@dataclass(frozen=True)
class TiltedFit:
    """What :func:`fit_tilted` returns.

    Args:
        energy: the base and its tilt, in evaluation mode.
        log_z: by draws of the base.
        held_out: mean log-likelihood of the held-out rows in nats, at the step that was best for them; ``None`` without any.
            Of incomplete rows, of what is known of them, and by draws: on average too low.
        held_out_base: the base's.
        steps: of training.
        stopped: why it ended.
    """

    energy: Tilted
    log_z: LogZ
    held_out: float | None
    held_out_base: float | None
    steps: int
    stopped: str


class _Weights:
    r"""log Z of tilts by one and the same set of the base's draws: :math:`\log \frac1N \sum_n e^{-f(x_n)}`."""

    def __init__(self, base: Density, draws: int, seed: int, device: torch.device) -> None:
        source = generator_at(device, "draws of the base for log Z", seed, 0)
        with torch.no_grad():
            self.draws = base.sample(draws, generator=source)

    def log_z(self, network: nn.Module) -> LogZ:
        return log_mean_weight(-_values(network, self.draws))


class _Held:
    """Rows that the tilt is not trained on, each as draws of what is not known of it, ``(N, C, D)``, or one if all is."""

    def __init__(self, rows: Tensor | IncompleteRows, base: Density, completions: int, seed: int) -> None:
        if isinstance(rows, IncompleteRows):
            self.rows = _completed(rows, base, completions, seed)
            marginal = require_conditional(base).log_marginal
            parts = zip(rows.x.split(_ROWS_AT_ONCE), rows.known.split(_ROWS_AT_ONCE), strict=True)
            self.log_base = float(torch.cat([marginal(x, known).double() for x, known in parts]).mean())
        else:
            self.rows = rows.unsqueeze(1)
            self.log_base = float(_log_base(base, rows).mean())

    def gain(self, network: nn.Module) -> float:
        r"""Mean of :math:`\log \frac1C \sum_c e^{-f(x_c)}`, log Z more than the log-likelihood is above the base's.

        With unknown cells it is too low on average, by half the relative variance of :math:`e^{-f}` over C.
        """
        values = -_values(network, self.rows.flatten(0, 1)).view(self.rows.shape[:2])
        return float((torch.logsumexp(values, 1) - math.log(values.shape[1])).mean())


@dataclass(frozen=True)
class _OfCompletions:
    r"""A loss of rows ``(B, C, *event)``: of one of each row's C draws of the base, chosen by weights :math:`e^{-f}`."""

    loss: EnergyDiscrepancy

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        assert isinstance(energy, Tilted)
        with torch.no_grad():
            values = energy_values(energy.network, x.flatten(0, 1)).view(x.shape[:2])
            u = torch.rand(values.shape, device=values.device, generator=generator)
            chosen = (-values - torch.log(-torch.log(u))).argmax(1)  # the largest of these is a draw from e^-f
        return self.loss(energy, x[torch.arange(len(x), device=x.device), chosen], generator=generator)


def fit_tilted(
    rows: Tensor | IncompleteRows,
    base: Density,
    network: nn.Module,
    *,
    perturbation: Perturbation,
    held_out: Tensor | IncompleteRows | None = None,
    completions: int = 8,
    draws: int = 16,
    share: float = 0.5,
    steps: int = 2000,
    batch: int = 256,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    every: int = 100,
    patience: int | None = 10,
    base_draws: int = 20_000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    callbacks: Sequence[Callback] = (),
) -> TiltedFit:
    r"""Train :math:`E(x) = -\log p_0(x) + f(x)` by energy discrepancy at the perturbation's scale and at the base's.

    A share of the rows is contrasted with draws of the base, which is as wide as the data, the others with what a small
    perturbation makes of them: see :func:`chainfree.functional.referenced_discrepancy`. As the base is normalised and can be
    drawn from, :math:`\log Z = \log E_{p_0} e^{-f}` costs no chain, and the log-likelihood of held-out rows is known at any
    time. Where no tilt is better than none, there is none: the last layer is zero again.

    Of incomplete rows it learns by what is known of them: each has C draws of the base given that, made once, and a step
    takes one of them by weights :math:`e^{-f}`. The more draws, the nearer that is to a draw of the energy as it is then,
    and the whole to stochastic expectation maximisation; with few it stays nearer to the base.

    Args:
        rows: ``(N, *event)``, or ``(N, D)`` with unknown cells.
        base: of rows like these. Parameters of its own are left alone.
        network: f, ``(B, *event) -> (B,)``; its last layer is set to zero.
        perturbation: of the rows.
        held_out: rows for stopping and for the choice of the best step, or ``None`` for neither.
        completions: C, draws of the base of each incomplete row; of held-out ones five times as many at the end.
        draws: M, for each row.
        share: of the rows of a batch that are contrasted with the base.
        steps, batch, lr, weight_decay: of training, by AdamW with a cosine.
        every: steps between looks at the held-out rows.
        patience: looks without a new best before it stops; ``None``: never.
        base_draws: that log Z is estimated by while training; five times as many at the end.
        seed: of everything random but the network's first weights.
        device: where to train and to stay.
        callbacks: of the engine.

    Raises:
        ValueError: a setting out of its range.
        TypeError: incomplete rows, and a base that cannot be drawn from given columns.
        TrainingDivergedError: as :meth:`chainfree.Engine.fit`.
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """
    for name, value in (
        ("steps", steps),
        ("batch", batch),
        ("base_draws", base_draws),
        ("every", every),
        ("completions", completions),
    ):
        require_positive_int(name, value)
    require_positive("lr", lr)
    device = torch.device(device)
    every = steps // -(-steps // every)  # the last look is at the end
    energy = Tilted(base, network).to(device)
    weights = _Weights(energy.base, base_draws, seed, device)
    watchers: list[Callback] = list(callbacks)
    held = None if held_out is None else _Held(held_out.to(device), energy.base, completions, seed + 1)
    if held is not None:
        watched = held

        def loss_of(averaged: nn.Module) -> float:
            assert isinstance(averaged, Tilted)
            return weights.log_z(averaged.network).value - watched.gain(averaged.network) - watched.log_base

        likelihood = HeldOut(
            loss_of, every=every, patience=steps if patience is None else patience, name="held_out_nll"
        )
        watchers.append(likelihood)
    discrepancy = EnergyDiscrepancy(perturbation=perturbation, draws=draws, reference=energy.base, share=share)
    loss: EnergyDiscrepancy | _OfCompletions = discrepancy
    if isinstance(rows, IncompleteRows):
        rows, loss = _completed(rows.to(device), energy.base, completions, seed), _OfCompletions(discrepancy)
    rows = rows.to(device)
    engine = Engine(
        energy,
        loss,
        seed=seed,
        optimizer=OptimizerSettings(lr=lr, weight_decay=weight_decay),
        schedule=Cosine(),
        ema=0.99,
        device=device,
        callbacks=watchers,
        log_every=every,
    )
    report = engine.fit(ArrayBatches(rows, None, size=min(batch, len(rows)), seed=seed, shuffle=True), steps=steps)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt(f"the tilt's fit was stopped by {engine.interrupted_by} at step {report.steps}")
    fitted = engine.averaged(energy)
    more = _Weights(fitted.base, _MORE_DRAWS * base_draws, seed + 1, device)
    log_z = more.log_z(fitted.network)
    found: float | None = None
    if held is not None:
        if isinstance(held_out, IncompleteRows):  # the fewer the draws, the lower the mean logarithm
            held = _Held(held_out.to(device), energy.base, _MORE_DRAWS * completions, seed + 2)
        found = held.log_base + held.gain(fitted.network) - log_z.value
        if not found > held.log_base:
            # Tilted sets the last layer to zero
            fitted, found = Tilted(fitted.base, fitted.network).eval().requires_grad_(False), held.log_base
            log_z = more.log_z(fitted.network)
    log_base = None if held is None else held.log_base
    return TiltedFit(fitted, log_z, found, log_base, report.steps, report.stopped)


@torch.no_grad()
def _completed(rows: IncompleteRows, base: Density, completions: int, seed: int) -> Tensor:
    """Draws of the base given what is known of each row, ``(N, C, D)``."""
    source = generator_at(rows.x.device, "draws of the base given what is known", seed, 0)
    draw_given = require_conditional(base).sample_given
    at_once = _ROWS_AT_ONCE
    drawn = [
        draw_given(x, known, draws=completions, generator=source)
        for x, known in zip(rows.x.split(at_once), rows.known.split(at_once), strict=True)
    ]
    return torch.cat(drawn).view(len(rows), completions, -1)


@torch.no_grad()
def _values(network: nn.Module, rows: Tensor) -> Tensor:
    return torch.cat([energy_values(network, part) for part in rows.split(_ROWS_AT_ONCE)]).double()


@torch.no_grad()
def _log_base(base: Density, rows: Tensor) -> Tensor:
    return torch.cat([log_prob_values(base, part) for part in rows.split(_ROWS_AT_ONCE)]).double()
