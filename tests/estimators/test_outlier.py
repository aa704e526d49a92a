"""Outliers of tables: what is told, how often wrongly, and by which cell."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from chainfree.energies import TabularMarginals, TabularMixture
from chainfree.estimators import EnergyOutlierDetector
from chainfree.estimators.outlier_model import MixturePool
from chainfree.fitting import fit_tabular_mixture


def _people(n: int, seed: int) -> pd.DataFrame:
    """Height and weight that go together, and a trade that goes with the town."""
    rng = np.random.default_rng(seed)
    height = rng.normal(172, 9, n)
    town = rng.choice(["port", "mine"], n)
    trade = np.where(rng.random(n) < 0.97, np.where(town == "port", "sailor", "miner"), "baker")
    weight = 70 + 0.9 * (height - 172) + rng.normal(0, 4, n)
    return pd.DataFrame({"height": height, "weight": weight, "town": town, "trade": trade})


@cache
def _fitted() -> EnergyOutlierDetector:
    return EnergyOutlierDetector(random_state=0).fit(_people(1500, 0))


def test_what_no_column_shows_alone_is_told() -> None:
    normal = _people(500, 1)
    odd = normal.copy()
    odd.loc[:249, "weight"] = 140 - odd.loc[:249, "weight"] + 12 * np.sign(172 - odd.loc[:249, "height"])
    odd.loc[250:, "trade"] = np.where(odd.loc[250:, "town"] == "port", "miner", "sailor")
    detector = _fitted()
    scores = -detector.score_samples(pd.concat([normal, odd]))
    kinds = np.repeat([0, 1, 2], [500, 250, 250])
    assert roc_auc_score(kinds[kinds != 2] > 0, scores[kinds != 2]) > 0.97
    assert roc_auc_score(kinds[kinds != 1] > 0, scores[kinds != 1]) > 0.97


def test_false_alarms_are_at_the_level() -> None:
    """Over fits to different rows: one fit's share depends on its calibration rows too."""
    shares = []
    for seed in range(12):
        detector = EnergyOutlierDetector(
            component_counts=(3,), hidden_layer_sizes=(16,), max_iter=20, level=0.1, random_state=seed
        ).fit(_people(295, seed))
        assert len(detector.calibration_energies_) == 59
        new = _people(400, 100 + seed)
        shares.append(float((detector.predict(new) == -1).mean()))
        np.testing.assert_array_equal(detector.predict(new) == -1, detector.p_values(new) <= 0.1)
    # 6 of 60 ranks: a mean of 0.1, with a deviation of sqrt(0.1 * 0.9 / 59) from the calibration and of less from the rest
    assert np.mean(shares) == pytest.approx(0.1, abs=3 * 0.042 / np.sqrt(12))


def test_contributions_name_the_cell() -> None:
    rows = _people(4, 2)
    rows["weight"] = 70 + 0.9 * (rows["height"] - 172)
    rows["trade"] = np.where(rows["town"] == "port", "sailor", "miner")
    rows.loc[0, "weight"] += 60
    rows.loc[1, "trade"] = "baker"
    found = _fitted().contributions(rows, random_state=0)
    assert isinstance(found, pd.DataFrame) and list(found.columns) == list(rows.columns)
    assert found.loc[0].idxmax() == "weight" and found.loc[0, "weight"] > 10
    assert found.loc[1].idxmax() == "trade" and found.loc[1, "trade"] > 1
    assert (found.loc[2:].abs().max(axis=1) < 5).all()
    pd.testing.assert_frame_equal(found, _fitted().contributions(rows, random_state=0))


def test_contamination_sets_the_share_of_the_fitted_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 2))
    detector = EnergyOutlierDetector(contamination=0.1, max_iter=0, random_state=0)
    assert (detector.fit_predict(rows) == -1).sum() == 30
    assert detector.n_iter_ == 0


def test_where_no_alarm_can_be_there_is_none() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.warns(
        UserWarning, match="no row can be an outlier at level 0.05: 6 rows are kept out, and it takes 19"
    ):
        detector = EnergyOutlierDetector(max_iter=0, random_state=0).fit(rows)
    assert detector.offset_ == -np.inf
    assert (detector.predict([[1e3, 0.0]]) == 1).all() and detector.p_values([[1e3, 0.0]]) == [1 / 7]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"contamination": 0.7}, "contamination must be above 0 and at most 0.5, or None, got 0.7"),
        ({"level": 0}, "level must be above 0 and below 1, got 0"),
        ({"calibration_fraction": 1.0}, "calibration_fraction must be above 0 and below 1, got 1.0"),
    ],
)
def test_settings_out_of_their_range(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnergyOutlierDetector(**setting).fit(np.zeros((20, 2)))


def test_components_of_wide_tables_share_their_covariance() -> None:
    """Sixty rows of 1,500 columns."""
    rows = np.random.default_rng(0).normal(size=(60, 1500)).astype(np.float32)
    detector = EnergyOutlierDetector(component_counts=(20,), max_iter=0, random_state=0).fit(rows)
    mixture = detector.model_.pool.mixture
    assert mixture.components == 9 and mixture.factors.shape == (1, 1500, 1500)
    assert np.isfinite(detector.score_samples(rows[:3])).all()


def test_a_category_of_kept_out_rows_alone_is_as_strange_as_a_new_one() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": "usual"})
    frame.loc[:5, "b"] = [f"rare {i}" for i in range(6)]
    detector = EnergyOutlierDetector(component_counts=(2,), max_iter=5, random_state=0).fit(frame)
    known = set(detector.model_.encoder.schema.columns[1].values)  # type: ignore[union-attr]
    kept_out = [name for name in frame["b"][:6] if name not in known]
    assert kept_out  # else this shows nothing
    new = frame.iloc[[10, 10, 10]].assign(b=["usual", kept_out[0], "never seen"])
    usual, theirs, never = detector.score_samples(new)
    assert theirs == never < usual - 2


def test_a_pool_is_the_mean_of_its_mixtures_energies() -> None:
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    sizes = [2, 5, 5, 2]  # some of a size side by side
    mixtures = [fit_tabular_mixture(rows, [None] * 3, components=size, seed=seed) for seed, size in enumerate(sizes)]
    pool = MixturePool(TabularMixture.pooled(mixtures), sizes)
    torch.testing.assert_close(pool(rows), torch.stack([mixture(rows) for mixture in mixtures]).mean(0))


@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.9])
def test_the_energy_is_a_pool_of_mixtures_and_columns(share: float) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    detector = EnergyOutlierDetector(component_counts=(2, 4), marginal_share=share, max_iter=0, random_state=0).fit(
        rows
    )
    model = detector.model_
    encoded = model.encoder.encode(pd.DataFrame(rows, columns=model.encoder.schema.names))
    marginals = next(part for part in model.energy.energies if isinstance(part, TabularMarginals))
    with torch.no_grad():
        expected = (1 - share) * model.pool(encoded) + share * marginals(encoded)
    np.testing.assert_allclose(detector.score_samples(rows), -expected.numpy(), rtol=1e-5)


def test_a_cell_that_is_odd_by_itself_is_not_lost_among_forty() -> None:
    rng = np.random.default_rng(0)
    rows, new = rng.normal(size=(400, 40)), rng.normal(size=(400, 40))
    new[:200, 7] = rng.choice([-4.0, 4.0], 200)
    odd = np.arange(400) < 200
    settings = {"component_counts": (5, 20), "max_iter": 0, "random_state": 0}
    with_columns, without = (
        roc_auc_score(odd, -EnergyOutlierDetector(marginal_share=share, **settings).fit(rows).score_samples(new))
        for share in (1 / 3, 0.0)
    )
    assert with_columns > without + 0.02, (with_columns, without)


@pytest.mark.parametrize(("columns", "share"), [(2, 1 / 3), (2, 0.0), (140, 1 / 3)])
def test_cells_beyond_all_squares_are_outliers(columns: int, share: float) -> None:
    rows = np.random.default_rng(0).normal(size=(150, columns))
    detector = EnergyOutlierDetector(component_counts=(2,), marginal_share=share, max_iter=0, random_state=0).fit(rows)
    far = rows[:1].copy()
    far[0, 0] = 1e30
    assert detector.predict(far).tolist() == [-1]
    assert detector.p_values(far)[0] < 0.05


def test_a_share_is_one() -> None:
    with pytest.raises(ValueError, match="marginal_share must be at least 0 and below 1, got 1"):
        EnergyOutlierDetector(marginal_share=1).fit(np.zeros((9, 1)))


def test_contributions_have_the_rows_names() -> None:
    frame = _people(200, 0).set_index(np.arange(1000, 1200))
    detector = EnergyOutlierDetector(component_counts=(2,), max_iter=0, random_state=0).fit(frame)
    found = detector.contributions(frame.iloc[[3, 5]], n_draws=2, random_state=0)
    assert found.index.tolist() == [1003, 1005]
