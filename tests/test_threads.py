"""Threads are for all who compute."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_info, threadpool_limits

from chainfree.threads import use_threads


def test_torch_and_linear_algebra_are_told() -> None:
    before = torch.get_num_threads()
    with threadpool_limits():  # puts back what it finds
        try:
            use_threads(2)
            use_threads(1)
            found = [pool["num_threads"] for pool in threadpool_info()]
            assert torch.get_num_threads() == 1
            assert found and set(found) == {1}
        finally:
            torch.set_num_threads(before)
