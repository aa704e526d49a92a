"""How far importance-weighted negatives carry: VERA on mixtures of normals in 2 to 64 dimensions.

The negatives of the game are weighted by exp(-E)/q with q the density of the mixture around the generator's means, or the
generator's own by Gaussian posteriors, or with a flow's rows among them, whose density is exact; or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import plotting
from ..batches import batches
from ..checks import require_non_negative, require_positive, require_positive_int
from ..energies import MLP, Gaussian, GaussianMixture, Tilted
from ..engine import Engine, OptimizerSettings, TrainingDivergedError
from ..entropy import LocalVolume
from ..evaluation import log_z_importance, nll_gap
from ..fitting import fit_flow
from ..functional import self_normalised
from ..generators import Flow, ResidualGenerator
from ..objectives import VERA, WeightedNegatives
from .checks import require_each, require_seeds

__all__ = ["Dimensions"]

Negatives = Literal["even", "mixture", "local", "flow"]
_ROWS = 20_000
_LEAST = 1e-3  # nats, in the picture
_LAST = 4000  # samples on which weights are judged at the end


@dataclass(frozen=True, kw_only=True)
class Dimensions:
    """Settings of the experiment.

    Args:
        dims: of the data; the generator has as many latents.
        negatives: how they are weighted: ``even`` is the paper's game.
        components: of the data's mixture.
        gradient_penalty: γ of the even game, the paper's; the weighted ones have none.
        samples, rounds, batch, lr, ema: of training; half of the flow's negatives are its own rows, and the mixture has a
            quarter more, from a wide normal.
        width, depth: of energy and generator.
        flow_steps: of the flow's fit to the data, at most.
        held_out: rows for the likelihood; log Z is estimated on five times as many.
        seeds: of everything; figures are one a seed.
    """

    dims: Sequence[int] = (2, 4, 8, 16, 32, 64)
    negatives: Sequence[Negatives] = get_args(Negatives)
    components: int = 3
    gradient_penalty: float = 0.1
    samples: int = 256
    rounds: int = 600
    batch: int = 128
    lr: float = 1e-3
    ema: float = 0.998
    width: int = 128
    depth: int = 2
    flow_steps: int = 600
    held_out: int = 20_000
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        require_each("dims", self.dims, require_positive_int)
        for name in ("components", "samples", "rounds", "batch", "width", "depth", "flow_steps", "held_out"):
            require_positive_int(name, getattr(self, name))
        require_positive("lr", self.lr)
        require_non_negative("gradient_penalty", self.gradient_penalty)
        require_each("negatives", self.negatives, _require_negatives)
        if min(self.dims) < 2:
            raise ValueError(f"dims must be at least 2, got {list(self.dims)!r}")
        require_seeds(self.seeds)

    def run(self) -> tuple[dict[str, Any], Figure]:
        """Figures by kind of negatives and dimension, one a seed, and a picture.

        They are the NLL gap in nats and the standard error of its log Z, ``None`` where training diverged, and the
        effective share of the weights.
        """
        names = ("nll_gap", "log_z_standard_error", "effective_share")
        figures: dict[str, Any] = {kind: {name: {} for name in names} for kind in self.negatives}
        reference: dict[str, list[float]] = {}
        alone: dict[str, list[float]] = {}
        for dim in self.dims:
            for seed in self.seeds:
                means, covariances = _mixture(dim, self.components, seed)
                density, proposal = GaussianMixture(means, covariances), _with_wide(means, covariances)
                data = density.sample(_ROWS, generator=_source(seed + 1))
                held_out = density.sample(self.held_out, generator=_source(seed + 2))
                base = Gaussian.fit(data)
                reference.setdefault(str(dim), []).append(nll_gap(base, base.log_z, density, held_out))
                flow = fit_flow(data, kind="nsf-coupling", steps=self.flow_steps, seed=seed)
                alone.setdefault(str(dim), []).append(nll_gap(flow, 0.0, density, held_out))
                for kind in self.negatives:
                    trained, share = self._one(kind, data, flow, seed)
                    gap = error = None
                    if trained is not None:
                        log_z = log_z_importance(
                            trained, proposal, samples=5 * self.held_out, generator=_source(seed + 3)
                        )
                        gap, error = nll_gap(trained, log_z.value, density, held_out), log_z.standard_error
                    for name, value in zip(names, (gap, error, share), strict=True):
                        figures[kind][name].setdefault(str(dim), []).append(value)
        references = {"nll_gap_of_a_normal": reference, "nll_gap_of_the_flow": alone}
        return {**figures, **references}, self._picture(figures, reference, alone)

    def _one(self, kind: Negatives, rows: Tensor, flow: Flow, seed: int) -> tuple[nn.Module | None, float | None]:
        """The trained energy, unless it diverged, and the effective share of its weights."""
        dim = rows.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            energy = Tilted(Gaussian.fit(rows), MLP(dim, width=self.width, depth=self.depth))
            net = ResidualGenerator(dim, dim, train_linear=True, width=self.width, depth=self.depth)
        game = VERA(
            net,
            entropy=LocalVolume(dim),
            gradient_penalty=self.gradient_penalty if kind == "even" else 0.0,
            negatives=self._negatives(kind, rows.shape[1], flow),
            samples=self.samples // 2 if kind == "flow" else self.samples,
        )
        engine = Engine(
            energy,
            game,
            seed=seed,
            optimizer=OptimizerSettings(lr=self.lr, betas=(0.5, 0.99)),
            ema=self.ema,
        )
        try:
            engine.fit(batches(rows, size=self.batch, seed=seed), steps=self.rounds)
        except TrainingDivergedError:
            return None, None
        trained = engine.averaged_energy()
        return trained, self._share(game, engine.averaged(net), trained, seed)

    def _negatives(self, kind: Negatives, dim: int, flow: Flow) -> WeightedNegatives | None:
        if kind == "even":
            return None
        if kind == "local":
            return WeightedNegatives(density="local")
        if kind == "flow":
            return WeightedNegatives(defensive=flow, share=1.0, covering=0.0)
        wide = Gaussian(torch.zeros(dim), 1.5**2 * torch.eye(dim))
        return WeightedNegatives(defensive=wide)

    @torch.no_grad()
    def _share(self, game: VERA, net: ResidualGenerator, energy: nn.Module, seed: int) -> float | None:
        """Effective sample size over samples, of as many negatives as a round has; the mean of several rounds."""
        if game.negatives is None or game.samples is None:
            return None
        source, shares = _source(seed + 4), []
        for _ in range(max(1, _LAST // game.samples)):
            proposals = game.negatives.propose(net, net.sample(game.samples, generator=source), source)
            weights = self_normalised(-energy(proposals.x) - proposals.log_density)
            shares.append(float(weights.effective_sample_size) / len(proposals.x))
        return sum(shares) / len(shares)

    def _picture(
        self, figures: dict[str, Any], reference: dict[str, list[float]], alone: dict[str, list[float]]
    ) -> Figure:
        series = {}
        for called, by_dim in [
            *((_CALLED[kind], figures[kind]["nll_gap"]) for kind in self.negatives),
            ("a normal", reference),
            ("the flow alone", alone),
        ]:
            means = {int(dim): sum(values) / len(values) for dim, values in by_dim.items() if None not in values}
            if means:  # not all of them diverged; an estimate may fall below zero
                series[called] = (list(means), [max(value, _LEAST) for value in means.values()])
        return plotting.curves(
            series,
            x_label="dimensions",
            y_label="NLL above the truth (nats)",
            title="How far weighted negatives carry",
            log_x=True,
            log_y=True,
        )


_CALLED: dict[Negatives, str] = {
    "even": "even (the paper's)",
    "mixture": "weighted, mixture",
    "local": "weighted, local",
    "flow": "weighted, half by a flow",
}


def _mixture(dim: int, components: int, seed: int) -> tuple[Tensor, Tensor]:
    """Means and covariances of a standardised mixture: condition number 30 in directions of their own, means apart."""
    source = _source(seed)
    means = torch.randn(components, dim, generator=source) * 3 / math.sqrt(dim)
    turns, _ = torch.linalg.qr(torch.randn(components, dim, dim, generator=source))
    scales = torch.logspace(-1.0, 0.5, dim).expand(components, dim)
    covariances = turns @ torch.diag_embed(scales) @ turns.mT
    centre = means.mean(0)
    variance = covariances.diagonal(dim1=1, dim2=2).mean(0) + (means - centre).square().mean(0)
    return (means - centre) / variance.sqrt(), covariances / variance.sqrt().outer(variance.sqrt())


def _with_wide(means: Tensor, covariances: Tensor) -> GaussianMixture:
    """The truth and, with half of the mass, a wide normal: what log Z is estimated by; nothing trained judges itself."""
    n, dim = means.shape
    return GaussianMixture(
        torch.cat([means, torch.zeros(1, dim)]),
        torch.cat([covariances, 2.0 * torch.eye(dim).unsqueeze(0)]),
        weights=[0.5 / n] * n + [0.5],
    )


def _require_negatives(name: str, value: Any) -> None:
    if value not in get_args(Negatives):
        raise ValueError(f"{name} has {value!r}, which is none of {', '.join(get_args(Negatives))}")


def _source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
