"""Where experiments train."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from chainfree.experiments.devices import require_device, torch_device


@pytest.mark.parametrize(("there", "name"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_an_accelerator_where_there_is_one(monkeypatch: pytest.MonkeyPatch, there: bool, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert torch_device("auto") == torch.device(name)
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("value", ["auto", "cpu"])
def test_devices_of_this_machine_are_taken(value: str) -> None:
    require_device("device", value)


@pytest.mark.parametrize("value", ["nowhere", "cuda:99", "meta", "", 3, None])
def test_others_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="device must be auto or a device of this machine"):
        require_device("device", value)
