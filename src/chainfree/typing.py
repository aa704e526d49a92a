"""The protocols that every layer of chainfree speaks.

Sign convention everywhere: ``p(x) = exp(-E(x)) / Z``. Low energy is likely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = ["Batch", "Batches", "Density", "Energy", "Loss", "LossOutput", "Objective", "Update"]


class Energy(Protocol):
    """A callable that maps ``(B, *event)`` to ``(B,)``: an ``nn.Module``, a closed form, a plain function."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


@runtime_checkable
class Density(Protocol):
    """A normalised density that can be evaluated and drawn from."""

    def log_prob(self, x: Tensor, /) -> Tensor:
        """``(B, *event)`` to the log-density in nats, ``(B,)``."""
        ...

    def sample(self, n: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, ``(n, *event)``."""
        ...


@dataclass(frozen=True)
class Batch:
    """Rows ``x`` of shape ``(B, *event)`` and, where there are labels, ``y`` of shape ``(B,)``, -1 where unlabelled.

    The first ``labelled`` rows were drawn for their labels, more often than they occur: densities are to be learnt from the
    others. A number that the host knows, so that nobody has to wait for the device to count.
    """

    x: Tensor
    y: Tensor | None = None
    labelled: int = 0

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> Batch:
        """The same rows on another device (a no-op where they are there already)."""
        return Batch(self.x.to(device), None if self.y is None else self.y.to(device), self.labelled)

    def unlabelled(self, most: int | None = None) -> Batch:
        """The rows that densities are learnt from, or the first ``most`` of them."""
        end = None if most is None else self.labelled + most
        return Batch(self.x[self.labelled : end])


class Batches(Protocol):
    """An endless, resumable stream of batches."""

    def __next__(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream, as plain numbers and strings."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to a saved position; raises ``ValueError`` if it belongs to other data."""
        ...


@dataclass(frozen=True)
class LossOutput:
    """What a loss returns.

    Args:
        loss: the scalar to minimise, shape ``()``, with its graph.
        metrics: detached 0-d tensors. Nothing here is brought to the host before it is logged. Names that begin with
            ``energy`` are mean energies in nats, and watched by the guard: see :attr:`Update.watched`.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Loss(Protocol):
    """A stateless recipe from an energy and rows to a scalar."""

    def __call__(self, energy: Energy, x: Tensor, /, *, generator: torch.Generator | None = None) -> LossOutput: ...


@dataclass(frozen=True)
class Update:
    """One player's turn.

    Args:
        player: over whose parameters the loss is minimised.
        loss: the scalar to minimise, shape ``()``, with its graph. What the graph leads through must not have been stepped
            since it was made, or autograd raises: after an energy's turn, its energies are evaluated anew.
        metrics: detached 0-d tensors, as in :class:`LossOutput`; a name begins with ``energy`` if and only if it is a mean
            energy in nats, for the guard watches those.
        limits: magnitudes above which other metrics, by name, are signs of divergence to the guard.

    Raises:
        ValueError: a limit of what is no metric.
    """

    player: str
    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.limits.keys() <= self.metrics.keys():
            raise ValueError(f"limits are of metrics, got {sorted(self.limits)} and metrics {sorted(self.metrics)}")

    @property
    def watched(self) -> dict[str, Tensor]:
        """What the divergence guard looks at: the loss, metrics with limits, and every one whose name begins with ``energy``.

        The name alone decides, so that a loss need not say it twice. A mean over no rows is NaN, and to the guard a sign of
        divergence: leave such a metric out.

        >>> sorted(Update("energy", torch.ones(()), {"energy_data": torch.ones(()), "accuracy": torch.ones(())}).watched)
        ['energy_data', 'loss']
        """
        watched = {
            name: value for name, value in self.metrics.items() if name.startswith("energy") or name in self.limits
        }
        return {"loss": self.loss.detach(), **watched}


class Objective(Protocol):
    """Several players that take turns, as a coroutine.

    ``updates`` yields; the engine steps that player and resumes it, so code after a ``yield`` sees the new parameters.
    A player may have one turn in a round, several or none. Learning-rate schedules and the moving average count rounds.

    An objective with parameters or buffers of its own is an ``nn.Module``: it then moves to the engine's device, trains in
    training mode and is part of every checkpoint.

    Where the energy is of other rows than the batch's, ``rows_of_energy(batch)`` gives some: compilation is tried on them.

    Where the energy, the objective or a module inside them has a method ``constrain()``, it keeps its parameters legal: it is
    called without gradients right after each step of a player who owns a parameter in that module, so later turns of the
    round, and all that is kept, see legal values. It must change them in place (``self.scale.clamp_(min=0.01)``) and do
    nothing where they are legal already. Modules whose parameters did not move are left alone, for a graph made through
    them earlier in the round may still wait for its turn.
    """

    def players(self, energy: torch.nn.Module, /) -> Mapping[str, Sequence[Parameter]]:
        """Parameters of each player, by name, in the order of their turns."""
        ...

    def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Update]:
        """The turns of one round."""
        ...
