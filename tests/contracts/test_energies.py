"""The energy contract: `(B, *event) -> (B,)`, its enforcement, and every energy that the library has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from chainfree import energies
from chainfree.checks import ContractError, energy_values
from chainfree.energies import (
    MLP,
    NICE,
    Banana,
    ConvNet,
    Coordinates,
    DoubleWell,
    FourierMLP,
    Funnel,
    Gaussian,
    GaussianClasses,
    GaussianMixture,
    InCoordinates,
    JointEnergy,
    Mixture,
    ResNet,
    Ring,
    Sum,
    TabularMarginals,
    TabularMixture,
    TabularMLP,
    Telescope,
    Tempered,
    Tilted,
    WideResNet,
)

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP": (lambda: MLP(3), (3,)),
    "TabularMixture": (lambda: TabularMixture([None, None, None], components=2), (3,)),
    "TabularMarginals": (lambda: TabularMarginals([None, None, None], components=2), (3,)),
    "TabularMLP": (lambda: TabularMLP([None, None, None]), (3,)),  # with codes: tests/energies/test_tabular.py
    "FourierMLP": (lambda: FourierMLP(2), (2,)),
    "NICE": (lambda: NICE(3, width=8), (3,)),
    "ConvNet": (lambda: ConvNet(size=8, widths=(4,)), (1, 8, 8)),
    "ResNet": (lambda: ResNet(channels=3, widths=(4,), blocks=1), (3, 5, 7)),
    "WideResNet": (lambda: WideResNet(depth=10, widen=1), (3, 5, 7)),
    "Gaussian": (lambda: Gaussian([0.0, 1.0, 2.0]), (3,)),
    "GaussianMixture": (lambda: GaussianMixture(torch.zeros(4, 2)), (2,)),
    "GaussianClasses": (lambda: GaussianClasses(torch.zeros(4, 2), torch.eye(2), torch.ones(4)), (2,)),
    "JointEnergy": (lambda: JointEnergy(MLP(2, outputs=3), classes=3), (2,)),
    "ClassEnergy": (lambda: JointEnergy(MLP(2, outputs=3), classes=3).given(1), (2,)),
    "Banana": (lambda: Banana(3), (3,)),
    "Funnel": (lambda: Funnel(4), (4,)),
    "Ring": (lambda: Ring((1.0, 2.0)), (2,)),
    "DoubleWell": (lambda: DoubleWell(2), (2,)),
    "Sum": (lambda: Sum([MLP(2), Gaussian([0.0, 0.0])]), (2,)),
    "Mixture": (lambda: Mixture([MLP(2), Gaussian([0.0, 0.0])]), (2,)),
    "Tempered": (lambda: Tempered(ConvNet(size=8, widths=(4,)), 2.0), (1, 8, 8)),
    "Tilted": (lambda: Tilted(Gaussian([0.0, 0.0]), MLP(2)), (2,)),
    "Telescope": (lambda: Telescope(Gaussian([0.0, 0.0]), [MLP(2), MLP(2)]), (2,)),
    "InCoordinates": (lambda: InCoordinates(MLP(2), Coordinates(2)), (2,)),
}


def test_no_energy_is_left_out() -> None:
    others = {
        "AnalyticEnergy",
        "ClassDensity",
        "Coordinates",
        "TemperedClasses",
        "TabularAdditive",
        "TiltedLogits",
    }  # a base class, a protocol, a map, a density of rows and classes, logits twice
    assert set(energies.__all__) - others == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_number_per_row(name: str, rows: int, dtype: torch.dtype) -> None:
    make, event = CASES[name]
    energy = make().to(dtype)
    x = torch.randn(rows, *event, dtype=dtype, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = energy_values(energy, x)
    assert values.shape == (rows,)
    assert values.dtype == dtype
    assert torch.isfinite(values).all()
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", CASES)
def test_rows_do_not_see_each_other(name: str) -> None:
    make, event = CASES[name]
    energy = make().double()
    x = torch.randn(4, *event, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(x)[2], x)
    assert not bool(gradient[[0, 1, 3]].any())
    torch.testing.assert_close(energy(x.flip(0)), energy(x).flip(0))


@pytest.mark.parametrize("name", CASES)
def test_a_state_is_restored(name: str) -> None:
    make, event = CASES[name]
    one, other = make(), make()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.1)
    other.load_state_dict(one.state_dict())
    x = torch.randn(4, *event)
    assert torch.equal(other(x), one(x))


# the enforcement -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("energy", "words"),
    [
        (lambda x: x[:, :1], r"returned shape \(4, 1\) for 4 rows of shape \(3,\); squeeze the last axis"),
        (lambda x: x.mean(), r"returned shape \(\).*one number for the whole batch; do not average over rows"),
        (lambda x: x.sum(1)[:2], r"returned shape \(2,\) for 4 rows.*one number per row"),
        (lambda x: x, r"returned shape \(4, 3\).*one number per row, shape \(B,\)"),
        (lambda x: x.sum(1, keepdim=True).T, r"returned shape \(1, 4\).*one number per row"),
        (lambda x: x.sum(1).long(), r"returned a tensor of torch.int64; it must return a floating-point tensor"),
        (lambda x: x.sum(1) > 0, r"returned a tensor of torch.bool"),
        (lambda x: 1.0, r"returned a float; it must"),
        (lambda x: None, r"returned a NoneType; it must"),
        (lambda x: (x.sum(1),), r"returned a tuple; it must"),
    ],
)
def test_breaches_are_named_with_their_remedy(energy: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        energy_values(energy, torch.zeros(4, 3))


def test_a_breach_is_a_value_error() -> None:
    assert issubclass(ContractError, ValueError)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_lifted_to_single(dtype: torch.dtype) -> None:
    values = energy_values(lambda x: x.sum(1).to(dtype), torch.ones(4, 3))
    assert values.dtype == torch.float32
    assert values.tolist() == [3.0] * 4


def test_valid_values_pass_untouched() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    kept: list[Tensor] = []

    def energy(rows: Tensor) -> Tensor:
        kept.append(rows.sum(1))
        return kept[-1]

    assert energy_values(energy, x) is kept[0]
    assert energy_values(lambda rows: rows.sum(1), torch.zeros(0, 3)).shape == (0,)
