"""The replay buffer of persistent chains: what is drawn, put back, and saved."""

from __future__ import annotations

import pytest
import torch

from chainfree.checks import ContractError
from chainfree.samplers import ReplayBuffer


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_chains_are_different_and_every_one_is_drawn_as_often() -> None:
    buffer = ReplayBuffer(torch.arange(10.0).unsqueeze(1))
    generator, counts = _seeded(), torch.zeros(10)
    for _ in range(2000):
        index, rows = buffer.draw(4, generator=generator)
        assert len(index.unique()) == 4 and torch.equal(rows[:, 0], index.float())
        counts[index] += 1
    error = (2000 * 0.4 * 0.6) ** 0.5
    assert bool(((counts - 800).abs() < 4 * error).all())


def test_what_is_put_back_is_there_and_nothing_else_changes() -> None:
    start = torch.randn(20, 1, 3, 3, dtype=torch.float64)
    buffer = ReplayBuffer(start)
    index, rows = buffer.draw(6, generator=_seeded())
    rows += 1.0
    assert torch.equal(buffer.chains, start)  # rows are a copy
    buffer.put(index, rows.requires_grad_())
    expected = start.clone()
    expected[index] += 1.0
    assert torch.equal(buffer.chains, expected) and not buffer.chains.requires_grad
    start.zero_()
    assert torch.equal(buffer.chains, expected)


def test_a_share_of_the_drawn_chains_starts_anew_in_its_row() -> None:
    buffer = ReplayBuffer(torch.zeros(4000, 2))
    fresh = torch.arange(1.0, 4001.0).unsqueeze(1).expand(4000, 2)
    _, rows = buffer.draw(4000, fresh=fresh, share=0.3, generator=_seeded())
    anew = rows[:, 0] > 0
    assert torch.equal(rows[anew], fresh[anew]) and not bool(rows[~anew].any())
    assert abs(int(anew.sum()) - 1200) < 4 * (4000 * 0.3 * 0.7) ** 0.5
    assert not bool(buffer.chains.any())
    none = buffer.draw(4000, fresh=fresh, share=0.0, generator=_seeded())[1]
    every = buffer.draw(4000, fresh=fresh, share=1, generator=_seeded())[1]
    assert not bool(none.any()) and torch.equal(every, fresh)


def test_the_state_dict_holds_the_chains() -> None:
    buffer, other = ReplayBuffer(torch.randn(5, 2)), ReplayBuffer(torch.zeros(5, 2))
    other.load_state_dict(buffer.state_dict())
    assert torch.equal(other.chains, buffer.chains) and len(other) == 5
    assert not list(buffer.parameters()) and buffer.double().chains.dtype == torch.float64


def test_the_generator_alone_decides() -> None:
    buffer, before = ReplayBuffer(torch.randn(50, 2)), torch.get_rng_state()
    fresh = torch.zeros(9, 2)
    first, again, other = (buffer.draw(9, fresh=fresh, share=0.5, generator=_seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_what_it_cannot_do_is_refused() -> None:
    buffer = ReplayBuffer(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="n must be at most the 3 chains there are, got 4; draw fewer or keep more"):
        buffer.draw(4)
    with pytest.raises(ValueError, match="n must be a whole number above 0, got 0"):
        buffer.draw(0)
    with pytest.raises(ValueError, match=r"share must be a probability from 0 to 1, got 1\.5"):
        buffer.draw(2, fresh=torch.zeros(2, 2), share=1.5)
    with pytest.raises(ContractError, match=r"one row for each drawn chain, \(2, 2\), got \(1, 2\)"):
        buffer.draw(2, fresh=torch.zeros(1, 2))
    with pytest.raises(ContractError, match=r"put takes rows of shape \(2, 2\), got \(2, 1\)"):
        buffer.put(torch.tensor([0, 1]), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 2 rows"):
        ReplayBuffer(torch.tensor([[0.0], [torch.nan]]))
    for rows in (torch.zeros(0, 2), torch.zeros(3, 2).long()):
        with pytest.raises(ValueError, match="rows must be floats of shape"):
            ReplayBuffer(rows)
