"""The engine: it trains any objective, survives kills, and refuses to diverge silently."""

from .callbacks import Callback, HeldOut, MetricsFile, Progress, TensorBoard, read_metrics
from .checkpoint import (
    CheckpointError,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from .engine import Engine, FitReport
from .guard import Guard, TrainingDivergedError
from .optimizers import Constant, Cosine, OptimizerSettings, ScheduleSettings
from .precision import Precision, require_precision

__all__ = [
    "Callback",
    "CheckpointError",
    "Constant",
    "Cosine",
    "Engine",
    "FitReport",
    "Guard",
    "HeldOut",
    "MetricsFile",
    "OptimizerSettings",
    "Precision",
    "Progress",
    "ScheduleSettings",
    "TensorBoard",
    "TrainingDivergedError",
    "latest_checkpoint",
    "load_checkpoint",
    "load_weights",
    "read_metrics",
    "require_precision",
    "save_checkpoint",
    "save_weights",
]
