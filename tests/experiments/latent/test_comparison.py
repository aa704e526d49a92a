"""Comparisons of latent priors on images of two kinds, small enough to train in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from chainfree.datasets import scaled_pixels
from chainfree.energies import Gaussian, TabularMixture, Tilted
from chainfree.engine import TrainingDivergedError
from chainfree.experiments import LatentComparison
from chainfree.experiments.latent import comparison, methods, runs
from chainfree.experiments.latent.methods import LatentMethod, LatentNetworks, latent_methods
from chainfree.fitting import fit_latent_prior
from chainfree.generators import UpsamplingGenerator
from chainfree.latent import (
    GeneratorPrior,
    LangevinPosterior,
    LangevinPrior,
    LatentModel,
    NormalPrior,
    ResampledPrior,
    RevisedPosterior,
    VariationalPosterior,
)
from chainfree.losses import DenoisingScoreMatching, EnergyDiscrepancy, ShortRun
from chainfree.objectives import VERA
from chainfree.perturbations import LogUniform

REFIT = {"refit_components": 2, "refit_steps": 5, "proposals": 3}
METHODS: dict[str, dict[str, Any]] = {
    "vae": {"posterior": "variational", "prior": "normal"},
    "lebm": {"posterior": "langevin", "posterior_steps": 2, "prior": "short_run", "chain_steps": 3},
    "ed_lebm": {"posterior": "variational", "revised_steps": 2, "draws": 4, "refit": True, **REFIT},
}
NETWORKS = {"latent": 3, "encoder_widths": (4, 4), "prior_widths": (8,)}


def _settings(**changes: Any) -> dict[str, Any]:
    return {
        "data": "halves",
        "methods": METHODS,
        "networks": NETWORKS,
        "schedule": {"seconds": 1.0, "batch": 20},
        "chain_steps": 4,
        "images": 100,
        "restored": 30,
        "drawn": 40,
        "generator_steps": 3,
        "generator_width": 8,
        "seeds": [0, 1],
        "jobs": 1,
        **changes,
    }


def test_every_method_is_judged_and_what_was_found_is_taken_up(capsys: pytest.CaptureFixture[str]) -> None:
    figures, picture = LatentComparison(**_settings()).run()
    for key in ("frechet", "reconstruction_mse", "seconds", "precision", "recall", "sigma", "steps"):
        assert set(figures[key]) == set(METHODS)
        for found in figures[key].values():
            assert found["mean"] == pytest.approx(sum(found["by_seed"]) / 2) and found["std"] >= 0
    for way in ("generator", "chain", "own_sampler", "mixture"):
        assert set(figures[f"frechet_of_{way}"]) == {"ed_lebm"}
    assert set(figures["reconstruction_mse_of_encoder"]) == {"ed_lebm"}
    assert set(figures["prior_step_ms"]) == {"lebm", "ed_lebm"}
    second, whole = figures["second_stage_seconds"], figures["seconds"]
    assert second["vae"]["mean"] == 0 and 0 < second["ed_lebm"]["mean"] < whole["ed_lebm"]["mean"]
    assert figures["sampling_speedup"] > 0 and figures["prior_step_ratio_vs_lebm"] > 0
    assert figures["diverged"] == dict.fromkeys(METHODS, 0)
    assert all(found["mean"] == pytest.approx(0.3) for found in figures["sigma"].values())
    assert 0 <= figures["frechet_of_data"] < min(found["mean"] for found in figures["frechet"].values())
    assert len(picture.axes) == 1
    json.dumps(figures)
    capsys.readouterr()
    again, _ = LatentComparison(**_settings()).run()
    assert again["frechet"] == figures["frechet"] and "6 answers are taken up" in capsys.readouterr().out


def test_a_training_that_diverges_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = runs.steps_within
    calls = []

    def sometimes(*args: Any, **kwargs: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise TrainingDivergedError("the loss is NaN", 3)
        return original(*args, **kwargs)

    monkeypatch.setattr(runs, "steps_within", sometimes)
    figures, _ = LatentComparison(**_settings()).run()
    assert figures["diverged"] == {"vae": 1, "lebm": 0, "ed_lebm": 0}
    assert len(figures["frechet"]["vae"]["by_seed"]) == 1 and figures["frechet"]["vae"]["std"] == 0
    assert len(figures["frechet"]["lebm"]["by_seed"]) == 2


def test_a_mixture_is_judged_without_its_tilt() -> None:
    base, steep = Gaussian(torch.zeros(2)), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    prior = Tilted(base, steep)
    with torch.no_grad():
        steep[0].weight.fill_(9.0)
    model = LatentModel(prior, UpsamplingGenerator(2, size=4))
    one, same = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    assert torch.equal(comparison._OfBase().latents(model, 50, generator=one), base.sample(50, generator=same))


def test_a_generator_that_diverges_leaves_the_other_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*args: Any, **kwargs: Any) -> None:
        raise TrainingDivergedError("the energy is not bounded", 3)

    monkeypatch.setattr(comparison, "fit_generator", diverges)
    figures, _ = LatentComparison(**_settings()).run()
    assert figures["generator_diverged"]["ed_lebm"]["mean"] == 1 and "sampling_speedup" not in figures
    assert "frechet_of_generator" not in figures
    assert set(figures["frechet_of_chain"]) == set(figures["frechet_of_own_sampler"]) == {"ed_lebm"}


def test_rows_that_revision_loses_are_counted() -> None:
    methods = METHODS | {"ed_lebm": METHODS["ed_lebm"] | {"revised_step_size": 1e30}}
    figures, _ = LatentComparison(**_settings(methods=methods, seeds=[0])).run()
    assert figures["lost_of_reconstruction"]["ed_lebm"]["mean"] == 1
    assert figures["lost_of_reconstruction"]["vae"]["mean"] == 0
    json.dumps(figures, allow_nan=False)


def test_chains_that_leave_are_counted() -> None:
    figures, _ = LatentComparison(**_settings(chain_step_size=1e30)).run()
    assert figures["lost_of_chain"]["ed_lebm"]["mean"] == 1 and "frechet_of_chain" not in figures
    assert figures["lost"]["vae"]["mean"] == 0 and set(figures["frechet"]) == set(METHODS)


def test_settings_make_the_method_that_they_name() -> None:
    networks = LatentNetworks(latent=3, decoder="residual")
    kinds = {"langevin": LangevinPosterior, "variational": VariationalPosterior, "revised": RevisedPosterior}
    for name, kind in kinds.items():
        method = LatentMethod(posterior=name, posterior_steps=7)  # type: ignore[arg-type]
        training = method.training(networks, size=8, channels=1, seed=0)
        assert type(training.objective.posterior) is kind
        assert getattr(training.objective.posterior, "steps", 7) == 7
        assert isinstance(training.decoder, UpsamplingGenerator)
    base = Gaussian(torch.zeros(3))
    assert LatentMethod(prior="normal").rule(base) is None
    short = LatentMethod(prior="short_run", chain_steps=9, chain_step_size=0.2).rule(base)
    assert isinstance(short, ShortRun) and (short.chain.steps, short.chain.step_size) == (9, 0.2)
    assert short.initial.dim == 3  # type: ignore[attr-defined]
    discrepancy = LatentMethod(noise=(0.1, 2.0), draws=5, reference=0.3).rule(base)
    assert isinstance(discrepancy, EnergyDiscrepancy) and discrepancy.draws == 5
    assert discrepancy.perturbation.t == LogUniform(low=0.1, high=2.0)  # type: ignore[attr-defined]
    assert discrepancy.reference is base and discrepancy.share == 0.3
    assert LatentMethod(noise=(0.4,)).rule(base).reference is None  # type: ignore[union-attr]
    denoising = LatentMethod(prior="denoising", noise=(0.25,)).rule(base)
    assert isinstance(denoising, DenoisingScoreMatching) and denoising.scale == 0.5  # of a variance
    game = LatentMethod(prior="vera").rule(base)
    assert isinstance(game, VERA) and game.generator.event_shape == (3,)


def test_a_seed_makes_the_same_networks() -> None:
    def weights(seed: int) -> nn.Module:
        training = LatentMethod().training(LatentNetworks(**NETWORKS), size=8, channels=1, seed=seed)
        return nn.ModuleList([training.prior, training.objective])

    one, same, other = (weights(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "cats"}, "data must be one of .*got 'cats'"),
        ({"methods": {}}, "methods must name at least one"),
        ({"methods": {"vae": METHODS["vae"]}}, "methods must have 'ed_lebm'"),
        ({"methods": METHODS | {"lebm": {"prior": "normal"}}}, "methods must have 'lebm' with a prior"),
        ({"methods": METHODS | {"odd": {"steps": 3}}}, "methods.odd has steps; there are"),
        ({"methods": METHODS | {"odd": {"prior": "flat"}}}, "methods.odd: prior must be one of .*got 'flat'"),
        ({"methods": METHODS | {"odd": {"noise": (1, 2, 3)}}}, "methods.odd: noise must be"),
        ({"methods": METHODS | {"odd": {"lr": 0.0}}}, "methods.odd: lr must be"),
        ({"networks": {"decoder": "big"}}, "decoder must be one of"),
        ({"networks": {"prior_widths": (0,)}}, "prior_widths"),
        ({"methods": METHODS | {"odd": {"refit": 1.0}}}, "methods.odd: refit must be true or false"),
        ({"methods": METHODS | {"odd": {"refit_steps": -1}}}, "methods.odd: refit_steps"),
        ({"methods": METHODS | {"odd": {"revised_steps": -1}}}, "methods.odd: revised_steps"),
        (
            {"methods": METHODS | {"odd": {"posterior": "langevin", "revised_steps": 2}}},
            "methods.odd: revised_steps are of",
        ),
        ({"methods": METHODS | {"odd": {"refit_rows": 0}}}, "methods.odd: refit_rows"),
        ({"restored": 0}, "restored"),
        ({"drawn": 0}, "drawn"),
        ({"methods": METHODS | {"odd": {"noise": (-1.0,)}}}, "methods.odd: noise must be"),
        ({"methods": METHODS | {"odd": {"noise": (0.5, 0.1)}}}, "methods.odd: noise must be a range"),
        ({"methods": METHODS | {"odd": {"prior": "denoising", "noise": (0.1, 0.5)}}}, "denoising has one noise"),
        ({"methods": METHODS | {"odd": {"reference": 1.0}}}, "methods.odd: reference"),
        ({"methods": METHODS | {"odd": {"sigma": 0.0}}}, "methods.odd: sigma"),
        ({"sampled": "nobody"}, "methods must have 'nobody'"),
        ({"schedule": {"seconds": 0.0}}, "seconds"),
        ({"schedule": {"device": "nowhere"}}, "device must be"),
        ({"chain_steps": 0}, "steps must be"),
        ({"images": 0}, "images"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LatentComparison(**_settings(**changes))


def test_a_second_stage_fits_the_prior_to_the_latents() -> None:
    x = scaled_pixels(runs.images_for("halves", "test")[0].x)
    schedule = runs.Schedule(seconds=2.0, batch=20)
    method = LatentMethod(prior="normal", refit=True, refit_components=3, refit_steps=5, proposals=7)
    run = runs.trained(x, method, LatentNetworks(**NETWORKS), schedule, seed=0)
    assert run.prior == ResampledPrior(proposals=7)
    assert isinstance(run.model.prior, Tilted) and isinstance(run.model.prior.base, TabularMixture)
    assert run.model.prior.base.components == 3
    z = run.posterior.latents(run.model, x, generator=torch.Generator().manual_seed(0))
    drawn = run.prior.latents(run.model, 2000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(0), z.mean(0), atol=0.4, rtol=0)
    once = runs.trained(x, LatentMethod(prior="normal"), LatentNetworks(**NETWORKS), schedule, seed=0)
    assert once.prior == NormalPrior() and not hasattr(once.model.prior.base, "components")  # type: ignore[union-attr]
    played = runs.trained(x, LatentMethod(prior="vera"), LatentNetworks(**NETWORKS), schedule, seed=0)
    assert isinstance(played.prior, GeneratorPrior) and played.model.sample(5, played.prior).shape == (5, 1, 8, 8)
    chained = runs.trained(x, LatentMethod(chain_steps=3), LatentNetworks(**NETWORKS), schedule, seed=0)
    assert chained.prior == LangevinPrior(steps=3, step_size=0.04)


def test_a_second_stage_has_latents_of_so_many_rows_by_the_posterior_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = scaled_pixels(runs.images_for("halves", "test")[0].x)
    seen = []

    def fit(latents: torch.Tensor, network: nn.Module, **settings: Any) -> Any:
        seen.append((latents, settings))
        return fit_latent_prior(latents, network, **settings)

    monkeypatch.setattr(runs, "fit_latent_prior", fit)
    method = LatentMethod(refit=True, refit_rows=50, revised_steps=3, revised_step_size=0.07, **REFIT)
    schedule = runs.Schedule(seconds=2.0, batch=20)
    run = runs.trained(x, method, LatentNetworks(**NETWORKS), schedule, seed=0)
    latents, settings = seen[-1]
    assert latents.shape == (50, 3) and settings["batch"] == 20
    encoder = run.trained_posterior.encoder  # type: ignore[union-attr]
    assert run.posterior == RevisedPosterior(encoder=encoder, steps=3, step_size=0.07)
    assert run.trained_posterior == VariationalPosterior(encoder=encoder)
    assert run.gain is not None and run.gain >= 0
    once = runs.trained(x, replace(method, revised_steps=0), LatentNetworks(**NETWORKS), schedule, seed=0)
    assert once.posterior == once.trained_posterior
    plain = runs.trained(x, LatentMethod(prior="normal"), LatentNetworks(**NETWORKS), schedule, seed=0)
    assert plain.gain is None and plain.second_stage_seconds == 0


def test_everything_is_trained_on_the_device(devices_in: Callable[[ModuleType], list[torch.device]]) -> None:
    asked = devices_in(methods)
    x = scaled_pixels(runs.images_for("halves", "test")[0].x)
    schedule = runs.Schedule(seconds=2.0, batch=20, device="cpu:0")
    runs.trained(x, LatentMethod(refit=True, **REFIT), LatentNetworks(**NETWORKS), schedule, seed=0)
    assert set(asked) == {torch.device("cpu:0")}


def test_networks_are_brought_to_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    x = scaled_pixels(runs.images_for("halves", "test")[0].x)
    brought = []
    cpu = nn.Module.cpu

    def spy(self: nn.Module) -> nn.Module:
        brought.append(self)
        return cpu(self)

    monkeypatch.setattr(nn.Module, "cpu", spy)
    schedule = runs.Schedule(seconds=2.0, batch=20)
    run = runs.trained(x, LatentMethod(prior="vera"), LatentNetworks(**NETWORKS), schedule, seed=0)
    networks = run.model.prior, run.model.decoder, run.posterior.encoder, run.prior.generator  # type: ignore[union-attr]
    assert {id(network) for network in networks} == {id(network) for network in brought}


def test_a_method_may_have_a_likelihood_of_its_own() -> None:
    for own, expected in ((None, 0.3), (0.15, 0.15)):
        decoder = LatentMethod(sigma=own).training(LatentNetworks(**NETWORKS), size=8, channels=1, seed=0).decoder
        assert float(decoder.sigma) == pytest.approx(expected)


def test_latents_are_of_so_many_rows_and_of_none_twice() -> None:
    class Rows:
        def latents(self, model: Any, x: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
            return x.flatten(1)

    x, model = (
        torch.arange(70.0).view(70, 1, 1, 1),
        LatentModel(Gaussian(torch.zeros(1)), UpsamplingGenerator(1, size=4)),
    )
    found = {most: runs._latents(x, model, Rows(), most, 0).flatten().sort().values for most in (50, 70, 80)}
    assert len(found[50].unique()) == 50
    assert torch.equal(found[70], torch.arange(70.0)) and torch.equal(found[80], found[70])


def test_a_second_stage_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of the fixture's constants too
    x = torch.rand(60, 1, 8, 8) * 2 - 1
    method, networks = LatentMethod(refit=True, **REFIT), LatentNetworks(**NETWORKS)
    training = method.training(networks, size=8, channels=1, seed=0)
    few, many = (runs._rehearsal(x, training, replace(method, refit_steps=steps), networks, 20) for steps in (1, 400))
    assert 0 < few < many


def test_both_stages_together_take_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    x = scaled_pixels(runs.images_for("halves", "test")[0].x)
    asked = {}

    def steps_within(*args: Any, seconds: float, probe: float) -> int:
        asked["seconds"] = seconds
        return 3

    monkeypatch.setattr(runs, "steps_within", steps_within)
    monkeypatch.setattr(runs, "_rehearsal", lambda *args: 30.0)
    schedule, networks = runs.Schedule(seconds=100, batch=20), LatentNetworks(**NETWORKS)
    runs.trained(x, LatentMethod(refit=True, **REFIT), networks, schedule, seed=0)
    assert asked["seconds"] == 70.0
    with pytest.raises(ValueError, match=r"the second stage takes more than 20 seconds; give more"):
        runs.trained(x, LatentMethod(refit=True, **REFIT), networks, runs.Schedule(seconds=20), seed=0)


def test_no_methods() -> None:
    with pytest.raises(ValueError, match="got none"):
        latent_methods({})
