"""The entropy's gradient: its identities against closed forms, Monte Carlo and brute-force quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from chainfree.checks import ContractError
from chainfree.functional import mixture_log_prob, pair_surrogate, score_surrogate


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=_seeded(seed))


# -- the mixture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [(1,), (3,), (2, 4, 4)], ids=str)
def test_the_mixture_is_torch_s(event: tuple[int, ...]) -> None:
    x, means, log_sigma = _normal(6, *event), 1 + _normal(9, *event, seed=1), torch.tensor(-1.3, dtype=torch.float64)
    parts = Independent(Normal(means, log_sigma.exp()), len(event))
    expected = MixtureSameFamily(Categorical(logits=torch.zeros(9, dtype=torch.float64)), parts).log_prob(x)
    torch.testing.assert_close(mixture_log_prob(x, means, log_sigma), expected, rtol=1e-10, atol=1e-10)


def test_its_derivatives_are_those_of_finite_differences() -> None:
    given = [_normal(4, 2), _normal(5, 2, seed=1), torch.tensor(-0.4, dtype=torch.float64)]
    assert torch.autograd.gradcheck(mixture_log_prob, [value.requires_grad_() for value in given])


def test_far_kernels_and_many_pairs_are_torch_s_too() -> None:
    x, means, log_sigma = _normal(1700, 2), 100 * _normal(800, 2, seed=1), torch.tensor(-2.0, dtype=torch.float64)
    means[:200] = x[:200] + 0.1 * _normal(200, 2, seed=2)
    x.requires_grad_()
    kernel = -0.5 * torch.cdist(x, means).square() * math.exp(4.0)
    expected = torch.logsumexp(kernel, dim=1) - math.log(800) + 4.0 - math.log(2 * math.pi)
    found = mixture_log_prob(x, means, log_sigma)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-7)
    slopes = (torch.autograd.grad(values.sum(), x, retain_graph=True)[0] for values in (found, expected))
    torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-6)


def test_rounding_makes_no_mixture_denser_than_its_kernels() -> None:
    """Where single precision cancels, at an origin far away in units of sigma, the kernels' peak still bounds it."""
    means = 100 * _normal(50, 2).float()
    log_sigma = torch.tensor(math.log(1e-3))
    peak = -2 * (float(log_sigma) + 0.5 * math.log(2 * math.pi))
    assert float(mixture_log_prob(means, means, log_sigma).max()) <= peak + 1e-4


def test_single_precision_survives_an_origin_far_away() -> None:
    means = 0.05 * _normal(20, 3) + 100.0
    x = means[:6] + 0.02 * _normal(6, 3, seed=1)
    log_sigma = torch.tensor(math.log(0.02))
    coarse = mixture_log_prob(x.float(), means.float(), log_sigma)
    # the rows as single precision holds them
    fine = mixture_log_prob(x.float().double(), means.float().double(), log_sigma.double())
    torch.testing.assert_close(coarse.double(), fine, rtol=1e-3, atol=1e-3)


def test_autocast_does_not_make_it_coarse() -> None:
    x, means, log_sigma = _normal(6, 3).float(), _normal(9, 3, seed=1).float(), torch.tensor(-3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = mixture_log_prob(x, means, log_sigma)
    assert torch.equal(under, mixture_log_prob(x, means, log_sigma))


def test_shapes_that_do_not_fit_are_refused() -> None:
    scale = torch.zeros(())
    with pytest.raises(ContractError, match=r"\(3,\) cannot be seen by means of \(1,\)"):
        mixture_log_prob(torch.zeros(2, 3), torch.zeros(4, 1), scale)
    with pytest.raises(ContractError, match=r"second has shape \(1, 3\), the generator's mean \(2, 3\)"):
        pair_surrogate(torch.zeros(2, 3), torch.zeros(1, 3), scale)
    with pytest.raises(ContractError, match=r"reconstruction has shape \(2, 1\), the generator's mean \(2, 3\)"):
        score_surrogate(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1), scale)


# -- linear generators: everything is known ----------------------------------------------------------------------------

DIM, LATENT, SIGMA = 6, 2, 0.3


def _parameters(dim: int, latent: int, sigma: float) -> Tensor:
    """W row by row and log sigma, in one vector."""
    return torch.cat([_normal(dim, latent, seed=3).flatten(), torch.tensor([math.log(sigma)], dtype=torch.float64)])


def _exact(parameters: Tensor, dim: int) -> Tensor:
    """The gradient of log det(WW' + sigma^2 I) / 2."""

    def entropy(at: Tensor) -> Tensor:
        weight, variance = at[:-1].view(dim, -1), (2 * at[-1]).exp()
        return 0.5 * torch.logdet(weight @ weight.T + variance * torch.eye(dim, dtype=at.dtype))

    return torch.autograd.functional.jacobian(entropy, parameters)


def _posterior(parameters: Tensor, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Its means and its covariance, by conditioning the joint normal of z and x."""
    weight, variance = parameters[:-1].view(dim, -1), (2 * parameters[-1]).exp()
    gain = weight.T @ torch.linalg.inv(weight @ weight.T + variance * torch.eye(dim, dtype=x.dtype))
    return x @ gain.T, torch.eye(weight.shape[1], dtype=x.dtype) - gain @ weight


@dataclass(frozen=True)
class _Draws:
    """Of a linear generator, with its exact posterior."""

    z: Tensor
    noise: Tensor
    x: Tensor
    mean: Tensor
    others: tuple[Tensor, Tensor]


def _draws(parameters: Tensor, dim: int, n: int) -> _Draws:
    z, noise = _normal(n, (len(parameters) - 1) // dim, seed=4), _normal(n, dim, seed=5)
    x = z @ parameters[:-1].view(dim, -1).T + parameters[-1].exp() * noise
    mean, covariance = _posterior(parameters, x, dim)
    factor = torch.linalg.cholesky(covariance)
    one, other = (mean + _normal(*mean.shape, seed=seed) @ factor.T for seed in (6, 7))
    return _Draws(z, noise, x, mean, (one, other))


def _gradients(parameters: Tensor, dim: int, surrogate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Per-sample gradients, ``(n, parameters)``, of a function of W and log sigma."""
    return torch.func.jacfwd(lambda at: surrogate(at[:-1].view(dim, -1), at[-1]))(parameters)


def _by_score(parameters: Tensor, dim: int, n: int, *, control_variate: bool) -> Tensor:
    d = _draws(parameters, dim, n)
    found = d.mean @ parameters[:-1].view(dim, -1).T

    def surrogate(weight: Tensor, log_sigma: Tensor) -> Tensor:
        return score_surrogate(d.z @ weight.T, d.noise, found, log_sigma, control_variate=control_variate)

    return _gradients(parameters, dim, surrogate)


def _by_pairs(parameters: Tensor, dim: int, n: int, *, both: bool) -> Tensor:
    """z itself is a draw of its posterior; ``both`` draws the two of them afresh."""
    d = _draws(parameters, dim, n)
    one, other = d.others if both else (d.z, d.others[1])
    return _gradients(
        parameters, dim, lambda weight, log_sigma: pair_surrogate(one @ weight.T, other @ weight.T, log_sigma)
    )


def _scores(gradients: Tensor, expected: Tensor) -> Tensor:
    """How many standard errors the mean is away."""
    return (gradients.mean(0) - expected).abs() / (gradients.std(0) / math.sqrt(len(gradients)))


ESTIMATES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "score": lambda p, dim, n: _by_score(p, dim, n, control_variate=True),
    "plain score": lambda p, dim, n: _by_score(p, dim, n, control_variate=False),
    "pair with z": lambda p, dim, n: _by_pairs(p, dim, n, both=False),
    "fresh pair": lambda p, dim, n: _by_pairs(p, dim, n, both=True),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_the_mean_gradient_is_the_entropy_s(name: str) -> None:
    parameters = _parameters(DIM, LATENT, SIGMA)
    expected = _exact(parameters, DIM)
    gradients = ESTIMATES[name](parameters, DIM, 40_000)
    assert _scores(gradients, expected).max() < 4.5
    # with the power to see an error of a fifth, in the weights' gradient as a whole and in the scale's
    for part in (slice(0, -1), slice(-1, None)):
        assert _scores((gradients[:, part] @ expected[part])[:, None], 1.2 * expected[part].square().sum()).min() > 6


def test_centres_on_the_generating_latent_are_not_independent_of_it() -> None:
    """The reason for all this: with z itself as its posterior's mean, nothing is left of the weights' gradient."""
    parameters = _parameters(DIM, LATENT, SIGMA)
    d = _draws(parameters, DIM, 100)
    found = d.z @ parameters[:-1].view(DIM, -1).T
    gradients = _gradients(
        parameters, DIM, lambda weight, scale: score_surrogate(d.z @ weight.T, d.noise, found, scale)
    )
    assert gradients[:, :-1].abs().max() < 1e-12


@pytest.mark.parametrize(("dim", "latent"), [(24, 2), (15, 3)])
def test_how_much_the_control_variate_saves(dim: int, latent: int) -> None:
    """The score's noise has D - K directions off the generator's range and the rest K in it, if sigma is small."""
    parameters = _parameters(dim, latent, 0.05)
    with_it, without = (_by_score(parameters, dim, 5000, control_variate=on) for on in (True, False))
    for part in (slice(0, -1), slice(-1, None)):
        ratio = without[:, part].var(0).sum() / with_it[:, part].var(0).sum()
        assert float(ratio) == pytest.approx((dim - latent) / latent, rel=0.15)


def test_values_without_meaning_still_come_one_a_sample() -> None:
    mean, noise, log_sigma = _normal(5, 2, 3, 3).requires_grad_(), _normal(5, 2, 3, 3, seed=1), torch.zeros(())
    reconstruction = _normal(5, 2, 3, 3, seed=2).requires_grad_()
    values = score_surrogate(mean, noise, reconstruction, log_sigma)
    assert values.shape == pair_surrogate(mean, noise, log_sigma).shape == (5,)
    values.sum().backward()
    assert mean.grad is not None and reconstruction.grad is None  # the score is a constant
    torch.testing.assert_close(mean.grad, (mean - reconstruction).detach())


# -- curved generators: brute force ------------------------------------------------------------------------------------

# a generator is a function of the parameters and of latents (N, 1); the last parameter is log sigma
Curve = Callable[[Tensor, Tensor], Tensor]


def _bent_line(p: Tensor, z: Tensor) -> Tensor:
    return p[0] * torch.tanh(p[1] * z + p[2]) + p[3] * z


def _arc(p: Tensor, z: Tensor) -> Tensor:
    hidden = torch.tanh(p[0] * z + p[1])
    return torch.cat([p[2] * hidden + 0.3 * z, p[3] * hidden.square() + p[4] * z], dim=1)


def _fold(p: Tensor, z: Tensor) -> Tensor:
    """Comes back over itself: posteriors have two modes."""
    return p[0] * torch.cos(p[1] * z) + p[2] * torch.tanh(z + p[3])


CURVES: dict[str, tuple[Curve, list[float], int]] = {
    "1 -> 1, bent": (_bent_line, [1.2, 1.5, 0.3, 0.4, math.log(0.35)], 1),
    "1 -> 1, folded": (_fold, [1.0, 1.7, 0.4, 0.2, math.log(0.3)], 1),
    "1 -> 2, an arc": (_arc, [1.1, 0.2, 1.3, 0.8, 0.5, math.log(0.3)], 2),
}


def _latent_grid(n: int = 301) -> tuple[Tensor, Tensor]:
    """Nodes ``(n, 1)`` and the prior's mass at each: for smooth functions the trapezoid is exact to rounding."""
    z = torch.linspace(-7, 7, n, dtype=torch.float64)
    mass = torch.exp(-0.5 * z.square())
    return z[:, None], mass / mass.sum()


def _data_grid(curve: Curve, p: Tensor, dim: int) -> tuple[Tensor, float]:
    """Nodes that cover the generator and seven sigmas, and the volume of a cell."""
    z, mass = _latent_grid()
    means = curve(p, z)[mass > 1e-13]
    reach, step = 7 * float(p[-1].exp()), float(p[-1].exp()) / 2
    axes = [torch.arange(float(m.min()) - reach, float(m.max()) + reach, step, dtype=torch.float64) for m in means.T]
    return torch.cartesian_prod(*axes).view(-1, dim), step**dim


def _joint(curve: Curve, p: Tensor, x: Tensor) -> Tensor:
    """p(z) q(x | z) of every node of x and of z."""
    z, mass = _latent_grid()
    distance = torch.cdist(x, curve(p, z), compute_mode="donot_use_mm_for_euclid_dist").square()
    sigma = p[-1].exp()
    return mass * torch.exp(-0.5 * distance / sigma.square()) / (2 * math.pi * sigma.square()) ** (x.shape[1] / 2)


def _entropy(curve: Curve, p: Tensor, dim: int, x: Tensor, cell: float) -> float:
    density = _joint(curve, p, x).sum(1)
    assert float(density.sum()) * cell == pytest.approx(1, abs=1e-10)
    return float(-torch.xlogy(density, density).sum() * cell)


def _brute_force(curve: Curve, p: Tensor, dim: int) -> Tensor:
    """Central differences of the entropy; the grid of x is the same for all, so its error cancels too."""
    x, cell = _data_grid(curve, p, dim)
    h, found = 1e-4, []
    for number in range(len(p)):
        step = torch.zeros_like(p)
        step[number] = h
        up, down = (_entropy(curve, p + sign * step, dim, x, cell) for sign in (1, -1))
        found.append((up - down) / (2 * h))
    return torch.tensor(found, dtype=torch.float64)


@pytest.fixture(params=CURVES, ids=str)
def problem(request: pytest.FixtureRequest) -> tuple[Curve, Tensor, int, Tensor]:
    """A curve, its parameters, the data's dimension and the entropy's gradient."""
    curve, values, dim = CURVES[request.param]
    p = torch.tensor(values, dtype=torch.float64)
    return curve, p, dim, _brute_force(curve, p, dim)


def test_the_covariance_identity_by_quadrature(problem: tuple[Curve, Tensor, int, Tensor]) -> None:
    """All pairs of latents, each with its exact probability: no chance is left, so seven digits must agree."""
    curve, p, dim, expected = problem
    x, cell = _data_grid(curve, p, dim)
    joint = _joint(curve, p, x)
    density = joint.sum(1, keepdim=True)
    weights = joint.T @ (joint / density.clamp_min(1e-300)) * cell  # sum over x of q(x) p(z | x) p(z' | x)
    z, _ = _latent_grid()
    keep = weights.diagonal() > 1e-20
    weights, z = weights[keep][:, keep], z[keep]
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    at = p.clone().requires_grad_()
    means, n = curve(at, z), len(z)
    pairs = pair_surrogate(means.repeat_interleave(n, 0), means.repeat(n, 1), at[-1])
    (gradient,) = torch.autograd.grad((weights.flatten() * pairs).sum(), at)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("control_variate", [True, False])
def test_the_score_identity_by_quadrature(problem: tuple[Curve, Tensor, int, Tensor], control_variate: bool) -> None:
    """With the posterior's exact means at a grid of latents and noises."""
    curve, p, dim, expected = problem
    z, mass = _latent_grid(101)
    noise = torch.linspace(-6, 6, 41, dtype=torch.float64)
    share = torch.exp(-0.5 * noise.square())
    noises = torch.cartesian_prod(*[noise] * dim).view(-1, dim)
    shares = torch.cartesian_prod(*[share / share.sum()] * dim).view(-1, dim).prod(1)
    likely = shares > 1e-12
    noises, shares = noises[likely], shares[likely]
    keep = mass > 1e-12
    z, mass = z[keep], mass[keep]
    zs, eps = z.repeat_interleave(len(noises), 0), noises.repeat(len(z), 1)
    nodes, _ = _latent_grid(151)
    centres = curve(p, nodes)
    x = curve(p, zs) + p[-1].exp() * eps
    logits = -0.5 * torch.cdist(x, centres).square() / (2 * p[-1]).exp() - 0.5 * nodes.square().T
    reconstruction = torch.softmax(logits, dim=1) @ centres
    at = p.clone().requires_grad_()
    values = score_surrogate(curve(at, zs), eps, reconstruction, at[-1], control_variate=control_variate)
    weights = mass.repeat_interleave(len(noises)) * shares.repeat(len(z))
    (gradient,) = torch.autograd.grad((weights * values).sum(), at)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_the_covariance_identity_by_draws(problem: tuple[Curve, Tensor, int, Tensor]) -> None:
    """As it is used: the latent that made x, and one draw of its posterior, here by inversion on a grid."""
    curve, p, dim, expected = problem
    n = 10_000
    z0 = _normal(n, 1, seed=8)
    x = curve(p, z0) + p[-1].exp() * _normal(n, dim, seed=9)
    nodes, _ = _latent_grid(701)
    z = torch.empty_like(z0)
    for rows in torch.arange(n).split(2000):
        logits = -0.5 * torch.cdist(x[rows], curve(p, nodes)).square() / (2 * p[-1]).exp() - 0.5 * nodes.square().T
        z[rows] = nodes[torch.multinomial(logits.softmax(1), 1, generator=_seeded(10))[:, 0]]
    # the node's cell is filled, for the grid's own spread would be seen
    z = z + (torch.rand(n, 1, dtype=torch.float64, generator=_seeded(11)) - 0.5) * float(nodes[1] - nodes[0])
    gradients = torch.func.jacfwd(lambda at: pair_surrogate(curve(at, z0), curve(at, z), at[-1]))(p)
    assert _scores(gradients, expected).max() < 4.5
    along = gradients @ expected
    assert _scores(along[:, None], 1.2 * expected.square().sum()).min() > 6
    # a pair whose second is centred on the first would pass on too little: it is the independence that counts
    near = z0 + 0.05 * _normal(n, 1, seed=12)
    wrong = torch.func.jacfwd(lambda at: pair_surrogate(curve(at, z0), curve(at, near), at[-1]))(p)
    assert _scores(wrong, expected).max() > 20


def test_the_mixture_s_entropy_gradient_is_the_generator_s(problem: tuple[Curve, Tensor, int, Tensor]) -> None:
    """A bank of all latents is the generator: differentiated in everything, its value is the entropy."""
    curve, p, dim, expected = problem
    x, cell = _data_grid(curve, p, dim)
    at = p.clone().requires_grad_()
    # quantiles of the prior: a bank takes its members evenly
    nodes = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(1500, dtype=torch.float64) + 0.5) / 1500)[:, None]
    log_density = mixture_log_prob(x, curve(at, nodes), at[-1])
    entropy = -(log_density.exp() * log_density).sum() * cell
    assert float(entropy.detach()) == pytest.approx(_entropy(curve, p, dim, x, cell), abs=2e-3)
    (gradient,) = torch.autograd.grad(entropy, at)
    torch.testing.assert_close(gradient, expected, rtol=0.02, atol=4e-3)
