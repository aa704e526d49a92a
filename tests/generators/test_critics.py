"""The critics' shapes and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from chainfree.checks import ContractError
from chainfree.generators.critics import ConvCritic, MLPCritic


@pytest.mark.parametrize(
    ("make", "event"),
    [
        (lambda: MLPCritic(3, 2, width=8, depth=2), (3,)),
        (lambda: ConvCritic(2, channels=2, size=9, widths=(4, 6), features=5, width=8), (2, 9, 9)),
    ],
)
def test_one_number_a_pair_from_both_and_from_that_pair_alone(
    make: Callable[[], nn.Module], event: tuple[int, ...]
) -> None:
    critic = make().double()
    x = torch.randn(5, *event, dtype=torch.float64, requires_grad=True)
    z = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    values = critic(x, z)
    assert values.shape == (5,) and values.dtype == torch.float64
    for given in (x, z):
        (gradient,) = torch.autograd.grad(values[2], given, retain_graph=True)
        rows = gradient.flatten(1).abs().sum(1)
        assert rows[2] > 0 and not bool(rows[[0, 1, 3, 4]].any())
    gradients = torch.autograd.grad(values.square().sum(), list(critic.parameters()))
    assert all(bool(g.any()) for g in gradients)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLPCritic(0, 2), "dim must be a whole number above 0, got 0"),
        (lambda: MLPCritic(2, 0), "latent_dim must be a whole number above 0, got 0"),
        (lambda: MLPCritic(2, 2, width=0), "width must"),
        (lambda: MLPCritic(2, 2, activation="swish"), "activation must be one of"),  # type: ignore[arg-type]
        (lambda: ConvCritic(0), "latent_dim must"),
        (lambda: ConvCritic(2, channels=0), "channels must"),
        (lambda: ConvCritic(2, features=0), "features must"),
        (lambda: ConvCritic(2, size=7, widths=(4, 4, 4)), "images of at least 8 pixels, got size=7"),
        (lambda: ConvCritic(2, widths=()), "0 widths"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_pairs_of_another_shape_are_refused() -> None:
    for critic, x in (
        (MLPCritic(3, 2), torch.zeros(5, 3)),
        (ConvCritic(2, size=8, widths=(4,)), torch.zeros(5, 1, 8, 8)),
    ):
        for wrong, z in ((x, torch.zeros(5, 3)), (x, torch.zeros(4, 2)), (x[..., :-1], torch.zeros(5, 2))):
            with pytest.raises(ContractError, match="the critic takes x of shape"):
                critic(wrong, z)
