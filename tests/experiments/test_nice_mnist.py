"""The likelihood experiment, at sizes at which its parts can be checked; its images are made here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from chainfree import Engine, batches
from chainfree.datasets import Images
from chainfree.energies import NICE
from chainfree.engine import TrainingDivergedError
from chainfree.experiments import EXPERIMENTS, NiceMNIST
from chainfree.experiments.nice_data import StandardisedLogits, nice_data
from chainfree.experiments.nice_mnist import _Candidate
from chainfree.experiments.nice_start import started_generator, started_nice
from chainfree.experiments.timed_fit import steps_within, timed_fit
from chainfree.losses import MaximumLikelihood

TINY: dict[str, Any] = {
    "seconds": 0.2,
    "search_seconds": 0.1,
    "probe_seconds": 0.05,
    "validation": 20,
    "batch": 16,
    "looks": 3,
    "width": 8,
    "depth": 1,
    "generator_width": 8,
    "generator_depth": 1,
    "entropy_samples": 4,
    "entropy_iterations": 2,
}
METHODS = ["maximum_likelihood", "sliced_score_matching", "meg", "vera"]


@pytest.fixture(autouse=True)
def images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Squares of 6 x 6 pixels, bright in one half."""

    def load(split: str) -> Images:
        source = torch.Generator().manual_seed(len(split))
        bright = torch.rand(300 if split == "train" else 50, 1, 1, 1, generator=source) < 0.5
        x = torch.where(bright & (torch.arange(6) < 3), 200, 10).expand(-1, 1, 6, 6)
        return Images(x.to(torch.uint8).contiguous(), torch.zeros(len(x), dtype=torch.int64))

    monkeypatch.setattr("chainfree.experiments.nice_data.load_mnist", load)


def test_every_method_has_its_figures_and_the_test_likelihood_is_exact() -> None:
    rates = {**dict.fromkeys(METHODS, (0.001, 0.003)), "meg": (0.002,)}
    figures, picture = NiceMNIST(**TINY, rates=rates, entropy_weights={"meg": (1.0, 10.0)}).run()
    for name in ("log_likelihood", "seconds", "steps", "learning_rate", "log_likelihood_at_the_end", "ended"):
        assert list(figures[name]) == METHODS
        assert all(len(values) == 1 for values in figures[name].values())
    assert figures["preset"] == "cpu"
    assert figures["below_maximum_likelihood"]["maximum_likelihood"] == [0.0]
    for method in METHODS:
        assert figures["ended"][method] == ["completed"]
        tried = figures["validation_by_candidate"][method][0]
        chosen = f"{figures['learning_rate'][method][0]:g}"
        if method == "meg":
            assert set(tried) == {"0.002, entropy weight 1", "0.002, entropy weight 10"}
            chosen += f", entropy weight {figures['entropy_weight'][method][0]:g}"
        else:
            assert set(tried) == {"0.001", "0.003"}
        assert tried[chosen] == max(tried.values())
        # of two candidates either lies on an edge
        assert figures["on_the_edge"][method] == [["entropy_weight" if method == "meg" else "learning_rate"]]
        # bits of 256 levels, from nats of pixels in [0, 1]
        nats = figures["log_likelihood_of_pixels"][method][0]
        assert figures["bits_per_dimension"][method][0] == pytest.approx(8 - nats / 36 / math.log(2))
    assert figures["entropy_weight"]["vera"] == [1.0] and "maximum_likelihood" not in figures["entropy_weight"]
    # one volume lies between the two spaces, whatever the model
    volumes = {round(figures["log_likelihood_of_pixels"][m][0] - figures["log_likelihood"][m][0], 6) for m in METHODS}
    assert len(volumes) == 1
    assert figures["log_likelihood"]["maximum_likelihood"][0] > figures["references"]["start"]
    assert isinstance(picture, Figure)


def test_what_lies_within_its_grid_is_on_no_edge() -> None:
    experiment = NiceMNIST(**TINY)
    candidates = experiment._candidates("meg")
    edges = {candidate: experiment._edges("meg", candidate) for candidate in candidates}
    assert edges[_Candidate(1e-4, 1.0)] == ["learning_rate", "entropy_weight"]
    assert edges[_Candidate(2e-4, 10.0)] == ["learning_rate", "entropy_weight"]
    assert experiment._edges("vera", _Candidate(2e-4)) == []
    # the search takes as long for every method
    assert {len(experiment._candidates(method)) for method in METHODS} == {4}


def test_the_entropy_s_weight_reaches_the_games() -> None:
    experiment = NiceMNIST(**TINY)
    assert experiment._objective("meg", 6, 10.0).entropy_weight == 10  # type: ignore[union-attr]
    assert experiment._objective("vera", 6, 2.0).entropy_weight == 2  # type: ignore[union-attr]


def test_a_candidate_that_diverges_is_recorded_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([10, None, 10, None])

    def measured(*_: Any, **__: Any) -> int:
        steps = next(outcomes)
        if steps is None:
            raise TrainingDivergedError("within the measurement")
        return steps

    monkeypatch.setattr("chainfree.experiments.nice_mnist.steps_within", measured)
    settings = {**TINY, "methods": ("maximum_likelihood",)}
    figures = NiceMNIST(**settings, rates={"maximum_likelihood": (1e-3, 0.5)}).run()[0]
    tried = figures["validation_by_candidate"]["maximum_likelihood"][0]
    assert tried["0.5"] is None and tried["0.001"] is not None
    assert figures["learning_rate"]["maximum_likelihood"] == [1e-3]
    # and with no other to take its place, what is judged is the start
    figures = NiceMNIST(**settings, rates={"maximum_likelihood": (0.5,)}).run()[0]
    assert figures["ended"]["maximum_likelihood"] == ["diverged"] and figures["steps"]["maximum_likelihood"] == [0]
    assert figures["log_likelihood"]["maximum_likelihood"] == [pytest.approx(figures["references"]["start"])]


def test_given_steps_are_repeated_to_the_bit() -> None:
    settings = {**TINY, "rates": {"vera": (1e-3,)}, "methods": ("vera",), "steps": {"vera": 20}}
    state = torch.get_rng_state()
    first, second = (NiceMNIST(**settings).run()[0] for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert first["steps"]["vera"] == [20]
    assert first["log_likelihood"] == second["log_likelihood"]
    assert "below_maximum_likelihood" not in first or not first["below_maximum_likelihood"]


@pytest.mark.parametrize(("dim", "couplings"), [(5, 2), (4, 3)])
def test_the_start_is_standard_in_the_base_space_and_a_density(dim: int, couplings: int) -> None:
    x = 3 * torch.randn(500, dim) @ torch.randn(dim, dim) - 4
    nice = started_nice(x, couplings=couplings, width=8, depth=1, activation="softplus").double()
    x = x.double()
    with torch.no_grad():
        z = nice.transform(x)
        assert z.mean(0).abs().max() < 1e-4
        assert torch.allclose(z.std(0), torch.tensor(math.pi / math.sqrt(3)).double(), rtol=1e-4)
        assert torch.allclose(nice.inverse(z), x, atol=1e-8)
    # log p(x) is the base's density times the Jacobian's determinant
    jacobian = torch.autograd.functional.jacobian(lambda row: nice.transform(row.unsqueeze(0))[0], x[0])
    base = -(z[0] + 2 * torch.nn.functional.softplus(-z[0])).sum()
    assert float(nice.log_prob(x[:1]).detach()) == pytest.approx(float(base + torch.linalg.slogdet(jacobian).logabsdet))


def test_the_generator_starts_at_a_standard_normal() -> None:
    torch.manual_seed(0)
    generator = started_generator(6, width=8, depth=1, sigma=0.3, sigma_bounds=(0.1, 0.9))
    with torch.no_grad():
        drawn = generator.sample(40_000, generator=torch.Generator().manual_seed(0)).x
    assert drawn.mean(0).abs().max() < 0.1
    assert (torch.cov(drawn.T) - torch.eye(6)).abs().max() < 0.1


def test_standardised_logits_are_standard_and_their_volume_is_that_of_the_jacobian() -> None:
    data = nice_data(alpha=0.05, validation=20, device="cpu")
    assert data.start.mean(0).abs().max() < 1e-4
    assert torch.allclose(data.start.std(0), torch.ones(36), atol=1e-3)
    mean, deviation = torch.tensor([0.5, -1.0]).double(), torch.tensor([2.0, 0.3]).double()
    transform = StandardisedLogits(alpha=0.05, mean=mean, deviation=deviation)
    x = torch.tensor([[0.2, 0.9]]).double()
    assert torch.allclose(transform.inverse(transform.forward(x)), x)
    jacobian = torch.autograd.functional.jacobian(lambda row: transform.forward(row.unsqueeze(0))[0], x[0])
    assert float(transform.log_abs_det(x)) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet))


def test_likelihoods_are_told_in_logits() -> None:
    """A normal fitted to logits themselves has the likelihood that is told of the standardised ones."""
    data = nice_data(alpha=0.05, validation=20, device="cpu")
    rows, test = (x.double() * data.transform.deviation + data.transform.mean for x in (data.start, data.test))
    law = torch.distributions.Normal(rows.mean(0), rows.std(0))
    expected = float(law.log_prob(test).sum(1).mean())
    assert data.normals()["normal, independent pixels"] == pytest.approx(expected, abs=1e-3)


def test_time_outside_of_training_does_not_count() -> None:
    """Looks that take a while are taken off, and the best look's weights are kept."""
    import time

    data = torch.randn(64, 4)
    scores = iter([0.0, 3.0, 1.0, 2.0, 0.0])

    def look(_: torch.nn.Module) -> float:
        time.sleep(0.1)
        return next(scores)

    def make(callbacks: Any) -> Engine:
        torch.manual_seed(0)
        return Engine(NICE(4, width=8, depth=1), MaximumLikelihood(), callbacks=callbacks)

    fit = timed_fit(make, batches(data, size=16), steps=8, looks=4, look=look)
    assert (fit.steps, fit.ended, fit.curve[1]) == (8, "completed", [0.0, 3.0, 1.0, 2.0, 0.0])
    assert fit.seconds < 0.3  # the looks took half a second
    assert not torch.equal(fit.best["log_scale"], fit.last["log_scale"])


def test_a_divergence_is_told_and_keeps_what_was_good() -> None:
    class Runaway:
        def __call__(self, energy: Any, x: Any, /, *, generator: Any = None) -> Any:
            raise TrainingDivergedError("away")

    def make(callbacks: Any) -> Engine:
        return Engine(NICE(4, width=8, depth=1), Runaway(), callbacks=callbacks)

    fit = timed_fit(make, batches(torch.randn(64, 4), size=16), steps=8, looks=4, look=lambda _: 1.0)
    assert (fit.steps, fit.ended, fit.curve[1]) == (0, "diverged", [1.0])


def test_steps_follow_from_a_measured_rate() -> None:
    def make(callbacks: Any) -> Engine:
        return Engine(NICE(4, width=8, depth=1), MaximumLikelihood(), callbacks=callbacks)

    stream = batches(torch.randn(64, 4), size=16)
    short, long = (steps_within(make, stream, seconds=seconds, probe=0.3) for seconds in (0.5, 50.0))
    assert 30 < long / short < 300  # a hundred, and other processes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": ("vera", "cd")}, "cd"),
        ({"methods": ()}, "methods"),
        ({"seconds": 0.0}, "seconds"),
        ({"couplings": 1}, "couplings"),
        ({"alpha": 0.5}, "alpha"),
        ({"betas": (0.9,)}, "betas"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"sigma_bounds": (0.9, 0.5)}, "sigma_bounds"),
        ({"sigma_bounds": (0.1, 1.0)}, "sigma_bounds"),
        ({"sigma": 0.01}, "sigma_bounds"),
        ({"steps": {"vera": 0}}, "steps"),
        ({"steps": {"cd": 3}}, "cd"),
        ({"rates": {"vera": (1e-3,)}}, "no candidates for maximum_likelihood"),
        ({"rates": {"vera": (1e-3,), "meg": (1e-3, 1e-4)}, "methods": ("vera", "meg")}, "as many"),
        ({"rates": {"vera": (0.0,)}, "methods": ("vera",)}, "rates"),
        ({"entropy_weights": {"meg": (1.0, 10.0, 100.0)}}, "as many"),
        ({"entropy_weights": {"meg": (0.0, 1.0)}}, "entropy_weights"),
        ({"entropy_weights": {"maximum_likelihood": (1.0,)}}, "entropy_weights"),
        ({"entropy_iterations": 0}, "entropy_iterations"),
        ({"seeds": ()}, "seeds"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EXPERIMENTS["nice_mnist"](**changes)


def test_some_images_must_be_left_to_train_on() -> None:
    with pytest.raises(ValueError, match="validation must leave"):
        NiceMNIST(**{**TINY, "validation": 300}).run()
