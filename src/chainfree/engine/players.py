"""The players of a game: each one's parameters, optimizer and learning rate, and the moving average over all of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from .ema import MovingAverage
from .flat import FlatParameters
from .optimizers import OptimizerSettings, ScheduleSettings

__all__ = ["Players"]

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Players:
    """Steps one player at a time.

    Args:
        parameters: of each player, by name; no parameter belongs to two.
        optimizer: settings for all, or for each by name.
        schedule: of the learning rate.
        clip: largest gradient norm of a player, or ``None``.
        ema: decay of the moving average, or ``None``.

    Raises:
        ValueError: no player, one without trainable parameters, a shared parameter, settings for other players.
    """

    def __init__(
        self,
        parameters: Mapping[str, Sequence[Parameter]],
        *,
        optimizer: OptimizerSettings | Mapping[str, OptimizerSettings],
        schedule: ScheduleSettings,
        clip: float | None,
        ema: float | None,
    ) -> None:
        self.parameters = _checked(parameters)
        self._settings = _settings_by_player(optimizer, self.parameters)
        self._flat = {name: FlatParameters(group) for name, group in self.parameters.items()}
        self._optimizers = {name: self._settings[name].build(flat.buffers) for name, flat in self._flat.items()}
        self._schedule = schedule
        self._clip = clip
        self._average = None if ema is None else MovingAverage(self._buffers(), decay=ema)

    def attach(self) -> None:
        """See :meth:`FlatParameters.attach`: before every fit."""
        for flat in self._flat.values():
            flat.attach()

    def backward(self, player: str, loss: Tensor, *, first: bool) -> None:
        """Gradients of ``loss`` for this player alone; the ``first`` of a step starts from zero, others add."""
        if player not in self.parameters:
            raise ValueError(f"the objective yielded player {player!r}, but has only {sorted(self.parameters)}")
        if first:
            self._flat[player].clear_gradients()
        loss.backward(inputs=self.parameters[player])

    def step(self, player: str, *, step: int, total: int, lr_factor: float) -> None:
        """Clip and take one optimizer step."""
        flat = self._flat[player]
        flat.gather_gradients()
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(flat.buffers, self._clip, foreach=True)
        optimizer = self._optimizers[player]
        rate = self._settings[player].lr * lr_factor * self._schedule.factor(step, total)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        # autograd does not see that memory behind the parameters has changed: a graph from before this step would be
        # differentiated at the new values; so it raises, as after any change in place
        torch.autograd.graph.increment_version(self.parameters[player])

    def end_round(self) -> None:
        """Move the averages, once every player has stepped."""
        if self._average is not None:
            self._average.update()

    def learning_rates(self, *, step: int, total: int, lr_factor: float) -> dict[str, float]:
        """What :meth:`step` uses, named ``lr`` or, with several players, ``lr_<player>``."""
        factor = lr_factor * self._schedule.factor(step, total)
        return {
            "lr" if len(self._settings) == 1 else f"lr_{name}": settings.lr * factor
            for name, settings in self._settings.items()
        }

    def broken(self) -> tuple[str, float] | None:
        """A player whose parameters are not finite, with their norm. A device-to-host sync."""
        for name, flat in self._flat.items():
            norm = sum(float(buffer.detach().norm()) for buffer in flat.buffers)
            if not math.isfinite(norm):
                return name, norm
        return None

    @torch.no_grad()
    def averaged_copy(self, module: AnyModule) -> AnyModule:
        """A copy of ``module`` with the averages in place of its trained parameters, in evaluation mode."""
        twin = copy.deepcopy(module)
        averages = self._averages_by_parameter()
        for theirs, ours in zip(twin.parameters(), module.parameters(), strict=True):
            theirs.copy_(averages.get(id(ours), ours))
        return twin.eval().requires_grad_(False)

    def averaged_state(self, module: nn.Module) -> dict[str, Any]:
        """The module's ``state_dict``, copied, with the averages in place of its trained parameters."""
        averages = self._averages_by_parameter()
        # keep_vars: the parameters themselves, to be found whatever a module calls them in its state
        values = {n: averages.get(id(value), value) for n, value in module.state_dict(keep_vars=True).items()}
        return {n: v.detach().clone() if isinstance(v, Tensor) else copy.deepcopy(v) for n, v in values.items()}

    @torch.no_grad()
    def restart_average(self, module: nn.Module) -> None:
        """Set the averages of a module's parameters to what they are; others keep theirs."""
        averages = self._averages_by_parameter()
        for parameter in module.parameters():
            if id(parameter) in averages:
                averages[id(parameter)].copy_(parameter)

    def state_dict(self) -> dict[str, Any]:
        """Every optimizer and the averages (not copied); the parameters belong to their modules."""
        return {
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "average": None if self._average is None else self._average.state_dict(),
        }

    def require_fits(self, state: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` if a saved state has other players, or one of the two has no moving average."""
        if set(state["optimizers"]) != set(self._optimizers):
            raise ValueError(
                f"the checkpoint has players {sorted(state['optimizers'])}, this run has {sorted(self._optimizers)}; "
                "resume with the objective it was trained with"
            )
        if (state["average"] is None) != (self._average is None):
            raise ValueError("the checkpoint and this run do not agree on ema; set it as it was")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state that :meth:`require_fits` has let pass."""
        for name, optimizer in self._optimizers.items():
            # torch keeps the tensors it is given, and they would be trained on
            optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))
            # it also takes over the saved settings, but those of this run count, as for the learning rate
            for group in optimizer.param_groups:
                group.update(asdict(self._settings[name]))
        if self._average is not None:
            self._average.load_state_dict(state["average"])

    def _buffers(self) -> list[Parameter]:
        return [buffer for flat in self._flat.values() for buffer in flat.buffers]

    def _averages_by_parameter(self) -> dict[int, Tensor]:
        """Views into the averages, by the ``id`` of the parameter that is averaged; none without a moving average."""
        if self._average is None:
            return {}
        found: dict[int, Tensor] = {}
        rest = list(self._average.averages)
        for flat in self._flat.values():
            found |= flat.unflatten(rest[: len(flat.buffers)])
            rest = rest[len(flat.buffers) :]
        return found


def _checked(players: Mapping[str, Sequence[Parameter]]) -> dict[str, list[Parameter]]:
    if not players:
        raise ValueError("the objective has no player; return at least one from players()")
    for name, parameters in players.items():
        if not parameters:
            raise ValueError(f"player {name!r} has no trainable parameter; is requires_grad off?")
    ids = [id(p) for parameters in players.values() for p in parameters]
    if len(ids) != len(set(ids)):
        raise ValueError("two players share a parameter; each parameter must belong to one optimizer")
    return {name: list(parameters) for name, parameters in players.items()}


def _settings_by_player(
    settings: OptimizerSettings | Mapping[str, OptimizerSettings], players: Mapping[str, Any]
) -> dict[str, OptimizerSettings]:
    if isinstance(settings, OptimizerSettings):
        return dict.fromkeys(players, settings)
    if set(settings) != set(players):
        raise ValueError(f"optimizer names players {sorted(settings)}, the objective has {sorted(players)}")
    return dict(settings)
