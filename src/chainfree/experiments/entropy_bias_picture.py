"""The picture of the entropy estimators: what they pass on against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from ..plotting.style import INK, MUTED, PALETTE, finish, new_figure, style
from .entropy_estimators import Projection

__all__ = ["picture"]

# colour and marker by the beginning of a name
_LOOKS = {
    "local volume": ("local volume: 1, 2, 3, 4 iterations", PALETTE[2], "D"),
    "weighted": ("weighted draws: 20 (paper), 100", PALETTE[0], "o"),
    "gradient steps": ("gradient steps: 5, 20", PALETTE[1], "s"),
    "Langevin": ("20 Langevin steps", PALETTE[4], "^"),
    "gradient step,": ("1 gradient step, then 20 draws", PALETTE[3], "v"),
    "HMC": ("HMC", PALETTE[6], "X"),
}


def picture(
    linear: Mapping[str, Mapping[str, Projection]],
    passes: Mapping[str, float],
    mnist: Mapping[str, Any],
    *,
    sizes: Sequence[Sequence[int]],
    sigmas: Sequence[float],
) -> Figure:
    """A panel a size, and two of bias and deviation on MNIST."""
    count = len(sizes) + 2
    columns = min(4, -(-(count + 1) // 2))
    with style():
        figure = new_figure(3.3 * columns, 2 * 3.0)
        places = figure.subplots(-(-(count + 1) // columns), columns, squeeze=False).ravel()
        for place, (latent, dim) in zip(places, sizes, strict=False):
            for index, sigma in enumerate(sigmas):
                _projections(place, linear[f"{latent} -> {dim}, sigma {sigma:g}"], passes, hollow=index > 0)
            place.set_title(f"{latent} latents, {dim} dimensions")
            place.set(ylim=(-0.05, 1.15), ylabel="share passed on")
            place.axhline(1.0, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5)
        for place, what, title in (
            (places[len(sizes)], "score", "MNIST: the score"),
            (places[len(sizes) + 1], "gradient", "MNIST: the entropy gradient"),
        ):
            _errors(place, mnist["estimators"], what)
            place.set_title(title)
            place.set(yscale="log", ylabel="error / norm of the truth")
        for place in places[:count]:
            place.set(xscale="log", xlabel="passes through the generator")
            place.set_xticks([5, 10, 20, 50, 100], labels=["5", "10", "20", "50", "100"])
            place.set_xticks([], minor=True)
            place.set_xlim(3.2, 140)
        for place in places[len(sizes) : count]:
            place.set_xticks([5, 20, 100, 500, 2000], labels=["5", "20", "100", "500", "2000"])
            place.set_xlim(3.2, 2600)
        for place in places[count:]:
            place.axis("off")
        _legend(places[count], sigmas)
        note = (
            "Share passed on: the estimated gradient of the entropy with respect to the generator's weights, projected "
            "on the exact one; bars are standard errors. A forward pass is 1, a backward pass 2. MNIST: a linear generator "
            "of principal components; 1, 5, 20 and 100 weighted draws, 1 to 100 kept states of HMC, local volume also with 8 "
            "iterations."
        )
        return finish(figure, "What reaches the generator of its entropy's gradient, and what it costs", note=note)


def _family(name: str) -> str:
    return next((family for family in ("gradient step,", *_LOOKS) if family in name), "weighted")


def _projections(axes: Any, found: Mapping[str, Projection], passes: Mapping[str, float], *, hollow: bool) -> None:
    for family, (_, colour, marker) in _LOOKS.items():
        # the control variate changes the noise only; a bank's passes are shared by the batch
        names = [n for n in found if n in passes and _family(n) == family and "control variate" not in n]
        x = [passes[n] for n in names]
        axes.errorbar(
            x,
            [found[n].value for n in names],
            yerr=[found[n].standard_error for n in names],
            color=colour,
            marker=marker,
            markersize=6.5,
            markerfacecolor="white" if hollow else colour,
            markeredgewidth=1.2,
            linewidth=1.0,
            alpha=0.95,
            linestyle=":" if hollow else "-",
            zorder=3 + (family == "local volume"),
        )


def _errors(axes: Any, found: Mapping[str, Mapping[str, float]], what: str) -> None:
    for family, (_, colour, marker) in _LOOKS.items():
        names = [n for n in found if _family(n) == family and f"{what}_bias" in found[n]]
        x = [found[n]["passes"] for n in names]
        for part, fill, dashes in ((f"{what}_bias", colour, "-"), (f"{what}_deviation", "white", ":")):
            axes.plot(
                x,
                [found[n][part] or float("nan") for n in names],
                color=colour,
                marker=marker,
                markersize=6.5,
                markerfacecolor=fill,
                markeredgewidth=1.2,
                linewidth=1.0,
                linestyle=dashes,
                zorder=3,
            )


def _legend(axes: Any, sigmas: Sequence[float]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=6.5, label=label)
        for label, colour, marker in _LOOKS.values()
    ]
    kinds = [(f"filled: $\\sigma$ = {sigmas[0]:g}; on MNIST bias", MUTED)]
    if len(sigmas) > 1:
        kinds.append((f"hollow: $\\sigma$ = {sigmas[1]:g}; on MNIST standard deviation", "white"))
    for label, fill in kinds:
        handles.append(
            Line2D([], [], color=MUTED, marker="o", markerfacecolor=fill, linestyle="none", markersize=6.5, label=label)
        )
    axes.legend(handles=handles, loc="center left", borderaxespad=0, bbox_to_anchor=(-0.08, 0.5), handlelength=1.2)
