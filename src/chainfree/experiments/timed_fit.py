"""Fits of equal duration: how many steps fit into a time, and what was reached when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..engine import Engine, TrainingDivergedError
from ..engine.callbacks import Callback
from ..typing import Batches

__all__ = ["Clock", "TimedFit", "never_started", "steps_within", "timed_fit"]

_UNTIMED = 5  # steps that allocate and compile


class Clock(Callback):
    """Counts the seconds of training alone: what it does itself is taken off.

    Args:
        every: steps between looks.
        look: from the averaged model to a number of which more is better; its time does not count.
    """

    def __init__(self, every: int, look: Callable[[torch.nn.Module], float]) -> None:
        self.seconds: list[float] = []
        self.values: list[float] = []
        self.best: dict[str, Any] = {}
        self._every, self._look = every, look
        self._since, self._spent, self._total = 0.0, 0.0, 0

    def on_start(self, engine: Engine, total_steps: int) -> None:
        """Look at the start, and start to count."""
        self._total = total_steps
        self._since = _now(engine)
        self._look_at(engine)

    def on_step(self, engine: Engine) -> None:
        """Look, every few steps and at the last one."""
        if engine.step % self._every == 0 or engine.step == self._total:
            self._look_at(engine)

    def _look_at(self, engine: Engine) -> None:
        before = _now(engine)
        averaged = engine.averaged()
        value = self._look(averaged)
        self.seconds.append(before - self._since - self._spent)
        self.values.append(value)
        if value >= max(self.values):
            self.best = averaged.state_dict()
        self._spent += _now(engine) - before


@dataclass(frozen=True)
class TimedFit:
    """What :func:`timed_fit` returns.

    Args:
        steps: done.
        ended: ``"completed"``, or ``"diverged"`` where the guard gave up; the rest is then of the time until there.
        curve: seconds of training and the value then, from the start on.
        best: the averaged weights that had the best value.
        last: the averaged weights at the end.
    """

    steps: int
    ended: str
    curve: tuple[list[float], list[float]]
    best: dict[str, Any] = field(repr=False)
    last: dict[str, Any] = field(repr=False)

    @property
    def seconds(self) -> float:
        """Of training."""
        return self.curve[0][-1]


def timed_fit(
    make: Callable[[list[Callback]], Engine],
    data: Batches,
    *,
    steps: int,
    looks: int,
    look: Callable[[torch.nn.Module], float],
) -> TimedFit:
    """Train for so many steps and look at the averaged energy now and then.

    Args:
        make: an engine with these callbacks.
        data: the stream.
        steps: of the fit and of its learning-rate schedule.
        looks: how often.
        look: see :class:`Clock`.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    clock = Clock(max(1, steps // looks), look)
    engine = make([clock])
    try:
        ended = engine.fit(data, steps=steps).stopped
    except TrainingDivergedError:
        ended = "diverged"
    if ended == "interrupted":
        raise KeyboardInterrupt(f"training was stopped by {engine.interrupted_by} at step {engine.step}")
    curve = clock.seconds, clock.values
    return TimedFit(engine.step, ended, curve, clock.best, engine.averaged().state_dict())


def never_started(make: Callable[[list[Callback]], Engine], *, look: Callable[[torch.nn.Module], float]) -> TimedFit:
    """The fit of what diverged while its steps were measured: none, and the start."""
    start = make([]).averaged()
    state = start.state_dict()
    return TimedFit(0, "diverged", ([0.0], [look(start)]), state, state)


class _Rate(Callback):
    """Ends a fit after a time, and knows how long a step takes."""

    def __init__(self, seconds: float) -> None:
        self._limit = seconds
        self._since = 0.0
        self.per_step = 0.0

    def on_step(self, engine: Engine) -> None:
        if engine.step < _UNTIMED or (engine.device.type == "cuda" and engine.step % _UNTIMED):
            return  # where reading the time waits for the device, every step that does is slower than one of the fit
        now = _now(engine)
        if engine.step == _UNTIMED:
            self._since = now
            return
        self.per_step = (now - self._since) / (engine.step - _UNTIMED)
        if now - self._since > self._limit:
            engine.request_stop("measured")


def steps_within(make: Callable[[list[Callback]], Engine], data: Batches, *, seconds: float, probe: float) -> int:
    """How many steps a fit takes in ``seconds``, at least 1, by one that is thrown away.

    A fit that ends by the clock has another number of steps every time, and its schedule no end. So the rate is measured
    first, and what is recorded, the number of steps, can be repeated.

    Args:
        make: an engine with these callbacks.
        data: the stream.
        seconds: of the fit to be.
        probe: seconds that the measurement takes.

    Raises:
        KeyboardInterrupt: a signal came.
        TrainingDivergedError: within the measurement.
    """
    rate = _Rate(probe)
    # the schedule's length: the rate of learning stays near its peak, as nothing is to be learnt here
    report = make([rate]).fit(data, steps=1_000_000)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt("the measurement of a step's time was stopped")
    return max(1, round(seconds / rate.per_step))


def _now(engine: Engine) -> float:
    if engine.device.type == "cuda":  # kernels run behind: a device-to-host sync, so only where time is read
        torch.cuda.synchronize(engine.device)
    return time.perf_counter()
