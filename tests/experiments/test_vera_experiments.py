"""VERA's experiments, at sizes that take a second."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from chainfree.datasets import DataError
from chainfree.entropy import ImportancePosterior, LocalVolume
from chainfree.experiments import EXPERIMENTS, EntropyBiasVariance, ToyLambda
from chainfree.experiments.entropy_estimators import (
    DEFAULT,
    PAPER,
    estimators,
    flat_gradient,
    gradient,
    projection,
    seeded,
    set_scale,
    settle,
    tune,
)
from chainfree.experiments.posterior_truth import chain_truth, grid_truth
from chainfree.generators import LatentGenerator, LinearGenerator


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder with noise in place of digits."""
    source = np.random.default_rng(0)
    images = source.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = np.zeros(60, dtype=np.int64)
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    monkeypatch.setenv("CHAINFREE_DATA", str(tmp_path))


TINY: dict[str, Any] = {
    "sizes": ((2, 2), (3, 6)),
    "rows": (400, 300),
    "sigmas": (0.3,),
    "curved": ((2, 4, 1.0), (3, 5, 1.0)),
    "curved_rows": 100,
    "grid": 81,
    "transitions": 12,
    "width": 6,
    "depth": 1,
    "tuning": 6,
    "kept": (1, 20),
    "images": 60,
    "components": 5,
    "points": 10,
    "repeats": 3,
    "seeds": (0, 1, 2),
}


# -- the measure -------------------------------------------------------------------------------------------------------


def test_a_projection_has_neither_the_noise_s_square_nor_its_share() -> None:
    """A known share of the truth, a known part aside, and noise ten times as large as either."""
    truth = _normal(400)
    aside = _normal(400, seed=1)
    aside = aside - (aside @ truth) / truth.square().sum() * truth
    aside = aside * truth.norm() / aside.norm()
    estimated = 0.7 * truth + 0.3 * aside + _normal(600, 400, seed=2)
    found = projection(estimated, truth)
    assert found.value == pytest.approx(0.7, abs=4 * found.standard_error)
    assert found.standard_error == pytest.approx(1 / float(truth.norm()) / math.sqrt(600), rel=0.15)
    assert found.aside == pytest.approx(0.3, abs=0.03)
    assert found.cosine == pytest.approx(0.7 / math.hypot(0.7, 0.3), abs=0.02)


def test_a_noisy_truth_does_not_shrink_the_projection() -> None:
    """Also where both share their noise, as estimates on the same rows do."""
    truth, noise = _normal(50), _normal(4000, 50, seed=1)
    found = projection(0.5 * truth + noise, truth + noise)
    assert found.value == pytest.approx(0.5, abs=0.02)
    naive = float((0.5 * truth + noise[:4].mean(0)) @ (truth + noise[:4].mean(0)) / truth.square().sum())
    assert abs(naive - 0.5) > 0.1


def test_the_standard_error_is_that_of_repeated_measurements() -> None:
    truth = _normal(20)
    values, errors = [], []
    for seed in range(200):
        found = projection(truth + _normal(8, 20, seed=seed + 1), truth)
        values.append(found.value)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_the_scale_is_tuned_to_the_bound_s_best() -> None:
    net = LinearGenerator(_normal(6, 3), sigma=0.3)
    best = 1 / torch.sqrt(1 + net.weight.detach().square().sum(0) / 0.09)
    torch.testing.assert_close(tune(net, steps=100, rows=100, seed=0, lr=0.06), best, rtol=0.1, atol=0)


def test_the_preconditioner_settles_before_it_is_judged() -> None:
    net = LinearGenerator(torch.diag(torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)), sigma=0.3)
    volume = LocalVolume(3).double()
    settle(volume, net, calls=30, rows=50, seed=0)
    precision = 1 + net.weight.detach().diagonal().square() / 0.09
    torch.testing.assert_close(volume.diagonal, precision, rtol=0.05, atol=0)
    assert not volume.training


def test_the_default_and_the_paper_s_are_among_those_compared() -> None:
    found = estimators(torch.full((4,), 0.2, dtype=torch.float64))
    default = found[DEFAULT]
    assert isinstance(default, LocalVolume) and default.iterations == LocalVolume(4).iterations
    assert found[PAPER].passes == 23  # 20 draws and the bound's forward and backward
    torch.testing.assert_close(found[PAPER].scale.detach(), torch.full((4,), 0.2, dtype=torch.float64))  # type: ignore[attr-defined]
    assert not found[PAPER].control_variate  # type: ignore[attr-defined]


# -- the truth of curved generators ------------------------------------------------------------------------------------


class Bent(LatentGenerator):
    """Two latents, curved at the width of the posterior."""

    def __init__(self) -> None:
        super().__init__(2, (4,), sigma=0.3)
        self.double()
        self.weight = torch.nn.Parameter(_normal(4, 2, seed=3))

    def forward(self, z: Tensor) -> Tensor:
        straight = z @ self.weight.T
        return torch.sin(1.5 * straight) + 0.5 * straight


@pytest.mark.parametrize("truth", ["grid", "chain"])
def test_the_truth_of_a_linear_generator_is_its_entropy_s_gradient(truth: str) -> None:
    net = LinearGenerator(_normal(5, 2), sigma=0.3)
    exact = flat_gradient(net.entropy(), [net.weight])
    rows = []
    for seed in range(6):
        draw = net.sample(300, generator=seeded(seed, 1))
        if truth == "grid":
            rows.append(grid_truth(net, draw, [net.weight], points=121).gradient)
        else:
            rows.append(chain_truth(net, draw, [net.weight], transitions=16, generator=seeded(seed, 2)).gradient)
    found = projection(torch.stack(rows), exact)
    # the grid leaves out the latents beyond its sides, which a change of processor, and so of draws, brings to light
    assert found.value == pytest.approx(1, abs=4 * found.standard_error + 1e-4)
    assert found.standard_error < 0.04


def test_the_grid_s_truth_is_a_plain_monte_carlo_sum_over_the_posterior() -> None:
    net = Bent()
    draw = net.sample(5, generator=seeded(0))
    found = grid_truth(net, draw, [net.weight], points=301)
    z = 4.75 * (2 * torch.rand(200_000, 2, generator=seeded(1), dtype=torch.float64) - 1)
    g = net.decode(z)
    squares = (draw.x.detach()[:, None] - g.detach()).square().sum(2)
    weights = torch.softmax(-0.5 * squares / 0.09 - 0.5 * z.square().sum(1), dim=1)
    mean = (weights @ g).detach()
    # at a fixed posterior mean the derivative of half of |g - mean|^2 is (g - mean)' dg
    spread = (weights * (g - mean[:, None]).square().sum(2)).sum(1).mean() / (2 * 0.09)
    assert found.spread == pytest.approx(float(spread.detach()), rel=0.05)
    torch.testing.assert_close(found.gradient, flat_gradient(spread, [net.weight]), rtol=0.05, atol=0.05)


def test_chains_agree_with_the_grid_and_so_do_their_first_halves() -> None:
    net = Bent()
    grids, chains, halves = [], [], []
    for seed in range(5):
        draw = net.sample(300, generator=seeded(seed, 1))
        grids.append(grid_truth(net, draw, [net.weight], points=121).gradient)
        chain = chain_truth(net, draw, [net.weight], transitions=40, generator=seeded(seed, 2))
        chains.append(chain.gradient)
        halves.append(chain.half.gradient)
    for rows in (chains, halves):
        found = projection(torch.stack(rows), torch.stack(grids))
        assert found.value == pytest.approx(1, abs=5 * found.standard_error)
        assert found.standard_error < 0.1


# -- the paper's estimator ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latent", "dim", "share", "apart", "rows"),
    [
        # what design/PAPERS.md has of 20 weighted draws at sigma 0.1; how far another random matrix may be from it (with
        # two latents the ratio of two singular values decides); rows, of which six repetitions are averaged
        (2, 2, 0.06, 0.10, 2000),
        (2, 10, 0.66, 0.10, 4000),
        (10, 50, 0.56, 0.12, 1000),
        (64, 561, 0.20, 0.08, 150),
        (100, 784, 0.13, 0.08, 150),
    ],
)
def test_the_paper_s_draws_pass_on_what_was_measured_of_them(
    latent: int, dim: int, share: float, apart: float, rows: int
) -> None:
    """With the control variate, which takes off noise and leaves expectations as they are."""
    weight = _normal(dim, latent) / math.sqrt(latent)
    net = LinearGenerator(weight, sigma=0.1)
    posterior = ImportancePosterior(latent, chunk=10, control_variate=True)
    set_scale(posterior, 1 / torch.sqrt(1 + weight.square().sum(0) / 0.01))
    repeated = [gradient(posterior, net, [net.weight], rows=rows, seed=seed) for seed in range(6)]
    found = projection(torch.stack(repeated), flat_gradient(net.entropy(), [net.weight]))
    assert found.standard_error < 0.12
    assert found.value == pytest.approx(share, abs=apart + 2.5 * found.standard_error)


# -- the experiments ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("digits")
def test_the_local_volume_passes_on_all_and_the_paper_s_draws_do_not() -> None:
    figures, picture = EntropyBiasVariance(**TINY).run()
    json.dumps(figures)
    assert isinstance(picture, Figure)
    assert figures["scale_default"] == pytest.approx(1, abs=0.05)
    assert figures["scale_paper"] < 0.8
    assert (figures["passes_default"], figures["passes_paper"]) == (LocalVolume(1).passes, 23)
    assert set(figures["linear"]) == {"2 -> 2, sigma 0.3", "3 -> 6, sigma 0.3"}
    for found in figures["linear"].values():
        assert set(found) - set(figures["passes"]) <= {"prior bank of 2,048"}
    assert figures["linear"]["2 -> 2, sigma 0.3"]["prior bank of 2,048"]["projection"] == pytest.approx(1, abs=0.15)
    worst = max((f[PAPER]["projection"] for f in figures["linear"].values()), key=lambda p: abs(p - 1))
    assert figures["scale_paper"] == worst
    planar, spatial = ({f"{sizes}, sigma {sigma}, gain 1" for sigma in (0.1, 0.3)} for sizes in ("2 -> 4", "3 -> 5"))
    assert set(figures["nonlinear"]) == set(figures["nonlinear_truth"]) == planar | spatial
    for name, found in figures["nonlinear"].items():
        # as many iterations as latents solve it
        assert found[DEFAULT] == pytest.approx(found["local volume, solved"], abs=1e-3)
        assert found[DEFAULT]["projection"] == pytest.approx(1, abs=0.25)
        assert ("prior bank of 2,048" in found) == (name in planar)
        truth = figures["nonlinear_truth"][name]
        assert truth["by"] == ("grid" if name in planar else "chain")
        # of a Gaussian posterior half of the latents, and less where the prior holds some of them
        assert 0.1 * int(name[0]) < truth["spread"]["mean"] < 0.6 * int(name[0])
    narrow = [found[DEFAULT]["projection"] for name, found in figures["nonlinear"].items() if "sigma 0.1" in name]
    assert figures["scale_nonlinear"] == max(narrow, key=lambda p: abs(p - 1))
    assert figures["scale_default_mnist"] == figures["mnist"]["estimators"][DEFAULT]["projection"]
    assert {f"HMC, 2 + {n} transitions" for n in (1, 20)} < set(figures["mnist"]["estimators"])
    for name, found in figures["mnist"]["estimators"].items():
        assert ("score_bias" in found) != name.startswith("local volume")
        assert found["gradient_deviation"] > 0
    assert figures["mnist"]["sigma"] > 0.3  # noise has no principal components


@pytest.mark.usefixtures("digits")
def test_equal_seeds_give_equal_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chainfree.experiments.entropy_bias_variance.picture", lambda *_, **__: Figure())
    small = TINY | {"sizes": ((3, 3),), "rows": (50,), "tuning": 2, "kept": (1,)}
    small |= {"curved": ((3, 5, 1.0),), "curved_rows": 20, "transitions": 4}
    first = EntropyBiasVariance(**small).run()[0]
    torch.manual_seed(3)
    middle = torch.get_rng_state()
    assert EntropyBiasVariance(**small).run()[0] == first
    assert torch.equal(middle, torch.get_rng_state())


def test_missing_digits_are_told_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINFREE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="CHAINFREE_DATA"):
        EntropyBiasVariance().run()


@pytest.mark.parametrize("samples", [2, 21, 320])
def test_both_toy_games_have_one_generator_and_as_many_negatives(samples: int) -> None:
    game = ToyLambda(samples=samples)
    paper, weighted = game._paper(0.1), game._weighted(0.1)
    assert repr(paper.generator) == repr(weighted.generator)
    assert paper.samples == samples and weighted.negatives is not None and weighted.samples is not None
    source = torch.Generator().manual_seed(0)
    draw = weighted.generator.sample(weighted.samples, generator=source)
    assert len(weighted.negatives.propose(weighted.generator, draw, source).x) == samples


def test_the_toy_game_is_played_for_every_weight() -> None:
    figures, picture = ToyLambda(
        density="8gaussians",  # with a closed form
        weights=(0.1, 1.0),
        rounds=8,
        batch=16,
        samples=16,
        points=81,
        held_out=2000,
        seeds=(0, 1),
    ).run()
    assert set(figures) == {"paper", "weighted"}
    for found in figures.values():
        assert set(found) == {"lambda=0.1", "lambda=1"}
        for outcome in found.values():
            assert len(outcome["nll_gap"]) == 2 and outcome["ended"] == ["completed"] * 2
            assert all(0.9 < gap < 1.7 for gap in outcome["nll_gap"])  # about what a normal of the data's size has
    assert isinstance(picture, Figure)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("entropy_bias_variance", {"sizes": ((2,),)}),
        ("entropy_bias_variance", {"sizes": "22"}),
        ("entropy_bias_variance", {"sizes": ((2, 0), (2, 10), (10, 50), (64, 561), (100, 784))}),
        ("entropy_bias_variance", {"rows": (10,)}),
        ("entropy_bias_variance", {"rows": (10, 10, 10, 10, 0)}),
        ("entropy_bias_variance", {"sigmas": (0.0,)}),
        ("entropy_bias_variance", {"curved": ((8, 32),)}),
        ("entropy_bias_variance", {"curved": ((8, 2.5, 1.0),)}),
        ("entropy_bias_variance", {"curved": ((8, 32, -1.0),)}),
        ("entropy_bias_variance", {"transitions": 0}),
        ("entropy_bias_variance", {"transitions": 6}),
        ("entropy_bias_variance", {"grid": 0}),
        ("entropy_bias_variance", {"kept": ()}),
        ("entropy_bias_variance", {"repeats": 2}),
        ("entropy_bias_variance", {"seeds": (0, 1)}),
        ("entropy_bias_variance", {"wide_sigma": -0.1}),
        ("toy_lambda", {"weights": (-1.0,)}),
        ("toy_lambda", {"weights": 1.0}),
        ("toy_lambda", {"rounds": 0}),
        ("toy_lambda", {"samples": 1}),
        ("toy_lambda", {"ema": 1.0}),
        ("toy_lambda", {"deviations": 0.0}),
        ("toy_lambda", {"gradient_penalty": -1.0}),
        ("toy_lambda", {"seeds": ()}),
    ],
)
def test_settings_out_of_range_are_named(name: str, changes: dict[str, Any]) -> None:
    (setting,) = changes
    with pytest.raises(ValueError, match=setting) as caught:
        EXPERIMENTS[name](**changes)
    assert "\n" not in str(caught.value)
