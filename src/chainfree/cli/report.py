"""Scores and pictures of a trained run."""

from __future__ import annotations

import json
from typing import Any

import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from .. import plotting
from ..checks import energy_values
from ..datasets import AnomalySplit
from ..energies import Tilted
from ..engine.atomic import write_text
from ..evaluation import LogZ, anomaly_scores, held_out_nll, log_density_mse, log_z_quadrature, nll_gap
from ..typing import Energy
from .errors import UsageError
from .models import Model
from .run_folder import RunFolder
from .settings import TrainSettings
from .sources import Source
from .tables import text_table

__all__ = ["draw_report", "evaluate_run", "held_out_loss", "planar_log_z", "summary_text"]

_ROWS_AT_A_TIME = 8192
_NEIGHBOURS = (1, 5)
_TREES = 200


def energies(energy: Energy, x: Tensor) -> Tensor:
    """Energies of many rows, some at a time, ``(N, *event) -> (N,)``."""
    with torch.no_grad():
        return torch.cat([energy_values(energy, part) for part in x.split(_ROWS_AT_A_TIME)])


def held_out_loss(settings: TrainSettings, energy: nn.Module, scaled: Tensor) -> float:
    """The training loss on scaled held-out rows, at most 4,096 of them, always with the same noise."""
    loss, generator = settings.loss.build(), torch.Generator(scaled.device).manual_seed(0)
    rows = scaled[:4096]
    with torch.no_grad():
        parts = [loss(energy, part, generator=generator).loss * len(part) for part in rows.split(1024)]
    return float(torch.stack(parts).sum()) / len(rows)


def planar_log_z(model: Model, scaled: Tensor) -> LogZ:
    """log Z by quadrature in scaled coordinates, up to two features; scaling leaves it unchanged.

    The box starts at twice the extent of the rows and is widened until no mass lies on its edge.
    """
    half = 2 * scaled.abs().amax(0)
    for _ in range(4):
        bounds = [(-h, h) for h in half.tolist()]
        try:
            return log_z_quadrature(model.energy, bounds, points=1001 if len(bounds) == 2 else 100_001)
        except ValueError as error:
            problem = error
            half = 1.5 * half
    raise problem


def evaluate_run(settings: TrainSettings, source: Source, model: Model) -> dict[str, Any]:
    """All scores of a run as plain numbers."""
    held_out = source.held_out
    scaled = model.scaled(held_out)
    summary: dict[str, Any] = {
        "data": source.title,
        "rows": {"train": None if source.density is not None else len(source.train), "held_out": len(held_out)},
        "held_out_loss": held_out_loss(settings, model.energy, scaled),
    }
    if scaled.dim() == 2 and scaled.shape[1] <= 2:
        summary |= _likelihood(source, model, scaled)
    if source.anomalies is not None:
        summary["anomaly"] = _anomaly_table(model, source.anomalies, settings.seed)
        summary["rows"]["test"] = len(source.anomalies.y_test)
        summary["rows"]["test_anomalies"] = int(source.anomalies.y_test.sum())
        # the detectors beside it are given the rows that were held out for validation too
        summary["rows"]["train_baselines"] = len(source.anomalies.x_train)
    return summary


def _likelihood(source: Source, model: Model, scaled: Tensor) -> dict[str, Any]:
    try:
        log_z = planar_log_z(model, scaled)
    except ValueError as error:
        # without a base an energy need not be integrable, and early in training often is not
        return {"no_log_z": f"log Z was not found: {error}"}
    held_out = source.held_out
    scores = {
        "log_z": log_z.value,
        "log_z_error": log_z.standard_error,
        "held_out_nll": held_out_nll(model, log_z.value, held_out),
    }
    if source.density is not None:
        scores["nll_gap"] = nll_gap(model, log_z.value, source.density, held_out)
        scores["mse_log_density"] = log_density_mse(model, log_z.value, source.density, held_out)
    return scores


def _anomaly_table(model: Model, split: AnomalySplit, seed: int) -> dict[str, dict[str, float]]:
    """Scores of the energy and, on the same rows, of its base alone and of two detectors without a network."""
    train, test = split.x_train.numpy(), split.x_test.numpy()
    distances = NearestNeighbors(n_neighbors=max(_NEIGHBOURS)).fit(train).kneighbors(test)[0]
    forest = IsolationForest(n_estimators=_TREES, random_state=seed % 2**32).fit(train)
    scores = {"chainfree": energies(model, split.x_test).numpy()}
    if isinstance(model.energy, Tilted):
        scores["its base alone"] = -model.energy.base.log_prob(model.scaled(split.x_test)).numpy()
    scores |= {f"k-NN, k = {k}": distances[:, k - 1] for k in _NEIGHBOURS}
    scores["IsolationForest"] = -forest.score_samples(test)
    labels = split.y_test.numpy()
    table = {}
    for method, score in scores.items():
        result = anomaly_scores(score, labels)
        table[method] = {"auroc": result.auroc, "average_precision": result.average_precision}
    return table


def summary_text(summary: dict[str, Any]) -> str:
    """The scores as a table."""
    labels = {
        "train": "training",
        "held_out": "held out",
        "test": "test",
        "test_anomalies": "anomalies among them",
        "train_baselines": "training for k-NN and the forest, which need none held out",
    }
    counts = ", ".join(f"{n:,} {labels[name]}" for name, n in summary["rows"].items() if n is not None)
    lines = [f"{summary['data']}, rows: {counts}"]
    names = {
        "held_out_loss": "held-out loss (nats)",
        "log_z": "log Z",
        "held_out_nll": "held-out NLL (nats)",
        "nll_gap": "NLL above the truth (nats)",
        "mse_log_density": "MSE of log-density",
    }
    rows = [[label, f"{summary[key]:.4f}"] for key, label in names.items() if key in summary]
    lines += ["", text_table(["score", "value"], rows)]
    if "no_log_z" in summary:
        lines += ["", summary["no_log_z"]]
    if "anomaly" in summary:
        table = [[m, f"{s['auroc']:.4f}", f"{s['average_precision']:.4f}"] for m, s in summary["anomaly"].items()]
        lines += ["", text_table(["held-out anomalies", "AUROC", "average precision"], table)]
    return "\n".join(lines)


def draw_report(run: RunFolder, source: Source, model: Model, summary: dict[str, Any]) -> list[str]:
    """Write ``summary.json`` and every picture that suits the data; returns the pictures' names."""
    write_text(run.report / "summary.json", json.dumps(summary, indent=2) + "\n")
    figures = {}
    records = run.records()
    if any("loss" in record or "energy_data" in record for record in records):
        try:
            figures["curves"] = plotting.training_curves(records, title=source.title)
        except ValueError as error:
            raise UsageError(f"{run.metrics} cannot be drawn: {error}") from error
    if source.anomalies is not None:
        split = source.anomalies
        values = energies(model, split.x_test)
        auroc = summary["anomaly"]["chainfree"]["auroc"]
        groups = {"normal": values[split.y_test == 0], "anomalous": values[split.y_test == 1]}
        figures["energies"] = plotting.energy_histogram(groups, title=f"{source.title}: AUROC {auroc:.3f}")
        if source.image_shape is not None:
            figures["ranked"] = plotting.ranked_images(
                split.x_test.view(-1, *source.image_shape), values, labels=split.y_test, title=source.title
            )
    else:
        n = len(source.held_out)
        groups = {"training": energies(model, source.train[:n]), "held out": energies(model, source.held_out)}
        figures["energies"] = plotting.energy_histogram(groups, title=source.title)
    if source.held_out.dim() == 2 and source.held_out.shape[1] == 2:
        low, high = source.held_out.double().quantile(torch.tensor([0.002, 0.998]).double(), dim=0)
        margin = 0.15 * (high - low)
        (xl, yl), (xh, yh) = (low - margin).tolist(), (high + margin).tolist()
        bounds = ((xl, xh), (yl, yh))
        figures["landscape"] = plotting.landscape(
            model, bounds=bounds, samples=source.held_out[:1000], title=f"{source.title}: energy"
        )
        if source.density is not None and "log_z" in summary:
            figures["density"] = plotting.density_beside_truth(
                model, summary["log_z"], source.density, bounds=bounds, title=source.title
            )
        if run.settings().method == "vera":
            drawn = run.generator().sample(1000, generator=torch.Generator().manual_seed(0))
            figures["samples"] = plotting.landscape(
                model, bounds=bounds, samples=drawn, title=f"{source.title}: energy, and what the generator draws"
            )
    for name, figure in figures.items():
        plotting.save(figure, run.report / f"{name}.png")
    return [f"{name}.png" for name in figures]
