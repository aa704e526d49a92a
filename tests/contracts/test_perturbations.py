"""Every perturbation keeps the protocol of `chainfree.perturbations.Perturbation`."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from chainfree import perturbations
from chainfree.perturbations import (
    Absorbing,
    Bernoulli,
    Gaussian,
    LogUniform,
    MeanPool,
    Mixed,
    OneSite,
    OrderedHeatKernel,
    OrnsteinUhlenbeck,
    Perturbation,
    UniformHeatKernel,
)

CASES: dict[str, tuple[Perturbation, tuple[int, ...]]] = {
    "gaussian": (Gaussian(t=0.5), (3,)),
    "gaussian-no-axis": (Gaussian(t=0.5), ()),
    "gaussian-images": (Gaussian(t=2.0), (1, 4, 4)),
    "gaussian-per-feature": (Gaussian(t=(0.1, 1.0, 3.0)), (3,)),
    "gaussian-all-scales": (Gaussian(t=LogUniform(low=0.01, high=1.0)), (3,)),
    "gaussian-all-scales-images": (Gaussian(t=LogUniform(low=0.01, high=1.0)), (2, 4, 4)),
    "diffusion": (OrnsteinUhlenbeck(time=0.7), (3,)),
    "diffusion-images": (OrnsteinUhlenbeck(time=0.7), (1, 4, 4)),
    "mean-pool": (MeanPool(window=2, t=0.5), (1, 4, 6)),
}

ALL_TIMES = LogUniform(low=0.1, high=2.0)
# of bits, which are codes of all of them; their laws are in tests/perturbations/test_discrete.py
DISCRETE: dict[str, tuple[Perturbation, tuple[int, ...]]] = {
    "bernoulli": (Bernoulli(epsilon=0.3), (5,)),
    "bernoulli-images": (Bernoulli(epsilon=0.3), (1, 4, 4)),
    "one-site": (OneSite(categories=(3, 2, 4)), (3,)),
    "one-site-images": (OneSite(categories=2), (1, 4, 4)),
    "uniform": (UniformHeatKernel(categories=3, t=0.5), (5,)),
    "uniform-each": (UniformHeatKernel(categories=(3, 2, 4), t=0.5), (3,)),
    "uniform-all-times": (UniformHeatKernel(categories=3, t=ALL_TIMES), (5,)),
    "ordinal": (OrderedHeatKernel(categories=4, order="ordinal", t=0.5), (5,)),
    "cyclic": (OrderedHeatKernel(categories=4, order="cyclic", t=0.5), (2, 3)),
    "ordinal-all-times": (OrderedHeatKernel(categories=4, order="ordinal", t=ALL_TIMES), (5,)),
    "absorbing": (Absorbing(categories=(3, 2, 4)), (3,)),
    "mixed": (
        Mixed(
            parts=[
                ([0, 3], Gaussian(t=LogUniform(low=0.1, high=1.0))),
                ([1], UniformHeatKernel(categories=3)),
                ([2, 4], OrderedHeatKernel(categories=2, order="ordinal", t=ALL_TIMES)),
            ],
            width=5,
        ),
        (5,),
    ),
}


@pytest.fixture(params=[*CASES, *DISCRETE], ids=str)
def any_case(request: pytest.FixtureRequest) -> tuple[Perturbation, tuple[int, ...]]:
    return (CASES | DISCRETE)[request.param]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Perturbation, tuple[int, ...]]:
    return CASES[request.param]


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bits(rows: int, event: tuple[int, ...]) -> Tensor:
    """Rows for any perturbation."""
    return torch.randint(2, (rows, *event), generator=_seeded(9)).float()


def test_no_perturbation_is_left_out() -> None:
    # records and protocols are no perturbations; kernels of pairs have tests/perturbations/test_pairs.py
    others = {"LogUniform", "Perturbation", "Perturbed", "JumpPairs", "LocalPairs", "PairKernel", "Pairs"}
    exported = set(perturbations.__all__) - others
    assert exported == {type(perturbation).__name__ for perturbation, _ in (CASES | DISCRETE).values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 5])
def test_shapes_and_types(any_case: tuple[Perturbation, tuple[int, ...]], dtype: torch.dtype, rows: int) -> None:
    perturbation, event = any_case
    x = _bits(rows, event).to(dtype)
    perturbed = perturbation.perturb(x, generator=_seeded())
    recovered = perturbation.recover(perturbed, 4, generator=_seeded(1))
    assert perturbed.y.dtype == recovered.dtype == dtype
    assert recovered.shape == (4, rows, *event)
    if perturbed.scale is not None:
        assert torch.broadcast_shapes(perturbed.scale.shape, perturbed.y.shape) == perturbed.y.shape


def test_the_generator_decides_everything(any_case: tuple[Perturbation, tuple[int, ...]]) -> None:
    perturbation, event = any_case
    x = _bits(40, event)
    kept = x.clone()

    def both(seed: int) -> tuple[Tensor, Tensor]:
        generator = _seeded(seed)
        perturbed = perturbation.perturb(x, generator=generator)
        return perturbed.y, perturbation.recover(perturbed, 3, generator=generator)

    before = torch.get_rng_state()
    first, second, other = both(1), both(1), both(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(x, kept)


def test_without_a_generator_the_global_one_is_used(any_case: tuple[Perturbation, tuple[int, ...]]) -> None:
    perturbation, event = any_case
    x = _bits(40, event)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = perturbation.recover(perturbation.perturb(x), 2)
        torch.manual_seed(3)
        assert torch.equal(perturbation.recover(perturbation.perturb(x), 2), first)
        assert not torch.equal(perturbation.recover(perturbation.perturb(x), 2), first)


def test_draws_are_independent_given_what_is_left(case: tuple[Perturbation, tuple[int, ...]]) -> None:
    """Their deviations from the mean of the reverse kernel, which many more draws tell, are uncorrelated."""
    perturbation, event = case
    n = 2000
    x = torch.zeros(n, *event, dtype=torch.float64)
    perturbed = perturbation.perturb(x, generator=_seeded())
    draws = perturbation.recover(perturbed, 200, generator=_seeded(1))
    deviation = draws[:2] - draws[2:].mean(0)
    one, other = deviation.flatten(2 if event else 1)[..., 0].numpy() if event else deviation.numpy()
    assert stats.spearmanr(one, other).pvalue > 1e-3  # draws of the same row
    assert stats.spearmanr(one[1:], one[:-1]).pvalue > 1e-3  # and of neighbours
    start = (perturbed.y - x).flatten(1)[:, 0].numpy() if event else (perturbed.y - x).numpy()
    assert stats.spearmanr(one, start).pvalue > 1e-3  # the way back does not remember the way out
    assert one.std() > 0.05


def test_the_law_of_a_draw_does_not_depend_on_its_place(case: tuple[Perturbation, tuple[int, ...]]) -> None:
    perturbation, event = case
    perturbed = perturbation.perturb(torch.zeros(4000, *event, dtype=torch.float64), generator=_seeded())
    draws = perturbation.recover(perturbed, 5, generator=_seeded(1)).reshape(5, 4000, -1)[..., 0].numpy()
    assert stats.ks_2samp(draws[0], draws[4]).pvalue > 1e-3
    assert stats.ks_2samp(draws[2, :2000], draws[2, 2000:]).pvalue > 1e-3


def test_the_reverse_draw_is_the_kernel_read_backwards(case: tuple[Perturbation, tuple[int, ...]]) -> None:
    """r(x'|y) is proportional to q(y|x'), so with a flat prior the joint law of the pair (x, x') around y is symmetric.

    Checked by its variances: for x fixed, y's deviation scaled back to x's units has the variance of a draw's from y.
    """
    perturbation, event = case
    x = torch.zeros(20_000, *event, dtype=torch.float64)
    perturbed = perturbation.perturb(x, generator=_seeded())
    draws = perturbation.recover(perturbed, 2, generator=_seeded(1)).reshape(2, 20_000, -1)
    # half the squared distance of two draws estimates the variance given y
    within = 0.5 * (draws[0] - draws[1]).square().mean(0)
    total = draws[0].square().mean(0)
    torch.testing.assert_close(total, 2 * within, rtol=0.08, atol=0)


def test_a_gradient_reaches_the_data(case: tuple[Perturbation, tuple[int, ...]]) -> None:
    perturbation, event = case
    x = torch.randn(3, *event, requires_grad=True)
    perturbation.recover(perturbation.perturb(x), 2).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, 2.0), rtol=1e-5, atol=1e-5)
