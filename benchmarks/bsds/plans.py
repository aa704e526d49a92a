"""What is run on which data set, and with which candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .methods import FlowSettings, MixtureSettings, TiltSettings

__all__ = ["PATCHES", "PLANS", "TABLE", "Plan", "quickened"]

PATCHES = "bsds300_patches8"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run on a data set.

    Args:
        bandwidths, kernels, probed: candidates of kernel density estimation, rows it keeps, rows it chooses by.
        normals: candidates for the Gaussian mixture.
        scaled: candidates for mixtures with several sizes, if any.
        spline_flows, affine_flows: candidates.
        contrast, other: settings of energies trained by NCE, and by ED and denoising.
        flow_contrast, flow_other: the same for energies tilted from the flow.
        other_rates: candidates for the learning rate of ``other`` and ``flow_other``.
        discrepancy: candidates for the range of the variances of energy discrepancy.
        denoising: candidates for the scale of the noise.
        annealing, flow_annealing: of log Z.
    """

    bandwidths: tuple[float, ...]
    kernels: int
    probed: int
    normals: MixtureSettings
    scaled: MixtureSettings | None
    spline_flows: tuple[FlowSettings, ...]
    affine_flows: tuple[FlowSettings, ...]
    contrast: TiltSettings
    other: TiltSettings
    flow_contrast: TiltSettings
    flow_other: TiltSettings
    other_rates: tuple[float, ...]
    discrepancy: tuple[tuple[float, float], ...]
    denoising: tuple[float, ...]
    annealing: Mapping[str, int]
    flow_annealing: Mapping[str, int]


PLANS = {
    PATCHES: Plan(
        bandwidths=(0.5, 0.7, 0.85, 1.0, 1.3),
        kernels=20_000,
        probed=1000,
        normals=MixtureSettings(candidates=((128, 1), (256, 1)), steps=50),
        scaled=MixtureSettings(candidates=((128, 8), (256, 8)), steps=120),
        spline_flows=(FlowSettings(kind="nsf", transforms=2, width=256, steps=12_000),),
        affine_flows=(FlowSettings(kind="maf", transforms=5, width=256, steps=9000),),
        contrast=TiltSettings(steps=8000, lr=3e-3, bound=10.0),
        other=TiltSettings(steps=1500, batch=128, every=100, probes=5000),
        flow_contrast=TiltSettings(steps=1500, pool=20_000, lr=3e-3, probes=4000),
        flow_other=TiltSettings(steps=600, batch=128, every=100, probes=4000),
        other_rates=(1e-3, 1e-4),
        discrepancy=((1e-4, 1e-1), (1e-2, 1.0)),
        denoising=(0.02, 0.1),
        annealing={"samples": 100_000, "chains": 1500, "temperatures": 40, "leapfrog": 3},
        flow_annealing={"samples": 10_000, "chains": 300, "temperatures": 40, "leapfrog": 3},
    ),
}
TABLE = Plan(
    bandwidths=(0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0),
    kernels=20_000,
    probed=2000,
    normals=MixtureSettings(
        candidates=((2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (64, 1), (128, 1), (256, 1)), by_sklearn=True
    ),
    scaled=None,
    spline_flows=(
        FlowSettings(kind="nsf", transforms=3, width=64, steps=1500),
        FlowSettings(kind="nsf", transforms=2, width=128, steps=1500),
    ),
    affine_flows=(FlowSettings(kind="maf", transforms=5, width=128, steps=1500),),
    contrast=TiltSettings(steps=2000, experts=128, width=128, lr=2e-3, weight_decay=0.1, every=100),
    other=TiltSettings(steps=1200, batch=256, experts=128, width=128, every=100, probes=5000),
    flow_contrast=TiltSettings(
        steps=1200, experts=128, width=128, lr=2e-3, weight_decay=0.1, pool=12_000, every=100, probes=5000
    ),
    flow_other=TiltSettings(steps=600, batch=128, experts=128, width=128, every=100, probes=5000),
    other_rates=(1e-3, 1e-4),
    discrepancy=((1e-4, 1e-1), (1e-2, 1.0)),
    denoising=(0.02, 0.1),
    annealing={"samples": 50_000, "chains": 500, "temperatures": 40, "leapfrog": 3},
    flow_annealing={"samples": 20_000, "chains": 300, "temperatures": 30, "leapfrog": 3},
)


def quickened(plan: Plan) -> Plan:
    """A plan that shows that everything runs."""

    def short(settings: Any) -> Any:
        return replace(settings, steps=30, **({"every": 10} if isinstance(settings, TiltSettings) else {}))

    return replace(
        plan,
        normals=replace(plan.normals, candidates=plan.normals.candidates[:1], steps=5),
        scaled=plan.scaled and replace(plan.scaled, candidates=((8, 4),), steps=10),
        spline_flows=tuple(short(s) for s in plan.spline_flows),
        affine_flows=tuple(short(s) for s in plan.affine_flows),
        contrast=short(plan.contrast),
        other=short(plan.other),
        flow_contrast=replace(short(plan.flow_contrast), pool=min(1000, plan.flow_contrast.pool)),
        flow_other=replace(short(plan.flow_other), probes=500),
        annealing={"samples": 2000, "chains": 50, "temperatures": 5, "leapfrog": 2},
        flow_annealing={"samples": 1000, "chains": 50, "temperatures": 5, "leapfrog": 2},
    )
