"""What classifiers of tables are: logits that are linear at first, and an energy of the rows too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from torch import Tensor, nn
from torch.nn import functional

from ..batches import ArrayBatches
from ..checks import require_in_unit_interval
from ..energies import JointEnergy, TabularLinear, TabularMLP
from ..energies.layers import zero_last_layer_
from ..engine import Cosine, Engine, OptimizerSettings
from ..engine.atomic import write_text
from ..engine.callbacks import Callback, HeldOut
from ..engine.checkpoint import load_weights, save_weights
from ..evaluation import fit_temperature
from ..losses import EnergyDiscrepancy
from ..objectives import Joint
from ..semi_supervised import semi_supervised_batches
from ..tables import Scaling, Schema, TableEncoder
from .networks import table_network
from .plain import as_json, without_lists
from .scoring import energies_of, in_blocks

__all__ = ["ClassifierModel", "ClassifierSettings"]

_PENALTIES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]  # of logistic regression, as scikit-learn's C
_PARTS, _MANY_LABELS = 5, 5000
_FEWEST_TO_TUNE = 50  # held-out labels that a temperature or a best step can be told by


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """How classes and rows are modelled.

    Args:
        scaling: of the numbers.
        widths: of the network's layers.
        embedding: length of a category's vector.
        noise, time: of the perturbation; see :meth:`chainfree.tables.TableEncoder.perturbation`.
        draws: perturbed rows that each row is contrasted with.
        marginal_weight: of the rows' density; 0 for a classifier only.
        steps, batch, labelled, lr, weight_decay: of training.
        every, patience: steps between looks at held-out labels, and looks without a new best before it stops.
        held_out: share of the labelled rows that step and temperature are chosen by.
    """

    scaling: Scaling = "bent"
    widths: tuple[int, ...] = (256, 256)
    embedding: int = 8
    noise: float = 0.7
    time: float = 0.5
    draws: int = 8
    marginal_weight: float = 0.1
    steps: int = 2000
    batch: int = 128
    labelled: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    every: int = 50
    patience: int | None = 10
    held_out: float = 0.1


class Logits(nn.Module):
    """A linear function of the row and a perceptron that starts at zero, ``(B, D) -> (B, K)``."""

    def __init__(self, linear: TabularLinear, perceptron: TabularMLP) -> None:
        super().__init__()
        zero_last_layer_(perceptron)
        self.linear = linear
        self.perceptron = perceptron

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.linear(x) + self.perceptron(x)
        return values


@dataclass(frozen=True)
class ClassifierModel:
    """Classes of a table's rows, and an energy of the rows.

    Args:
        encoder: to tensors.
        energy: whose logits are the classes'.
        temperature: that logits are divided by.
        settings: that it was fitted with.
        steps: of training.
    """

    encoder: TableEncoder
    energy: JointEnergy
    temperature: float
    settings: ClassifierSettings
    steps: int

    @classmethod
    def fit(
        cls,
        table: Any,
        labels: NDArray[np.int64],
        schema: Schema,
        settings: ClassifierSettings,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        callbacks: Sequence[Callback] = (),
    ) -> ClassifierModel:
        """Fit to rows and their classes 0, 1, ..., -1 where there is none.

        Raises:
            DataError: what the encoder refuses.
            TrainingDivergedError: as :meth:`chainfree.Engine.fit`.
            KeyboardInterrupt: SIGINT or SIGTERM came.
        """
        require_in_unit_interval("validation_fraction", settings.held_out)
        generator = torch.Generator().manual_seed(seed)
        encoder = TableEncoder(schema, scaling=settings.scaling, reserve=True).fit(table)
        rows, y = encoder.encode(table, generator=generator), torch.from_numpy(labels)
        held, kept = _held_out(y, settings.held_out, generator)
        tuned = len(held) >= _FEWEST_TO_TUNE
        if not tuned:  # labels are few: none is put aside that could tell nothing
            held, kept = held[:0], torch.arange(len(y))
        energy = JointEnergy(_network(encoder, int(y.max()) + 1, settings, seed), int(y.max()) + 1)
        _start_linear_(energy, rows[kept], y[kept])
        loss = EnergyDiscrepancy(
            perturbation=encoder.perturbation(noise=settings.noise, time=settings.time), draws=settings.draws
        )
        marginal = loss if settings.marginal_weight > 0 else None
        watchers = list(callbacks)
        if tuned:
            held_x, held_y = rows[held].to(device), y[held].to(device)

            def nll_of(averaged: nn.Module) -> float:
                assert isinstance(averaged, JointEnergy)
                with torch.no_grad():
                    return float(functional.cross_entropy(averaged.logits(held_x), held_y))

            patience = settings.steps if settings.patience is None else settings.patience
            watchers.append(HeldOut(nll_of, every=settings.every, patience=patience, name="held_out_nll"))
        engine = Engine(
            energy,
            Joint(marginal, marginal_weight=settings.marginal_weight),
            seed=seed,
            optimizer=OptimizerSettings(lr=settings.lr, weight_decay=settings.weight_decay),
            schedule=Cosine(),
            ema=0.99,
            device=device,
            callbacks=watchers,
            log_every=settings.every,
        )
        report = engine.fit(_stream(rows[kept], y[kept], settings, seed, device), steps=settings.steps)
        if report.stopped == "interrupted":  # half a training is no classifier
            raise KeyboardInterrupt(f"the fit was stopped by {engine.interrupted_by} at step {report.steps}")
        fitted = engine.averaged(energy)
        temperature = 1.0
        if tuned:
            with torch.no_grad():
                temperature = fit_temperature(fitted.logits(held_x).cpu(), held_y.cpu())
        return cls(encoder, fitted, temperature, settings, report.steps)

    @property
    def device(self) -> torch.device:
        """Where the energy is."""
        return next(self.energy.parameters()).device

    def probabilities(self, table: Any) -> NDArray[np.float64]:
        """Of the classes, ``(N, K)``."""
        logits = in_blocks(self.energy.logits, self.encoder.encode(table), self.device)
        return np.asarray(torch.softmax(logits / self.temperature, 1))

    def energies(self, table: Any) -> Tensor:
        """Of the rows in nats, up to a constant, ``(N,)``."""
        return energies_of(self.energy, self.encoder.encode(table), self.encoder, self.device)

    def save(self, folder: Path) -> None:
        """Write ``table.json`` and ``energy.safetensors``."""
        save_weights(folder / "energy.safetensors", self.energy)
        record = {
            "encoder": self.encoder.to_dict(),
            "settings": asdict(self.settings),
            "classes": self.energy.classes,
            "temperature": self.temperature,
            "steps": self.steps,
        }
        write_text(folder / "table.json", as_json(record))

    @classmethod
    def load(cls, folder: Path) -> ClassifierModel:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            CheckpointError: weights that are missing or damaged.
        """
        record: Mapping[str, Any] = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        encoder = TableEncoder.from_dict(record["encoder"])
        settings = ClassifierSettings(**without_lists(record["settings"]))
        energy = JointEnergy(_network(encoder, record["classes"], settings, 0), record["classes"])
        energy.eval().requires_grad_(False)
        load_weights(folder / "energy.safetensors", energy)
        return cls(encoder, energy, record["temperature"], settings, record["steps"])


def _held_out(y: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Places of held-out labelled rows, of every class its share, and of all others."""
    held = []
    for label in range(int(y.max()) + 1):
        own = (y == label).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=generator)]
        held.append(own[: int(share * len(own))])
    places = torch.cat(held)
    kept = torch.ones(len(y), dtype=torch.bool)
    kept[places] = False
    return places, kept.nonzero().flatten()


def _start_linear_(energy: JointEnergy, rows: Tensor, y: Tensor) -> None:
    """At a logistic regression of the labelled rows."""
    logits = energy.network
    assert isinstance(logits, Logits)
    known = y >= 0
    labels = y[known].numpy()
    fitted = _logistic_regression(logits.linear.features(rows[known]).double().numpy(), labels)
    coefficients, bias = torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)
    if energy.classes == 2:  # one logit, of the second class over the first
        coefficients, bias = torch.cat([-coefficients, coefficients]) / 2, torch.cat([-bias, bias]) / 2
    logits.linear.set_(coefficients.T, bias)


def _logistic_regression(features: NDArray[np.float64], labels: NDArray[np.int64]) -> Any:
    """With a penalty that is chosen by the likelihood in parts, where labels are few enough for it to matter."""
    parts = min(_PARTS, int(np.bincount(labels).min()))
    if len(labels) > _MANY_LABELS or parts < 2:
        return LogisticRegression(C=1.0 if len(labels) > _MANY_LABELS else 0.1, max_iter=1000).fit(features, labels)
    folds = StratifiedKFold(parts, shuffle=True, random_state=0)
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": _PENALTIES}, scoring="neg_log_loss", cv=folds)
    return search.fit(features, labels).best_estimator_


def _stream(rows: Tensor, y: Tensor, settings: ClassifierSettings, seed: int, device: torch.device | str) -> Any:
    rows, y = rows.to(device), y.to(device)
    if bool((y >= 0).all()) and settings.marginal_weight == 0:
        return ArrayBatches(rows, y, size=min(settings.labelled, len(rows)), seed=seed, shuffle=True)
    return semi_supervised_batches(
        rows, y, size=min(settings.batch, len(rows)), labelled=min(settings.labelled, int((y >= 0).sum())), seed=seed
    )


def _network(encoder: TableEncoder, classes: int, settings: ClassifierSettings, seed: int) -> Logits:
    perceptron = table_network(
        encoder,
        widths=settings.widths,
        embedding=settings.embedding,
        seed=seed,
        outputs=classes,
        with_hidden=True,
    )
    return Logits(TabularLinear(encoder.sizes, states=encoder.states, outputs=classes), perceptron)
