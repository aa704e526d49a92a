"""The joint objective, against its terms one by one, and trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import chainfree as cf
from chainfree.energies import MLP, GaussianClasses, JointEnergy, TiltedLogits
from chainfree.functional import virtual_adversarial_divergence
from chainfree.objectives import Joint, VirtualAdversarial
from chainfree.typing import Batch, Energy, LossOutput, Update

MARGINALS: dict[str, Callable[[], Any]] = {
    "energy discrepancy": cf.losses.EnergyDiscrepancy,
    "denoising": lambda: cf.losses.DenoisingScoreMatching(scale=0.3),
    "sliced": cf.losses.SlicedScoreMatching,
    "conditional": cf.losses.ConditionalNCE,
    "contrastive divergence": lambda: cf.losses.ContrastiveDivergence(chain=cf.samplers.Chain(steps=2)),
    "short run": lambda: cf.losses.ShortRun(initial=cf.energies.Gaussian(torch.zeros(2).double())),
    "recovery": cf.losses.RecoveryLikelihood,
    "persistent": lambda: cf.objectives.PersistentContrastiveDivergence(
        cf.samplers.ReplayBuffer(torch.randn(20, 2).double())
    ),
    "noise contrastive": lambda: cf.objectives.NoiseContrastive(cf.energies.Gaussian(torch.zeros(2).double())),
    "vera": lambda: cf.objectives.VERA(cf.generators.ResidualGenerator(2, 2).double()),
    "meg": lambda: cf.objectives.MEG(cf.generators.ResidualGenerator(2, 2).double(), _critic()),
}


def _critic() -> nn.Module:
    return cf.generators.MLPCritic(2, 2, width=8).double()


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def energy() -> JointEnergy:
    torch.manual_seed(0)
    return JointEnergy(MLP(2, width=8, outputs=3).double(), classes=3)


@pytest.fixture
def batch() -> Batch:
    x = torch.randn(9, 2, generator=_seeded(1), dtype=torch.float64)
    return Batch(x, torch.tensor([0, 2, 1, 0, -1, -1, -1, -1, -1]), labelled=4)


def _only(objective: Joint, energy: JointEnergy, batch: Batch) -> Update:
    (update,) = objective.updates(energy, batch, 0, _seeded(7))
    return update


def test_a_classifier_alone_has_the_cross_entropy_of_its_labelled_rows(energy: JointEnergy, batch: Batch) -> None:
    update = _only(Joint(None, classification=2.0), energy, batch)
    assert batch.y is not None
    expected = functional.cross_entropy(energy.logits(batch.x[:4]), batch.y[:4])
    torch.testing.assert_close(update.loss, 2 * expected)
    torch.testing.assert_close(update.metrics["cross_entropy"], expected.detach())
    mixed = Batch(batch.x, batch.y)  # no row was drawn for its label
    torch.testing.assert_close(_only(Joint(None), energy, mixed).loss, expected)


def test_without_a_label_there_is_no_cross_entropy(energy: JointEnergy, batch: Batch) -> None:
    unlabelled = Batch(batch.x, torch.full((9,), -1))
    assert float(_only(Joint(None), energy, unlabelled).loss.detach()) == 0
    with pytest.raises(ValueError, match="needs labels"):
        _only(Joint(None), energy, Batch(batch.x))


def test_labels_of_no_class_are_refused(energy: JointEnergy, batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"whole numbers, -1 where there is none, got torch.float32; call .long\(\)"):
        _only(Joint(None), energy, Batch(batch.x, torch.zeros(9)))
    with pytest.raises(ValueError, match="from 0 to 2, got 3; give more classes"):
        _only(Joint(None), energy, Batch(batch.x, torch.tensor([3] + [-1] * 8)))
    with pytest.raises(ValueError, match="labels must be -1 where there is none, got -2"):
        _only(Joint(None), energy, Batch(batch.x, torch.tensor([0] + [-2] * 8)))
    for kind in (torch.int32, torch.bool):
        with pytest.raises(ValueError, match=r"must be of torch.int64, got torch.\w+; call .long\(\)"):
            _only(Joint(None), energy, Batch(batch.x, torch.zeros(9).to(kind)))
    with pytest.raises(ValueError, match="all rows were drawn for their labels"):
        _only(Joint(None), energy, Batch(batch.x, torch.zeros(9, dtype=torch.int64), labelled=9))


def test_all_terms_are_added_and_those_without_labels_are_over_the_other_rows(
    energy: JointEnergy, batch: Batch
) -> None:
    loss = cf.losses.ScoreMatching()
    objective = Joint(
        loss,
        marginal_weight=0.3,
        class_entropy=0.7,
        class_balance=0.6,
        class_shares=(0.5, 0.3, 0.2),
        virtual_adversarial=VirtualAdversarial(radius=0.2, weight=0.4),
        level_weight=0.05,
    )
    update = _only(objective, energy, batch)
    assert batch.y is not None
    others = batch.x[4:]
    probabilities = torch.softmax(energy.logits(others), 1)
    entropy = torch.distributions.Categorical(probabilities).entropy().mean()
    mean = probabilities.mean(0)
    divergence = virtual_adversarial_divergence(energy.logits, others, radius=0.2, generator=_seeded(7)).mean()
    expected = (
        0.3 * loss(energy, others).loss
        + functional.cross_entropy(energy.logits(batch.x[:4]), batch.y[:4])
        + 0.7 * entropy
        + 0.6 * (mean * (mean / torch.tensor([0.5, 0.3, 0.2])).log()).sum()
        + 0.4 * divergence
        + 2 * 0.05 * (0.02 * energy(batch.x[:4]).mean().detach()) * energy(batch.x[:4]).mean()
    )
    torch.testing.assert_close(update.loss, expected)
    torch.testing.assert_close(update.metrics["loss"], expected.detach())
    torch.testing.assert_close(update.metrics["marginal_loss"], loss(energy, others).loss.detach())
    assert {"cross_entropy", "accuracy", "class_entropy", "virtual_adversarial"} <= set(update.metrics)


class Table(nn.Module):
    """Logits of every row of a pool as numbers of their own."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(2 + 3 * torch.randn(rows, 2, generator=_seeded(rows)))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x.squeeze(1).long().clamp(0, len(self.logits) - 1)]


@pytest.mark.parametrize(("rows", "labelled"), [(2, 2), (4, 4), (20, 20), (60, 64), (100, 50)])
def test_the_level_goes_to_zero_and_the_shape_stays(rows: int, labelled: int) -> None:
    """Whatever the pool of labelled rows is, and however batches are drawn from it."""
    energy = JointEnergy(Table(rows), classes=2)
    x = torch.arange(rows).unsqueeze(1).float()
    before = energy(x).detach()
    objective = Joint(cf.losses.EnergyDiscrepancy(), marginal_weight=0.0, classification=0.0, level_weight=1.0)
    stream = cf.semi_supervised_batches(x, torch.arange(rows) % 2, size=2, labelled=labelled, seed=0)
    rate = 0.003  # plain gradient steps, slower than the average
    for step in range(800):
        (update,) = objective.updates(energy, next(stream), step, _seeded(step))
        (gradient,) = torch.autograd.grad(update.loss, list(energy.parameters()))
        with torch.no_grad():
            energy.network.logits -= rate * rows * gradient
    after = energy(x).detach()
    assert float(before.mean().abs()) > 1 and float(after.mean().abs()) < 0.1 * float(before.mean().abs())
    assert float(after.std()) == pytest.approx(float(before.std()), rel=0.15)


def test_the_level_s_average_is_saved_with_the_objective() -> None:
    objective = Joint(cf.losses.EnergyDiscrepancy())
    assert "level" in objective.state_dict()


def test_limits_of_the_marginal_reach_the_guard(energy: JointEnergy, batch: Batch) -> None:
    class Limited:
        def players(self, energy: nn.Module) -> Any:
            return {"energy": list(energy.parameters())}

        def updates(self, energy: Energy, batch: Batch, step: int, generator: torch.Generator) -> Any:
            loss = energy(batch.x).mean()
            yield Update("energy", loss, {"loss": loss.detach(), "excess": loss.detach()}, {"excess": 7.0, "loss": 5.0})

    update = _only(Joint(Limited()), energy, batch)
    assert update.limits == {"excess": 7.0, "marginal_loss": 5.0}
    assert {"excess", "marginal_loss"} <= set(update.watched)


def test_rows_and_classes_share_most_information_where_answers_are_sure_and_balanced(
    energy: JointEnergy, batch: Batch
) -> None:
    """With equal weights the two terms are log K less the mutual information of row and class."""
    update = _only(Joint(None, classification=0.0, class_entropy=1.0, class_balance=1.0), energy, batch)
    p = torch.softmax(energy.logits(batch.x[4:]), 1).detach()
    joint = p / len(p)
    information = (joint * (joint / (joint.sum(0) * joint.sum(1, keepdim=True))).log()).sum()
    assert float(update.loss.detach()) == pytest.approx(math.log(3) - float(information))


def test_shares_are_refused_that_are_none_or_of_other_classes(energy: JointEnergy, batch: Batch) -> None:
    for shares in ((0.5, 0.6), (1.0, 0.0)):
        with pytest.raises(ValueError, match="class_shares must"):
            Joint(None, class_balance=1.0, class_shares=shares)
    with pytest.raises(ValueError, match="3 classes and 2 class_shares"):
        _only(Joint(None, class_balance=1.0, class_shares=(0.5, 0.5)), energy, batch)


def test_the_level_of_a_tilt_is_held_to_its_base_s(batch: Batch) -> None:
    base = GaussianClasses(torch.randn(3, 2).double(), torch.eye(2).double(), torch.ones(3).double())
    tilt = JointEnergy(TiltedLogits(base, MLP(2, width=8, outputs=3).double()), classes=3)
    loss = cf.losses.ScoreMatching()
    plain, held = Joint(loss, level_weight=0.0), Joint(loss, level_weight=2.0)
    # it has not moved yet, so there is nothing to hold
    torch.testing.assert_close(_only(held, tilt, batch).loss, _only(plain, tilt, batch).loss)
    with torch.no_grad():
        tilt.network.network.layers[-1].bias += 3.0
    raised = _only(held, tilt, batch).loss - _only(plain, tilt, batch).loss
    assert float(raised.detach()) == pytest.approx(2 * 2.0 * (0.02 * 3.0) * 3.0)  # a fiftieth of the way in one batch


@pytest.mark.parametrize("labelled", [0, 4])
@pytest.mark.parametrize("name", sorted(MARGINALS))
def test_any_training_of_the_marginal_goes_with_the_classes(
    energy: JointEnergy, batch: Batch, name: str, labelled: int
) -> None:
    given = Batch(batch.x, batch.y, labelled)
    marginal = MARGINALS[name]()
    objective = Joint(marginal, class_entropy=0.1, class_balance=0.1, level_weight=0.0)
    others = objective.marginal
    assert others is not None
    state = copy.deepcopy(objective.state_dict())
    parameters = list(energy.parameters())
    found = next(u for u in objective.updates(energy, given, 0, _seeded(7)) if u.player == "energy")
    gradients = torch.autograd.grad(found.loss, parameters)
    objective.load_state_dict(state)
    alone = next(u for u in others.updates(energy, given.unlabelled(), 0, _seeded(7)) if u.player == "energy")
    terms = _only(Joint(None, class_entropy=0.1, class_balance=0.1), energy, given)
    for gradient, wanted in zip(gradients, torch.autograd.grad(alone.loss + terms.loss, parameters), strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_the_marginal_may_have_fewer_rows_than_the_classes(energy: JointEnergy, batch: Batch) -> None:
    rows: list[int] = []

    def loss(energy: Energy, x: Tensor, *, generator: torch.Generator | None = None) -> LossOutput:
        rows.append(len(x))
        return LossOutput(energy(x).mean())

    given = Batch(batch.x, batch.y, 2)
    terms = _only(Joint(None, class_entropy=1.0), energy, given).loss
    found = _only(Joint(loss, marginal_rows=3, class_entropy=1.0, level_weight=0.0), energy, given).loss
    assert rows == [3]
    torch.testing.assert_close(found - terms, energy(batch.x[2:5]).mean())
    with pytest.raises(ValueError, match="marginal_rows"):
        Joint(loss, marginal_rows=0)


def test_other_players_keep_their_turns(energy: JointEnergy, batch: Batch) -> None:
    game = cf.objectives.VERA(cf.generators.ResidualGenerator(2, 2).double(), energy_steps=2)
    objective = Joint(game)
    assert list(objective.players(energy)) == list(game.players(energy))
    turns = [(u.player, "cross_entropy" in u.metrics) for u in objective.updates(energy, batch, 0, _seeded())]
    assert [t for t in turns if t[0] == "energy"] == [("energy", True)] * 2
    assert ("generator", False) in turns
    assert any(name.startswith("marginal.generator") for name in objective.state_dict())


def test_only_joint_energies_have_classes() -> None:
    with pytest.raises(TypeError, match="wrap the network in it"):
        Joint(None).players(MLP(2))
    for wrong in (
        {"classification": -1.0},
        {"marginal_weight": -1.0},
        {"class_entropy": float("nan")},
        {"level_weight": -1.0},
    ):
        with pytest.raises(ValueError, match="must be"):
            Joint(None, **wrong)  # type: ignore[arg-type]


def _moons(n: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import make_moons

    x, y = make_moons(n, noise=0.08, random_state=0)
    return torch.from_numpy(x).float(), torch.from_numpy(y)


@pytest.mark.parametrize(
    ("terms", "least"),
    [
        ({"virtual_adversarial": VirtualAdversarial(radius=0.3), "class_entropy": 0.3}, 0.97),
        ({}, 0.7),
    ],
)
def test_rows_without_labels_help(terms: dict[str, Any], least: float) -> None:
    x, y = _moons(1000)
    hidden = torch.where(torch.arange(1000) < 10, y, -1)
    torch.manual_seed(0)
    energy = JointEnergy(MLP(2, width=64, depth=2, outputs=2), classes=2)
    engine = cf.Engine(energy, Joint(None, **terms), seed=0, optimizer=cf.engine.OptimizerSettings(lr=3e-3))
    engine.fit(cf.semi_supervised_batches(x, hidden, size=128, labelled=10, seed=0), steps=600)
    trained = engine.averaged_energy()
    assert isinstance(trained, JointEnergy)
    accuracy = float((trained.logits(x).argmax(1) == y).float().mean())
    assert accuracy > least
    if not terms:
        assert accuracy < 0.9


def test_a_joint_model_learns_the_density_and_the_classes() -> None:
    """Tilting normal classes on data that are no normals: both the likelihood and the accuracy gain."""
    x, y = _moons(4000)
    base = GaussianClasses.fit(x, y)
    torch.manual_seed(0)
    energy = JointEnergy(TiltedLogits(base, MLP(2, width=64, depth=2, outputs=2)), classes=2)
    objective = Joint(cf.objectives.NoiseContrastive(base))
    engine = cf.Engine(energy, objective, seed=0)
    engine.fit(cf.batches(x, y=y, size=256, seed=0), steps=800)
    trained = engine.averaged_energy()
    assert isinstance(trained, JointEnergy)
    log_z = cf.evaluation.log_z_quadrature(trained, [(-4, 5), (-4, 4)]).value
    before, after = base.log_prob(x).mean(), -trained(x).mean() - log_z
    assert float(after - before) > 0.3
    right = (trained.logits(x).argmax(1) == y).float().mean()
    assert float(right) > 0.99 > float((base.log_joint(x).argmax(1) == y).float().mean())
    assert isinstance(objective.marginal, nn.Module)
