"""The README's rows about latent energy priors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["latent_rows"]

_DATA = {
    "edlebm_mnist": "MNIST",
    "edlebm_fashion": "Fashion-MNIST",
    "edlebm_mnist_paper": "MNIST, the paper's decoder",
}
_NAMES = {
    ("variational", "normal", False): "VAE",
    ("langevin", "short_run", False): "LEBM (Pang et al.)",
    ("langevin", "energy_discrepancy", False): "ED-LEBM (Schroeder et al.)",
    ("variational", "energy_discrepancy", False): "ED-LEBM with an encoder",
    ("variational", "normal", True): "ED-LEBM in two stages",
    ("variational", "energy_discrepancy", True): "ED-LEBM in two stages, with energy discrepancy in the first too",
}
_GAME = "meg"
_SEEN = {"edlebm_mnist": "; first sketches of the second stage had looked at these test images"}


def latent_rows(records: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What, result and file, of the files that are there."""
    rows = []
    for name, title in _DATA.items():
        if name not in records:
            continue
        figures = records[name]["figures"]
        seconds = [value for found in figures["seconds"].values() for value in found["by_seed"]]
        told = "; ".join(
            f"{_title(figures, method)} {_drawn(figures, method)} and {_restored(figures, method)} "
            f"in {figures['steps'][method]['mean']:,.0f} steps"
            for method in figures["frechet"]
        )
        what = (
            f"{title} by a decoder with an energy for its latents, {min(seconds):.0f} to {max(seconds):.0f} seconds of "
            "training each: Fréchet distance of samples in a classifier's features (of real images "
            f"{figures['frechet_of_data']:.1f}) and error of reconstructions in squares of pixels from 0 to 1"
            f"{_SEEN.get(name, '')}"
        )
        rows.append((what, told, name))
        took = figures["prior_step_ms"]
        told = "; ".join(
            f"{_title(figures, method)} {took['lebm'] / took[method]:.1f}" for method in took if method != "lebm"
        )
        what = f"{title}: the prior's part of a step by energy discrepancy, times as fast as LEBM's by chains"
        rows.append((what, told, name))
        drawn = figures["settings"]["drawn"]
        rows.append((f"{title}: {drawn} latents of one prior, seconds and Fréchet distance", _ways(figures), name))
    if "edlebm_anomaly" in records:
        figures = records["edlebm_anomaly"]["figures"]
        digits = ", ".join(figures["auprc"])
        what = f"digits {digits} of MNIST, each held out of training: average precision on the test split"
        # the game has one score, which stands beside the latent models' first
        joint = {
            digit: found | {name: own for name, own in figures["auprc"][digit].items() if name == _GAME}
            for digit, found in figures["auprc_by_joint"].items()
        }
        rows.append((f"{what}, by -log p(x, z)", _precision(figures, joint), "edlebm_anomaly"))
        rows.append((f"{what}, by the prior alone", _precision(figures, figures["auprc_by_prior"]), "edlebm_anomaly"))
    return rows


def _title(figures: Mapping[str, Any], method: str) -> str:
    """What a method is by its settings, as the papers call it; a likelihood of its own is said."""
    if method == _GAME:
        return "MEG, by its energy"
    own = figures["settings"]["methods"][method]
    kind = own.get("posterior", "variational"), own.get("prior", "energy_discrepancy"), own.get("refit", False)
    name = _NAMES.get(kind, method)
    return name if own.get("sigma") is None else f"{name} (sigma {own['sigma']:g})"


def _drawn(figures: Mapping[str, Any], method: str) -> str:
    """The distance of samples, of a tilted mixture also that of samples of the mixture alone."""
    alone = figures.get("frechet_of_mixture", {}).get(method)
    told = _spread(figures["frechet"][method], 1)
    return told if alone is None else f"{told} (mixture alone {alone['mean']:.1f})"


def _restored(figures: Mapping[str, Any], method: str) -> str:
    """The error of reconstructions, where draws are revised also that of draws as they are."""
    if method not in figures.get("reconstruction_mse", {}):
        return "no reconstructions"
    before = figures.get("reconstruction_mse_of_encoder", {}).get(method)
    told = _spread(figures["reconstruction_mse"][method], 4)
    return told if before is None else f"{told} (before revision {before['mean']:.4f})"


def _precision(figures: Mapping[str, Any], by_digit: Mapping[str, Any]) -> str:
    """Of every method that ended well on all digits."""
    methods = list(next(iter(by_digit.values())))
    return "; ".join(
        f"{_title(figures, method)} " + ", ".join(f"{found[method]['mean']:.2f}" for found in by_digit.values())
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
