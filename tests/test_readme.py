"""The README says what ``results/`` says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def test_the_results_are_those_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)
    from benchmarks.readme import with_results

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == with_results(readme), "run python -m benchmarks.readme"


def test_the_library_examples_run_one_after_the_other() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(examples) == 8
    scope: dict[str, object] = {}
    for example in examples:
        exec(example, scope)  # our own text
    log_p = scope["log_p"]
    assert isinstance(log_p, torch.Tensor)
    # standard normal in the plane: the mean log-density is -2.84
    assert abs(float(log_p.mean()) + 2.84) < 0.15
    found, record = scope["found"], scope["record"]
    assert found.low <= found.mean <= found.high < found.low + 0.1  # type: ignore[attr-defined]
    assert 0.5 < float(record.acceptance) < 1 and int(record.divergences) == 0  # type: ignore[attr-defined]
    accuracy, of_base = float(scope["accuracy"]), float(scope["accuracy_of_base"])  # type: ignore[arg-type]
    assert 0.88 < accuracy < 0.97 and 0.65 < of_base < 0.82
    usual, strange = scope["p_values"]  # type: ignore[misc]
    assert usual > 0.1 and strange < 0.01  # type: ignore[has-type]
    made = scope["made"]
    assert abs(float(made["pay"].mean()) - 3000) < 30 and (made["town"] == "Ulm").all()  # type: ignore[index]
    new, odd = scope["new"], scope["odd"]
    assert isinstance(new, torch.Tensor) and new.shape == (16, 1, 8, 8)
    assert isinstance(odd, torch.Tensor) and odd.shape == (512,) and bool(odd.isfinite().all())
    samples = scope["samples"]
    assert isinstance(samples, torch.Tensor) and samples.shape == (1000, 2)
    assert float((samples.std(0) - 1).abs().max()) < 0.25
