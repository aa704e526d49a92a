"""What is particular to each network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chainfree.energies import GaussianMixture
from chainfree.entropy import LocalVolume
from chainfree.fitting import fit_generator
from chainfree.generators import DeconvGenerator, MixtureGenerator, MLPGenerator, ResidualGenerator


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_perceptron_is_torch_s_layers_in_order(batch_norm: bool) -> None:
    net = MLPGenerator(2, 3, width=4, depth=2, activation="tanh", batch_norm=batch_norm).double()
    layers = []
    for module in net.layers:
        if isinstance(module, nn.Linear | nn.Tanh):
            layers.append(module)
        else:
            layers.append(nn.BatchNorm1d(4).double())
    between = [nn.Linear, nn.BatchNorm1d, nn.Tanh] if batch_norm else [nn.Linear, nn.Tanh]
    assert [type(layer) for layer in layers] == [*between, *between, nn.Linear]
    z = torch.randn(7, 2, dtype=torch.float64)
    torch.testing.assert_close(net(z), nn.Sequential(*layers)(z), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("latent", "dim"), [(3, 3), (2, 5), (5, 2)])
def test_a_residual_generator_starts_as_wide_as_its_scale(latent: int, dim: int) -> None:
    net = ResidualGenerator(latent, dim, scale=2.0, width=16)
    short = min(latent, dim)
    linear = net.linear.double()
    gram = linear @ linear.T if latent <= dim else linear.T @ linear
    torch.testing.assert_close(gram, 4 * torch.eye(short, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    mean = net.sample(2000, generator=torch.Generator().manual_seed(0)).mean.detach()
    spread = torch.linalg.svdvals(mean - mean.mean(0))[:short] / 2000**0.5
    torch.testing.assert_close(spread, torch.full_like(spread, 2.0), rtol=0.12, atol=0)
    assert not torch.equal(mean, net.latents(2000, torch.Generator().manual_seed(0)) @ net.linear)  # h is there


def test_the_linear_part_is_fixed_by_its_seed() -> None:
    one, same, other = (ResidualGenerator(2, 5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.linear, same.linear)
    assert not torch.equal(one.linear, other.linear)
    assert all(parameter is not one.linear for parameter in one.parameters())
    assert "linear" in one.state_dict()
    assert torch.equal(ResidualGenerator(3, 3, seed=5).linear, torch.eye(3))


def test_the_perceptron_draws_from_torch_s_source_alone_and_the_linear_part_from_none() -> None:
    torch.manual_seed(1)
    one = ResidualGenerator(2, 5, seed=1)
    torch.manual_seed(1)
    other = ResidualGenerator(2, 5, seed=2)
    assert torch.equal(one.perceptron[0].weight, other.perceptron[0].weight)


@pytest.mark.parametrize(("output", "low", "high"), [("tanh", -1.0, 1.0), ("sigmoid", 0.0, 1.0)])
def test_pixels_stay_within_the_range_of_the_output(output: str, low: float, high: float) -> None:
    net = DeconvGenerator(2, size=4, widths=(3,), output=output)  # type: ignore[arg-type]
    with torch.no_grad():
        net.layers[-1].weight.mul_(1e3)
    mean = net.sample(200).mean.detach()
    assert low <= float(mean.min()) < low + 0.2 and high - 0.2 < float(mean.max()) <= high


@pytest.mark.parametrize(("size", "widths", "channels"), [(28, (8, 4), 1), (16, (6, 5, 4), 3), (2, (4,), 2)])
def test_every_width_doubles_the_image(size: int, widths: tuple[int, ...], channels: int) -> None:
    net = DeconvGenerator(3, channels=channels, size=size, widths=widths, output="none")
    assert net.event_shape == (channels, size, size)
    steps = [module for module in net.layers if isinstance(module, nn.ConvTranspose2d)]
    assert [step.in_channels for step in steps] == list(widths)
    assert net.stem.out_features == widths[0] * (size // 2 ** len(widths)) ** 2
    assert net(torch.randn(4, 3)).shape == (4, channels, size, size)
    # no activation at the end: the last bias is a shift
    z = torch.randn(4, 3)
    with torch.no_grad():
        before = net(z)
        steps[-1].bias.add_(50.0)
        torch.testing.assert_close(net(z), before + 50.0, rtol=1e-4, atol=1e-4)


def test_the_linear_part_is_learned_only_where_asked() -> None:
    fixed, learned = ResidualGenerator(3, 3, scale=0.5), ResidualGenerator(3, 3, scale=0.5, train_linear=True)
    assert "linear" in dict(fixed.named_buffers()) and "linear" in dict(learned.named_parameters())
    assert torch.equal(learned.linear.detach(), 0.5 * torch.eye(3))
    assert fixed.state_dict().keys() == learned.state_dict().keys()


class TestMixtureGenerator:
    def test_it_starts_at_its_mixture(self) -> None:
        means, weights = torch.tensor([[-6.0, 0.0], [6.0, 0.0], [0.0, 9.0]]), torch.tensor([1.0, 2.0, 5.0])
        factors = torch.tensor([[0.5, 0.0], [0.3, 0.2]]).repeat(3, 1, 1) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1)
        net = MixtureGenerator(weights, means, factors, width=8)
        mean = net.sample(40_000, generator=torch.Generator().manual_seed(0)).mean.detach()
        nearest = torch.cdist(mean, means).argmin(1)
        for k in range(3):
            own = mean[nearest == k]
            assert len(own) / len(mean) == pytest.approx(float(weights[k] / weights.sum()), abs=0.01)
            torch.testing.assert_close(own.mean(0), means[k], atol=0.1, rtol=0.02)
            torch.testing.assert_close(torch.cov(own.T), factors[k] @ factors[k].T, atol=0.01, rtol=0.1)
        shared = MixtureGenerator(weights, means, factors[:1], width=8)
        torch.testing.assert_close(shared.factors.expand(3, 2, 2), factors[:1].repeat(3, 1, 1))

    @pytest.mark.parametrize("narrow", [0.5, 0.05])
    def test_fitted_to_a_tilt_it_has_its_moments(self, narrow: float) -> None:
        # two modes, tilted by a slope: each moves against it by its covariance times the slope, and keeps its width
        covariance, slope = torch.diag(torch.tensor([0.25, narrow**2])), torch.tensor([0.0, 1.5 / narrow])
        modes = GaussianMixture(torch.tensor([[-6.0, 0.0], [6.0, 0.0]]), covariance)

        def energy(x: torch.Tensor) -> torch.Tensor:
            return modes(x) + x @ slope

        torch.manual_seed(0)
        start = MixtureGenerator(torch.ones(2), modes.means, covariance.sqrt().unsqueeze(0), width=32, sigma=0.01)
        fit = fit_generator(energy, start, entropy=LocalVolume(3), steps=600, start=1.0)
        x = fit.generator.sample(4000, generator=torch.Generator().manual_seed(1)).x.detach()
        right = x[:, 0] > 0
        assert 0.45 < right.double().mean() < 0.55
        for side in (x[right], x[~right]):
            assert float(side[:, 0].mean().abs()) == pytest.approx(6.0, abs=0.06)
            assert float(side[:, 1].mean()) == pytest.approx(-1.5 * narrow, abs=0.15 * narrow)
            assert float(side[:, 0].std()) == pytest.approx(0.5, rel=0.1)
            assert float(side[:, 1].std()) == pytest.approx(narrow, rel=0.1)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"weights": torch.ones(3)}, r"weights and means must be \(K,\) and \(K, D\), got \(3,\) and \(2, 2\)"),
            ({"factors": torch.eye(2)}, r"factors must be \(2, 2, 2\) or \(1, 2, 2\), got \(2, 2\)"),
            ({"weights": torch.tensor([1.0, 0.0])}, "weights must be positive"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes: dict[str, torch.Tensor], words: str) -> None:
        given = {"weights": torch.ones(2), "means": torch.zeros(2, 2), "factors": torch.eye(2).unsqueeze(0)} | changes
        with pytest.raises(ValueError, match=words):
            MixtureGenerator(**given)
