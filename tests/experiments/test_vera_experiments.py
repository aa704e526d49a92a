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
from chainfree.entropy import LocalVolume
from chainfree.experiments import EXPERIMENTS, EntropyBiasVariance, ToyLambda
from chainfree.experiments.entropy_estimators import DEFAULT, PAPER, estimators, projection, tune
from chainfree.generators import LinearGenerator


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
    "curved": ((2, 4, 1.0),),
    "curved_rows": 150,
    "transitions": 12,
    "width": 6,
    "depth": 1,
    "tuning": 20,
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
    torch.testing.assert_close(tune(net, steps=400, rows=200, seed=0), best, rtol=0.1, atol=0)


def test_the_default_and_the_paper_s_are_among_those_compared() -> None:
    found = estimators(torch.full((4,), 0.2, dtype=torch.float64))
    assert found[DEFAULT] == LocalVolume()
    assert found[PAPER].passes == 23  # 20 draws and the bound's forward and backward
    torch.testing.assert_close(found[PAPER].scale.detach(), torch.full((4,), 0.2, dtype=torch.float64))  # type: ignore[attr-defined]
    assert not found[PAPER].control_variate  # type: ignore[attr-defined]


# -- the experiments ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("digits")
def test_the_local_volume_passes_on_all_and_the_paper_s_draws_do_not() -> None:
    figures, picture = EntropyBiasVariance(**TINY).run()
    json.dumps(figures)
    assert isinstance(picture, Figure)
    assert figures["scale_default"] == pytest.approx(1, abs=0.05)
    assert figures["scale_paper"] < 0.8
    assert (figures["passes_default"], figures["passes_paper"]) == (LocalVolume().passes, 23)
    assert set(figures["linear"]) == {"2 -> 2, sigma 0.3", "3 -> 6, sigma 0.3"}
    for found in figures["linear"].values():
        assert set(found) == set(figures["passes"])
    worst = max((f[PAPER]["projection"] for f in figures["linear"].values()), key=lambda p: abs(p - 1))
    assert figures["scale_paper"] == worst
    assert set(figures["nonlinear"]) == {"2 -> 4, sigma 0.1, gain 1", "2 -> 4, sigma 0.3, gain 1"}
    # as many iterations as latents solve it
    for found in figures["nonlinear"].values():
        assert found[DEFAULT] == pytest.approx(found["local volume, 2 iterations"], abs=1e-3)
        assert found[DEFAULT]["projection"] == pytest.approx(1, abs=0.25)
    for name, found in figures["mnist"]["estimators"].items():
        assert ("score_bias" in found) != name.startswith("local volume")
        assert found["gradient_deviation"] > 0
    assert figures["mnist"]["sigma"] > 0.3  # noise has no principal components


@pytest.mark.usefixtures("digits")
def test_equal_seeds_give_equal_figures() -> None:
    small = TINY | {"sizes": ((2, 3),), "rows": (50,), "curved_rows": 20, "transitions": 3}
    first = EntropyBiasVariance(**small).run()[0]
    torch.manual_seed(3)
    middle = torch.get_rng_state()
    assert EntropyBiasVariance(**small).run()[0] == first
    assert torch.equal(middle, torch.get_rng_state())


def test_missing_digits_are_told_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINFREE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="CHAINFREE_DATA"):
        EntropyBiasVariance().run()


def test_the_toy_game_is_played_for_every_weight() -> None:
    figures, picture = ToyLambda(
        weights=(0.1, 1.0), rounds=8, batch=16, samples=16, points=81, held_out=2000, seeds=(0, 1)
    ).run()
    assert set(figures) == {"paper", "weighted"}
    for found in figures.values():
        assert set(found) == {"lambda=0.1", "lambda=1"}
        for outcome in found.values():
            assert len(outcome["nll_gap"]) == 2 and outcome["ended"] == ["completed"] * 2
            assert all(0.5 < gap < 1.2 for gap in outcome["nll_gap"])  # a normal of the data's size is 0.99 nats away
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
        ("entropy_bias_variance", {"repeats": 2}),
        ("entropy_bias_variance", {"seeds": (0, 1)}),
        ("entropy_bias_variance", {"wide_sigma": -0.1}),
        ("toy_lambda", {"weights": (-1.0,)}),
        ("toy_lambda", {"weights": 1.0}),
        ("toy_lambda", {"rounds": 0}),
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
