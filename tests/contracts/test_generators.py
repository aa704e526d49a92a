"""Every latent generator: one draw, one decoder, all randomness from one source."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from chainfree import generators
from chainfree.checks import ContractError
from chainfree.generators import (
    BatchNorm,
    DeconvGenerator,
    LatentGenerator,
    LinearGenerator,
    MixtureGenerator,
    MLPGenerator,
    ResidualGenerator,
    UpsamplingGenerator,
)
from chainfree.generators.base import log_prior

CASES: dict[str, Callable[[], LatentGenerator]] = {
    "linear": lambda: LinearGenerator(torch.randn(5, 3), torch.randn(5)),
    "linear-wide": lambda: LinearGenerator(torch.randn(2, 4)),
    "mlp": lambda: MLPGenerator(2, 3, width=8, depth=2),
    "mlp-batch-norm": lambda: MLPGenerator(3, 2, width=8, depth=2, batch_norm=True),
    "mixture": lambda: MixtureGenerator(
        torch.tensor([1.0, 3.0]),
        torch.tensor([[-3.0, 0.0], [3.0, 1.0]]),
        torch.diag(torch.tensor([0.5, 2.0]))[None],
        width=8,
    ),
    "residual": lambda: ResidualGenerator(2, 2, width=8, depth=2),
    "residual-narrow": lambda: ResidualGenerator(2, 5, width=8, depth=1, scale=2.0, seed=3),
    "residual-wide": lambda: ResidualGenerator(5, 2, width=8, depth=1),
    "deconv": lambda: DeconvGenerator(4, size=8, widths=(6, 4)),
    "deconv-plain": lambda: DeconvGenerator(
        3, channels=3, size=4, widths=(5,), batch_norm=False, output="none", activation="silu"
    ),
    "upsampling": lambda: UpsamplingGenerator(3, channels=2, size=4, widths=(5, 4), blocks=2, output="sigmoid"),
}


@pytest.fixture(params=CASES, ids=str)
def net(request: pytest.FixtureRequest) -> LatentGenerator:
    return CASES[request.param]().double()


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _state(net: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(net.state_dict())


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _norms(net: nn.Module) -> list[BatchNorm]:
    return [module for module in net.modules() if isinstance(module, BatchNorm)]


def test_no_generator_is_left_out() -> None:
    exported = {getattr(generators, name) for name in generators.__all__}
    latent = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, LatentGenerator)}
    assert latent - {LatentGenerator} == {type(make()) for make in CASES.values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("name", CASES)
def test_a_sample_is_the_mean_and_scaled_noise(name: str, n: int, dtype: torch.dtype) -> None:
    net = CASES[name]().to(dtype)
    draw = net.sample(n, generator=_seeded())
    assert draw.z.shape == (n, net.latent_dim)
    assert draw.x.shape == draw.mean.shape == draw.noise.shape == (n, *net.event_shape)
    assert {rows.dtype for rows in (*draw[:4], *itertools.chain(*draw.statistics))} == {dtype}
    assert len(draw.statistics) == len(_norms(net))
    assert net.dim == draw.x[0].numel()
    assert torch.equal(draw.x, draw.mean + net.log_sigma.exp() * draw.noise)
    assert draw.x.requires_grad
    assert not draw.z.requires_grad and not draw.noise.requires_grad


def test_the_latents_and_the_noise_are_standard_normal(net: LatentGenerator) -> None:
    draw = net.sample(1500, generator=_seeded(1))
    for rows in (draw.z, draw.noise):
        assert stats.kstest(rows.flatten().numpy(), "norm").pvalue > 1e-4
    latents, noise = draw.z[:, 0].numpy(), draw.noise.flatten(1)[:, 0].numpy()
    assert stats.pearsonr(latents, noise).pvalue > 1e-4


def test_the_given_source_is_the_only_randomness(net: LatentGenerator) -> None:
    before = torch.get_rng_state()
    one, same, other = (net.sample(4, generator=_seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.x, same.x)
    assert not torch.equal(one.z, other.z)
    assert not torch.equal(one.noise, other.noise)
    net.sample(4)  # without one it is torch's own
    assert not torch.equal(torch.get_rng_state(), before)


def test_decoding_is_the_pass_that_made_the_samples(net: LatentGenerator) -> None:
    draw = net.sample(9, generator=_seeded())
    other = net.sample(30, generator=_seeded(7))  # a later batch, as of another coroutine
    before = _state(net)
    for one in (draw, other, draw):
        assert torch.equal(net.decode(one.z, one.statistics), one.mean)
        assert torch.equal(net.decode(one.z, one.constants), one.mean)
    # other batches: one row, a part, and many times as many around one latent
    held = draw.statistics
    torch.testing.assert_close(net.decode(draw.z[4:5], held), draw.mean[4:5], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.decode(draw.z[:3], held), draw.mean[:3], rtol=1e-12, atol=1e-12)
    crowd = torch.cat([draw.z, draw.z[:1] + 0.1 * torch.randn(50, net.latent_dim, dtype=torch.float64)])
    torch.testing.assert_close(net.decode(crowd, held)[:9], draw.mean, rtol=1e-12, atol=1e-12)
    assert _same(net.state_dict(), before)
    assert net.training
    # also where the mode has changed since
    assert torch.equal(net.eval().decode(draw.z, held), draw.mean)


def test_decoding_has_the_sampling_pass_s_derivatives(net: LatentGenerator) -> None:
    """Also through batch statistics; without a graph where none is wanted."""
    draw = net.sample(9, generator=_seeded())
    net.sample(30, generator=_seeded(7))
    weights, parameters = (
        torch.randn(draw.mean.shape, dtype=torch.float64, generator=_seeded(1)),
        list(net.parameters()),
    )
    through, again = (
        torch.autograd.grad((mean * weights).sum(), parameters, retain_graph=True, allow_unused=True)
        for mean in (draw.mean, net.decode(draw.z, draw.statistics))
    )
    for mine, expected in zip(again, through, strict=True):
        assert (mine is None) == (expected is None)
        if mine is not None:
            torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
    assert not any(value.requires_grad for value in itertools.chain(*draw.constants))
    assert all(value.requires_grad for value in itertools.chain(*draw.statistics))
    with torch.no_grad():
        assert not any(value.requires_grad for value in itertools.chain(*net.sample(5).statistics))


def test_the_first_rows_keep_the_whole_batch_s_statistics(net: LatentGenerator) -> None:
    draw = net.sample(9, generator=_seeded())
    part = draw.first(4)
    for rows, whole in zip(part[:4], draw[:4], strict=True):
        assert torch.equal(rows, whole[:4])
    assert part.statistics is draw.statistics
    torch.testing.assert_close(net.decode(part.z, part.statistics), part.mean, rtol=1e-12, atol=1e-12)
    assert all(rows is not None and len(rows) == 9 for rows in draw.first(None)[:4])


def test_nothing_of_a_draw_outlives_it(net: LatentGenerator) -> None:
    draw = net.sample(9, generator=_seeded())
    copy.deepcopy(net)  # which tensors inside a graph do not allow
    watched = [weakref.ref(value) for value in (draw.mean, *itertools.chain(*draw.statistics))]
    net.decode(draw.z, draw.statistics)
    del draw
    gc.collect()
    assert not any(reference() is not None for reference in watched)


def test_decoding_that_fails_leaves_nothing_behind(net: LatentGenerator) -> None:
    draw = net.sample(5)
    before = _state(net)
    with pytest.raises(RuntimeError):
        net.decode(torch.zeros(3, net.latent_dim + 1, dtype=torch.float64), draw.statistics)
    assert _same(net.state_dict(), before)
    net.sample(5)
    assert _norms(net) == [] or not _same(net.state_dict(), before)  # it takes statistics again


def test_statistics_that_are_not_the_generator_s_are_refused() -> None:
    net, plain = CASES["deconv"](), CASES["deconv-plain"]()
    draw = net.sample(5)
    with pytest.raises(ContractError, match="batch norms in training mode, so decode needs the statistics of a draw"):
        net.decode(draw.z)
    with pytest.raises(ContractError, match="fewer statistics than batch norms"):
        net.decode(draw.z, draw.statistics[:1])
    with pytest.raises(ContractError, match="more statistics than batch norms"):
        net.decode(draw.z, (*draw.statistics, *draw.statistics))
    with pytest.raises(ContractError, match="more statistics than batch norms"):
        plain.decode(plain.sample(2).z, draw.statistics)


def test_decoding_is_differentiable_forwards_and_backwards(net: LatentGenerator) -> None:
    """Both Jacobians against central differences."""
    draw = net.sample(6, generator=_seeded())
    z, along = draw.z, torch.randn(draw.z.shape, dtype=torch.float64, generator=_seeded(2))
    h = 1e-6
    with torch.no_grad():
        ahead, behind = net.decode(z + h * along, draw.constants), net.decode(z - h * along, draw.constants)
        expected = (ahead - behind) / (2 * h)
    _, forward = torch.func.jvp(lambda at: net.decode(at, draw.statistics), (z,), (along,))
    torch.testing.assert_close(forward, expected, rtol=1e-6, atol=1e-7)
    at = z.clone().requires_grad_()
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=_seeded(3))
    (backward,) = torch.autograd.grad((net.decode(at, draw.statistics) * weights).sum(), at)
    torch.testing.assert_close((backward * along).sum(), (weights * expected).sum(), rtol=1e-6, atol=1e-7)


def test_the_noise_scale_is_put_back_into_its_bounds(net: LatentGenerator) -> None:
    place = net.log_sigma.data_ptr()
    for value, expected in [(5.0, 0.3), (1e-6, 0.01), (0.2, 0.2)]:
        with torch.no_grad():
            net.log_sigma.fill_(math.log(value))
        net.constrain()
        assert float(net.sigma.detach()) == pytest.approx(expected, rel=1e-12)
    before = _state(net)
    net.constrain()
    assert _same(net.state_dict(), before)
    assert net.log_sigma.data_ptr() == place and net.log_sigma.requires_grad


def _shifts_that_are_taken_off(net: nn.Module) -> set[str]:
    """Biases of one number a feature right before a batch norm, which subtracts them again."""
    names: set[str] = set()
    for prefix, module in net.named_modules():
        if isinstance(module, nn.Sequential):
            for number, (layer, following) in enumerate(zip(module, [*module[1:], nn.Identity()], strict=True)):
                if isinstance(following, BatchNorm) and hasattr(layer, "bias"):
                    names.add(f"{prefix}.{number}.bias")
    return names


def test_a_gradient_reaches_every_parameter(net: LatentGenerator) -> None:
    draw = net.sample(20, generator=_seeded())
    (draw.x * torch.randn(draw.x.shape, dtype=torch.float64, generator=_seeded(1))).sum().backward()
    idle = _shifts_that_are_taken_off(net)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        if name in idle:
            assert parameter.grad.abs().max() < 1e-10, name
        else:
            assert parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize("name", CASES)
def test_a_state_is_restored_with_its_running_statistics(name: str) -> None:
    one, other = CASES[name](), CASES[name]()
    for seed in range(3):
        one.sample(10, generator=_seeded(seed))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.05)
    z = torch.randn(4, one.latent_dim, generator=_seeded(9))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.eval()(z), one.eval()(z))
    assert torch.equal(other.decode(z), one.decode(z))
    assert torch.equal(other.sigma, one.sigma)


@pytest.mark.parametrize("training", [True, False])
def test_recalibrated_statistics_are_the_plain_mean_of_torch_s(training: bool) -> None:
    """Of the unbiased variance, as running ones are; what was there before is forgotten."""
    net = CASES["mlp-batch-norm"]().double()
    norms, first = _norms(net), net.layers[0]  # type: ignore[union-attr,index]
    net.sample(5)
    net.train(training).recalibrate(6, batches=4, generator=_seeded(3))
    theirs, source = nn.BatchNorm1d(8, momentum=None).double(), _seeded(3)
    for _ in range(4):
        theirs(first(net.latents(6, source)).detach())  # type: ignore[operator]
    torch.testing.assert_close(norms[0].running_mean, theirs.running_mean)
    torch.testing.assert_close(norms[0].running_variance, theirs.running_var)
    assert net.training == training
    net.train()
    before = norms[0].running_mean.clone()
    ((mean, _), _) = net.sample(7, generator=_seeded(1)).constants
    torch.testing.assert_close(norms[0].running_mean, 0.9 * before + 0.1 * mean)  # the usual average goes on


def test_in_evaluation_mode_rows_are_their_own(net: LatentGenerator) -> None:
    for seed in range(3):
        net.sample(10, generator=_seeded(seed))
    net.eval()
    before = _state(net)
    draw = net.sample(6, generator=_seeded(4))
    assert _same(net.state_dict(), before)
    assert draw.statistics == ()
    assert torch.equal(net.decode(draw.z), draw.mean)
    torch.testing.assert_close(net(draw.z[2:3]), draw.mean[2:3], rtol=1e-12, atol=1e-12)
    assert net.sample(1).x.shape == (1, *net.event_shape)


def test_the_likelihood_is_the_noise_s(net: LatentGenerator) -> None:
    draw = net.sample(6, generator=_seeded())
    with torch.no_grad():
        others = draw.mean + torch.randn(3, *draw.mean.shape, dtype=torch.float64, generator=_seeded(1))
        values = net.log_likelihood(draw.x, others)
    assert values.shape == (3, 6)
    x, means, scale = draw.x.detach().numpy(), others.numpy(), float(net.log_sigma.detach().exp())
    expected = stats.norm.logpdf(x, means, scale).reshape(3, 6, -1).sum(-1)
    torch.testing.assert_close(values, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


def test_autocast_does_not_make_samples_coarse(net: LatentGenerator) -> None:
    """bf16 has three digits; the score divides differences by the square of a small number."""
    net.float()
    plain = net.sample(5, generator=_seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        draw = net.sample(5, generator=_seeded())
        again = net.decode(draw.z, draw.statistics)
    assert draw.x.dtype == again.dtype == torch.float32
    assert torch.equal(draw.x, plain.x)
    assert torch.equal(again, plain.mean)


def test_the_prior_s_density() -> None:
    z = torch.randn(2, 5, 3, dtype=torch.float64)
    expected = stats.multivariate_normal(torch.zeros(3).numpy()).logpdf(z.numpy())
    torch.testing.assert_close(log_prior(z), torch.from_numpy(expected))


def test_a_mean_of_another_shape_is_refused() -> None:
    class Flat(LatentGenerator):
        def forward(self, z: Tensor) -> Tensor:
            return z[:, :1]

    with pytest.raises(ContractError, match=r"Flat returned shape \(4, 1\) for 4 latents; return \(4, 3\)"):
        Flat(2, (3,)).sample(4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLPGenerator(0, 2), r"latent_dim must be .*got 0"),
        (lambda: MLPGenerator(2.0, 2), r"latent_dim must be .*got 2.0"),  # type: ignore[arg-type]
        (lambda: MLPGenerator(2, -1), r"event_shape must be .*got -1"),
        (lambda: MLPGenerator(2, 2, width=0), r"width must be .*got 0"),
        (lambda: MLPGenerator(2, 2, depth=0), r"depth must be .*got 0"),
        (lambda: MLPGenerator(2, 2, activation="sine"), r"activation must be one of .*got 'sine'"),  # type: ignore[arg-type]
        (lambda: MLPGenerator(2, 2, sigma=0.5), r"sigma must lie within sigma_bounds, got 0.5 and \(0.01, 0.3\)"),
        (lambda: MLPGenerator(2, 2, sigma=math.nan), r"sigma must lie within .*got nan"),
        (lambda: MLPGenerator(2, 2, sigma_bounds=(0.0, 0.3)), r"sigma_bounds must be .*got 0.0"),
        (lambda: MLPGenerator(2, 2, sigma_bounds=(0.01, math.inf)), r"sigma must lie within .*inf"),
        (lambda: MLPGenerator(2, 2, sigma_bounds=(0.3, 0.1)), r"sigma must lie within .*\(0.3, 0.1\)"),
        (lambda: ResidualGenerator(2, 2, scale=0.0), r"scale must be .*got 0.0"),
        (lambda: ResidualGenerator(2, 2, width=0), r"width must be .*got 0"),
        (
            lambda: DeconvGenerator(2, size=6, widths=(4, 4)),
            r"divisible by 2 \*\* len\(widths\), got 6 for widths=\(4, 4\)",
        ),
        (lambda: UpsamplingGenerator(2, size=6, widths=(4, 4, 4)), r"divisible by 2 .*got 6 for widths=\(4, 4, 4\)"),
        (lambda: UpsamplingGenerator(2, widths=()), r"divisible .*widths=\(\)"),
        (lambda: UpsamplingGenerator(2, blocks=0), r"blocks must be .*got 0"),
        (lambda: DeconvGenerator(2, widths=()), r"divisible .*widths=\(\)"),
        (lambda: DeconvGenerator(2, widths=(4, 0)), r"widths must be .*got 0"),
        (lambda: DeconvGenerator(2, channels=0), r"event_shape must be .*got 0"),
        (lambda: DeconvGenerator(2, output="relu"), r"output must be one of tanh, sigmoid, none, got 'relu'"),  # type: ignore[arg-type]
        (lambda: LinearGenerator(torch.zeros(3)), r"\(D, K\) matrix of floats, got torch.float32 of \(3,\)"),
        (lambda: LinearGenerator(torch.eye(3).long()), r"matrix of floats, got torch.int64"),
        (lambda: LinearGenerator.pca(torch.randn(9, 3), 3), r"components must be from 1 to 2, got 3"),
        (lambda: LinearGenerator.pca(torch.randn(9, 3), 0), r"components must be from 1 to 2, got 0"),
        (lambda: BatchNorm(0), r"features must be .*got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
