"""The energy that outliers are told by: mixtures of several sizes at once, columns alone, and a network on top."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..batches import ArrayBatches
from ..checks import energy_values
from ..energies import Sum, TabularMarginals, TabularMixture
from ..energies.layers import zero_last_layer_
from ..engine import Cosine, Engine, OptimizerSettings
from ..engine.atomic import write_text
from ..engine.callbacks import Callback
from ..engine.checkpoint import load_weights, save_weights
from ..fitting import fit_tabular_marginals, fit_tabular_mixture
from ..functional.discrepancy import stabilised_contrast
from ..perturbations import Perturbation
from ..tables import Scaling, Schema, TableEncoder
from ..typing import Energy, LossOutput
from .networks import table_network
from .plain import as_json, without_lists
from .scoring import energies_of

__all__ = ["OutlierModel", "OutlierSettings"]

_FEWEST_ROWS = 5  # of a component
_ROWS_AT_ONCE = 8192
_PERTURBED_TIMES = 4
_ITERATIONS = 30
_ROWS_EXPLAINED = 1024  # at a time
_ROWS_IN_CACHE = 512  # whose terms of some hundred components stay in a core's cache
_WIDE = 128  # numbers, above which all components have one covariance
_WIDE_ITERATIONS = 5


@dataclass(frozen=True, kw_only=True)
class OutlierSettings:
    """How rows are modelled.

    Args:
        scaling: of the numbers.
        components: sizes of the mixtures, each at most a fifth of the rows.
        starts: mixtures of each size, from k-means of different seeds. Above 128 numbers there is one mixture, of the largest
            size, of five iterations, whose components share their covariance.
        prior_rows, least_variance: of the mixtures and marginals; see :func:`chainfree.fitting.fit_tabular_mixture`.
        marginal_share: share of the columns' own densities in the energy; the mixtures have the rest in equal parts.
        bins: of a number's own density.
        widths: of the network's layers.
        embedding: length of a category's vector.
        most_tilt: nats that the network may add or take.
        noise, time: of the perturbation; see :meth:`chainfree.tables.TableEncoder.perturbation`.
        draws, steps, batch, lr, ema: of the network's training. No steps: mixtures alone.
    """

    scaling: Scaling = "standard"
    components: tuple[int, ...] = (5, 20, 80)
    starts: int = 3
    prior_rows: float = 3.0
    least_variance: float = 0.03
    marginal_share: float = 1 / 3
    bins: int = 20
    widths: tuple[int, ...] = (128, 128, 128)
    embedding: int = 8
    most_tilt: float = 2.0
    noise: float = 0.3
    time: float = 0.3
    draws: int = 8
    steps: int = 120
    batch: int = 256
    lr: float = 1e-3
    ema: float = 0.99


@dataclass(frozen=True)
class OutlierModel:
    r""":math:`E(x) = -\frac{1 - w}{L} \sum_l \log p_l(x) - w \sum_j \log p(x_j) + f(x)`: L mixtures, columns, a network.

    A logarithmic pool of experts. In many dimensions a mixture's log-density varies so much among normal rows that one cell
    which no row has is lost in it; the columns' own densities see that cell. They know nothing else, hence their third.

    Small noise says nothing of places far from the rows, where outliers are; there a perceptron is what its corners happen
    to be. The mixtures' energies grow with the square of the distance, so a bound of a few nats keeps it to where it learned.

    Args:
        encoder: to tensors and back.
        energy: of the tensors: the mixtures, the columns' densities, then the network.
        settings: that it was fitted with.
        steps: that the network was trained for.
    """

    encoder: TableEncoder
    energy: Sum
    settings: OutlierSettings
    steps: int

    @classmethod
    def fit(
        cls,
        table: Any,
        schema: Schema,
        settings: OutlierSettings,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        callbacks: Sequence[Callback] = (),
    ) -> OutlierModel:
        """Fit all of it; the mixtures on the CPU, the network on the device.

        Raises:
            DataError: what the encoder refuses.
            TrainingDivergedError: as :meth:`chainfree.Engine.fit`.
        """
        encoder = TableEncoder(schema, scaling=settings.scaling, reserve=True).fit(table)
        rows = encoder.encode(table, generator=torch.Generator().manual_seed(seed))
        width = sum(size is None for size in encoder.sizes)
        most = max(1, len(rows) // _FEWEST_ROWS)
        wide = width > _WIDE
        sizes = sorted({min(size, most) for size in settings.components})
        mixtures = [
            fit_tabular_mixture(
                rows,
                encoder.sizes,
                states=encoder.states,
                reserved=encoder.reserved,
                components=size,
                prior_rows=settings.prior_rows,
                least_variance=settings.least_variance,
                iterations=_WIDE_ITERATIONS if wide else _ITERATIONS,
                shared_shape=wide,
                seed=seed + start,
            )
            for size in (sizes[-1:] if wide else sizes)
            for start in range(1 if wide else settings.starts)
        ]
        pool = MixturePool(TabularMixture.pooled(mixtures), [mixture.components for mixture in mixtures])
        marginals = fit_tabular_marginals(
            rows,
            encoder.sizes,
            states=encoder.states,
            components=settings.bins,
            prior_rows=settings.prior_rows,
            least_variance=settings.least_variance,
        )
        network = _network(encoder, settings, seed)
        energy = _energy(pool, marginals, network, settings).eval()
        if not settings.steps:
            return cls(encoder, energy, settings, 0)
        perturbation = encoder.perturbation(noise=settings.noise, time=settings.time)
        turns = -(-settings.steps * settings.batch // len(rows))  # that every row has in training
        seen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[
            : settings.steps * settings.batch
        ]
        contrasts = _contrasts(
            rows[seen],
            energy,
            perturbation,
            draws=settings.draws,
            times=min(turns, _PERTURBED_TIMES),
            generator=torch.Generator().manual_seed(seed),
        )
        engine = Engine(
            network,
            _Contrast(),
            seed=seed,
            optimizer=OptimizerSettings(lr=settings.lr),
            schedule=Cosine(),
            ema=settings.ema,
            device=device,
            callbacks=callbacks,
        )
        batches = ArrayBatches(
            contrasts.to(device), None, size=min(settings.batch, len(contrasts)), seed=seed, shuffle=True
        )
        report = engine.fit(batches, steps=settings.steps)
        if report.stopped == "interrupted":  # half a training is no detector
            raise KeyboardInterrupt(f"the fit was stopped by {engine.interrupted_by} at step {report.steps}")
        energy = _energy(pool, marginals, engine.averaged(network), settings)
        return cls(encoder, energy.to(device).eval(), settings, report.steps)

    @property
    def pool(self) -> MixturePool:
        """The mixtures."""
        pool = self.energy.energies[0]
        assert isinstance(pool, MixturePool)
        return pool

    @property
    def device(self) -> torch.device:
        """Where the energy is."""
        return next(self.energy.parameters()).device

    def energies(self, table: Any) -> Tensor:
        """Of a table's rows in nats, up to a constant, float64 on the CPU, ``(N,)``."""
        return self.of_rows(self.encoder.encode(table))

    def of_rows(self, rows: Tensor) -> Tensor:
        """Of encoded rows ``(N, D)`` without what is known of hidden numbers, ``(N,)``."""
        found = energies_of(self.energy, rows, self.encoder, self.device)
        return torch.where(found.isnan(), torch.inf, found)  # a cell whose square is beyond float32 is as odd as can be

    @torch.no_grad()
    def contributions(self, table: Any, *, draws: int, generator: torch.Generator) -> Tensor:
        """By how much the energy falls if a cell is drawn anew given the row's others, the mean, ``(N, columns)``.

        The draws are the mixtures', in equal parts. A negative number is of a cell that is likelier than most would be.
        """
        encoded = self.encoder.encode(table)
        return torch.cat([self._contributions(rows, draws, generator) for rows in encoded.split(_ROWS_EXPLAINED)])

    def _contributions(self, rows: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        here, mixture = self.of_rows(rows), self.pool.mixture
        found = []
        for name in self.encoder.schema.names:
            fixed = torch.ones(len(self.encoder.columns), dtype=torch.bool)
            fixed[self.encoder.places(name)] = False
            known = fixed.expand(len(rows), -1).to(self.device)
            drawn = mixture.sample_given(rows.to(self.device), known, draws=draws, generator=generator)
            found.append(here - self.of_rows(drawn.cpu()).view(len(rows), draws).mean(1))
        return torch.stack(found, 1)

    def save(self, folder: Path) -> None:
        """Write ``table.json`` and ``energy.safetensors``."""
        save_weights(folder / "energy.safetensors", self.energy)
        record = {
            "encoder": self.encoder.to_dict(),
            "settings": asdict(self.settings),
            "components": self.pool.sizes,
            "shared_shape": self.pool.mixture.shared_shape,
            "bins": next(part.components for part in self.energy.energies if isinstance(part, TabularMarginals)),
            "steps": self.steps,
        }
        write_text(folder / "table.json", as_json(record))

    @classmethod
    def load(cls, folder: Path) -> OutlierModel:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            CheckpointError: weights that are missing or damaged.
        """
        record: Mapping[str, Any] = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        encoder = TableEncoder.from_dict(record["encoder"])
        settings = OutlierSettings(**without_lists(record["settings"]))
        mixture = TabularMixture(
            encoder.sizes,
            components=sum(record["components"]),
            states=encoder.states,
            reserved=encoder.reserved,
            shared_shape=record["shared_shape"],
        )
        pool = MixturePool(mixture, record["components"])
        marginals = TabularMarginals(encoder.sizes, components=record["bins"], states=encoder.states)
        energy = _energy(pool, marginals, _network(encoder, settings, 0), settings).eval().requires_grad_(False)
        load_weights(folder / "energy.safetensors", energy)
        return cls(encoder, energy, settings, record["steps"])


@dataclass(frozen=True)
class _Contrast:
    """Energy discrepancy of a network over what is known of the energy, from rows that :func:`_contrasts` has made."""

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput:
        values = energy_values(energy, x[..., :-1].flatten(0, 1)).view(x.shape[:2]) + x[..., -1]
        data, draws = values[:, 0], values[:, 1:].T
        loss = stabilised_contrast(data, draws, 1.0).mean()
        metrics = {
            "loss": loss.detach(),
            "energy_data": data.detach().mean(),
            "energy_draws": draws.detach().mean(),
        }
        return LossOutput(loss, metrics)


@torch.no_grad()
def _contrasts(
    rows: Tensor, known: Sum, perturbation: Perturbation, *, draws: int, times: int, generator: torch.Generator
) -> Tensor:
    """Every row beside its draws, and beside each the energy that is known: ``(times N, 1 + draws, D + 1)``.

    The mixtures are many times as dear as the network and do not change while it is trained: with a few perturbations of
    every row, made once, they are asked as often and not at every step.
    """
    found = []
    for _ in range(times):
        for part in rows.split(_ROWS_AT_ONCE // (1 + draws)):
            drawn = perturbation.recover(perturbation.perturb(part, generator=generator), draws, generator=generator)
            beside = torch.cat([part.unsqueeze(0), drawn]).transpose(0, 1)
            energies = energy_values(known, beside.flatten(0, 1)).view(len(part), 1 + draws, 1)
            found.append(torch.cat([beside, energies], 2))
    return torch.cat(found)


def _energy(pool: MixturePool, marginals: TabularMarginals, network: nn.Module, settings: OutlierSettings) -> Sum:
    share = settings.marginal_share
    return Sum([pool, marginals, network], weights=[1 - share, share, 1.0])


class MixturePool(nn.Module):
    """The mean of mixtures' energies. Their components are in one mixture, whose products are made once for all of them.

    Args:
        mixture: all components, the mixtures in equal parts.
        sizes: components of each.
    """

    def __init__(self, mixture: TabularMixture, sizes: Sequence[int]) -> None:
        super().__init__()
        self.mixture = mixture
        self.sizes = list(sizes)
        # mixtures of one size that stand side by side are summed up in one go
        self._runs = [(size, len(list(run))) for size, run in groupby(sizes)]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D) -> (B,)``."""
        if len(x) > _ROWS_IN_CACHE:
            return torch.cat([self(part) for part in x.split(_ROWS_IN_CACHE)])
        parts = self.mixture.log_joint(x).T.split([size * count for size, count in self._runs])
        each = [
            torch.logsumexp(part.unflatten(0, (count, size)), 1)
            for part, (size, count) in zip(parts, self._runs, strict=True)
        ]
        return -torch.cat(each).mean(0) - math.log(len(self.sizes))


class _Bounded(nn.Module):
    r""":math:`c \tanh(f / c)`."""

    def __init__(self, network: nn.Module, most: float) -> None:
        super().__init__()
        self.network = network
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D) -> (B,)``."""
        return self.most * torch.tanh(energy_values(self.network, x) / self.most)


def _network(encoder: TableEncoder, settings: OutlierSettings, seed: int) -> nn.Module:
    network = table_network(encoder, widths=settings.widths, embedding=settings.embedding, seed=seed)
    zero_last_layer_(network)
    return _Bounded(network, settings.most_tilt)
