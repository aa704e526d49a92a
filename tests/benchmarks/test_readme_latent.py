"""The README's rows about latent priors, from records made up here."""

from __future__ import annotations

from typing import Any

from benchmarks.readme_latent import latent_rows


def _spread(mean: float) -> dict[str, Any]:
    return {"mean": mean, "std": 0.5, "by_seed": [mean]}


def test_rows_are_of_the_files_that_are_there() -> None:
    assert latent_rows({}) == []
    figures = {
        "settings": {"schedule": {"seconds": 300, "chain_steps": 400}, "timed": "ed_lebm"},
        "frechet": {"vae": _spread(404.0), "ed_lebm": _spread(15.55)},
        "reconstruction_mse": {"vae": _spread(0.02), "ed_lebm": _spread(0.01)},
        "frechet_of_data": 2.1,
        "prior_step_ratio_vs_lebm": 6.54,
        "sampling_speedup": 1234.5,
        "frechet_of_generator": {"ed_lebm": _spread(20.0)},
        "frechet_of_chain": {"ed_lebm": _spread(30.0)},
    }
    anomaly = {"auprc": {"1": {"vae": _spread(0.1), "meg": _spread(0.3)}, "9": {"vae": _spread(0.2)}}}
    first, second, third = latent_rows({"edlebm_fashion": {"figures": figures}, "edlebm_anomaly": {"figures": anomaly}})
    assert "Fashion-MNIST" in first[0] and "300 seconds" in first[0] and "(of real images 2.1)" in first[0]
    assert first[1] == (
        "autoencoder 404.0 ± 0.5 and 0.0200 ± 0.5000; energy discrepancy, two stages 15.6 ± 0.5 and 0.0100 ± 0.5000"
    )
    assert "400 Langevin steps" in second[0]
    assert second[1] == "6.5 times as fast; 1,234 times as fast, Fréchet distance 20.0 ± 0.5 against 30.0 ± 0.5"
    # a method that diverged on a digit has no row of numbers
    assert third[1] == "autoencoder 0.10, 0.20" and third[2] == "edlebm_anomaly"
