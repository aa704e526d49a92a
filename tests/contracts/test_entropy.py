"""Every estimator of a generator's entropy keeps the protocol of `chainfree.entropy.EntropyEstimator`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from chainfree import entropy
from chainfree.checks import ContractError
from chainfree.entropy import (
    EntropyEstimate,
    ExactLinear,
    HMCPosterior,
    ImportancePosterior,
    LearnedPosterior,
    LocalVolume,
    PreconditionedSteps,
    PriorBank,
)
from chainfree.generators import (
    BatchNorm,
    DeconvGenerator,
    Draw,
    LatentGenerator,
    LinearGenerator,
    MLPGenerator,
    ResidualGenerator,
)

LATENT = 4

CASES: dict[str, Callable[[], Any]] = {
    "exact-linear": ExactLinear,
    "local-volume": lambda: LocalVolume(LATENT),
    "local-volume-1": lambda: LocalVolume(LATENT, iterations=1),
    "prior-bank": PriorBank,
    "prior-bank-extra": lambda: PriorBank(extra=4),
    "importance": lambda: ImportancePosterior(LATENT),
    "importance-chunked": lambda: ImportancePosterior(LATENT, draws=7, chunk=3, control_variate=True),
    "steps": lambda: PreconditionedSteps(LATENT),
    "steps-drawn": lambda: PreconditionedSteps(LATENT, steps=2, draws=5, chunk=2, control_variate=False),
    "langevin": lambda: PreconditionedSteps(LATENT, steps=4, kind="langevin"),
    "hmc": HMCPosterior,
    "hmc-covariance": lambda: HMCPosterior(burn_in=1, keep=1, leapfrog=2, identity="covariance"),
}

GENERATORS: dict[str, Callable[[], LatentGenerator]] = {
    "linear": lambda: LinearGenerator(torch.randn(4, LATENT)),
    "mlp": lambda: MLPGenerator(LATENT, 2, width=8, depth=2),
    "mlp-batch-norm": lambda: MLPGenerator(LATENT, 5, width=8, depth=2, batch_norm=True),
    "residual": lambda: ResidualGenerator(LATENT, 2, width=8, depth=1),
    "deconv": lambda: DeconvGenerator(LATENT, size=8, widths=(4, 3)),
    "deconv-plain": lambda: DeconvGenerator(
        LATENT, channels=2, size=4, widths=(3,), batch_norm=False, activation="silu"
    ),
}

PAIRS = [(name, net) for name in CASES for net in GENERATORS if name != "exact-linear" or net == "linear"]
DETERMINISTIC = {"exact-linear", "prior-bank", "steps"}


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _double(estimator: Any) -> Any:
    return estimator.double() if isinstance(estimator, nn.Module) else estimator


def _state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(params=PAIRS, ids="-on-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, LatentGenerator]:
    name, net = request.param
    return name, GENERATORS[net]()


def test_no_estimator_is_left_out() -> None:
    # a record, a protocol, a base class, a function
    others = {"EntropyEstimate", "EntropyEstimator", "LearnedPosterior", "local_log_prob"}
    assert set(entropy.__all__) - others == {type(make()).__name__ for make in CASES.values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_finite_number_a_sample_and_detached_metrics(pair: tuple[str, LatentGenerator], dtype: torch.dtype) -> None:
    name, net = pair
    net.to(dtype)
    estimator = CASES[name]()
    estimator = estimator.to(dtype) if isinstance(estimator, nn.Module) else estimator
    estimate = estimator(net, net.sample(6, generator=_seeded()), generator=_seeded(1))
    assert isinstance(estimate, EntropyEstimate)
    assert estimate.surrogate.shape == (6,)
    assert estimate.surrogate.dtype == dtype
    assert torch.isfinite(estimate.surrogate).all()
    assert estimate.surrogate.requires_grad
    for metric, value in estimate.metrics.items():
        assert value.shape == (), metric
        assert not value.requires_grad, metric
        assert torch.isfinite(value), metric
        assert not metric.startswith("energy"), metric  # the guard would watch it


def test_a_finite_gradient_reaches_the_generator_alone(pair: tuple[str, LatentGenerator]) -> None:
    name, net = pair
    net.double()
    estimator = _double(CASES[name]())
    with torch.no_grad():
        net.log_sigma.zero_()  # wide, so that kernels overlap also in images
    draw = net.sample(6, generator=_seeded())
    estimator(net, draw, generator=_seeded(1)).surrogate.mean().backward()
    assert net.log_sigma.grad is not None and float(net.log_sigma.grad.abs()) > 1e-6
    for label, parameter in net.named_parameters():
        # what shifts or fixes g as a whole is no part of its spread: the entropy need not reach it
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), label
        if label.endswith("weight"):
            assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, label
    if isinstance(estimator, nn.Module):
        assert all(parameter.grad is None for parameter in estimator.parameters())


def test_the_given_source_is_the_only_randomness(pair: tuple[str, LatentGenerator]) -> None:
    name, net = pair
    draw = net.sample(6, generator=_seeded())
    before, gradients = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        surrogate = CASES[name]()(net, draw, generator=_seeded(seed)).surrogate.sum()
        gradients += torch.autograd.grad(surrogate, net.log_sigma, retain_graph=True)
    one, same, other = gradients
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (name in DETERMINISTIC)


def test_nothing_of_the_generator_or_the_draw_changes(pair: tuple[str, LatentGenerator]) -> None:
    name, net = pair
    net.sample(5, generator=_seeded(3))
    draw = net.sample(6, generator=_seeded())
    kept, before, source = [rows.detach().clone() for rows in draw[:4]], _state(net), _seeded(1)
    held = [value.detach().clone() for value in itertools.chain(*draw.statistics)]
    estimator = CASES[name]()
    estimate = estimator(net, draw, generator=source)
    if isinstance(estimator, LearnedPosterior):
        estimator.loss(net, draw, source).backward(inputs=list(estimator.parameters()))
    assert _same(net.state_dict(), before)
    assert net.training
    assert all(torch.equal(rows, old) for rows, old in zip(draw[:4], kept, strict=True))
    assert all(torch.equal(value, old) for value, old in zip(itertools.chain(*draw.statistics), held, strict=True))
    assert [rows.requires_grad for rows in draw[:4]] == [True, False, True, False]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    estimate.surrogate.mean().backward(inputs=list(net.parameters()))  # the graph is whole
    assert _same(net.state_dict(), before)


def test_without_gradients_it_is_the_same_number(pair: tuple[str, LatentGenerator]) -> None:
    name, net = pair
    draw = net.double().sample(6, generator=_seeded())
    with torch.no_grad():
        quiet = _double(CASES[name]())(net, draw, generator=_seeded(1)).surrogate
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, _double(CASES[name]())(net, draw, generator=_seeded(1)).surrogate.detach())


def test_autocast_does_not_make_it_coarse(pair: tuple[str, LatentGenerator]) -> None:
    """Derivatives that are taken inside would be in bf16, whatever the forward pass was in."""
    name, net = pair
    draw = net.sample(6, generator=_seeded())
    plain = CASES[name]()(net, draw, generator=_seeded(1)).surrogate
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = CASES[name]()(net, draw, generator=_seeded(1)).surrogate
    assert torch.equal(under, plain)


def test_a_seen_batch_norm_is_the_one_that_made_the_samples() -> None:
    """Values do not depend on the batch statistics of the estimator's own passes, nor on what was sampled since."""
    net = MLPGenerator(LATENT, 4, width=8, depth=1, batch_norm=True).double()
    draw = net.sample(50, generator=_seeded())
    net.sample(20, generator=_seeded(5))
    ((mean, variance),) = draw.constants
    frozen = copy.deepcopy(net).eval()
    for module in frozen.modules():
        if isinstance(module, BatchNorm):
            module.running_mean.copy_(mean)
            module.running_variance.copy_(variance)
    for name in ("local-volume", "importance", "steps", "langevin", "hmc", "hmc-covariance"):
        estimator, other = _double(CASES[name]()), _double(CASES[name]())
        one = estimator(net, draw, generator=_seeded(1)).surrogate.detach()
        two = other(frozen, draw._replace(statistics=()), generator=_seeded(1)).surrogate.detach()
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("net", ["mlp-batch-norm", "deconv"])
@pytest.mark.parametrize("name", ["local-volume", "hmc-covariance", "prior-bank-extra"])
def test_it_differentiates_through_the_batch_statistics(name: str, net: str) -> None:
    """Weights before a batch norm have no scale, so no gradient along themselves."""
    made = GENERATORS[net]().double()
    layers = [module for module in made.modules() if isinstance(module, nn.Linear | nn.ConvTranspose2d)][:-1]
    with torch.no_grad():
        made.log_sigma.fill_(-0.5)
        for parameter in nn.ModuleList(
            layers
        ).parameters():  # so that the norms' small number under the root is nothing
            parameter.mul_(1e3)
    draw = made.sample(40, generator=_seeded())
    made.sample(20, generator=_seeded(5))
    _double(CASES[name]())(made, draw.first(30), generator=_seeded(1)).surrogate.mean().backward()
    for layer in layers:
        along = size = 0.0
        for parameter in layer.parameters():  # a bias of one number a pixel is scaled with them
            assert parameter.grad is not None
            along += float((parameter.detach() * parameter.grad).sum())
            size += float(parameter.detach().norm() * parameter.grad.norm())
        assert size > 0 and abs(along) < 1e-6 * size


# -- what it costs -----------------------------------------------------------------------------------------------------


class Counter:
    """Passes through a generator, in rows; a forward derivative is two forward passes, its backward four."""

    def __init__(self, net: LatentGenerator) -> None:
        self.cost = 0
        net.register_forward_hook(self._forward)

    def _forward(self, net: nn.Module, inputs: tuple[Tensor, ...], mean: Tensor) -> None:
        rows = len(mean)
        try:
            primal, tangent = forward_ad.unpack_dual(mean)
        except RuntimeError:  # no level is open
            primal, tangent = mean, None
        self.cost += rows * (1 if tangent is None else 2)
        for value, price in [(primal, 2), (tangent, 4)]:
            if value is not None and value.requires_grad:
                value.register_hook(lambda _, price=price: self._backward(price * rows))

    def _backward(self, rows: int) -> None:
        self.cost += rows


@pytest.mark.parametrize("name", [name for name in CASES if name != "prior-bank-extra"])
def test_passes_are_as_many_as_it_says(name: str) -> None:
    net = LinearGenerator(torch.randn(4, LATENT)) if name == "exact-linear" else MLPGenerator(LATENT, 4, width=8)
    draw = net.sample(6, generator=_seeded())
    counter = Counter(net)
    estimator = CASES[name]()
    if isinstance(estimator, LearnedPosterior):
        estimator.loss(net, draw, _seeded()).backward(inputs=list(estimator.parameters()))
    estimator(net, draw, generator=_seeded()).surrogate.mean().backward(inputs=list(net.parameters()))
    assert counter.cost / 6 == estimator.passes


# -- learned posteriors ------------------------------------------------------------------------------------------------

LEARNED = [name for name, make in CASES.items() if isinstance(make(), LearnedPosterior)]


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("net", GENERATORS)
def test_a_posterior_s_own_loss_reaches_its_scale(name: str, net: str) -> None:
    generator, estimator = GENERATORS[net](), CASES[name]()
    draw = generator.sample(6, generator=_seeded())
    before = torch.get_rng_state()
    losses = [estimator.loss(generator, draw, _seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert losses[0].shape == () and torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    losses[0].backward(inputs=list(estimator.parameters()))
    assert estimator.log_scale.grad is not None
    assert (estimator.log_scale.grad != 0).all()
    assert draw.x.grad_fn is not None and all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("latent", [1, LATENT + 1])
def test_a_posterior_of_other_latents_is_refused(name: str, latent: int) -> None:
    """One latent's scale would be broadcast to all of them, and its entropy counted once."""
    net = MLPGenerator(LATENT, 2, width=4)
    estimator = type(CASES[name]())(latent)
    draw = net.sample(4)
    words = rf"{type(estimator).__name__} is of {latent} latents, the generator of {LATENT}"
    with pytest.raises(ContractError, match=words):
        estimator(net, draw)
    with pytest.raises(ContractError, match=words):
        estimator.loss(net, draw)


@pytest.mark.parametrize("name", LEARNED)
def test_an_effective_sample_size_is_of_weights(name: str) -> None:
    net = GENERATORS["mlp"]()
    metrics = CASES[name]()(net, net.sample(4)).metrics
    assert ("posterior_ess" in metrics) == (name not in ("steps", "langevin"))


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LocalVolume(2, iterations=0), r"iterations must be .*got 0"),
        (lambda: LocalVolume(2, iterations=2.0), r"iterations must be .*got 2.0"),  # type: ignore[arg-type]
        (lambda: LocalVolume(0), r"latent_dim must be .*got 0"),
        (lambda: PriorBank(extra=-1), r"extra must be .*got -1"),
        (lambda: PriorBank(extra=1.5), r"extra must be a whole number of latents, got 1.5"),  # type: ignore[arg-type]
        (lambda: ImportancePosterior(0), r"latent_dim must be .*got 0"),
        (lambda: ImportancePosterior(2, draws=0), r"draws must be .*got 0"),
        (lambda: ImportancePosterior(2, chunk=0), r"chunk must be .*got 0"),
        (lambda: ImportancePosterior(2, scale=-0.1), r"scale must be .*got -0.1"),
        (lambda: PreconditionedSteps(2, steps=0), r"steps must be .*got 0"),
        (lambda: PreconditionedSteps(2, draws=-1), r"draws must be .*got -1"),
        (lambda: PreconditionedSteps(2, chunk=0), r"chunk must be .*got 0"),
        (lambda: PreconditionedSteps(2, kind="newton"), r"kind must be 'gradient' or 'langevin', got 'newton'"),  # type: ignore[arg-type]
        (lambda: HMCPosterior(burn_in=-1), r"burn_in must be .*got -1"),
        (lambda: HMCPosterior(keep=0), r"keep must be .*got 0"),
        (lambda: HMCPosterior(leapfrog=0), r"leapfrog must be .*got 0"),
        (lambda: HMCPosterior(step_size=0.0), r"step_size must be .*got 0.0"),
        (lambda: HMCPosterior(target=1.0), r"target must be .*got 1.0"),
        (lambda: HMCPosterior(identity="pair"), r"identity must be 'score' or 'covariance', got 'pair'"),  # type: ignore[arg-type]
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_the_exact_entropy_is_of_linear_generators_alone() -> None:
    net = MLPGenerator(2, 2, width=4)
    with pytest.raises(
        TypeError, match="only a LinearGenerator has an exact entropy, got a MLPGenerator; use LocalVolume"
    ):
        ExactLinear()(net, net.sample(3))


def test_a_generator_without_latents_in_it_has_no_local_volume() -> None:
    class Constant(LatentGenerator):
        def forward(self, z: Tensor) -> Tensor:
            return torch.zeros(len(z), 2)

    net = Constant(2, (2,))
    z = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="Constant is constant in its latents, so it has no local volume"):
        LocalVolume(2)(net, Draw(z, z, z, z))
