"""The README's rows about latent energy priors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["latent_rows"]

_DATA = {"edlebm_mnist": "MNIST", "edlebm_fashion": "Fashion-MNIST"}
_NAMES = {
    "vae": "autoencoder",
    "vae_tilted_mixture": "autoencoder, then a mixture and its tilt",
    "lebm": "chains",
    "ed_lebm_chains": "energy discrepancy, posterior by chains",
    "ed_lebm": "energy discrepancy along, then a mixture and its tilt",
    "meg": "MEG on pixels",
}


def latent_rows(records: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What, result and file, of the files that are there."""
    rows = []
    for name, title in _DATA.items():
        if name not in records:
            continue
        figures = records[name]["figures"]
        seconds = figures["settings"]["schedule"]["seconds"]
        told = "; ".join(
            f"{_NAMES.get(method, method)} {_spread(found, 1)} and {_restored(figures, method)}"
            for method, found in figures["frechet"].items()
        )
        what = (
            f"{title} by a decoder with an energy for its latents, {seconds:g} seconds on a thread each: Fréchet distance of "
            f"samples in a classifier's features (of real images {figures['frechet_of_data']:.1f}) and error of "
            "reconstructions in squares of pixels from 0 to 1"
        )
        rows.append((what, told, name))
        took = figures["prior_step_ms"]
        told = "; ".join(
            f"{_NAMES.get(method, method)} {took['lebm'] / took[method]:.1f}" for method in took if method != "lebm"
        )
        rows.append((f"{title}: a prior's step by energy discrepancy, times as fast as one by chains", told, name))
        drawn = figures["settings"]["drawn"]
        rows.append((f"{title}: {drawn} latents of one prior, seconds and Fréchet distance", _ways(figures), name))
    if "edlebm_anomaly" in records:
        figures = records["edlebm_anomaly"]["figures"]
        for key, score in (("auprc_by_joint", ", by -log p(x, z)"), ("auprc_by_prior", ", by the prior")):
            digits = ", ".join(figures[key])
            what = f"digits {digits} of MNIST, each held out of training: average precision on the test split{score}"
            rows.append((what, _precision(figures[key]), "edlebm_anomaly"))
    return rows


def _restored(figures: Mapping[str, Any], method: str) -> str:
    """The error of reconstructions, where draws are revised also that of draws as they are."""
    before = figures.get("reconstruction_mse_of_encoder", {}).get(method)
    told = _spread(figures["reconstruction_mse"][method], 4)
    return told if before is None else f"{told} (before revision {before['mean']:.4f})"


def _precision(by_digit: Mapping[str, Any]) -> str:
    """Of every method that ended well on all digits."""
    methods = list(next(iter(by_digit.values())))
    return "; ".join(
        f"{_NAMES.get(method, method)} " + ", ".join(f"{found[method]['mean']:.2f}" for found in by_digit.values())
        for method in methods
        if all(method in found for found in by_digit.values())
    )


def _ways(figures: Mapping[str, Any]) -> str:
    """A prior's own sampler, a generator that was fitted to it, and a chain on it."""
    method, told = figures["settings"]["sampled"], []
    for ending, name in (
        ("_of_own_sampler", "resampled from its mixture"),
        ("_of_generator", "generator"),
        ("_of_chain", f"{figures['settings']['chain_steps']} Langevin steps from a standard normal"),
    ):
        lost = figures.get(f"lost{ending}", {}).get(method, {"mean": 0.0})["mean"]
        seconds = figures.get(f"sampling_seconds{ending}", {}).get(method)
        distance = figures.get(f"frechet{ending}", {}).get(method)
        words = [name]
        if seconds is not None:
            words.append(f"{seconds['mean']:.2g} s")
        if ending == "_of_generator" and "generator_fit_seconds" in figures:
            words.append(f"after {figures['generator_fit_seconds'][method]['mean']:.0f} s of fitting")
        if distance is not None:
            words.append(_spread(distance, 1))
        if lost:
            words.append(f"{100 * lost:.0f}% of them lost")
        told.append(" ".join(words))
    return "; ".join(told)


def _spread(found: Mapping[str, float], digits: int) -> str:
    return f"{found['mean']:.{digits}f} ± {found['std']:.{digits}f}"
