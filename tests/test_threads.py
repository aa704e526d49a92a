"""Threads are for all who compute."""

from __future__ import annotations

import numpy  # noqa: F401  (its linear algebra is the one that is looked at)
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from chainfree.threads import use_threads


def test_torch_and_linear_algebra_are_told() -> None:
    before = torch.get_num_threads()
    with threadpool_limits():  # puts back what it finds
        try:
            for threads in (2, 1):
                use_threads(threads)
                assert torch.get_num_threads() == threads
                found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
                assert found and set(found) == {threads}
        finally:
            torch.set_num_threads(before)
