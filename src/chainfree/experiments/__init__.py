"""Experiments that are more than one training run: the papers' figures and ablations."""

from __future__ import annotations

from .ablation import Ablation
from .nearsightedness import Nearsightedness
from .record import Recorder
from .w_stabilisation import WStabilisation

__all__ = ["EXPERIMENTS", "Ablation", "Nearsightedness", "Recorder", "WStabilisation"]

EXPERIMENTS: dict[str, type[Nearsightedness] | type[WStabilisation] | type[Ablation]] = {
    "nearsightedness": Nearsightedness,
    "w_stabilisation": WStabilisation,
    "ablation": Ablation,
}
