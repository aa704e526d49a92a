"""SIGINT and SIGTERM as a request to stop after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "catching_signals"]


class StopRequest:
    """Set by a signal or by a callback, read by the training loop between steps."""

    def __init__(self) -> None:
        self.signal: str | None = None
        """The name of the signal."""
        self.asked: str | None = None
        """The callback's reason."""


@contextmanager
def catching_signals(request: StopRequest) -> Iterator[None]:
    """Note the first SIGINT or SIGTERM in ``request``; a second one acts as usual, for whoever cannot wait.

    Python delivers signals to the main thread only; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in signals}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number).name
        for each in signals:
            signal.signal(each, previous[each])

    for number in signals:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, previous[number])
