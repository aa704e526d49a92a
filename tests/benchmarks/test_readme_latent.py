"""The README's rows about latent priors, from records made up here."""

from __future__ import annotations

from typing import Any

from benchmarks.readme_latent import latent_rows


def _spread(mean: float) -> dict[str, Any]:
    return {"mean": mean, "std": 0.5, "by_seed": [mean]}


METHODS: dict[str, dict[str, Any]] = {
    "vae": {"posterior": "variational", "prior": "normal", "sigma": 0.15},
    "lebm": {"posterior": "langevin", "prior": "short_run"},
    "ed_lebm_chains": {"posterior": "langevin", "prior": "energy_discrepancy"},
    "ed_lebm": {"refit": True},
}


def test_rows_are_of_the_files_that_are_there() -> None:
    assert latent_rows({}) == []
    figures = {
        "settings": {"methods": METHODS, "sampled": "ed_lebm", "chain_steps": 400, "drawn": 2000},
        "frechet": {"vae": _spread(404.0), "lebm": _spread(300.0), "ed_lebm": _spread(15.55)},
        "frechet_of_mixture": {"ed_lebm": _spread(16.0)},
        "reconstruction_mse": {"vae": _spread(0.02), "ed_lebm": _spread(0.01)},
        "seconds": {"vae": _spread(305.2), "lebm": _spread(299.6), "ed_lebm": _spread(298.0)},
        "steps": {"vae": _spread(1234.0), "lebm": _spread(50.0), "ed_lebm": _spread(999.0)},
        "frechet_of_data": 2.1,
        "prior_step_ms": {"ed_lebm": 10.0, "ed_lebm_chains": 20.0, "lebm": 65.4},
        "reconstruction_mse_of_encoder": {"ed_lebm": _spread(0.015)},
        "sampling_seconds_of_own_sampler": {"ed_lebm": _spread(0.5)},
        "frechet_of_own_sampler": {"ed_lebm": _spread(15.55)},
        "generator_fit_seconds": {"ed_lebm": _spread(99.6)},
        "frechet_of_generator": {"ed_lebm": _spread(20.0)},
        "sampling_seconds_of_generator": {"ed_lebm": _spread(0.01)},
        "sampling_seconds_of_chain": {"ed_lebm": _spread(50.0)},
        "lost_of_chain": {"ed_lebm": _spread(1.0)},
    }
    own = {"1": {"vae": _spread(0.1), "lebm": _spread(0.3)}, "9": {"vae": _spread(0.2)}}
    by_prior = {"1": {"vae": _spread(0.4)}, "9": {"vae": _spread(0.5)}}
    all_own = {digit: {**found, "meg": _spread(0.25)} for digit, found in own.items()}
    settings = {"methods": METHODS}
    anomaly = {"auprc": all_own, "auprc_by_joint": own, "auprc_by_prior": by_prior, "settings": settings}
    first, second, ways, joint, prior = latent_rows(
        {"edlebm_fashion": {"figures": figures}, "edlebm_anomaly": {"figures": anomaly}}
    )
    assert "Fashion-MNIST" in first[0] and "298 to 305 seconds" in first[0] and "(of real images 2.1)" in first[0]
    assert first[1] == (
        "VAE (sigma 0.15) 404.0 ± 0.5 and 0.0200 ± 0.5000 in 1,234 steps; "
        "LEBM (Pang et al.) 300.0 ± 0.5 and no reconstructions in 50 steps; "
        "ED-LEBM in two stages, with energy discrepancy in the first too 15.6 ± 0.5 (mixture alone 16.0) and 0.0100 ± 0.5000 "
        "(before revision 0.0150) in 999 steps"
    )
    assert (
        second[1]
        == "ED-LEBM in two stages, with energy discrepancy in the first too 6.5; ED-LEBM (Schroeder et al.) 3.3"
    )
    assert ways[1] == (
        "resampled from its mixture 0.5 s 15.6 ± 0.5; generator 0.01 s after 100 s of fitting 20.0 ± 0.5; "
        "400 Langevin steps from a standard normal 50 s 100% of them lost"
    )
    # a method that diverged on a digit has no row of numbers
    assert joint[1] == "VAE (sigma 0.15) 0.10, 0.20; MEG, by its energy 0.25, 0.25"
    assert joint[2] == "edlebm_anomaly" and joint[0].endswith("by -log p(x, z)")
    assert prior[1] == "VAE (sigma 0.15) 0.40, 0.50" and prior[0].endswith("by the prior alone")
    assert "2000 latents" in ways[0]
