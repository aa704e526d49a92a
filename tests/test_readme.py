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


def test_the_library_example_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(example, scope)  # our own text
    log_p = scope["log_p"]
    assert isinstance(log_p, torch.Tensor)
    # standard normal in the plane: the mean log-density is -2.84
    assert abs(float(log_p.mean()) + 2.84) < 0.15
