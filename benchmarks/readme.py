"""Write the README's table of results from ``results/``: ``python -m benchmarks.readme``."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, median
from benchmarks.readme_joint import joint_rows
from benchmarks.readme_latent import latent_rows
from benchmarks.readme_tables import table_rows

README = Path("README.md")
_SHORT = {
    "maximum_likelihood": "maximum likelihood",
    "sliced_score_matching": "sliced score matching",
    "meg": "MEG",
    "vera": "VERA",
}
_LOSSES = {
    "nce": "NCE",
    "energy_discrepancy_reference": "energy discrepancy with a reference",
    "energy_discrepancy": "energy discrepancy",
    "vera": "VERA",
    "denoising": "denoising",
    "persistent": "persistent CD",
}
PEERS = ("torchebm", "ebmkit")
START, END = "<!-- results -->\n", "<!-- end of results -->\n"


def rendered(results: Path = RESULTS) -> str:
    """The lines between the markers."""
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*.json")}
    modes, toys = _figures(records, "ed_25gaussians"), _figures(records, "toy_densities")
    digits, faults = _figures(records, "digits_anomaly"), _figures(records, "faults")
    games, stacks = _figures(records, "vera_toy"), _figures(records, "vera_stacked_mnist")
    entropy, rounds = _figures(records, "vera_entropy_bias_variance"), _figures(records, "vera_step")
    samplers, nice = _figures(records, "ed_then_generator"), _figures(records, "vera_nice_mnist")
    chains, brackets = _figures(records, "samplers"), _figures(records, "log_z")
    holds = [held for by_dim in brackets["bracket_holds"].values() for held in by_dim.values()]
    widths = [width for by_dim in brackets["bracket_width"].values() for width in by_dim.values()]
    plane = _figures(records, "density2d")
    likelihoods = _figures(records, "bsds")
    patches = likelihoods["log_likelihood"]
    energy = _best(patches, energies=True)
    papers = [gap for seeds in games["paper_gaps_by_seed"].values() for gap in seeds if gap is not None]
    one = samplers["by_seed"][0]
    likelihood = {method: values[0] for method, values in nice["log_likelihood"].items()}
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
            f"{len(games['gaps'])} densities in the plane by VERA, worst of three seeds",
            f"{games['worst_gap']:.3f} nats above the truth; the paper's game at best {min(papers):.2f}",
            "vera_toy",
        ),
        (
            "share of the entropy's gradient that is passed on, worst of five linear generators",
            f"{entropy['scale_default']:.2f} in {entropy['passes_default']:.0f} passes; the paper's estimator "
            f"{entropy['scale_paper']:.2f} in {entropy['passes_paper']:.0f}",
            "vera_entropy_bias_variance",
        ),
        (
            "the same on generators that bend, sigma 0.1 and 0.3",
            f"{entropy['scale_nonlinear']:.2f} and {entropy['scale_nonlinear_wide']:.2f}",
            "vera_entropy_bias_variance",
        ),
        (
            "rounds of VERA a second against the authors' order of work; peak memory",
            f"{rounds['round_rate_ratio']:.1f} times; {rounds['memory_ratio']:.2f}",
            "vera_step",
        ),
        (
            "StackedMNIST by VERA",
            f"{stacks['modes']} of 1000 modes, KL {stacks['kl']:.3f} (real images {stacks['kl_of_real_test_stacks']:.3f})",
            "vera_stacked_mnist",
        ),
        (
            "25 Gaussians: sampling an energy by a generator, resampled",
            f"{samplers['modes']} modes, each within {100 * samplers['worst_share_error']:.0f}% of its share; 4,000 samples "
            f"in {one['sampling_seconds']:.2f} s after {one['generator_seconds']:.0f} s of fitting; Langevin "
            f"{'as near' if samplers['langevin_reached'] else 'not as near'} after {one['langevin_seconds']:.0f} s; "
            f"log Z by a flow off by {abs(samplers['log_z_error_flow']):.3f}",
            "ed_then_generator",
        ),
        (
            "NICE on MNIST, test nats in logits after equal time",
            ", ".join(f"{_SHORT[method]} {value:.0f}" for method, value in likelihood.items())
            + f"; the start {nice['references']['start']:.0f}, a normal "
            f"{nice['references']['normal, full covariance']:.0f}",
            "vera_nice_mnist",
        ),
        (
            "log Z of the closed forms in 2, 10 and 50 dimensions: brackets that hold, over three seeds",
            f"{sum(holds)} of {len(holds)}; median width {median(widths):.3f} nats, at most {max(widths):.2f}; "
            "proposals near the energy, and exact draws of it for the upper bound",
            "log_z",
        ),
        (
            f"{len(plane['gap'])} losses on {len(plane['first'])} planar densities, {plane['budget_s']:g} seconds each: "
            "median gap",
            "; ".join(f"{title} {_middle(plane['gap'][name]):.4f}" for name, title in _LOSSES.items())
            + f"; NCE first on {sum(name.startswith('nce') for name in plane['first'].values())}, energy discrepancy or "
            f"VERA tied with it on {len(plane['tied_ours'])}",
            "density2d",
        ),
        (
            "8 x 8 patches of natural images, 63 dimensions: test log-likelihood in nats",
            f"{energy} {_bracketed(patches[energy])}; spline flow {patches['spline flow']['mean']:.1f}, scale mixture "
            f"{patches['scale mixture']['mean']:.1f}, normal {patches['Gaussian']['mean']:.1f}",
            "bsds",
        ),
        (
            "tables of numbers: the energy against the mixture, kernels or flow that are best on the test rows, in nats",
            "; ".join(f"{_plain(name)} {_best_two(found)}" for name, found in likelihoods["tables"].items()),
            "bsds",
        ),
        *joint_rows(records),
        *table_rows(records),
        *latent_rows(records),
        (
            "10,000 chains of 1,000 trajectories by HMC in the plane, two threads",
            f"{chains['hmc_10k_chains_s']:.0f} s",
            "samplers",
        ),
        (
            "effective draws a second on a mixture, against TorchEBM 0.8.9 and ebmkit 0.16",
            "; ".join(
                f"{sampler} {' and '.join(_ratio(chains['ess_ratio'], peer, sampler) for peer in PEERS)}"
                for sampler in chains["ess_ratio"][PEERS[-1]]
            ),
            "samplers",
        ),
        (
            "kills survived, in one training by energy discrepancy and one by VERA; weights equal bit for bit",
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
    lines += ["", f"Timings are on one thread of: {machine}, unless the file names another. NICE is trained on two."]
    return "\n".join(lines) + "\n"


def with_results(readme: str) -> str:
    """The README with the block between its markers written anew."""
    before, rest = readme.split(START)
    return before + START + rendered() + END + rest.split(END)[1]


def _best(found: dict[str, dict[str, Any]], *, energies: bool) -> str:
    """The name of the energy, or of the normalised density, with the most nats."""
    return max((name for name in found if ("log_z" in found[name]) == energies), key=lambda name: found[name]["mean"])


def _bracketed(found: dict[str, Any]) -> str:
    return f"{found['mean']:.2f} in [{found['low']:.2f}, {found['high']:.2f}]"


def _best_two(found: dict[str, dict[str, Any]]) -> str:
    density = _best(found, energies=False)
    if not any("log_z" in one for one in found.values()):
        return f"none, {found[density]['mean']:.2f}"
    return f"{_bracketed(found[_best(found, energies=True)])}, {found[density]['mean']:.2f}"


def _plain(name: str) -> str:
    return name.partition("_")[0]


def _middle(gaps: dict[str, float | None]) -> float:
    return statistics.median(gap for gap in gaps.values() if gap is not None)


def _ratio(ratios: dict[str, dict[str, float]], peer: str, sampler: str) -> str:
    return f"{ratios[peer][sampler]:.2f}" if sampler in ratios[peer] else "(none)"


def _figures(records: dict[str, Any], name: str) -> dict[str, Any]:
    figures: dict[str, Any] = records[name]["figures"]
    return figures


def main() -> None:
    README.write_text(with_results(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(rendered())


if __name__ == "__main__":
    main()
