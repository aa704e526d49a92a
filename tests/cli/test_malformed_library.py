"""Wrong shapes, types and values given to the library from a program: an error of the ValueError or TypeError family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import chainfree as cf
from chainfree.batches import SampledBatches, batches
from chainfree.checks import ContractError
from chainfree.datasets import Table
from chainfree.energies import MLP
from chainfree.engine import Engine, TrainingDivergedError
from chainfree.losses import EnergyDiscrepancy
from chainfree.perturbations import Gaussian, LogUniform

NAN, INF = float("nan"), float("inf")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    dtype=st.sampled_from(["f2", "f4", "f8", "i4", "u1", "?", "c8", "U2", "S2", "O", "M8[s]"]),
    size=st.sampled_from([1, 2, 0, -1, 6, 1.0, True, None, "2"]),
    fill=st.sampled_from([0.0, 1.0, NAN, INF]),
    labels=st.sampled_from([None, (), (2,), (3,), (3, 1)]),
)
def test_batches_are_what_was_given_or_an_error(
    shape: list[int], dtype: str, size: Any, fill: float, labels: tuple[int, ...] | None
) -> None:
    with np.errstate(all="ignore"):
        array = np.full(shape, fill).astype(np.dtype(dtype)) if dtype not in "M8[s]" else np.full(shape, 1, dtype=dtype)
    y = None if labels is None else np.zeros(labels)
    try:
        stream = batches(array, size=size, y=y, shuffle=False)
    except (ValueError, TypeError) as error:
        assert str(error)
        return
    # accepted: then these are real, finite rows, and the first batch is their beginning
    assert array.ndim >= 2 and array.dtype.kind in "fiub" and np.isfinite(array.astype(float)).all()
    assert type(size) is int and 1 <= size <= len(array)
    batch = next(stream)
    assert batch.x.shape == (size, *array.shape[1:])
    np.testing.assert_array_equal(batch.x.numpy(), array[:size].astype(batch.x.numpy().dtype))
    assert (batch.y is None) == (y is None)


RETURNS: dict[str, Callable[[Tensor], Any]] = {
    "a column": lambda x: x.sum(-1, keepdim=True),
    "a mean": lambda x: x.mean(),
    "rows": lambda x: x,
    "too few": lambda x: x[1:, 0],
    "too many": lambda x: torch.cat([x[:, 0], x[:1, 0]]),
    "integers": lambda x: x[:, 0].long(),
    "complex": lambda x: x[:, 0] * 1j,
    "nothing": lambda x: None,
    "a list": lambda x: x[:, 0].tolist(),
    "numpy": lambda x: x[:, 0].detach().numpy(),
    "a tuple": lambda x: (x[:, 0],),
}


class Returns(nn.Module):
    def __init__(self, what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.what = what

    def forward(self, x: Tensor) -> Any:
        return self.what(x * self.weight)


@pytest.mark.parametrize("name", RETURNS)
@pytest.mark.parametrize("chunk", [None, 1])
def test_an_energy_that_breaks_the_contract_is_refused_by_loss_and_engine(name: str, chunk: int | None) -> None:
    energy, loss = Returns(RETURNS[name]), EnergyDiscrepancy(draws=2, chunk=chunk)
    with pytest.raises(ContractError, match=r"the energy returned"):
        loss(energy, torch.zeros(5, 2), generator=torch.Generator().manual_seed(0))
    engine = Engine(energy, loss)
    with pytest.raises(ContractError, match=r"the energy returned"):
        engine.fit(batches(torch.randn(8, 2), size=4), steps=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EnergyDiscrepancy(draws=0),
        lambda: EnergyDiscrepancy(draws=2.0),
        lambda: EnergyDiscrepancy(draws=True),
        lambda: EnergyDiscrepancy(w=-1.0),
        lambda: EnergyDiscrepancy(w=NAN),
        lambda: EnergyDiscrepancy(w=INF),
        lambda: EnergyDiscrepancy(chunk=0),
        lambda: Gaussian(t=0.0),
        lambda: Gaussian(t=-1.0),
        lambda: Gaussian(t=NAN),
        lambda: Gaussian(t=(1.0, 0.0)),
        lambda: Gaussian(t="wide"),
        lambda: LogUniform(low=2.0, high=1.0),
        lambda: MLP(0),
        lambda: MLP(2, width=0),
        lambda: MLP(2, depth=1.5),
        lambda: MLP(2, activation="swish"),
        lambda: Engine(MLP(2), EnergyDiscrepancy(), clip=0.0),
        lambda: Engine(MLP(2), EnergyDiscrepancy(), ema=1.0),
        lambda: Engine(MLP(2), EnergyDiscrepancy(), precision="fp64"),
        lambda: Engine(MLP(2), EnergyDiscrepancy(), accumulate=0),
        lambda: Engine(MLP(2), EnergyDiscrepancy(), seed=-1),
        lambda: Engine(MLP(2).requires_grad_(False), EnergyDiscrepancy()),
        lambda: Engine(nn.Identity(), EnergyDiscrepancy()),
        lambda: Engine(MLP(2), EnergyDiscrepancy()).fit(batches(torch.zeros(4, 2), size=2), steps=0),
        lambda: Engine(MLP(2), EnergyDiscrepancy()).fit(batches(torch.zeros(4, 2), size=2), steps=1.5),
        lambda: Engine(MLP(3), EnergyDiscrepancy(perturbation=Gaussian(t=(1.0, 2.0)))).fit(
            batches(torch.zeros(4, 3), size=2), steps=1
        ),
        lambda: SampledBatches(cf.datasets.toy_density("moons"), size=0),
        lambda: Table(("a",), np.zeros((3, 2))),
        lambda: Table(("a",), np.zeros((3, 1), dtype=np.float32)),
        lambda: Table(("a",), np.full((3, 1), NAN)),
    ],
)
def test_settings_out_of_range_are_value_errors_of_one_line(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) and "\n" not in str(caught.value)


class Stream:
    """Batches with one bad row, as a caller's own stream may give them."""

    def __init__(self, bad: float) -> None:
        self.bad, self.position = bad, 0

    def __next__(self) -> cf.typing.Batch:
        x = torch.randn(8, 2, generator=torch.Generator().manual_seed(self.position))
        self.position += 1
        if self.position == 5:
            x[3, 1] = self.bad
        return cf.typing.Batch(x)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Any) -> None:
        self.position = state["position"]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_bad_row_in_a_stream_ends_training_in_a_good_state(bad: float, tmp_path: Path) -> None:
    engine = Engine(MLP(2, width=8, depth=1), EnergyDiscrepancy(), checkpoints=tmp_path)
    with pytest.raises(TrainingDivergedError, match="1 rows of the batch at step 4 hold NaN or infinite values"):
        engine.fit(Stream(bad), steps=20)
    assert all(bool(torch.isfinite(p).all()) for p in engine.energy.parameters())
