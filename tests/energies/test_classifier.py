"""Joint energies of rows and classes, against sums over classes by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chainfree.checks import ContractError
from chainfree.energies import MLP, ClassEnergy, GaussianClasses, JointEnergy, TemperedClasses, TiltedLogits


def _base() -> GaussianClasses:
    means = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    return GaussianClasses(means, covariance, torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))


def _rows(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_marginal_sums_over_the_classes() -> None:
    energy = JointEnergy(MLP(2, width=8, outputs=3).double(), classes=3)
    x = _rows()
    each = torch.stack([energy.joint(x, torch.full((7,), y)) for y in range(3)], dim=1)
    torch.testing.assert_close((-energy(x)).exp(), (-each).exp().sum(1))
    torch.testing.assert_close(energy.class_log_probs(x).exp(), (-each).exp() / (-each).exp().sum(1, keepdim=True))
    torch.testing.assert_close(energy.given(2)(x), each[:, 2])


def test_a_tilt_starts_as_its_base() -> None:
    base = _base()
    energy = JointEnergy(TiltedLogits(base, MLP(2, width=8, outputs=3).double()), classes=3)
    x = _rows()
    torch.testing.assert_close(energy(x), -base.log_prob(x))
    torch.testing.assert_close(energy.class_log_probs(x), torch.log_softmax(base.log_joint(x), 1))
    assert all(name.startswith("network.network") for name, p in energy.named_parameters() if p.requires_grad)


def test_tempered_classes_keep_the_density_of_rows_and_lose_certainty() -> None:
    base, x = _base(), _rows()
    tempered = TemperedClasses(base, 3.0).log_joint(x)
    torch.testing.assert_close(torch.logsumexp(tempered, 1), base.log_prob(x))
    roots = torch.softmax(base.log_joint(x), 1) ** (1 / 3)
    torch.testing.assert_close(torch.softmax(tempered, 1), roots / roots.sum(1, keepdim=True))
    torch.testing.assert_close(TemperedClasses(base, 1.0).log_joint(x), base.log_joint(x))
    tilt = TiltedLogits(TemperedClasses(base, 3.0), MLP(2, width=8, outputs=3).double())
    torch.testing.assert_close(tilt(x), tempered)
    with pytest.raises(ValueError, match="temperature must"):
        TemperedClasses(base, 0.0)
    with pytest.raises(TypeError, match="log_joint"):
        TemperedClasses(nn.Identity(), 2.0)  # type: ignore[arg-type]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ContractError, match=r"one logit for each of 4 classes, shape \(B, 4\)"):
        JointEnergy(MLP(2, width=8, outputs=3), classes=4)(torch.zeros(5, 2))
    with pytest.raises(ContractError, match="give the network one output a class"):
        TiltedLogits(_base(), MLP(2, width=8, outputs=4).double())(_rows())
    with pytest.raises(TypeError, match="log_joint"):
        TiltedLogits(nn.Identity(), MLP(2, outputs=2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="classes must be at least 2"):
        JointEnergy(nn.Identity(), classes=1)
    for y in (3, -1, True):
        with pytest.raises(ValueError, match="y must be a class from 0 to 2"):
            ClassEnergy(JointEnergy(nn.Identity(), classes=3), y)


def test_perceptrons_of_several_widths_and_outputs() -> None:
    network = MLP(3, width=(8, 5), outputs=4)
    assert [layer.out_features for layer in network.layers if isinstance(layer, nn.Linear)] == [8, 5, 4]
    assert network(torch.zeros(2, 3)).shape == (2, 4)
    for wrong in ({"width": ()}, {"width": (8, 0)}, {"outputs": 0}, {"depth": 0}):
        with pytest.raises(ValueError, match="must be"):
            MLP(3, **wrong)  # type: ignore[arg-type]


def test_a_temperature_divides_the_logits() -> None:
    torch.manual_seed(0)
    energy, x = JointEnergy(MLP(2, outputs=3), classes=3), torch.randn(5, 2)
    expected = torch.log_softmax(energy.logits(x) / 2.5, 1)
    torch.testing.assert_close(energy.class_log_probs(x, temperature=2.5), expected)
    with pytest.raises(ValueError, match="temperature"):
        energy.class_log_probs(x, temperature=0.0)


@pytest.mark.parametrize("y", [[0, -1], [1, 3]])
def test_the_energy_of_no_class_is_refused(y: list[int]) -> None:
    with pytest.raises(ValueError, match="y must be classes from 0 to 2, got"):
        JointEnergy(MLP(2, width=4, outputs=3), classes=3).joint(torch.zeros(2, 2), torch.tensor(y))
