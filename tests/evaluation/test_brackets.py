"""Bounds on log Z, on a Gaussian energy whose log Z is known and generators whose divergence from it is."""

from __future__ import annotations

import math

import pytest
import torch

from chainfree.energies import Gaussian
from chainfree.evaluation import log_z_bounds
from chainfree.generators import LinearGenerator

LOG_Z = math.log(2 * math.pi)  # of |x|^2 / 2 in the plane


def _energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().sum(1)


def _net(scale: float) -> LinearGenerator:
    return LinearGenerator(scale * torch.eye(2, dtype=torch.float64), sigma=0.3)


def _source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _exact(n: int) -> torch.Tensor:
    return Gaussian(torch.zeros(2, dtype=torch.float64)).sample(n, generator=_source(5))


def test_they_close_on_log_z_where_the_generator_fits() -> None:
    found = log_z_bounds(_energy, _net(math.sqrt(1 - 0.09)), samples=4000, rows=_exact(4000), generator=_source())
    assert found.importance.value == pytest.approx(LOG_Z, abs=4 * found.importance.standard_error)
    assert found.variational == pytest.approx(LOG_Z, abs=0.05)
    assert found.upper is not None and found.upper == pytest.approx(LOG_Z, abs=0.05)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_each_is_off_by_its_divergence(scale: float) -> None:
    found = log_z_bounds(_energy, _net(scale), samples=4000, rows=_exact(8000), generator=_source())
    variance = scale**2 + 0.09
    reverse = variance - 1 - math.log(variance)  # twice that of one dimension, which is half of this
    forward = 1 / variance - 1 + math.log(variance)
    assert found.variational == pytest.approx(LOG_Z - reverse, abs=0.05)
    assert found.variational <= found.importance.value
    assert found.upper is not None and found.upper_error is not None
    # the bank's tails are lighter than the generator's, which only raises the upper bound
    assert found.upper > LOG_Z + forward - 4 * found.upper_error - 0.02


def test_without_rows_there_is_no_upper_bound_and_the_mode_stays() -> None:
    net = _net(1.0).train()
    found = log_z_bounds(_energy, net, samples=100, generator=_source())
    assert found.upper is None and found.upper_error is None and net.training
    again = log_z_bounds(_energy, net, samples=100, generator=_source())
    assert again == found


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        log_z_bounds(_energy, _net(1.0), samples=1)
    with pytest.raises(ValueError, match="not finite on the generator's samples"):
        log_z_bounds(lambda x: torch.full((len(x),), torch.nan), _net(1.0), samples=10)
