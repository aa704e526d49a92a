"""log Z with a bracket: it agrees where it can, refuses where it must, and says what it rests on."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from chainfree.checks import ContractError
from chainfree.energies import AnalyticEnergy, Banana, DoubleWell, Funnel, Gaussian, GaussianMixture, Ring
from chainfree.evaluation import LogZ, LogZDisagreement, LogZEstimate, estimate_log_z, log_likelihood
from chainfree.evaluation.estimate_log_z import _judged, _Trust

module = importlib.import_module("chainfree.evaluation.estimate_log_z")  # not the function of that name

FAST: dict[str, Any] = {"samples": 10_000, "chains": 200, "temperatures": 40, "leapfrog": 5}


def wide(dim: int, variance: float) -> Gaussian:
    return Gaussian(torch.zeros(dim).double(), variance * torch.eye(dim).double())


def two_modes(dim: int) -> GaussianMixture:
    means = torch.zeros(2, dim).double()
    means[1, 0] = 14.0
    return GaussianMixture(means, 1.0, weights=[0.4, 0.6])


@pytest.mark.parametrize(
    ("energy", "variance"),
    [(Ring((1.0, 2.0)), 3.0), (Banana(2), 6.0), (DoubleWell(1), 1.5)],
    ids=["ring", "banana", "double-well"],
)
def test_in_the_plane_quadrature_is_checked_by_importance(
    energy: AnalyticEnergy, variance: float, generator: torch.Generator
) -> None:
    found = estimate_log_z(energy.double(), proposal=wide(energy.dim, variance), generator=generator, **FAST)
    assert set(found.estimates) == {"quadrature", "importance"}
    assert found.agree
    assert found.upper == "quadrature"
    assert found.low < energy.log_z < found.high
    assert found.high - found.low < 1e-3
    assert found.value == pytest.approx(energy.log_z, abs=1e-4)


@pytest.mark.parametrize("given", [True, False], ids=["rows", "no-rows"])
def test_in_more_dimensions_annealing_brackets_it(given: bool, generator: torch.Generator) -> None:
    energy = Banana(8).double()
    rows = energy.sample(400, generator=generator) if given else None
    found = estimate_log_z(energy, proposal=wide(8, 1.5), rows=rows, tolerance=0.5, generator=generator, **FAST)
    assert set(found.estimates) == {"importance", "ais", "reverse_ais"}
    assert found.upper == ("rows" if given else "chains")
    assert found.low < energy.log_z < found.high
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 1.5
    assert found.effective_sample_sizes == {k: v.effective_sample_size for k, v in found.estimates.items()}


def test_without_a_proposal_a_gaussian_is_fitted_to_half_of_the_rows(generator: torch.Generator) -> None:
    energy = DoubleWell(5).double()
    found = estimate_log_z(energy, rows=energy.sample(1000, generator=generator), generator=generator, **FAST)
    assert found.agree
    assert found.upper == "rows"
    assert found.low < energy.log_z < found.high


@pytest.mark.parametrize("dim", [2, 6])
def test_a_mode_that_the_proposal_misses_shows_in_the_rows(dim: int, generator: torch.Generator) -> None:
    energy, proposal = two_modes(dim), wide(dim, 1.3)
    rows = energy.sample(300, generator=generator)
    with pytest.raises(LogZDisagreement, match=r"importance found -0\.9") as caught:
        estimate_log_z(energy, proposal=proposal, rows=rows, generator=generator, **FAST)
    found = caught.value.estimate
    assert found.low < 0.0 < found.high
    assert found.low == pytest.approx(math.log(0.4), abs=0.1)
    assert not found.agree
    # and without the rows nothing shows, which the record says
    alone = estimate_log_z(energy, proposal=proposal, generator=generator, **FAST)
    assert alone.agree
    assert alone.value == pytest.approx(math.log(0.4), abs=0.05)
    assert alone.upper == ("quadrature" if dim == 2 else "chains")


def test_a_spike_between_the_nodes_of_a_grid_shows_once_a_draw_has_found_it(generator: torch.Generator) -> None:
    """Half of the mass has a width of 0.004, a tenth of the nodes' distance, and log Z is 0."""
    centres = torch.tensor([[0.0, 0.0], [1.013, 0.517]], dtype=torch.float64)
    covariances = torch.stack([torch.eye(2), 0.004**2 * torch.eye(2)]).double()
    energy = GaussianMixture(centres, covariances)
    rows = energy.sample(300, generator=generator)
    with pytest.raises(LogZDisagreement):
        estimate_log_z(energy, proposal=wide(2, 1.5), rows=rows, generator=generator, **FAST)
    # without rows, the one or two of the proposal's draws that fall into it
    found = estimate_log_z(
        energy,
        proposal=wide(2, 1.5),
        samples=400_000,
        generator=generator,
        on_disagreement="flag",
        chains=100,
        temperatures=20,
        leapfrog=2,
    )
    assert not found.agree and found.low < 0.0 < found.high
    assert any("importance found" in complaint for complaint in found.complaints)


def test_rows_that_the_gaussian_is_fitted_to_bound_nothing(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = DoubleWell(5).double()
    fitted: list[Tensor] = []
    started: list[Tensor] = []
    fit, back = Gaussian.fit, module.reverse_ais
    monkeypatch.setattr(module.Gaussian, "fit", lambda x: fitted.append(x) or fit(x))
    monkeypatch.setattr(module, "reverse_ais", lambda e, q, x, **o: started.append(x) or back(e, q, x, **o))
    estimate_log_z(energy, rows=energy.sample(200, generator=generator), generator=generator, **FAST)
    assert len(fitted[0]) == len(started[0]) == 100
    assert float(torch.cdist(fitted[0], started[0]).min()) > 0


def test_chains_of_one_family_do_not_count_as_many(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    families: list[Tensor] = []
    back = module.reverse_ais
    monkeypatch.setattr(
        module, "reverse_ais", lambda e, q, x, **o: families.append(o["families"]) or back(e, q, x, **o)
    )
    estimate_log_z(two_modes(5), proposal=wide(5, 2.0), generator=generator, on_disagreement="flag", **FAST)
    assert len(families[0].unique()) < len(families[0])  # resampled, and known to be


def test_a_flag_instead_of_an_error(generator: torch.Generator) -> None:
    energy = two_modes(3)
    rows = energy.sample(300, generator=generator)
    found = estimate_log_z(
        energy, proposal=wide(3, 1.3), rows=rows, on_disagreement="flag", generator=generator, **FAST
    )
    assert not found.agree
    assert any("reverse_ais" in complaint for complaint in found.complaints)
    assert found.low < 0.0 < found.high + 0.1


def test_too_few_effective_samples_are_no_agreement(generator: torch.Generator) -> None:
    energy = Funnel(20, scale=3.0).double()
    found = estimate_log_z(
        energy,
        proposal=wide(20, 1.0),
        rows=energy.sample(50, generator=generator),
        samples=500,
        chains=50,
        temperatures=3,
        on_disagreement="flag",
        generator=generator,
    )
    assert any("below 50" in complaint for complaint in found.complaints)
    assert found.low < energy.log_z < found.high


def test_an_unknown_constant_shifts_all(generator: torch.Generator) -> None:
    base = Banana(4).double()
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    plain = estimate_log_z(base, proposal=wide(4, 2.0), tolerance=0.5, generator=seeds[0], **FAST)
    shifted = estimate_log_z(lambda x: base(x) - 500, proposal=wide(4, 2.0), tolerance=0.5, generator=seeds[1], **FAST)
    assert shifted.value - plain.value == pytest.approx(500, abs=1e-6)
    assert shifted.low - plain.low == pytest.approx(500, abs=2e-3)


TRUST = _Trust(tolerance=0.1, least_ess=50.0)


def test_a_bound_without_effective_samples_lies_three_nats_off() -> None:
    estimates = {"importance": LogZ(1.0, 0.9, 2.0), "ais": LogZ(0.0, 0.9, 3.0), "reverse_ais": LogZ(5.0, 0.1, 100.0)}
    found = _judged(estimates, "rows", TRUST)
    assert found.low == pytest.approx(-2.0, abs=1e-4)
    assert found.high == pytest.approx(5.3, abs=1e-4)
    assert any("importance has an effective sample size of 2.0, below 50" in c for c in found.complaints)


def test_errors_excuse_differences_and_so_does_the_tolerance() -> None:
    def agree(difference: float, error: float) -> bool:
        estimates = {
            "importance": LogZ(0.0, 1.0, 2.0),
            "ais": LogZ(0.0, error, 99.0),
            "reverse_ais": LogZ(difference, error, 99.0),
        }
        return _judged(estimates, "rows", TRUST).agree

    assert agree(0.09, 0.001)
    assert not agree(0.11, 0.001)
    assert agree(0.4, 0.1)  # three errors of the difference are 0.42
    assert not agree(0.44, 0.1)


def test_bounds_that_cross_are_a_complaint_about_the_rows() -> None:
    estimates = {"importance": LogZ(9.0, 0.01, 99.0), "ais": LogZ(0.0, 1.0, 1.0), "reverse_ais": LogZ(1.0, 0.01, 99.0)}
    found = _judged(estimates, "rows", TRUST)
    assert any("are the rows the energy's?" in complaint for complaint in found.complaints)
    assert found.low < 1.1
    assert found.high > 8.9


def test_quadrature_that_contradicts_importance_widens_to_both() -> None:
    found = _judged({"quadrature": LogZ(0.0, 1e-6, 9.0), "importance": LogZ(-1.0, 0.01, 99.0)}, "quadrature", TRUST)
    assert not found.agree
    assert found.low < -1.0
    assert found.high > 0.0


def test_the_likelihood_has_the_bracket_upside_down(generator: torch.Generator) -> None:
    energy = Gaussian(torch.zeros(3).double(), 2 * torch.eye(3).double())
    x = energy.sample(500, generator=generator)
    estimate = LogZEstimate(energy.log_z, energy.log_z - 0.1, energy.log_z + 0.4, {}, "rows")
    found = log_likelihood(energy, x, estimate)
    truth = energy.log_prob(x)
    assert found.mean == pytest.approx(float(truth.mean()))
    assert found.low == pytest.approx(float(truth.mean()) - 0.4)
    assert found.high == pytest.approx(float(truth.mean()) + 0.1)
    assert found.standard_error == pytest.approx(float(truth.std()) / math.sqrt(500))
    with pytest.raises(ValueError, match="at least 2 rows"):
        log_likelihood(energy, x[:1], estimate)


def test_seeds_decide_and_nothing_of_the_callers_changes() -> None:
    energy = DoubleWell(3).double()
    rows = energy.sample(100, generator=torch.Generator().manual_seed(9))
    before, state = rows.clone(), torch.get_rng_state()
    first, again, other = (
        estimate_log_z(
            energy,
            proposal=wide(3, 1.2),
            rows=rows,
            tolerance=1.0,
            samples=500,
            chains=50,
            temperatures=10,
            on_disagreement="flag",
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first.value != other.value
    assert torch.equal(rows, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give a proposal, or at least 8 rows"),
        ({"rows": torch.zeros(7, 2)}, "give a proposal, or at least 8 rows"),
        ({"rows": torch.zeros(9, 2, 2)}, "give a proposal, or at least 8 rows"),
        (
            {"proposal": wide(2, 1.0), "rows": torch.zeros(9, 3)},
            r"rows are of shape \(3,\), draws of the proposal of \(2,\)",
        ),
        ({"proposal": wide(2, 1.0), "rows": torch.full((9, 2), math.nan)}, "rows has NaN"),
        ({"proposal": wide(2, 1.0), "tolerance": 0.0}, "tolerance must be"),
        ({"proposal": wide(2, 1.0), "least_ess": 0.0}, "least_ess must be"),
        ({"proposal": wide(2, 1.0), "on_disagreement": "warn"}, "on_disagreement must be 'raise' or 'flag'"),
        ({"proposal": wide(4, 1.0), "bounds": [(-9.0, 9.0)] * 4}, "quadrature is for 1 to 3 dimensions"),
    ],
)
def test_it_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        estimate_log_z(lambda x: x.square().sum(1), samples=100, **options)


def test_an_energy_out_of_shape_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ContractError):
        estimate_log_z(lambda x: x, proposal=wide(2, 1.0), samples=100)


def test_three_dimensions_with_bounds(generator: torch.Generator) -> None:
    def energy(x: Tensor) -> Tensor:
        return x.square().sum(1)

    found = estimate_log_z(energy, proposal=wide(3, 0.7), bounds=[(-6.0, 6.0)] * 3, generator=generator, **FAST)
    assert found.value == pytest.approx(1.5 * math.log(math.pi), abs=1e-5)
