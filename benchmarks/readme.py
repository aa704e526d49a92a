"""Write the README's table of results from ``results/``: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS

README = Path("README.md")
START, END = "<!-- results -->\n", "<!-- end of results -->\n"


def rendered(results: Path = RESULTS) -> str:
    """The lines between the markers."""
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*.json")}
    modes, toys = _figures(records, "ed_25gaussians"), _figures(records, "toy_densities")
    digits, faults = _figures(records, "digits_anomaly"), _figures(records, "faults")
    hardest = max(toys["gaps"], key=lambda name: toys["gaps"][name])
    rows = [
        (
            "25 Gaussians, worst of three seeds",
            f"MSE of log-density {modes['mse_log_density']:.4f}, {modes['nll_gap']:.4f} nats above the truth",
            "ed_25gaussians",
        ),
        (
            "the same, against the paper's 50,000 steps on this engine",
            f"{modes['speedup_to_paper_quality']:.0f} times faster",
            "ed_25gaussians",
        ),
        (
            "steps a second against ebmkit 0.16, equal network, batch and M",
            f"{modes['step_rate_ratio_ebmkit']:.2f} times",
            "ed_25gaussians",
        ),
        (
            f"{len(toys['gaps'])} toy densities by `chainfree train` with its defaults",
            f"at most {toys['worst_gap']:.4f} nats above the truth ({hardest}), {toys['worst_seconds']:.0f} s",
            "toy_densities",
        ),
        (
            "digits, one held out, mean AUROC over ten",
            f"{digits['auroc_chainfree']:.4f}; its base alone {digits['auroc_by_method']['its base alone']:.4f}, "
            f"k-NN {digits['auroc_knn']:.4f}, isolation forest {digits['auroc_iforest']:.4f}",
            "digits_anomaly",
        ),
        (
            "kills survived in one training, weights equal bit for bit",
            f"{faults['kills_survived']} of {faults['kills']}",
            "faults",
        ),
        (
            "malformed inputs, tracebacks or wrong answers among them",
            f"{faults['bad_inputs_tried']}, {faults['tracebacks']}",
            "faults",
        ),
    ]
    lines = ["| what | result | file |", "|---|---|---|"]
    lines += [f"| {what} | {result} | [{name}](results/{name}.json) |" for what, result, name in rows]
    machine = records["ed_25gaussians"]["machine"]
    lines += ["", f"Timings are on one thread of: {machine}."]
    return "\n".join(lines) + "\n"


def with_results(readme: str) -> str:
    """The README with the block between its markers written anew."""
    before, rest = readme.split(START)
    return before + START + rendered() + END + rest.split(END)[1]


def _figures(records: dict[str, Any], name: str) -> dict[str, Any]:
    figures: dict[str, Any] = records[name]["figures"]
    return figures


def main() -> None:
    README.write_text(with_results(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(rendered())


if __name__ == "__main__":
    main()
