"""Points of the path: values and gradients of many rows, in parts that memory can hold."""

from __future__ import annotations

import torch
from torch import Tensor

from chainfree.blocks import rows_at_a_time
from chainfree.energies import GaussianMixture
from chainfree.samplers.path import place


def test_more_rows_than_are_taken_at_once_have_the_same_values_and_gradients() -> None:
    energy = GaussianMixture(torch.tensor([[-1.0], [2.0]], dtype=torch.float64), 0.5)
    x = torch.linspace(-4, 4, 70_000, dtype=torch.float64).unsqueeze(1)
    asked: list[int] = []

    def watched(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return -energy(rows)

    found = place(watched, None, torch.ones(1, dtype=x.dtype), x)
    assert asked == [65_536, 70_000 - 65_536]
    rows = x.clone().requires_grad_()
    torch.testing.assert_close(found.target, -energy(rows).detach())
    torch.testing.assert_close(found.target_gradient, -torch.autograd.grad(energy(rows).sum(), rows)[0])


def test_fewer_images_than_short_rows_are_taken_at_once() -> None:
    assert rows_at_a_time(torch.zeros(1, 2)) == 65_536
    assert rows_at_a_time(torch.zeros(1, 3, 64, 64)) == (1 << 22) // (3 * 64 * 64)
    assert rows_at_a_time(torch.zeros(1, 5000, 5000)) == 1
