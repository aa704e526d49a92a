"""What densities of tables are: an encoding, mixtures, and a network that tilts them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checks import require_in_unit_interval
from ..energies import TabularMixture, Tilted
from ..engine.atomic import write_text
from ..engine.callbacks import Callback
from ..engine.checkpoint import load_weights, save_weights
from ..evaluation.log_z import LogZ
from ..fitting import IncompleteRows, fit_tabular_mixture, fit_tilted
from ..samplers import sample_tilted, sample_tilted_given
from ..tables import Scaling, Schema, TableEncoder
from .networks import table_network
from .plain import as_json, without_lists
from .scoring import energies_of

__all__ = ["DensityModel", "DensitySettings"]


@dataclass(frozen=True, kw_only=True)
class DensitySettings:
    """How a table is modelled.

    Args:
        scaling: of the numbers.
        reserve: codes for categories that the fitted rows do not have.
        components: of a mixture, or ``None`` to choose at most ``most_components``.
        most_components: that are tried.
        mixtures: that are pooled, each from another start.
        prior_rows: of the mixture's components, or ``None`` to choose.
        widths: of the network's layers.
        embedding: length of a category's vector.
        noise, time: of the perturbation; see :meth:`chainfree.tables.TableEncoder.perturbation`.
        draws, share, steps, batch, lr, weight_decay, patience: of the tilt; see :func:`chainfree.fitting.fit_tilted`. No
            steps: the mixture alone.
        held_out: share of the rows that the tilt is stopped by.
    """

    scaling: Scaling = "bent"
    reserve: bool = True
    components: int | None = None
    most_components: int = 64
    mixtures: int = 3
    prior_rows: float | None = None
    widths: tuple[int, ...] = (256, 256)
    embedding: int = 8
    noise: float = 0.3
    time: float = 1.0
    draws: int = 16
    share: float = 0.5
    steps: int = 2000
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-4
    patience: int | None = 10
    held_out: float = 0.1


@dataclass(frozen=True)
class DensityModel:
    """A density of a table's rows.

    Args:
        encoder: to tensors and back.
        energy: of the tensors, tilted from a mixture of products.
        log_z: of the energy.
        settings: that it was fitted with.
        held_out: mean log-likelihood of held-out rows in nats of the tensors, ``None`` without any.
        held_out_base: the mixtures'.
        steps: that the tilt was trained for.
    """

    encoder: TableEncoder
    energy: Tilted
    log_z: LogZ
    settings: DensitySettings
    held_out: float | None
    held_out_base: float | None
    steps: int

    @classmethod
    def fit(
        cls,
        table: Any,
        schema: Schema,
        settings: DensitySettings,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        callbacks: Sequence[Callback] = (),
    ) -> DensityModel:
        """Fit all of it; the mixtures on the CPU, the network on the device.

        Raises:
            DataError: what the encoder refuses.
            TrainingDivergedError: as :meth:`chainfree.Engine.fit`.
        """
        generator = torch.Generator().manual_seed(seed)
        encoder = TableEncoder(schema, scaling=settings.scaling, reserve=settings.reserve).fit(table)
        rows = encoder.encode(table, generator=generator)
        order = torch.randperm(len(rows), generator=generator)
        count = cls.held_out_rows(len(rows), settings)
        kept = rows[order[count:]]
        base = fit_tabular_mixture(
            kept,
            encoder.sizes,
            states=encoder.states,
            reserved=encoder.reserved,
            components=settings.components,
            most_components=settings.most_components,
            prior_rows=settings.prior_rows,
            starts=settings.mixtures,
            seed=seed,
        )
        held = rows[order[:count]] if count else None
        return cls.tilted(encoder, base, kept, held, settings, seed=seed, device=device, callbacks=callbacks)

    @staticmethod
    def held_out_rows(rows: int, settings: DensitySettings) -> int:
        """How many of so many rows stop the tilt; none where there are no steps.

        Raises:
            ValueError: the share is none.
        """
        require_in_unit_interval("validation_fraction", settings.held_out)
        return round(settings.held_out * rows) if settings.steps else 0

    @classmethod
    def tilted(
        cls,
        encoder: TableEncoder,
        base: TabularMixture,
        rows: Tensor | IncompleteRows,
        held: Tensor | IncompleteRows | None,
        settings: DensitySettings,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        callbacks: Sequence[Callback] = (),
    ) -> DensityModel:
        """Tilt a base that was fitted to encoded rows, or leave it where there are no steps.

        Raises:
            TrainingDivergedError: as :meth:`chainfree.Engine.fit`.
        """
        network = table_network(encoder, widths=settings.widths, embedding=settings.embedding, seed=seed)
        if not settings.steps:
            energy = Tilted(base, network).to(device).eval().requires_grad_(False)
            return cls(encoder, energy, LogZ(0.0, 0.0, float(len(rows))), settings, None, None, 0)
        fitted = fit_tilted(
            rows,
            base,
            network,
            perturbation=encoder.perturbation(noise=settings.noise, time=settings.time),
            held_out=held,
            draws=settings.draws,
            share=settings.share,
            steps=settings.steps,
            batch=settings.batch,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            patience=settings.patience,
            seed=seed,
            device=device,
            callbacks=callbacks,
        )
        return cls(encoder, fitted.energy, fitted.log_z, settings, fitted.held_out, fitted.held_out_base, fitted.steps)

    @property
    def device(self) -> torch.device:
        """Where the energy is."""
        return next(self.energy.network.parameters()).device

    def energies(self, rows: Tensor) -> Tensor:
        """Of encoded rows ``(N, D)`` without what is known of hidden numbers, in nats, float64 on the CPU, ``(N,)``."""
        return energies_of(self.energy, rows, self.encoder, self.device)

    def log_density(self, table: Any) -> Tensor:
        """Of a table's rows, in nats of its own units, ``(N,)``: numbers by their density, all else by probability."""
        rows = self.encoder.encode(table)
        return self.encoder.log_abs_det(rows.double()) - self.energies(rows) - self.log_z.value

    def sample(self, n: int, *, proposals: int, generator: torch.Generator) -> Tensor:
        """Encoded rows, ``(n, D)``."""
        return sample_tilted(self.energy, n, proposals=proposals, generator=generator).x.cpu()

    def complete(self, rows: Tensor, fixed: Tensor, *, proposals: int, generator: torch.Generator) -> Tensor:
        """Encoded rows whose other cells are drawn given the fixed ones, ``(N, D)``."""
        drawn = sample_tilted_given(
            self.energy, rows.to(self.device), fixed.to(self.device), proposals=proposals, generator=generator
        )
        return drawn.x.cpu()

    def save(self, folder: Path) -> None:
        """Write ``table.json`` and ``energy.safetensors``."""
        save_weights(folder / "energy.safetensors", self.energy)
        base = self.energy.base
        assert isinstance(base, TabularMixture)
        record = {
            "encoder": self.encoder.to_dict(),
            "settings": asdict(self.settings),
            "components": base.components,
            "log_z": asdict(self.log_z),
            "held_out": self.held_out,
            "held_out_base": self.held_out_base,
            "steps": self.steps,
        }
        write_text(folder / "table.json", as_json(record))

    @classmethod
    def load(cls, folder: Path) -> DensityModel:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            CheckpointError: weights that are missing or damaged.
        """
        record: Mapping[str, Any] = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        encoder = TableEncoder.from_dict(record["encoder"])
        settings = DensitySettings(**without_lists(record["settings"]))
        base = TabularMixture(
            encoder.sizes, components=record["components"], states=encoder.states, reserved=encoder.reserved
        )
        energy = (
            Tilted(base, table_network(encoder, widths=settings.widths, embedding=settings.embedding, seed=0))
            .eval()
            .requires_grad_(False)
        )
        load_weights(folder / "energy.safetensors", energy)
        return cls(
            encoder,
            energy,
            LogZ(**record["log_z"]),
            settings,
            record["held_out"],
            record["held_out_base"],
            record["steps"],
        )
