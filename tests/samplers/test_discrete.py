"""Samplers of codes, bits and mixed rows against enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.samplers import block_gibbs, gibbs, gibbs_with_gradients, run

SITES = [(0, 2), (2, 4), (1, 3)]
STATES = torch.tensor(list(itertools.product(range(2), range(3), range(4))), dtype=torch.float64)
TABLE = 1.5 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
BITS = torch.tensor(list(itertools.product((0, 1), repeat=4)), dtype=torch.float64)
COUPLING = torch.randn(4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def _source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _table(x: Tensor) -> Tensor:
    return TABLE[x[:, 0].long(), x[:, 1].long(), x[:, 2].long()]


def _ising(x: Tensor) -> Tensor:
    return ((x @ COUPLING) * x).sum(1) + torch.sin(3 * x).sum(1)  # no gradient tells what a flip adds


def _place(x: Tensor, states: Tensor) -> Tensor:
    return (x.unsqueeze(-2) == states).all(-1).long().argmax(-1)


def _draws(log_density: Callable[[Tensor], Tensor], states: Tensor, n: int) -> Tensor:
    return states[torch.multinomial(log_density(states).softmax(0), n, replacement=True, generator=_source(9))]


def _fits(x: Tensor, log_density: Callable[[Tensor], Tensor], states: Tensor) -> None:
    counts = np.bincount(_place(x, states).numpy(), minlength=len(states))
    assert stats.chisquare(counts, len(x) * log_density(states).softmax(0).numpy()).pvalue > 1e-3


def test_a_sweep_keeps_the_law_and_forgets_the_start() -> None:
    x = _draws(_table, STATES, 60_000)
    state, info = gibbs.step(_table, gibbs.init(_table, x), sites=SITES, generator=_source())
    _fits(state.x, _table, STATES)
    assert 0.2 < float((state.x != x).any(1).double().mean()) < 1
    torch.testing.assert_close(state.log_density, _table(state.x))
    assert bool((info.acceptance == 1).all()) and not bool(info.diverging.any())
    record = run(
        gibbs.kernel(_table, sites=SITES),
        torch.zeros(20_000, 3, dtype=torch.float64),
        draws=1,
        warmup=30,
        step_size=1.0,
        metric=False,
        generator=_source(),
    )
    _fits(record.draws[0], _table, STATES)
    assert record.acceptance is None


def test_the_last_site_is_its_conditional_whatever_it_was() -> None:
    x = torch.zeros(40_000, 3, dtype=torch.float64)
    x[::2, 2] = 3
    state, _ = gibbs.step(_table, gibbs.init(_table, x), sites=[(2, 4)], generator=_source())
    law = TABLE[0, 0].softmax(0).numpy()
    for part in (state.x[::2], state.x[1::2]):
        assert bool((part[:, :2] == 0).all())
        counts = np.bincount(part[:, 2].long().numpy(), minlength=4)
        assert stats.chisquare(counts, law * len(part)).pvalue > 1e-3


def test_values_without_a_density_are_not_drawn() -> None:
    def some(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] == 1, -torch.inf, torch.where(x[:, 0] == 2, torch.nan, 0.0))

    x = torch.zeros(1000, 1, dtype=torch.float64)
    state, info = gibbs.step(some, gibbs.init(some, x), sites=[(0, 4)], generator=_source())
    assert set(state.x.flatten().tolist()) == {0.0, 3.0} and not bool(info.diverging.any())

    def none(x: Tensor) -> Tensor:
        return torch.full((len(x),), -torch.inf, dtype=x.dtype)

    state, info = gibbs.step(none, gibbs.init(none, x), sites=[(0, 4)], generator=_source())
    assert torch.equal(state.x, x) and bool(info.diverging.all())


def test_flips_keep_the_law_and_are_in_balance() -> None:
    x = _draws(_ising, BITS, 200_000)
    state, info = gibbs_with_gradients.step(_ising, gibbs_with_gradients.init(_ising, x), generator=_source())
    _fits(state.x, _ising, BITS)
    assert 0.1 < float(info.acceptance.mean()) < 0.95
    changed = (state.x != x).sum(1)
    assert torch.equal(changed, info.accepted.long())  # one bit where accepted, none else
    ways = np.zeros((16, 16))
    np.add.at(ways, (_place(x, BITS).numpy(), _place(state.x, BITS).numpy()), 1)
    there, back = ways[np.triu_indices(16, 1)], ways.T[np.triu_indices(16, 1)]
    taken = there + back > 0
    assert taken.sum() == 32  # neighbours
    statistic = ((there - back)[taken] ** 2 / (there + back)[taken]).sum()
    assert stats.chi2(32).sf(statistic) > 1e-3


def test_the_flip_and_its_acceptance_are_those_of_the_paper() -> None:
    x = BITS[5].expand(100_000, 4)
    state, _ = gibbs_with_gradients.step(_ising, gibbs_with_gradients.init(_ising, x), generator=_source())

    def chances(bits: Tensor) -> Tensor:
        step = 1e-6  # by finite differences: nothing of autograd's
        slope = torch.stack(
            [(_ising(bits + step * e) - _ising(bits - step * e)) / (2 * step) for e in torch.eye(4, dtype=bits.dtype)],
            1,
        )
        return ((1 - 2 * bits) * slope / 2).softmax(1)

    here = chances(BITS[5:6])[0]
    for bit in range(4):
        there = BITS[5:6].clone()
        there[0, bit] = 1 - there[0, bit]
        ratio = (_ising(there) - _ising(BITS[5:6])).exp() * chances(there)[0, bit] / here[bit]
        expected = here[bit] * ratio.clamp_max(1)
        share = (state.x != x)[:, bit].double().mean()
        assert float(share) == pytest.approx(float(expected), abs=4 * math.sqrt(0.25 / 100_000))


def test_bits_of_images_and_many_steps() -> None:
    def log_density(x: Tensor) -> Tensor:
        return _ising(x.flatten(1))

    state = gibbs_with_gradients.init(log_density, torch.zeros(20_000, 1, 2, 2, dtype=torch.float64))
    source = _source()
    for _ in range(60):
        state, _ = gibbs_with_gradients.step(log_density, state, generator=source)
    assert state.x.shape == (20_000, 1, 2, 2)
    _fits(state.x.flatten(1), _ising, BITS)
    torch.testing.assert_close(state.log_density, log_density(state.x))


def test_mixed_rows_have_their_joint_law() -> None:
    """A code with three values and two numbers that are normal given it."""
    means = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-2.0, 0.0]], dtype=torch.float64)
    shares = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        code = x[:, 1].long()
        return shares.log()[code] - 0.5 * (x[:, [0, 2]] - means[code]).square().sum(1)

    record = run(
        block_gibbs.kernel(log_density, sites=[(1, 3)]),
        torch.zeros(20_000, 3, dtype=torch.float64),
        draws=1,
        warmup=150,
        step_size=0.5,
        metric=False,
        generator=_source(),
    )
    x = record.draws[0]
    code = x[:, 1].long()
    counts = np.bincount(code.numpy(), minlength=3)
    assert stats.chisquare(counts, 20_000 * shares.numpy()).pvalue > 1e-3
    for k in range(3):
        for column, mean in zip((0, 2), means[k], strict=True):
            assert stats.kstest(x[code == k, column].numpy(), stats.norm(float(mean), 1).cdf).pvalue > 1e-3
    assert record.acceptance is not None and 0.4 < float(record.acceptance) < 0.75
    torch.testing.assert_close(record.state.log_density, log_density(record.state.x))


def test_what_is_no_site_is_refused() -> None:
    x = torch.zeros(5, 3, dtype=torch.float64)
    state = gibbs.init(_table, x)
    for sites in ([], [(0, 2), (0, 2)], [(3, 2)]):
        with pytest.raises(ValueError, match="different columns from 0 to 2"):
            gibbs.step(_table, state, sites=sites)
    with pytest.raises(ValueError, match="one value only"):
        gibbs.step(_table, state, sites=[(0, 1)])
    for strange in ([2, 3], {0: 2}):
        with pytest.raises(ValueError, match="sites are pairs"):
            gibbs.step(_table, state, sites=strange)  # type: ignore[arg-type]
    for code in (0.5, -1.0, 2.0):
        off = gibbs.State(torch.full((5, 3), code, dtype=torch.float64), state.log_density)
        with pytest.raises(ContractError, match="column 0 is to hold whole numbers from 0 to 1; start the chains"):
            gibbs.step(_table, off, sites=[(0, 2)])
    with pytest.raises(ContractError, match=r"rows \(B, D\)"):
        gibbs.init(_table, torch.zeros(5, 1, 3))
    with pytest.raises(ValueError, match="take gibbs"):
        block_gibbs.step(_table, state, sites=SITES, step_size=0.1)
