"""The logit of pixels against scipy and automatic differentiation; the stream of fresh noise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch import Tensor

from chainfree.batches import batches
from chainfree.datasets import DequantisedBatches, LogitTransform, data_dir, dequantise, load_mnist

ALPHAS = [1e-6, 0.05, 0.3]


def _bytes(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_it_is_scipy_s_logit_and_comes_back(alpha: float, generator: torch.Generator) -> None:
    x = torch.rand(50, 3, 2, generator=generator, dtype=torch.float64)
    x[0, 0, 0], x[1, 0, 0] = 0.0, 1.0
    transform = LogitTransform(alpha=alpha)
    z = transform.forward(x)
    np.testing.assert_allclose(z, special.logit(alpha + (1 - 2 * alpha) * x.numpy()), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(transform.inverse(z), x, rtol=1e-12, atol=1e-12)
    far = torch.tensor([[-30.0, 40.0]], dtype=torch.float64)
    expected = (special.expit(far.numpy()) - alpha) / (1 - 2 * alpha)
    np.testing.assert_allclose(transform.inverse(far), expected, rtol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_determinant_is_autograd_s(alpha: float, generator: torch.Generator) -> None:
    x = torch.rand(5, 2, 3, generator=generator, dtype=torch.float64)
    x[0, 0, 0], x[1, 0, 0] = 0.0, 1.0
    transform = LogitTransform(alpha=alpha)
    log_det = transform.log_abs_det(x)
    assert log_det.shape == (5,)
    for row, value in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(transform.forward, row).reshape(6, 6)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(value, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-9)
        back = torch.autograd.functional.jacobian(transform.inverse, transform.forward(row)).reshape(6, 6)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(value, -torch.linalg.slogdet(back).logabsdet, rtol=1e-8, atol=1e-8)


def test_a_density_of_logits_becomes_a_density_of_pixels() -> None:
    """The mass that a normal law of z puts between the images of 0 and 1, by quadrature over x."""
    transform, law = LogitTransform(alpha=0.05), stats.norm(0.7, 2.0)

    def density(x: float) -> float:
        row = torch.tensor([[x]], dtype=torch.float64)
        return math.exp(law.logpdf(transform.forward(row).item()) + transform.log_abs_det(row).item())

    low, high = special.logit(0.05), special.logit(0.95)
    assert integrate.quad(density, 0, 1)[0] == pytest.approx(law.cdf(high) - law.cdf(low), abs=1e-9)


def test_single_precision_holds_near_the_ends() -> None:
    alpha = 1e-6
    x = torch.tensor([[0.0, 1e-7, 1 - 2**-24, 1.0, 0.999, 0.5]])
    exact = x.double().numpy()
    s, rest = alpha + (1 - 2 * alpha) * exact, alpha + (1 - 2 * alpha) * (1 - exact)
    transform = LogitTransform(alpha=alpha)
    np.testing.assert_allclose(transform.forward(x), np.log(s) - np.log(rest), rtol=1e-6, atol=1e-6)
    expected = (math.log(1 - 2 * alpha) - np.log(s) - np.log(rest)).sum()
    assert transform.log_abs_det(x).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1, math.nan, True, "0.05"])
def test_other_alphas_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be"):
        LogitTransform(alpha=alpha)


@pytest.mark.parametrize("bad", [-1e-6, 1.000001, math.nan, math.inf, 255.0])
def test_pixels_outside_the_unit_interval_are_refused(bad: float) -> None:
    x = torch.tensor([[0.5, bad]])
    for method in (LogitTransform().forward, LogitTransform().log_abs_det):
        with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
            method(x)


def test_noise_fills_the_gap_between_two_bytes_evenly(generator: torch.Generator) -> None:
    x = _bytes(100, 64)
    pixels = dequantise(x, generator=generator)
    assert pixels.dtype == torch.float32 and pixels.shape == x.shape
    noise = pixels.double().numpy() * 256 - x.numpy()
    assert noise.min() >= 0 and noise.max() <= 1
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3
    assert x.dtype == torch.uint8
    with pytest.raises(ValueError, match="only bytes"):
        dequantise(x.float())


def test_the_largest_byte_stays_in_the_interval(generator: torch.Generator) -> None:
    pixels = dequantise(torch.full((1_000_000,), 255, dtype=torch.uint8), generator=generator)
    assert float(pixels.max()) <= 1.0
    assert torch.isfinite(LogitTransform().forward(pixels)).all()


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_come_in_the_order_of_plain_batches(shuffle: bool) -> None:
    x, y = _bytes(10, 1, 3, 3), torch.arange(10)
    plain = batches(x, size=4, y=y, seed=5, shuffle=shuffle)
    stream = DequantisedBatches(x, y=y, size=4, seed=5, shuffle=shuffle)
    for _ in range(7):
        a, b = next(plain), next(stream)
        noise = b.x * 256 - a.x
        assert float(noise.min()) >= 0 and float(noise.max()) <= 1
        assert a.y is not None and b.y is not None and torch.equal(a.y, b.y)


def test_the_transform_is_applied() -> None:
    x, transform = _bytes(6, 9), LogitTransform(alpha=0.05)
    pixels = next(DequantisedBatches(x, size=6, seed=2))
    logits = next(DequantisedBatches(x, transform=transform, size=6, seed=2))
    np.testing.assert_allclose(logits.x, special.logit(0.05 + 0.9 * pixels.x.double().numpy()), rtol=1e-4, atol=1e-5)


def test_noise_is_new_in_every_batch_and_for_every_seed() -> None:
    x = torch.zeros(64, 100, dtype=torch.uint8)
    before = torch.random.get_rng_state()
    noise = []
    for seed in (0, 1):
        stream = DequantisedBatches(x, size=64, seed=seed)
        noise += [(next(stream).x * 256).flatten() for _ in range(3)]
    assert torch.equal(before, torch.random.get_rng_state())
    correlation = np.corrcoef(torch.stack(noise).numpy())
    assert np.abs(correlation - np.eye(6)).max() < 5 / math.sqrt(6400)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 40), st.integers(1, 7), st.booleans())
def test_a_resumed_stream_continues_bitwise(seed: int, position: int, size: int, shuffle: bool) -> None:
    x = _bytes(7, 5)
    first, second = (
        DequantisedBatches(x, transform=LogitTransform(), y=torch.arange(7), size=size, seed=seed, shuffle=shuffle)
        for _ in range(2)
    )
    for _ in range(position):
        next(first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for _ in range(9):
        a, b = next(first), next(second)
        assert torch.equal(a.x, b.x)
        assert a.y is not None and b.y is not None and torch.equal(a.y, b.y)
    assert first.state_dict() == second.state_dict()


def test_a_state_of_another_stream_is_refused() -> None:
    x = _bytes(6, 4)
    stream = DequantisedBatches(x, transform=LogitTransform(alpha=0.05), size=2)
    next(stream)
    state = stream.state_dict()
    others = {
        "alpha": DequantisedBatches(x, size=2),
        "rows": DequantisedBatches(x[:5], transform=LogitTransform(alpha=0.05), size=2),
        "event": DequantisedBatches(x[:, :3], transform=LogitTransform(alpha=0.05), size=2),
        "seed": DequantisedBatches(x, transform=LogitTransform(alpha=0.05), size=2, seed=1),
        "shuffle": DequantisedBatches(x, transform=LogitTransform(alpha=0.05), size=2, shuffle=False),
        "kind": batches(x, size=2),
    }
    for name, other in others.items():
        before = other.state_dict()
        with pytest.raises(ValueError, match=f"other data: {name} was"):
            other.load_state_dict(state)
        assert other.state_dict() == before
    with pytest.raises(ValueError, match=r"alpha was 1e-06 and is 0\.05"):
        stream.load_state_dict(DequantisedBatches(x, transform=LogitTransform(), size=2).state_dict())


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(4, 2), {}, "uint8 rows"),
        (torch.zeros(4, dtype=torch.uint8), {}, "uint8 rows"),
        (torch.zeros(0, 2, dtype=torch.uint8), {}, "uint8 rows"),
        (torch.zeros(4, 2, dtype=torch.uint8), {"y": torch.zeros(3)}, "one label per row"),
        (torch.zeros(4, 2, dtype=torch.uint8), {"y": torch.full((4,), math.nan)}, "y has NaN"),
        (torch.zeros(4, 2, dtype=torch.uint8), {"size": 5}, "lower size"),
        (torch.zeros(4, 2, dtype=torch.uint8), {"seed": 0.5}, "seed must be"),
    ],
)
def test_unusable_rows_and_options_are_refused(x: Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DequantisedBatches(x, **({"size": 2} | options))  # type: ignore[arg-type]


def test_the_real_digits_become_finite_logits() -> None:
    folder = data_dir()
    if folder is None or not (folder / "mnist.npz").is_file():
        pytest.skip("CHAINFREE_DATA names no folder with mnist.npz")
    digits = load_mnist("test")
    transform = LogitTransform()
    batch = next(DequantisedBatches(digits.x.flatten(1), transform=transform, y=digits.y, size=512))
    assert batch.x.shape == (512, 784) and torch.isfinite(batch.x).all()
    assert float(batch.x.abs().max()) <= special.logit(1 - 1e-6) + 1e-3
    # zeros, most of a digit, lie between logit(alpha) and logit(1/256)
    assert float(batch.x.median()) < special.logit(1 / 256)
