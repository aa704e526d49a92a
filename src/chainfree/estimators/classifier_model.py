"""What classifiers of tables are: logits that are sums over columns at first, and an energy of the rows too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..batches import ArrayBatches
from ..checks import require_in_unit_interval
from ..energies import JointEnergy, TabularAdditive, TabularMLP
from ..energies.layers import zero_last_layer_
from ..engine import Cosine, Engine, OptimizerSettings
from ..engine.atomic import write_text
from ..engine.callbacks import Callback, HeldOut
from ..engine.checkpoint import load_weights, save_weights
from ..evaluation import ClassifierScores, classifier_scores, fit_temperature
from ..losses import EnergyDiscrepancy
from ..objectives import Joint
from ..semi_supervised import semi_supervised_batches
from ..tables import Scaling, Schema, TableEncoder
from .logistic import chosen_penalty, logistic_regression
from .networks import table_network
from .plain import as_json, without_lists
from .scoring import energies_of, in_blocks

__all__ = ["ClassifierModel", "ClassifierSettings"]

_MORE_HELD, _MOST_SHARE_HELD = 50, 0.25  # labels that are held out if their share is fewer, but at most this share
_FEWEST_TO_STOP, _FEWEST_TO_TEMPER = 4, 200  # held-out labels that tell a best step, and a temperature


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
        steps, batch, labelled, lr, weight_decay: of training with labels; half as many steps are of rows alone.
        every, patience: steps between looks at held-out labels, and looks without a new best before it stops.
        held_out: share of the labelled rows that step and temperature are chosen by; more where that is fewer than fifty.
        knots: of every number's function.
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
    knots: int = 3


class Logits(nn.Module):
    r""":math:`f_k(x) = g_k(x) + h_k(x) - s(x)`, ``(B, D) -> (B, K)``: sums over columns, two perceptrons that start at zero.

    What is added to all logits alike changes the rows' energy and no probability of a class: with few labels the classes'
    perceptron stops early, or says nothing, and the rows' is trained to its end.
    """

    def __init__(self, additive: TabularAdditive, of_classes: TabularMLP, of_rows: TabularMLP) -> None:
        super().__init__()
        for perceptron in (of_classes, of_rows):
            zero_last_layer_(perceptron)
        self.additive = additive
        self.of_classes = of_classes
        self.of_rows = of_rows

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.up_to_a_constant(x) - self.of_rows(x).unsqueeze(1)
        return values

    def up_to_a_constant(self, x: Tensor) -> Tensor:
        """What tells classes: without what all have alike, ``(B, D) -> (B, K)``."""
        values: Tensor = self.additive(x) + self.of_classes(x)
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
        held_out: scores on the labels that were held out, which have chosen the step and the temperature; ``None`` without
            any.
    """

    encoder: TableEncoder
    energy: JointEnergy
    temperature: float
    settings: ClassifierSettings
    steps: int
    held_out: ClassifierScores | None

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
        classes = int(y.max()) + 1
        logits = _logits(encoder, classes, settings, seed)
        logits.additive.place_knots_(rows)
        energy = JointEnergy(logits, classes)
        loss = EnergyDiscrepancy(
            perturbation=encoder.perturbation(noise=settings.noise, time=settings.time), draws=settings.draws
        )
        fit = _Fit(rows, y, loss, settings, seed, torch.device(device), tuple(callbacks))
        held, kept = _held_out(y, settings.held_out, generator)
        if not settings.steps:  # nothing to stop
            held, kept = held[:0], torch.arange(len(y))
        penalty = _start_additive_(logits.additive, rows[kept], y[kept])
        steps, temperature, scores = 0, 1.0, None
        if settings.steps and (len(held) or settings.held_out == 0):
            energy, best_step, steps = fit.classes(energy, held, kept)
            with torch.no_grad():
                of_held = energy.logits(rows[held].to(device)).cpu()
            if best_step and len(held) >= _FEWEST_TO_TEMPER:
                temperature = fit_temperature(of_held, y[held])
            if len(held):
                scores = classifier_scores(of_held / temperature, y[held])
            if not best_step:  # the held-out labels are not needed to stop by
                _start_additive_(_logits_of(energy).additive, rows, y, penalty)
        if settings.steps and settings.marginal_weight > 0:
            energy = fit.rows_alone(energy)
        return cls(encoder, energy.to(device).eval(), temperature, settings, steps, scores)

    @property
    def device(self) -> torch.device:
        """Where the energy is."""
        return next(self.energy.parameters()).device

    def probabilities(self, table: Any) -> NDArray[np.float64]:
        """Of the classes, ``(N, K)``."""
        logits = in_blocks(_logits_of(self.energy).up_to_a_constant, self.encoder.encode(table), self.device)
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
            "held_out": None if self.held_out is None else self.held_out._asdict(),
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
        energy = JointEnergy(_logits(encoder, record["classes"], settings, 0), record["classes"])
        energy.eval().requires_grad_(False)
        load_weights(folder / "energy.safetensors", energy)
        held_out = record.get("held_out")
        scores = None if held_out is None else ClassifierScores(**held_out)
        return cls(encoder, energy, record["temperature"], settings, record["steps"], scores)


@dataclass(frozen=True)
class _Fit:
    """What both trainings share.

    Args:
        rows: ``(N, D)``.
        y: classes ``(N,)``, -1 where there is none.
        loss: of the rows' density.
        settings: of all of it.
        seed: of the batches.
        device: of the networks.
        callbacks: of both trainings.
    """

    rows: Tensor
    y: Tensor
    loss: EnergyDiscrepancy
    settings: ClassifierSettings
    seed: int
    device: torch.device
    callbacks: tuple[Callback, ...]

    def classes(self, energy: JointEnergy, held: Tensor, kept: Tensor) -> tuple[JointEnergy, int, int]:
        """Trained with labels until held-out ones gain nothing; the step that was best for them, and steps in all.

        Without held-out labels the last step is the best.
        """
        settings, held_x, held_y = self.settings, self.rows[held].to(self.device), self.y[held].to(self.device)

        @torch.no_grad()
        def nll_of(averaged: nn.Module) -> Tensor:
            assert isinstance(averaged, JointEnergy)
            return functional.cross_entropy(averaged.logits(held_x), held_y, reduction="none").double()

        start = nll_of(energy.to(self.device))
        looks = -(-settings.steps // settings.every)

        def bound(averaged: nn.Module) -> float:
            """Few held-out labels are lucky for some step: the best must be better than the start by its own error."""
            gain = nll_of(averaged) - start
            return float(start.mean() + gain.mean() + gain.std(correction=0) / len(gain) ** 0.5)

        watcher = HeldOut(
            bound,
            every=settings.steps // looks,  # the last look is at the end
            patience=settings.steps if settings.patience is None else settings.patience,
            from_start=True,
            name="held_out_nll_and_error",
        )
        marginal = self.loss if settings.marginal_weight > 0 else None
        objective = Joint(marginal, marginal_weight=settings.marginal_weight)
        watchers = [watcher] if len(held) else []
        trained, steps = self._trained(energy, objective, self._labelled_batches(kept), settings.steps, *watchers)
        return trained, watcher.best_step if len(held) else steps, steps

    def rows_alone(self, energy: JointEnergy) -> JointEnergy:
        """The rows' perceptron by energy discrepancy, the classes as they are."""
        energy.requires_grad_(False)
        _logits_of(energy).of_rows.requires_grad_(True)
        size = min(2 * self.settings.batch, len(self.rows))
        batches = ArrayBatches(self.rows.to(self.device), None, size=size, seed=self.seed, shuffle=True)
        return self._trained(energy, self.loss, batches, -(-self.settings.steps // 2))[0]

    def _trained(
        self, energy: JointEnergy, objective: Any, batches: Any, steps: int, *more: Callback
    ) -> tuple[JointEnergy, int]:
        settings = self.settings
        engine = Engine(
            energy,
            objective,
            seed=self.seed,
            optimizer=OptimizerSettings(lr=settings.lr, weight_decay=settings.weight_decay),
            schedule=Cosine(),
            ema=0.99,
            device=self.device,
            callbacks=[*self.callbacks, *more],
            log_every=settings.every,
        )
        report = engine.fit(batches, steps=steps)
        if report.stopped == "interrupted":  # half a training is no classifier
            raise KeyboardInterrupt(f"the fit was stopped by {engine.interrupted_by} at step {report.steps}")
        return engine.averaged(energy), report.steps

    def _labelled_batches(self, kept: Tensor) -> Any:
        settings, rows, y = self.settings, self.rows[kept].to(self.device), self.y[kept].to(self.device)
        if bool((y >= 0).all()) and settings.marginal_weight == 0:
            return ArrayBatches(rows, y, size=min(settings.labelled, len(rows)), seed=self.seed, shuffle=True)
        labelled = min(settings.labelled, int((y >= 0).sum()))
        return semi_supervised_batches(rows, y, size=min(settings.batch, len(rows)), labelled=labelled, seed=self.seed)


def _held_out(y: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Places of held-out labelled rows, of every class its share, and of all others; none where they tell nothing."""
    labels = int((y >= 0).sum())
    if share > 0:
        share = max(share, min(_MORE_HELD / labels, _MOST_SHARE_HELD))
    held = []
    for label in range(int(y.max()) + 1):
        own = (y == label).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=generator)]
        held.append(own[: round(share * len(own))])
    places = torch.cat(held)
    if len(places) < _FEWEST_TO_STOP:
        places = places[:0]
    kept = torch.ones(len(y), dtype=torch.bool)
    kept[places] = False
    return places, kept.nonzero().flatten()


def _logits_of(energy: JointEnergy) -> Logits:
    assert isinstance(energy.network, Logits)
    return energy.network


def _start_additive_(additive: TabularAdditive, rows: Tensor, y: Tensor, penalty: float | None = None) -> float:
    """At a logistic regression of the labelled rows; the penalty that it had, by default one that they choose."""
    known = y >= 0
    features, labels = additive.cpu().features(rows[known]).double().numpy(), y[known].numpy()
    penalty = chosen_penalty(features, labels) if penalty is None else penalty
    fitted = logistic_regression(features, labels, penalty)
    coefficients, bias = torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)
    if additive.outputs == 2:  # one logit, of the second class over the first
        coefficients, bias = torch.cat([-coefficients, coefficients]) / 2, torch.cat([-bias, bias]) / 2
    additive.set_(coefficients.T, bias)
    return penalty


def _logits(encoder: TableEncoder, classes: int, settings: ClassifierSettings, seed: int) -> Logits:
    def perceptron(outputs: int | None) -> TabularMLP:
        return table_network(
            encoder,
            widths=settings.widths,
            embedding=settings.embedding,
            seed=seed,
            outputs=outputs,
            with_hidden=outputs is None,
        )

    additive = TabularAdditive(encoder.sizes, states=encoder.states, outputs=classes, knots=settings.knots)
    return Logits(additive, perceptron(classes), perceptron(None))
