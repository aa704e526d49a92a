"""Flows fitted to rows by maximum likelihood: proposals for log Z, noise for contrastive losses, densities themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batches import batches
from ..checks import require_finite, require_in_unit_interval, require_positive_int
from ..datasets import train_held_out_split
from ..energies.coordinates import Coordinates
from ..energies.layers import Activation
from ..engine import Engine, HeldOut, OptimizerSettings
from ..generators.flows import Flow, FlowKind
from ..losses import MaximumLikelihood

__all__ = ["fit_flow"]


def fit_flow(
    x: Tensor,
    *,
    kind: FlowKind = "nsf",
    transforms: int = 3,
    width: int = 64,
    depth: int = 2,
    bins: int = 8,
    activation: Activation = "silu",
    heavy_tails: bool = False,
    steps: int = 2000,
    batch: int = 256,
    lr: float = 1e-3,
    clip: float | None = 10.0,
    ema: float = 0.99,
    held_out: float = 0.1,
    patience: int = 10,
    every: int = 100,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Flow:
    """Standardise the features and fit a :class:`Flow` by maximum likelihood.

    Args:
        x: rows, ``(N, dim)``, at least ten, no feature constant; the flow has their floating-point type.
        kind, transforms, width, depth, bins, activation: see :class:`Flow`.
        heavy_tails: bend features with heavy tails, as in :meth:`chainfree.energies.Coordinates.fit`.
        steps: of Adam, at most; the rate falls along a cosine.
        batch: rows a step; all of them where there are fewer.
        lr: peak learning rate.
        clip: largest norm of the gradient, or ``None``.
        ema: decay of the moving average of the weights.
        held_out: share of the rows in [0, 1) that is not trained on. The average with the best likelihood on them is
            returned, and training ends when it gets no better. With 0 it is the last average.
        patience: evaluations without a new best before the end.
        every: steps between evaluations.
        seed: of the first weights, the held-out rows and the order of the rest; equal seeds give equal flows.
        device: where to train; where the rows are, by default.

    Returns:
        The averaged flow, in evaluation mode, without gradients for its parameters.

    Raises:
        ImportError: zuko is not installed.
        ValueError: rows that are no table of finite floats, too few rows, a constant feature, a setting out of its range.
        TrainingDivergedError: the likelihood ran away; lower ``lr``.
        KeyboardInterrupt: SIGINT or SIGTERM came; half a fit is not returned.
    """
    require_in_unit_interval("held_out", held_out)
    require_positive_int("batch", batch)
    if x.dim() != 2 or not x.is_floating_point():
        raise ValueError(f"x must be floats of shape (N, dim), got {x.dtype} of shape {tuple(x.shape)}; convert them")
    require_finite("x", x)
    x = x.detach().to(device)
    train, rest = x, x[:0]
    if held_out > 0 and len(x) > 1:
        kept, left = (torch.from_numpy(rows).to(x.device) for rows in train_held_out_split(len(x), held_out, seed))
        train, rest = x[kept], x[left]
    coordinates = Coordinates.fit(train, heavy_tails=heavy_tails)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the weights are drawn on the CPU, then moved
        flow = Flow(
            x.shape[1],
            kind=kind,
            transforms=transforms,
            width=width,
            depth=depth,
            bins=bins,
            activation=activation,
            coordinates=coordinates,
        )
    flow.to(x.device)
    flow.maps.to(x.dtype)  # the coordinates stay in float64

    @torch.no_grad()
    def negative_log_likelihood(averaged: nn.Module) -> float:
        return float(torch.cat([averaged(rows) for rows in rest.split(4096)]).mean())

    engine = Engine(
        flow,
        MaximumLikelihood(),
        seed=seed,
        optimizer=OptimizerSettings(lr=lr),
        clip=clip,
        ema=ema,
        callbacks=[HeldOut(negative_log_likelihood, every=every, patience=patience)] if len(rest) else [],
    )
    report = engine.fit(batches(train, size=min(batch, len(train)), seed=seed), steps=steps)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt(f"the fit of the flow was stopped by {engine.interrupted_by} at step {report.steps}")
    averaged = engine.averaged_energy()
    assert isinstance(averaged, Flow)
    return averaged
