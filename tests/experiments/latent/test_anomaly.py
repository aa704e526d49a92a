"""Kinds of images held out in turn, where what is held out is another kind for sure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
import torch

from chainfree.datasets import Images
from chainfree.engine import TrainingDivergedError
from chainfree.experiments import LatentAnomaly
from chainfree.experiments.latent import anomaly, runs

METHODS = {"vae": {"prior": "normal"}, "ed_lebm": {"draws": 4}}


def _settings(**changes: Any) -> dict[str, Any]:
    return {
        "data": "halves",
        "digits": [0, 1],
        "methods": METHODS,
        "networks": {"latent": 3, "encoder_widths": (4, 4), "prior_widths": (8,)},
        "schedule": {"seconds": 2.0, "batch": 20},
        "game": {"widths": (4, 4), "generator_widths": (4,), "latent": 3},
        "draws": 2,
        "seeds": [0, 1],
        "jobs": 1,
        **changes,
    }


def test_what_was_not_trained_on_is_unlikely() -> None:
    figures, picture = LatentAnomaly(**_settings()).run()
    for digit in ("0", "1"):
        assert set(figures["auprc"][digit]) == {"vae", "ed_lebm", "meg"}
        for name in METHODS:
            found = figures["auprc"][digit][name]
            assert found["mean"] == pytest.approx(sum(found["by_seed"]) / 2)
            # other halves are bright than in all rows that it has seen
            assert found["mean"] > 0.95 and figures["auroc"][digit][name]["mean"] > 0.95
            for score in ("joint", "prior"):
                assert set(figures[f"auprc_by_{score}"][digit]) == set(METHODS)
            assert found == figures["auprc_by_joint"][digit][name]
    again, _ = LatentAnomaly(**_settings(by_prior=["ed_lebm"])).run()
    assert figures["auprc_by_prior"]["0"]["ed_lebm"] != figures["auprc_by_joint"]["0"]["ed_lebm"]
    for digit in ("0", "1"):
        assert again["auprc"][digit]["ed_lebm"] == figures["auprc_by_prior"][digit]["ed_lebm"]
        assert again["auprc"][digit]["vae"] == figures["auprc"][digit]["vae"]
    assert figures["diverged"] == {d: {"vae": 0, "ed_lebm": 0, "meg": 0} for d in ("0", "1")}
    (axes,) = picture.axes
    lines = {line.get_label() for line in axes.lines}
    assert lines == {"vae by joint", "ed_lebm by joint", "vae by prior", "ed_lebm by prior", "meg"}
    json.dumps(figures)


def test_the_held_out_kind_is_not_trained_on_and_validation_is_of_the_training_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = torch.arange(60) % 3
    images = {
        "train": Images((kinds.view(-1, 1, 1, 1) * 10).expand(60, 1, 8, 8).to(torch.uint8), kinds),
        "test": Images(torch.full((6, 1, 8, 8), 200, dtype=torch.uint8), torch.tensor([0, 1, 2, 0, 1, 2])),
    }
    monkeypatch.setitem(runs.LATENT_DATA, "kinds", images.__getitem__)
    monkeypatch.setattr(runs, "_HELD_OUT", 12)
    seen = {}

    class SeenError(Exception):
        pass

    def look(x: Any, *args: Any, **kwargs: Any) -> None:
        seen["x"] = x
        raise SeenError

    monkeypatch.setattr(anomaly, "trained", look)
    for judged_on, rows in (("test", 60), ("validation", 48)):
        with pytest.raises(SeenError):
            LatentAnomaly(**_settings(data="kinds", digits=[1], judged_on=judged_on)).run()
        levels = ((seen["x"][:, 0, 0, 0] + 1) * 127.5).round().tolist()
        assert sorted(set(levels)) == [0, 20] and len(levels) == rows * 2 // 3


def test_the_game_is_trained_on_the_device_of_the_others(
    devices_in: Callable[[ModuleType], list[torch.device]],
) -> None:
    asked = devices_in(anomaly)
    x = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    schedule = runs.Schedule(seconds=0.1, probe=0.1, batch=20, device="cpu:0")
    game = anomaly.PixelGame(widths=(4, 4), generator_widths=(4,), latent=3)
    energies, _ = game.energies(x, x[:5], schedule, seed=0)
    assert set(asked) == {torch.device("cpu:0")} and energies.device == torch.device("cpu")


def test_divergence_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*args: Any, **kwargs: Any) -> None:
        raise TrainingDivergedError("the loss is NaN", 3)

    monkeypatch.setattr(anomaly, "trained", diverges)
    figures, _ = LatentAnomaly(**_settings(digits=[0])).run()
    assert figures["diverged"]["0"] == {"vae": 2, "ed_lebm": 2, "meg": 0}
    assert set(figures["auprc"]["0"]) == {"meg"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "cats"}, "data must be one of"),
        ({"digits": [10]}, "digits must be classes 0 to 9, got 10"),
        ({"digits": []}, "digits must be a list"),
        ({"methods": METHODS | {"meg": {}}}, "meg is beside the methods"),
        ({"judged_on": "train"}, "judged_on must be test or validation"),
        ({"game": {"lr": 0.0}}, "lr must be"),
        ({"draws": 0}, "draws must be"),
        ({"by_prior": ["nobody"]}, "by_prior must name methods, got nobody"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LatentAnomaly(**_settings(**changes))
