"""Normalising flows of zuko (extra ``flows``) as densities, energies and proposals, and their fit to a table.

Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows", NeurIPS 2019, arXiv 1906.04032. Papamakarios, Pavlakou, Murray,
"Masked Autoregressive Flow for Density Estimation", NeurIPS 2017, arXiv 1705.07057. Dinh, Sohl-Dickstein, Bengio, "Density
Estimation Using Real NVP", ICLR 2017, arXiv 1605.08803.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..checks import require_finite, require_in_unit_interval, require_positive_int, require_rows
from ..energies.coordinates import Coordinates
from ..energies.layers import Activation, activation_layer, full_precision

__all__ = ["Flow", "FlowKind", "fit_flow"]

FlowKind = Literal["nsf", "nsf-coupling", "maf", "realnvp"]


class Flow(nn.Module):
    r"""A flow over standardised features: :math:`\log p(x) = \log N(f(u(x))) + \log|\det f'(u)| + \log|\det u'(x)|`.

    A density to draw from and, called, an energy :math:`E = -\log p` with log Z = 0. Outside of five standard deviations
    splines are the identity, so tails are normal in u: bend heavy ones (``heavy_tails`` of :func:`fit_flow`) before using it
    as a proposal. Importing zuko switches the argument checks of ``torch.distributions`` off, for the whole process.

    Args:
        dim: features of a row.
        kind: autoregressive (``nsf``, ``maf``: one pass to score, ``dim`` passes to draw) or coupling (``nsf-coupling``,
            ``realnvp``: one pass each); rational-quadratic splines or affine maps.
        transforms: maps composed.
        width, depth: units and hidden layers of the perceptron that conditions each.
        bins: of a spline.
        activation: of the perceptrons; smooth ones give smooth scores.
        coordinates: u, the identity by default; fixed.

    Raises:
        ImportError: zuko is not installed.
        ValueError: a size below 1, an unknown kind or activation, or coordinates of another width.

    >>> flow = Flow(2, kind="maf", width=8)
    >>> flow.sample(3).shape, torch.equal(flow(torch.zeros(5, 2)), -flow.log_prob(torch.zeros(5, 2)))
    (torch.Size([3, 2]), True)
    """

    normalised = True

    def __init__(
        self,
        dim: int,
        *,
        kind: FlowKind = "nsf",
        transforms: int = 3,
        width: int = 64,
        depth: int = 2,
        bins: int = 8,
        activation: Activation = "silu",
        coordinates: Coordinates | None = None,
    ) -> None:
        super().__init__()
        sizes = [("dim", dim), ("transforms", transforms), ("width", width), ("depth", depth), ("bins", bins)]
        for name, value in sizes:
            require_positive_int(name, value)
        if kind not in get_args(FlowKind):
            raise ValueError(f"kind must be one of {', '.join(get_args(FlowKind))}, got {kind!r}")
        activation_layer(activation)  # refuses unknown names
        if coordinates is not None and len(coordinates.loc) != dim:
            raise ValueError(
                f"coordinates are of {len(coordinates.loc)} features, the flow of {dim}; fit them to its rows"
            )
        self.dim = dim
        self.coordinates = Coordinates(dim) if coordinates is None else coordinates
        # the maps alone: zuko's base would draw from the global generator
        self.maps = _maps(
            kind,
            dim,
            bins,
            transforms=transforms,
            hidden_features=[width] * depth,
            activation=partial(activation_layer, activation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Energy in nats, ``(B, dim) -> (B,)``; it is minus the log-density."""
        return -self.log_prob(x)

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density in nats, ``(B, dim) -> (B,)``."""
        require_rows(x, (self.dim,), next(self.maps.parameters()))
        with full_precision(x):
            z, log_abs_det = self.maps().call_and_ladj(self.coordinates(x))
            log_base = -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)
            values: Tensor = log_base + log_abs_det + self.coordinates.log_abs_det(x)
        return values

    @torch.no_grad()
    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, dim)``.

        They invert the maps to rounding error, which in float32 can reach 1e-3 of a standard deviation.
        """
        like = next(self.maps.parameters())
        z = torch.randn(n, self.dim, generator=generator, device=like.device, dtype=like.dtype)
        with full_precision(z):
            return self.coordinates.inverse(self.maps().inv(z))


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
    # here and not above: objectives use generators, and the engine objectives
    from ..batches import batches
    from ..datasets import train_held_out_split
    from ..engine import Engine, HeldOut, OptimizerSettings
    from ..losses import MaximumLikelihood

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


def _maps(kind: FlowKind, dim: int, bins: int, **settings: Any) -> nn.Module:
    """The lazy transform of zuko's flow; it is called for a transform, which has ``call_and_ladj`` and ``inv``."""
    try:
        from zuko import flows
    except ImportError as error:
        raise ImportError("zuko is missing: pip install 'chainfree[flows]'") from error
    match kind:
        case "nsf":
            flow = flows.NSF(dim, bins=bins, **settings)
        case "nsf-coupling":
            flow = flows.NSF(dim, bins=bins, passes=2, **settings)
        case "maf":
            flow = flows.MAF(dim, **settings)
        case "realnvp":
            flow = flows.RealNVP(dim, **settings)
    maps: nn.Module = flow.transform
    return maps
