"""NCE: log Z on Gaussians; the flow's side of the game."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import chainfree as cf
from chainfree.energies import Gaussian, GaussianMixture, Tilted
from chainfree.objectives import FlowContrastive, NoiseContrastive
from chainfree.typing import Batch


class Quadratic(nn.Module):
    """E = (x - m)' P (x - m) / 2, so log Z = log det(2 pi P^-1) / 2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.factor = nn.Parameter(torch.eye(dim, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * ((x - self.mean) @ self.factor).square().sum(1)

    @property
    def log_z(self) -> float:
        return 0.5 * len(self.mean) * math.log(2 * math.pi) - float(self.factor.detach().slogdet().logabsdet)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _minimise(objective: NoiseContrastive, energy: nn.Module, data: Tensor) -> None:
    parameters = list(objective.players(energy)["energy"])
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        update = next(iter(objective.updates(energy, Batch(data), 0, _seeded(2))))
        update.loss.backward()
        return update.loss

    optimizer.step(closure)


@pytest.mark.parametrize("ratio", [1, 5])
def test_c_is_log_z_of_a_normal(ratio: int) -> None:
    truth = Gaussian(
        torch.tensor([0.5, -0.5, 0.0], dtype=torch.float64),
        torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.7]], dtype=torch.float64),
    )
    data = truth.sample(30_000, generator=_seeded(1))
    noise = Gaussian(torch.zeros(3, dtype=torch.float64), 2 * torch.eye(3, dtype=torch.float64))
    objective, energy = NoiseContrastive(noise, ratio=ratio).double(), Quadratic(3)
    _minimise(objective, energy, data)
    assert abs(float(objective.log_z) - truth.log_z) < 0.05
    assert abs(energy.log_z - truth.log_z) < 0.05
    # the energy and c agree with each other far better than either with the truth
    assert abs(float(objective.log_z) - energy.log_z) < 0.02
    covariance = torch.linalg.inv((energy.factor @ energy.factor.T).detach())
    torch.testing.assert_close(covariance, truth.factor @ truth.factor.T, rtol=0, atol=0.05)


def test_the_loss_is_twice_the_coin_s_less_the_jensen_shannon_divergence() -> None:
    """Where the model is the data's density, by quadrature on the line."""
    truth = GaussianMixture(torch.tensor([[-1.0], [2.0]], dtype=torch.float64), 0.5, weights=[0.3, 0.7])
    noise = Gaussian(torch.zeros(1, dtype=torch.float64), 4 * torch.eye(1, dtype=torch.float64))
    x = torch.linspace(-15, 15, 20_001, dtype=torch.float64).unsqueeze(1)
    p, q = truth.log_prob(x).exp(), noise.log_prob(x).exp()
    middle = (0.5 * (p + q)).log()
    divergence = 0.5 * torch.trapezoid(p * (p.log() - middle) + q * (q.log() - middle), x[:, 0])
    data = truth.sample(200_000, generator=_seeded(1))
    objective = NoiseContrastive(noise).double()
    update = next(iter(objective.updates(truth, Batch(data), 0, _seeded(2))))
    assert float(update.loss) == pytest.approx(2 * math.log(2) - 2 * float(divergence), abs=0.01)
    assert set(update.metrics) == {"loss", "energy_data", "energy_noise", "log_z"}


def test_it_trains_by_the_engine_and_its_state_is_kept() -> None:
    data = 1 + 0.5 * torch.randn(2000, 1, generator=_seeded(1))
    energy = Tilted(Gaussian([0.0]), cf.energies.MLP(1, width=32, depth=2))
    objective = NoiseContrastive(Gaussian([0.5]), log_z=0.5)
    cf.Engine(energy, objective, seed=0).fit(cf.batches(data, size=256), steps=800)
    x = torch.linspace(-5, 5, 2001).unsqueeze(1)
    log_z = float(torch.trapezoid(torch.exp(-energy(x).detach().double()), x[:, 0].double()).log())
    assert abs(float(objective.log_z) - log_z) < 0.1
    assert "log_z" in objective.state_dict()


def test_what_is_no_density_is_refused() -> None:
    with pytest.raises(TypeError, match="noise must be a density"):
        NoiseContrastive(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ratio must be a whole number above 0"):
        NoiseContrastive(Gaussian([0.0]), ratio=0)


# -- with a flow that learns -------------------------------------------------------------------------------------------


@pytest.fixture
def flow() -> Callable[[], nn.Module]:
    pytest.importorskip("zuko")
    from chainfree.generators.flows import Flow

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Flow(1, kind="nsf", width=8, transforms=1).double()

    return make


def test_the_adversarial_flow_goes_down_the_game_s_value(flow: Callable[[], nn.Module]) -> None:
    """Its gradient by draws against that of V by quadrature."""
    net = flow()
    energy = GaussianMixture(torch.tensor([[-0.5], [1.5]], dtype=torch.float64), 0.5)
    objective = FlowContrastive(net).double()  # type: ignore[arg-type]
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64).unsqueeze(1)
    log_p, log_q = energy.log_prob(x), net.log_prob(x)
    total = torch.logaddexp(log_p, log_q)
    value = torch.trapezoid(log_p.exp() * (log_p - total) + log_q.exp() * (log_q - total), x[:, 0])
    parameters = list(net.parameters())
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])
    found = []
    for seed in range(8):
        data = energy.sample(20_000, generator=_seeded(100 + seed))
        turns = list(objective.updates(energy, Batch(data), 0, _seeded(seed)))
        assert [turn.player for turn in turns] == ["energy", "flow"]
        assert float(turns[1].loss) == pytest.approx(float(value), abs=0.05)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(turns[1].loss, parameters)]))
    stacked = torch.stack(found)
    error = stacked.std(0) / len(found) ** 0.5
    assert float(((stacked.mean(0) - expected).abs() / (error + 1e-6)).median()) < 1.5
    torch.testing.assert_close(stacked.mean(0), expected, rtol=0.2, atol=0.02)


def test_a_fitted_flow_learns_on() -> None:
    pytest.importorskip("zuko")
    from chainfree import fit_flow

    fitted = fit_flow(torch.randn(50, 2, generator=_seeded()), steps=2, width=4, transforms=1)
    assert not any(p.requires_grad for p in fitted.parameters())  # as it comes
    objective = FlowContrastive(fitted)
    assert list(objective.players(nn.Linear(2, 1))["flow"]) == list(fitted.parameters())


def test_the_other_flow_learns_the_likelihood(flow: Callable[[], nn.Module]) -> None:
    net = flow()
    data = torch.randn(100, 1, dtype=torch.float64, generator=_seeded(1))
    objective = FlowContrastive(net, goal="likelihood").double()  # type: ignore[arg-type]
    turns = list(objective.updates(Gaussian(torch.zeros(1, dtype=torch.float64)), Batch(data), 0, _seeded()))
    torch.testing.assert_close(turns[1].loss, -net.log_prob(data).mean())
    with pytest.raises(ValueError, match="goal must be 'adversarial' or 'likelihood'"):
        FlowContrastive(net, goal="other")  # type: ignore[arg-type]
