"""Networks: the contract, the norms, restoring, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chainfree.energies import MLP, ConvNet, FourierMLP, ResNet, WideResNet
from chainfree.energies.layers import activation_layer, zero_last_layer_

Network = tuple[Callable[[], nn.Module], tuple[int, ...]]

NETWORKS: dict[str, Network] = {
    "mlp": (lambda: MLP(3, width=8, depth=2), (3,)),
    "mlp-one-feature": (lambda: MLP(1, width=4, depth=1), (1,)),
    "mlp-spectral": (lambda: MLP(3, width=8, spectral_norm=True), (3,)),
    "fourier": (lambda: FourierMLP(2, features=6, width=8, depth=1), (2,)),
    "conv": (lambda: ConvNet(channels=2, size=9, widths=(4, 6)), (2, 9, 9)),
    "conv-spectral": (lambda: ConvNet(size=8, widths=(4,), spectral_norm=True), (1, 8, 8)),
    "resnet": (lambda: ResNet(channels=2, widths=(4, 6), blocks=2), (2, 9, 9)),
    "wide-resnet": (lambda: WideResNet(depth=10, widen=1, channels=2), (2, 9, 9)),
    "resnet-spectral": (lambda: ResNet(widths=(4, 4), blocks=1, spectral_norm=True), (1, 8, 8)),
}


@pytest.fixture(params=NETWORKS, ids=str)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, event = NETWORKS[request.param]
    return make(), torch.randn(5, *event)


def test_a_row_s_energy_does_not_depend_on_the_other_rows(network: tuple[nn.Module, Tensor]) -> None:
    module, x = network
    module.eval()  # the power iteration of spectral norm moves on with every training forward
    alone = torch.cat([module(row.unsqueeze(0)) for row in x])
    assert alone.shape == (5,)
    torch.testing.assert_close(module(x), alone)
    assert float(alone.detach().std()) > 1e-5


def test_every_parameter_and_the_input_get_a_gradient(network: tuple[nn.Module, Tensor]) -> None:
    module, x = network
    x.requires_grad_()
    (module(x) - module(x.detach().flip(0))).square().sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())
    for name, parameter in module.named_parameters():
        if not name.endswith(("head.bias",)) and name not in {"layers.2.bias", "layers.4.bias", "layers.6.bias"}:
            # the last bias cancels in a difference
            assert parameter.grad is not None, name
            assert bool((parameter.grad != 0).any()), name


def test_gradients_agree_with_finite_differences(network: tuple[nn.Module, Tensor]) -> None:
    module, x = network
    module.double().eval()
    x = x.double()
    along = torch.randn_like(x)
    h = 1e-5
    numeric = (module(x + h * along) - module(x - h * along)) / (2 * h)
    (gradient,) = torch.autograd.grad(module(x.requires_grad_()).sum(), x)
    torch.testing.assert_close((gradient * along).flatten(1).sum(1), numeric.detach(), rtol=1e-5, atol=1e-8)


def test_the_state_restores_the_network(request: pytest.FixtureRequest, network: tuple[nn.Module, Tensor]) -> None:
    module, x = network
    module(x)
    torch.manual_seed(99)
    make, _ = NETWORKS[request.node.callspec.params["network"]]
    other = make()
    assert not torch.equal(other.eval()(x), module.eval()(x))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.eval()(x), module.eval()(x))


@pytest.mark.parametrize("name", ["mlp-spectral", "conv-spectral", "resnet-spectral"])
def test_spectral_norm_holds_the_largest_singular_value_at_one(name: str) -> None:
    torch.manual_seed(1)
    make, event = NETWORKS[name]
    module = make().train()
    x = torch.randn(2, *event)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(7.0)
        for _ in range(60):
            module(x)
    module.eval()
    normed = [m for m in module.modules() if nn.utils.parametrize.is_parametrized(m)]
    plain = [
        m
        for m in module.modules()
        if isinstance(m, nn.Linear | nn.Conv2d) and not nn.utils.parametrize.is_parametrized(m)
    ]
    assert len(normed) == {"mlp-spectral": 3, "conv-spectral": 1, "resnet-spectral": 5}[name]
    for layer in normed:
        weight = layer.weight.detach().flatten(1).numpy()
        assert np.linalg.svd(weight, compute_uv=False)[0] == pytest.approx(1.0, abs=0.02)
    # the last layer sets the energy's scale and stays free
    assert any(np.linalg.svd(m.weight.detach().flatten(1).numpy(), compute_uv=False)[0] > 1.5 for m in plain)


def test_frequencies_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = FourierMLP(2, seed=3)
    torch.manual_seed(2)
    second = FourierMLP(2, seed=3)
    assert torch.equal(first.frequencies, second.frequencies)
    assert not torch.equal(first.frequencies, FourierMLP(2, seed=4).frequencies)
    assert "frequencies" in first.state_dict()
    assert "frequencies" not in dict(first.named_parameters())


def test_frequencies_have_the_asked_scale_and_features_are_sines_and_cosines() -> None:
    wide = FourierMLP(2, features=4000, scale=2.5, width=2, depth=1)
    assert float(wide.frequencies.std()) == pytest.approx(2.5, rel=0.05)
    network = FourierMLP(2, features=3, width=4, depth=1).double()
    x = torch.randn(6, 2, dtype=torch.float64)
    phase = x.numpy() @ network.frequencies.numpy()
    features = torch.from_numpy(np.concatenate([np.sin(phase), np.cos(phase)], axis=1))
    torch.testing.assert_close(network(x), network.layers(features))


@pytest.mark.parametrize(
    "make",
    [
        lambda outputs: MLP(75, width=8, outputs=outputs),
        lambda outputs: ConvNet(channels=3, size=5, widths=(4, 6), outputs=outputs),
        lambda outputs: ResNet(channels=3, widths=(4, 6), blocks=1, outputs=outputs),
        lambda outputs: WideResNet(depth=10, widen=1, outputs=outputs),
    ],
    ids=["mlp", "conv", "resnet", "wide-resnet"],
)
def test_logits_are_as_many_energies_over_the_same_features(make: Callable[[int | None], nn.Module]) -> None:
    torch.manual_seed(0)
    several, one = make(4), make(None)
    shape = (2, 75) if isinstance(several, MLP) else (2, 3, 5, 5)
    x = torch.randn(shape)
    logits = several(x)
    assert logits.shape == (2, 4)
    weight, bias = list(several.state_dict())[-2:]
    for k in range(4):
        state = several.state_dict()
        one.load_state_dict(state | {weight: state[weight][k : k + 1], bias: state[bias][k : k + 1]})
        torch.testing.assert_close(one(x), logits[:, k])


def test_wide_networks_have_as_many_convolutions_as_their_depth_says_and_weights_as_published() -> None:
    small = WideResNet(depth=16, widen=2)
    assert sum(isinstance(module, nn.Conv2d) for module in small.modules()) == 16
    with torch.device("meta"):
        full = WideResNet(outputs=10)
    weights = sum(p.numel() for p in full.parameters()) / 1e6
    assert weights == pytest.approx(36.5, abs=0.05)  # Zagoruyko and Komodakis, table 4: WRN-28-10
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in full.modules())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLP(0), "dim must be a whole number above 0, got 0"),
        (lambda: MLP(2, width=-1), "width must"),
        (lambda: MLP(2, depth=0), "depth must"),
        (lambda: MLP(2.0), "dim must"),  # type: ignore[arg-type]
        (lambda: MLP(2, activation="swish"), "activation must be one of silu, .*got 'swish'"),  # type: ignore[arg-type]
        (lambda: FourierMLP(2, features=0), "features must"),
        (lambda: FourierMLP(2, scale=0.0), "scale must"),
        (lambda: ConvNet(channels=0), "channels must"),
        (lambda: ConvNet(size=7, widths=(4, 4, 4)), "images of at least 8 pixels, got size=7"),
        (lambda: ConvNet(widths=()), "widths"),
        (lambda: ConvNet(widths=(4, 0)), "widths must"),
        (lambda: ResNet(widths=()), "at least one stage"),
        (lambda: ResNet(blocks=0), "blocks must"),
        (lambda: ResNet(outputs=0), "outputs must"),
        (lambda: ConvNet(outputs=-2), "outputs must"),
        (lambda: WideResNet(depth=27), "depth must be 6n \\+ 4, .*got 27"),
        (lambda: WideResNet(depth=4), "depth must be 6n \\+ 4"),
        (lambda: WideResNet(widen=0), "widen must"),
        (lambda: WideResNet(depth=10, outputs=0), "outputs must"),
        (lambda: ResNet(activation="nope"), "activation must be one of"),  # type: ignore[arg-type]
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("silu", lambda v: v / (1 + np.exp(-v))),
        ("gelu", lambda v: v * 0.5 * (1 + np.vectorize(__import__("math").erf)(v / np.sqrt(2)))),
        ("softplus", lambda v: np.log1p(np.exp(v))),
        ("relu", lambda v: np.maximum(v, 0)),
        ("leaky_relu", lambda v: np.where(v > 0, v, 0.2 * v)),
        ("tanh", np.tanh),
        ("elu", lambda v: np.where(v > 0, v, np.expm1(v))),
    ],
)
def test_activations_by_name(name: str, oracle: Callable[[Any], Any]) -> None:
    v = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(activation_layer(name)(torch.from_numpy(v)), oracle(v), atol=1e-12)


def test_zeroing_needs_a_layer_that_can_be_zero() -> None:
    with pytest.raises(ValueError, match="Tanh has no linear or convolutional layer"):
        zero_last_layer_(nn.Tanh())
    bound = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 1)), nn.Flatten(0))
    with pytest.raises(ValueError, match="spectrally normed and cannot start at zero"):
        zero_last_layer_(bound)
    without_bias = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
    zero_last_layer_(without_bias)
    assert not bool(without_bias(torch.randn(4, 2)).any())
    assert bool(without_bias[0].weight.any())
