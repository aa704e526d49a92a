"""The NLL gap of ``chainfree train --data toy:NAME`` on every toy density, with its defaults, on one thread."""

from __future__ import annotations

from benchmarks.common import RESULTS, one_thread, settings_from, train
from chainfree.cli.tables import text_table
from chainfree.datasets import TOY_DENSITIES
from chainfree.experiments import Recorder

SEEDS = (0,)


def main() -> None:
    one_thread()
    recorder = Recorder("toy_densities", "python -m benchmarks.toy_densities", RESULTS, SEEDS)
    gaps: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for name in TOY_DENSITIES:
        for seed in SEEDS:
            trained = train(settings_from(None, "--data", f"toy:{name}", seed=seed), silent=False)
            gaps.setdefault(name, []).append(trained.scores()["nll_gap"])
            seconds.setdefault(name, []).append(trained.seconds)
    rows = [[name, f"{max(gaps[name]):.4f}", f"{max(seconds[name]):.1f}"] for name in gaps]
    print(text_table(["density", "worst NLL gap (nats)", "worst seconds"], rows))
    figures = {
        "worst_gap": max(max(values) for values in gaps.values()),
        "gaps": {name: max(values) for name, values in gaps.items()},
        "worst_seconds": max(max(values) for values in seconds.values()),
        "gaps_by_seed": gaps,
        "seconds": {name: max(values) for name, values in seconds.items()},
    }
    print(recorder.write(figures))


if __name__ == "__main__":
    main()
