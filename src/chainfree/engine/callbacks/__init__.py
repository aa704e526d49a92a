"""Callbacks: what happens around training steps."""

from .base import Callback
from .held_out import HeldOut
from .metrics_file import MetricsFile, read_metrics
from .progress import Progress
from .tensorboard import TensorBoard

__all__ = ["Callback", "HeldOut", "MetricsFile", "Progress", "TensorBoard", "read_metrics"]
