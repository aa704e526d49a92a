"""What the stability benchmark calls a silent failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.joint_stability import ENDED_WELL, RAISED, ended

from benchmarks import joint_stability
from chainfree.engine import Engine, TrainingDivergedError


@pytest.mark.parametrize("way", joint_stability.BY_DEFAULT)
def test_a_short_training_ends_well(way: str, tmp_path: Path) -> None:
    assert ended(way, 3, 400, tmp_path) == ENDED_WELL


def test_one_that_gives_up_has_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Engine.fit

    def fit(self: Engine, *given: Any, **options: Any) -> Any:
        real(self, *given, **options)
        raise TrainingDivergedError("enough")

    monkeypatch.setattr(Engine, "fit", fit)
    assert ended("vera", 0, 20, tmp_path) == RAISED


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.fill_(torch.nan), "not finite"),
        (lambda p: p.zero_(), "does not classify"),
    ],
)
def test_weights_that_are_spoilt_without_a_word_are_silent(
    spoil: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Engine.fit

    def fit(self: Engine, *given: Any, **options: Any) -> Any:
        report = real(self, *given, **options)
        spoilt = {
            module: {
                name: spoil(value.clone()) if value.is_floating_point() else value for name, value in state.items()
            }
            for module, state in self.averaged_weights().items()
        }
        self.adopt_weights(spoilt)
        return report

    monkeypatch.setattr(Engine, "fit", fit)
    assert words in ended("sgld", 0, 20, tmp_path)


def test_energies_that_are_none_of_digits_are_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint_stability, "AUROC", 1.1)
    assert "not one of digits" in ended("vera", 0, 400, tmp_path)
    monkeypatch.setattr(joint_stability, "LEVEL", 0.0)
    assert "level ran away" in ended("vera", 0, 400, tmp_path / "second")
