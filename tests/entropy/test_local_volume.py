"""The local volume: exact for linear generators, the full Jacobian's determinant for curved ones."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from chainfree.checks import ContractError
from chainfree.entropy import LocalVolume, local_volume
from chainfree.generators import Draw, LatentGenerator, LinearGenerator, MixtureGenerator, MLPGenerator
from chainfree.generators.base import log_prior


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=_seeded(seed))


def _signs(latent: int) -> Tensor:
    """All Rademacher probes: their mean is the trace, without chance."""
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=latent)), dtype=torch.float64)


def _enumerate(monkeypatch: pytest.MonkeyPatch, probes: Tensor) -> None:
    monkeypatch.setattr(local_volume, "_rademacher", lambda like, generator: probes)


def _at(net: LatentGenerator, z: Tensor) -> Draw:
    mean = net(z)
    return Draw(mean, z, mean, torch.zeros_like(mean))


def _projection(gradient: Tensor, exact: Tensor) -> float:
    return float((gradient * exact).sum() / exact.square().sum())


# -- linear ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize(("dim", "latent"), [(1, 1), (2, 2), (6, 3), (3, 4), (9, 5)])
def test_over_all_probes_it_is_the_closed_form(
    dim: int, latent: int, extra: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = LinearGenerator(_normal(dim, latent), _normal(dim), sigma=0.3)
    probes = _signs(latent)
    _enumerate(monkeypatch, probes)
    estimate = LocalVolume(latent, iterations=latent + extra)(net, _at(net, _normal(len(probes), latent, seed=2)))
    parameters = (net.weight, net.log_sigma)
    mine = torch.autograd.grad(estimate.surrogate.mean(), parameters)
    for gradient, exact in zip(mine, torch.autograd.grad(net.entropy(), parameters), strict=True):
        # the solver's products are differences, which have half of the digits
        torch.testing.assert_close(gradient, exact, rtol=1e-5, atol=1e-6)
    assert float(estimate.metrics["solver_residual"]) < 1e-9


def test_fewer_iterations_than_latents_leave_a_residual() -> None:
    net = LinearGenerator(_normal(9, 5))
    draw = net.sample(50, generator=_seeded())
    left = [
        float(LocalVolume(5, iterations=n)(net, draw, generator=_seeded(1)).metrics["solver_residual"])
        for n in (1, 2, 4, 5)
    ]
    assert left[0] > left[1] > left[2] > 1e-6 and left[3] < 1e-9


SHAPES = [(10, 2), (50, 10), (561, 64)]


@pytest.mark.parametrize(("dim", "latent"), SHAPES)
def test_the_default_passes_on_the_whole_gradient(dim: int, latent: int) -> None:
    """Within 5%, at the widths that are used."""
    net = LinearGenerator(_normal(dim, latent) / math.sqrt(latent))
    estimator = LocalVolume(latent)
    for _ in range(2):  # with no diagonal and with its first estimate
        _check_projection(net, estimator, rows=400 if latent > 20 else 2000, error=0.05)


def test_so_it_does_for_two_latents_that_are_nearly_one() -> None:
    net = LinearGenerator(torch.tensor([[1.0, 0.95], [0.9, 1.0]], dtype=torch.float64))
    estimator = LocalVolume(2)
    for _ in range(2):
        _check_projection(net, estimator, rows=20_000, error=0.05)


def test_a_wide_spectrum_takes_more_iterations() -> None:
    """Singular values that fall as 1/k, over two orders of magnitude in the posterior's precision."""
    left, _ = torch.linalg.qr(_normal(50, 10))
    right, _ = torch.linalg.qr(_normal(10, 10, seed=1))
    net = LinearGenerator(left * (3 / torch.arange(1, 11, dtype=torch.float64)) @ right)
    few = _check_projection(net, LocalVolume(10, iterations=3), rows=4000, error=0.25)
    assert few < 0.9
    _check_projection(net, LocalVolume(10, iterations=6), rows=4000, error=0.05)


def _check_projection(net: LinearGenerator, estimator: LocalVolume, *, rows: int, error: float) -> float:
    draw = net.sample(rows, generator=_seeded(1))
    parameters = (net.weight, net.log_sigma)
    surrogate = estimator(net, draw, generator=_seeded(2)).surrogate.mean()
    mine, exact = torch.autograd.grad(surrogate, parameters), torch.autograd.grad(net.entropy(), parameters)
    projection = _projection(mine[0], exact[0])
    assert projection == pytest.approx(1, abs=error)
    assert float(mine[1]) == pytest.approx(float(exact[1]), rel=0.05)
    return projection


# -- the preconditioner ------------------------------------------------------------------------------------------------


def _spectrum(kind: str) -> LinearGenerator:
    """Latents with a singular value each: axes of their own, as principal components have them."""
    slopes = {"1/k": 3 / torch.arange(1, 11).double(), "1..100 sigma": 0.1 * torch.logspace(0, 2, 20).double()}[kind]
    left, _ = torch.linalg.qr(_normal(50, len(slopes)))
    return LinearGenerator(left * slopes, sigma=0.1)


@pytest.mark.parametrize(("kind", "before"), [("1/k", 0.95), ("1..100 sigma", 0.2)])
def test_latents_of_unequal_reach_are_made_alike(kind: str, before: float) -> None:
    """Condition numbers of 90 and 5000, with four iterations."""
    net = _spectrum(kind)
    estimator, (exact,) = LocalVolume(net.latent_dim).double(), torch.autograd.grad(net.entropy(), net.weight)
    found = []
    for seed in range(3):
        draw = net.sample(256, generator=_seeded(seed))
        surrogate = estimator(net, draw, generator=_seeded(seed + 10)).surrogate.mean()
        found.append(_projection(torch.autograd.grad(surrogate, net.weight)[0], exact))
    assert found[0] < before
    assert found[1:] == pytest.approx([1, 1], abs=0.01)
    precision = 1 + (net.weight.detach() / 0.1).square().sum(0)
    torch.testing.assert_close(estimator.diagonal, precision, rtol=1e-4, atol=0)


@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_any_diagonal_gives_the_same_gradient_once_solved(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, probes = LinearGenerator(_normal(6, 3), sigma=0.3), _signs(3)
    _enumerate(monkeypatch, probes)
    estimator = LocalVolume(3, iterations=6).double().eval()
    estimator.diagonal.copy_(torch.tensor([1.0, 2.0, factor]))
    surrogate = estimator(net, _at(net, _normal(len(probes), 3, seed=2))).surrogate.mean()
    parameters = (net.weight, net.log_sigma)
    mine, exact = torch.autograd.grad(surrogate, parameters), torch.autograd.grad(net.entropy(), parameters)
    torch.testing.assert_close(mine, exact, rtol=1e-5, atol=1e-6)


def test_the_diagonal_is_the_running_average_of_earlier_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call sets it; over all probes an estimate is the diagonal itself."""
    probes = _signs(3)
    _enumerate(monkeypatch, probes)
    estimator, z = LocalVolume(3, iterations=1).double(), _normal(len(probes), 3)
    one, other = (LinearGenerator(_normal(6, 3, seed=seed), sigma=0.3) for seed in (1, 2))
    first, second = (1 + (net.weight.detach() / 0.3).square().sum(0) for net in (one, other))
    estimator.eval()(one, _at(one, z))
    assert not estimator.diagonal.any()  # nothing is learned in evaluation mode
    estimator.train()(one, _at(one, z))
    torch.testing.assert_close(estimator.diagonal, first)
    with torch.no_grad():
        estimator(other, _at(other, z))
    torch.testing.assert_close(estimator.diagonal, 0.9 * first + 0.1 * second)
    assert set(estimator.state_dict()) == {"diagonal"}


def test_a_call_does_not_use_what_its_own_probes_say() -> None:
    net = _spectrum("1/k")
    draw = net.sample(20, generator=_seeded())
    training, evaluating = LocalVolume(10).double(), LocalVolume(10).double().eval()
    for _ in range(2):
        evaluating.load_state_dict(training.state_dict())
        one, two = (e(net, draw, generator=_seeded(1)).surrogate for e in (training, evaluating))
        assert torch.equal(one, two)


def test_where_latents_do_not_reach_its_diagonal_is_one() -> None:
    weight = _normal(5, 3)
    weight[:, 1] = 0
    net, estimator = LinearGenerator(weight), LocalVolume(3).double()
    for seed in range(3):
        estimator(net, net.sample(2, generator=_seeded(seed)), generator=_seeded(seed))
        assert (estimator.diagonal >= 1).all()


def test_a_generator_of_other_latents_is_refused() -> None:
    net = LinearGenerator(_normal(5, 3))
    with pytest.raises(ContractError, match="LocalVolume is of 1 latents, the generator of 3"):
        LocalVolume(1)(net, net.sample(2))


def test_derivatives_in_place_of_differences_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other devices than the CPU do."""
    net = MLPGenerator(6, 8, width=12, activation="tanh").double()
    draw = net.sample(7, generator=_seeded())
    by_difference = LocalVolume(6).double()(net, draw, generator=_seeded(1)).surrogate
    monkeypatch.setattr(
        local_volume,
        "_difference",
        lambda net, z, base, tangent, held: local_volume.push_forward(net, z, tangent, held),
    )
    with_derivatives = LocalVolume(6).double()(net, draw, generator=_seeded(1)).surrogate
    assert not torch.equal(by_difference, with_derivatives)
    torch.testing.assert_close(by_difference, with_derivatives, rtol=1e-5, atol=1e-6)


def test_the_probes_are_signs_from_the_given_source() -> None:
    probe = local_volume._rademacher(torch.zeros(4000, 3, dtype=torch.float64), _seeded())
    assert probe.dtype == torch.float64
    assert set(probe.unique().tolist()) == {-1.0, 1.0}
    assert probe.mean(0).abs().max() < 5 / math.sqrt(4000)
    assert (probe.T @ probe / 4000 - torch.eye(3)).abs().max() < 5 / math.sqrt(4000)


# -- curved ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latent", "dim"), [(2, 3), (3, 2), (1, 4)])
def test_over_all_probes_it_is_the_determinant_of_the_full_jacobian(
    latent: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = MLPGenerator(latent, dim, width=5, depth=2, activation="tanh").double()
    z, probes = _normal(4, latent), _signs(latent)
    _enumerate(monkeypatch, probes.repeat(len(z), 1))
    draw = _at(net, z.repeat_interleave(len(probes), 0))
    parameters = tuple(net.parameters())
    surrogate = LocalVolume(latent, iterations=latent)(net, draw).surrogate.mean()
    mine = torch.autograd.grad(surrogate, parameters, allow_unused=True)

    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: net(row[None])[0]))(z)
    precision = torch.eye(latent, dtype=z.dtype) + jacobian.mT @ jacobian / net.sigma.square()
    volume = 0.5 * torch.logdet(precision).mean() + dim * net.log_sigma
    expected = torch.autograd.grad(volume, parameters, allow_unused=True)
    named = [name for name, _ in net.named_parameters()]
    for name, one, other in zip(named, mine, expected, strict=True):
        if name == "layers.4.bias":  # shifts everything
            assert one is None or not one.any()
        else:
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=name)


class Arc(LatentGenerator):
    """A curve in the plane, of five numbers."""

    def __init__(self, sigma: float) -> None:
        super().__init__(1, (2,), sigma=sigma, sigma_bounds=(0.01, 1.0))
        self.shape = nn.Parameter(torch.tensor([0.9, 0.2, 1.3, 0.6, 0.9], dtype=torch.float64))
        self.double()
        with torch.no_grad():
            self.log_sigma.fill_(math.log(sigma))

    def forward(self, z: Tensor) -> Tensor:
        a, b, c, d, e = self.shape
        bent = torch.tanh(a * z + b)
        return torch.cat([c * bent + 0.5 * z, d * bent.square() + e * z], dim=1)


def _entropy_gradient(net: Arc) -> Tensor:
    """Central differences of the entropy by quadrature in z and x."""
    z = torch.linspace(-6.5, 6.5, 401, dtype=torch.float64)[:, None]
    sigma = float(net.sigma.detach())
    with torch.no_grad():
        means = net(z)[(log_prior(z) > -16)]
        axes = [
            torch.arange(float(m.min()) - 7 * sigma, float(m.max()) + 7 * sigma, sigma / 1.5).double() for m in means.T
        ]
        x = torch.cartesian_prod(*axes)
        # only cells that the curve comes near to
        x = x[torch.cdist(x, means).amin(1) < 7 * sigma]

        def entropy() -> float:
            squares = torch.cdist(x, net(z), compute_mode="donot_use_mm_for_euclid_dist").square()
            mass = torch.softmax(log_prior(z), 0)
            density = (mass * torch.exp(-0.5 * squares / sigma**2)).sum(1) / (2 * math.pi * sigma**2)
            cell = float(axes[0][1] - axes[0][0]) * float(axes[1][1] - axes[1][0])
            return float(-torch.xlogy(density, density).sum()) * cell

        found = []
        for number in range(5):
            values = []
            for step in (1e-4, -1e-4):
                net.shape[number] += step
                values.append(entropy())
                net.shape[number] -= step
            found.append((values[0] - values[1]) / 2e-4)
    return torch.tensor(found, dtype=torch.float64)


def test_its_error_for_curved_generators_falls_with_the_square_of_sigma() -> None:
    errors = []
    for sigma in (0.2, 0.1):
        net = Arc(sigma)
        # one latent: any probe is exact; the prior's mean by quadrature
        z = torch.linspace(-6.5, 6.5, 401, dtype=torch.float64)[:, None]
        surrogate = LocalVolume(1)(net, _at(net, z), generator=_seeded()).surrogate
        (mine,) = torch.autograd.grad((torch.softmax(log_prior(z), 0) * surrogate).sum(), net.shape)
        exact = _entropy_gradient(net)
        errors.append(float((mine - exact).norm() / exact.norm()))
    assert errors[1] < 0.05
    assert 3 < errors[0] / errors[1] < 5


def test_a_difference_does_not_step_into_another_piece() -> None:
    factor = torch.tensor([[[1.0, 0.0], [0.4, 0.7]]])
    net = MixtureGenerator(torch.ones(2), torch.tensor([[-50.0, 0.0], [50.0, 0.0]]), factor, width=8).double()
    z = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z[:, 0] = -1e-12  # the second piece begins at 0
    tangent = torch.ones_like(z)
    with torch.no_grad():
        found = local_volume._difference(net, z, net.decode(z), tangent, ())
    torch.testing.assert_close(found, local_volume.push_forward(net, z, tangent).detach(), rtol=1e-5, atol=1e-5)
