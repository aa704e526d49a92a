"""Virtual adversarial divergence, against the Fisher metric of a linear classifier."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from chainfree.functional.virtual_adversarial import adversarial_direction, virtual_adversarial_divergence

WEIGHT = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0]], dtype=torch.float64)


def _logits(x: Tensor) -> Tensor:
    return x @ WEIGHT.T


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(n: int = 6) -> Tensor:
    return torch.randn(n, 3, generator=_seeded(1), dtype=torch.float64)


def _divergence(x: Tensor, r: Tensor) -> Tensor:
    clean, moved = (torch.distributions.Categorical(logits=_logits(rows)) for rows in (x, x + r))
    return torch.distributions.kl_divergence(clean, moved)


def test_the_direction_is_that_of_the_largest_curvature() -> None:
    """Of KL(p || p moved), whose Hessian is W'(diag p - p p')W; of rank one for two classes, so one step finds it."""
    x = _rows()
    found = adversarial_direction(
        _logits, x, torch.log_softmax(_logits(x), 1), probe=1e-5, steps=1, generator=_seeded()
    )
    for row, direction in zip(x, found, strict=True):
        p = torch.softmax(_logits(row.unsqueeze(0)), 1)[0]
        hessian = WEIGHT.T @ (torch.diag(p) - torch.outer(p, p)) @ WEIGHT
        leading = torch.linalg.eigh(hessian).eigenvectors[:, -1]
        assert abs(float(direction @ leading)) == pytest.approx(1.0, abs=1e-4)


def test_more_steps_come_nearer_to_it_where_the_curvature_has_rank_two() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0], [-0.4, 0.1, 0.5]], dtype=torch.float64)
    x = _rows()

    def logits(rows: Tensor) -> Tensor:
        return rows @ weight.T

    found = {}
    for steps in (1, 30):
        directions = adversarial_direction(
            logits, x, torch.log_softmax(logits(x), 1), probe=1e-5, steps=steps, generator=_seeded()
        )
        cosines = []
        for row, direction in zip(x, directions, strict=True):
            p = torch.softmax(logits(row.unsqueeze(0)), 1)[0]
            hessian = weight.T @ (torch.diag(p) - torch.outer(p, p)) @ weight
            cosines.append(abs(float(direction @ torch.linalg.eigh(hessian).eigenvectors[:, -1])))
        found[steps] = min(cosines)
    assert found[1] < 0.95 and found[30] > 0.999


def test_the_value_is_the_divergence_at_that_length() -> None:
    x = _rows()
    found = virtual_adversarial_divergence(_logits, x, radius=0.3, probe=1e-5, generator=_seeded())
    direction = adversarial_direction(
        _logits, x, torch.log_softmax(_logits(x), 1), probe=1e-5, steps=1, generator=_seeded()
    )
    torch.testing.assert_close(found, _divergence(x, 0.3 * direction))
    known = virtual_adversarial_divergence(_logits, x, radius=0.3, probe=1e-5, clean=_logits(x), generator=_seeded())
    torch.testing.assert_close(known, found)
    random = torch.randn(200, 3, generator=_seeded(5), dtype=torch.float64)
    random /= random.norm(dim=1, keepdim=True)
    small = virtual_adversarial_divergence(_logits, x, radius=1e-3, probe=1e-5, generator=_seeded())
    worst = torch.stack([_divergence(x, 1e-3 * r.expand_as(x)) for r in random]).amax(0)
    assert bool((small >= worst - 1e-9).all())


def test_the_clean_classes_are_held() -> None:
    """The gradient is that of the divergence in its second argument, by finite differences."""
    layer = nn.Linear(3, 2, bias=False).double()
    layer.weight.data.copy_(WEIGHT)
    x = _rows()
    clean = _logits(x)
    virtual_adversarial_divergence(layer, x, radius=0.5, generator=_seeded()).sum().backward()
    direction = adversarial_direction(_logits, x, torch.log_softmax(clean, 1), probe=1e-2, steps=1, generator=_seeded())

    def value(weight: Tensor) -> Tensor:
        q = torch.distributions.Categorical(logits=(x + 0.5 * direction) @ weight.T)
        return torch.distributions.kl_divergence(torch.distributions.Categorical(logits=clean), q).sum()

    expected = torch.autograd.functional.jacobian(value, WEIGHT)
    torch.testing.assert_close(layer.weight.grad, expected)
    layer.weight.grad = None
    virtual_adversarial_divergence(layer, x, radius=0.5, clean=layer(x), generator=_seeded()).sum().backward()
    torch.testing.assert_close(layer.weight.grad, expected)


def test_a_classifier_that_never_changes_has_no_direction_and_no_divergence() -> None:
    x = _rows().float()
    found = virtual_adversarial_divergence(lambda r: 0.0 * r[:, :2], x, radius=1.0, generator=_seeded())
    torch.testing.assert_close(found, torch.zeros(6))


def test_settings_are_checked() -> None:
    for wrong in ({"radius": 0.0}, {"radius": 1.0, "probe": -1.0}, {"radius": 1.0, "steps": 0}):
        with pytest.raises(ValueError, match="must be"):
            virtual_adversarial_divergence(_logits, _rows(), **wrong)  # type: ignore[arg-type]
