"""The README's rows about latent energy priors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["latent_rows"]

_DATA = {"edlebm_mnist": "MNIST", "edlebm_fashion": "Fashion-MNIST"}
_NAMES = {
    "vae": "autoencoder",
    "lebm": "chains",
    "ed_lebm_chains": "energy discrepancy, posterior by chains",
    "ed_lebm": "energy discrepancy, two stages",
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
            f"{_NAMES.get(method, method)} {_spread(found, 1)} and {_spread(figures['reconstruction_mse'][method], 4)}"
            for method, found in figures["frechet"].items()
        )
        what = (
            f"{title} by a decoder with an energy for its latents, {seconds:g} seconds on a thread each: Fréchet distance of "
            f"samples in a classifier's features (of real images {figures['frechet_of_data']:.1f}) and error of "
            "reconstructions in squares of pixels from 0 to 1"
        )
        rows.append((what, told, name))
        what = (
            "the same: a step of the prior against chains; its samples by a generator against "
            f"{figures['settings']['schedule'].get('chain_steps', 500)} Langevin steps"
        )
        timed = figures["settings"]["timed"]
        told = (
            f"{figures['prior_step_ratio_vs_lebm']:.1f} times as fast; {figures['sampling_speedup']:,.0f} times as fast, "
            f"Fréchet distance {_spread(figures['frechet_of_generator'][timed], 1)} against "
            + (_spread(figures["frechet_of_chain"][timed], 1) if "frechet_of_chain" in figures else "chains that left")
        )
        rows.append((what, told, name))
    if "edlebm_anomaly" in records:
        precision = records["edlebm_anomaly"]["figures"]["auprc"]
        methods = list(next(iter(precision.values())))
        told = "; ".join(
            f"{_NAMES.get(method, method)} " + ", ".join(f"{found[method]['mean']:.2f}" for found in precision.values())
            for method in methods
            if all(method in found for found in precision.values())
        )
        what = f"digits {', '.join(precision)} of MNIST, each held out of training: average precision on the test split"
        rows.append((what, told, "edlebm_anomaly"))
    return rows


def _spread(found: Mapping[str, float], digits: int) -> str:
    return f"{found['mean']:.{digits}f} ± {found['std']:.{digits}f}"
