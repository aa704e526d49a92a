"""Rows to train on, and processes that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

# Imports once and forks for every training: a fresh interpreter would cost seconds each time. It never runs a backward
# pass itself, so the children start with clean autograd threads.
_ZYGOTE = """
import json, os, runpy, sys, traceback
import torch, chainfree, chainfree.engine
torch.set_num_threads(1)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        _, status = os.waitpid(order["wait"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        out = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 0
        try:
            sys.argv = order["argv"]
            runpy.run_path(order["argv"][0], run_name="__main__")
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(pid, flush=True)
"""


class Child:
    """A training process: signals go to it as to any other."""

    def __init__(self, zygote: subprocess.Popen[str], argv: list[str], log: Path) -> None:
        self._zygote = zygote
        self.log = log
        self.pid = int(self._ask({"argv": argv, "log": str(log)}))

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def until(self, holds: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"waited in vain; log: {self.log.read_text() if self.log.exists() else ''}"
            time.sleep(0.001)

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        return int(self._ask({"wait": self.pid}))

    def _ask(self, order: dict[str, object]) -> str:
        assert self._zygote.stdin is not None and self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()
        return self._zygote.stdout.readline()


@pytest.fixture(scope="session")
def zygote() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)


@pytest.fixture
def launch(zygote: subprocess.Popen[str], tmp_path: Path) -> Callable[..., Child]:
    """Run a script with arguments in a process of its own."""
    return lambda script, *args: Child(zygote, [str(script), *map(str, args)], tmp_path / "log.txt")


@pytest.fixture
def rows() -> Tensor:
    """96 rows of two features, not centred."""
    return torch.randn(96, 2, generator=torch.Generator().manual_seed(5)) * 0.7 + 0.3
