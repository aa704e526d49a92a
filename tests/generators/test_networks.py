"""What is particular to each network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chainfree.generators import DeconvGenerator, MLPGenerator, ResidualGenerator


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
