"""The estimator itself: the contrast, the chunks, the random numbers, the memory."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from chainfree.checks import ContractError
from chainfree.energies import MLP
from chainfree.functional import energy_discrepancy, stabilised_contrast
from chainfree.perturbations import Gaussian, LogUniform, MeanPool, OrnsteinUhlenbeck, Perturbation

# the contrast --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [0.0, 0.1, 1.0, 4.0])
@pytest.mark.parametrize("size", [1.0, 1e4])
@pytest.mark.parametrize("draws", [1, 5])
def test_contrast_equals_numpy(w: float, size: float, draws: int, generator: torch.Generator) -> None:
    data = size * torch.randn(7, generator=generator, dtype=torch.float64)
    other = size * torch.randn(draws, 7, generator=generator, dtype=torch.float64)
    terms = (data - other).numpy()
    with np.errstate(divide="ignore"):
        terms = np.concatenate([np.full((1, 7), np.log(w)), terms])
    expected = logsumexp(terms, axis=0) - np.log(draws)
    values = stabilised_contrast(data, other, w)
    assert torch.isfinite(values).all()
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("w", [0.0, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_contrast_and_gradient_are_finite_at_extreme_energies(w: float, sign: float) -> None:
    data = torch.tensor([sign * 1e4, 0.0], requires_grad=True)
    other = torch.tensor([[0.0, sign * 1e4], [1.0, 0.0]], requires_grad=True)
    values = stabilised_contrast(data, other, w)
    assert torch.isfinite(values).all()
    values.sum().backward()
    assert data.grad is not None
    assert other.grad is not None
    assert torch.isfinite(data.grad).all()
    assert torch.isfinite(other.grad).all()


def test_contrast_gradient_is_the_classifier_s_error(generator: torch.Generator) -> None:
    """At w = 1 the gradient in E(x) is the probability that a softmax gives to the draws."""
    data = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    other = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    stabilised_contrast(data, other, 1.0).sum().backward()
    logits = -torch.cat([data.detach().unsqueeze(0), other])
    assert data.grad is not None
    torch.testing.assert_close(data.grad, 1 - logits.softmax(0)[0])


def test_a_datum_whose_draws_all_have_infinite_energy_has_zero_gradient() -> None:
    """An energy with bounded support: the loss is log(w / M) there, and flat."""
    data = torch.zeros(1, requires_grad=True)
    other = torch.full((4, 1), math.inf, requires_grad=True)
    values = stabilised_contrast(data, other, 1.0)
    assert values.item() == pytest.approx(-math.log(4))
    values.sum().backward()
    assert data.grad is not None
    assert data.grad.tolist() == [0.0]


def test_one_draw_is_conditional_nce(generator: torch.Generator) -> None:
    energy = MLP(2, width=16, depth=2).double()
    x = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    perturbation = Gaussian(t=0.7)
    values = energy_discrepancy(
        energy, x, perturbation=perturbation, draws=1, generator=torch.Generator().manual_seed(5)
    ).values
    again = torch.Generator().manual_seed(5)
    fake = perturbation.recover(perturbation.perturb(x, generator=again), 1, generator=again)[0]
    # logistic regression that tells the datum from its noisy copy
    expected = nn.functional.binary_cross_entropy_with_logits(
        energy(fake) - energy(x), torch.ones(50, dtype=torch.float64), reduction="none"
    )
    torch.testing.assert_close(values, expected)


def test_what_it_was_made_of_is_returned(generator: torch.Generator) -> None:
    energy = MLP(2, width=8, depth=1)
    x = torch.randn(5, 2, generator=generator)
    result = energy_discrepancy(energy, x, perturbation=Gaussian(), draws=3, w=0.5, generator=generator)
    assert result.draw_energy.shape == (3, 5)
    torch.testing.assert_close(result.data_energy, energy(x))
    terms = np.exp((result.data_energy - result.draw_energy).detach().numpy().astype(np.float64))
    np.testing.assert_allclose(result.values.detach(), np.log(0.5 / 3 + terms.mean(0)), rtol=1e-5, atol=1e-6)


# chunks --------------------------------------------------------------------------------------------------------------

PERTURBATIONS: list[tuple[Perturbation, tuple[int, ...]]] = [
    (Gaussian(t=0.5), (3,)),
    (Gaussian(t=LogUniform(low=0.01, high=4.0)), (3,)),
    (OrnsteinUhlenbeck(time=0.5), (3,)),
    (MeanPool(window=2, t=0.3), (1, 4, 4)),
]


def _sizes(draws: int, chunk: int) -> list[int]:
    return [chunk] * (draws // chunk) + ([draws % chunk] if draws % chunk else [])


@pytest.mark.parametrize(("perturbation", "event"), PERTURBATIONS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(("draws", "chunk"), [(8, 4), (7, 3), (5, 1), (4, 9), (4, 4)])
@pytest.mark.parametrize("explicit", [True, False], ids=["generator", "global"])
def test_chunks_have_the_values_gradients_and_random_numbers_of_the_whole(
    perturbation: Perturbation, event: tuple[int, ...], draws: int, chunk: int, explicit: bool
) -> None:
    torch.manual_seed(11)
    network = nn.Sequential(nn.Flatten(), MLP(math.prod(event), width=8, depth=2)).double()
    x = torch.randn(6, *event, dtype=torch.float64).requires_grad_()

    def source() -> torch.Generator:
        return torch.Generator().manual_seed(3) if explicit else torch.default_generator.manual_seed(3)

    # the reference: draws made in the same order, kept, and evaluated at once, with plain autograd
    generator = source()
    perturbed = perturbation.perturb(x, generator=generator)
    kept = torch.cat([perturbation.recover(perturbed, n, generator=generator) for n in _sizes(draws, chunk)])
    state = generator.get_state()
    energies = network(kept.flatten(0, 1)).view(draws, 6)
    expected = torch.cat([torch.zeros(1, 6).double(), network(x) - energies]).exp().sum(0).div(draws).log()
    wanted = torch.autograd.grad(expected.square().sum(), [x, *network.parameters()])

    generator = source()
    result = energy_discrepancy(
        network, x, perturbation=perturbation, draws=draws, chunk=chunk, generator=generator if explicit else None
    )
    assert torch.equal(generator.get_state(), state)
    gradients = torch.autograd.grad(result.values.square().sum(), [x, *network.parameters()])
    assert torch.equal(generator.get_state(), state)  # the backward pass replays, it does not draw
    torch.testing.assert_close(result.values, expected)
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want)

    generator = source()
    with torch.no_grad():
        plain = energy_discrepancy(
            network, x, perturbation=perturbation, draws=draws, chunk=chunk, generator=generator if explicit else None
        )
    assert not plain.values.requires_grad
    torch.testing.assert_close(plain.values, expected.detach())
    assert torch.equal(generator.get_state(), state)


def test_a_generator_leaves_the_global_one_alone_in_chunks(generator: torch.Generator) -> None:
    before = torch.get_rng_state()
    energy = MLP(2, width=4, depth=1)
    after_weights = torch.get_rng_state()
    x = torch.randn(4, 2, generator=generator)
    energy_discrepancy(
        energy, x, perturbation=Gaussian(), draws=6, chunk=2, generator=generator
    ).values.sum().backward()
    assert torch.equal(torch.get_rng_state(), after_weights)
    torch.set_rng_state(before)


# memory --------------------------------------------------------------------------------------------------------------


class LiveBytes(TorchDispatchMode):
    """Follows every tensor made inside and keeps the largest number of bytes alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self.seen: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.seen:
            return
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def gone(_: Any) -> None:
            self.alive -= size
            del self.seen[key]

        self.seen[key] = weakref.ref(storage, gone)


def _peak(draws: int, chunk: int | None) -> int:
    torch.manual_seed(0)
    energy = MLP(4, width=128, depth=2)
    x = torch.randn(16, 4)
    with LiveBytes() as memory:
        energy_discrepancy(energy, x, perturbation=Gaussian(), draws=draws, chunk=chunk).values.sum().backward()
    return memory.peak


def test_chunks_bound_the_memory_of_forward_and_backward() -> None:
    whole = _peak(512, None) - _peak(64, None)
    chunked = _peak(512, 8) - _peak(64, 8)
    assert whole > 448 * 16 * 128 * 4  # activations: at least one hidden layer for every draw, so the meter works
    # what may grow are energies: a handful of (M, B) numbers, no activations and no draws
    assert 0 <= chunked < 448 * 16 * 4 * 12
    assert chunked < whole / 20


# refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 0}, "draws must be a whole number above 0, got 0"),
        ({"draws": 2.0}, "draws must be a whole number"),
        ({"draws": True}, "draws must be a whole number"),
        ({"draws": 4, "w": -0.1}, "w must be a finite number of at least 0, got -0.1"),
        ({"draws": 4, "w": math.inf}, "w must be"),
        ({"draws": 4, "w": math.nan}, "w must be"),
        ({"draws": 4, "chunk": 0}, "chunk must be a whole number above 0"),
        ({"draws": 4, "chunk": -2}, "chunk must be a whole number above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        energy_discrepancy(lambda x: x.sum(-1), torch.zeros(3, 2), perturbation=Gaussian(), **options)


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_column_of_energies_is_refused_and_not_broadcast(chunk: int | None) -> None:
    with pytest.raises(ContractError, match="squeeze the last axis"):
        energy_discrepancy(nn.Linear(2, 1), torch.zeros(3, 2), perturbation=Gaussian(), draws=4, chunk=chunk)
