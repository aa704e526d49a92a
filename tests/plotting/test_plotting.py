"""Pictures: what their artists hold, against numbers computed another way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chainfree.datasets.toy import toy_density
from chainfree.energies.analytic import Gaussian
from chainfree.plotting import (
    Panel,
    curves,
    density_beside_truth,
    energy_histogram,
    landscape,
    line_panels,
    ranked_images,
    save,
    training_curves,
)
from chainfree.plotting.grid import on_grid, planar_grid

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402  matplotlib may be absent
from matplotlib.patches import Rectangle, StepPatch  # noqa: E402

SQUARE = ((-4.0, 4.0), (-4.0, 4.0))
LONG = "A title that says what was trained, on what, for how many steps and with which seed, and so needs several lines"


def bowl(x: Tensor) -> Tensor:
    return 100 + 0.5 * x.square().sum(-1)


def legend_texts(figure: Figure) -> list[str]:
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for legend in legends for text in [legend.get_title(), *legend.get_texts()]]


def records(count: int = 12) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = [{"step": 10 * k, "loss": 5.0 - 0.1 * k, "lr": 1e-3} for k in range(count)]
    for row in rows[::4]:
        row |= {"held_out_loss": 6.0, "energy_data": -1.0, "energy_draws": 1.0, "steps_per_second": 9.0}
    return rows


def many_curves(count: int) -> dict[str, Any]:
    x = np.arange(1.0, 30.0)
    return {f"a series called {k}": (x, np.random.default_rng(k).random((3, 29)) + 1) for k in range(count)}


PICTURES: dict[str, Callable[[], Figure]] = {
    "landscape": lambda: landscape(bowl, bounds=SQUARE, samples=torch.randn(50, 2), resolution=30, title=LONG),
    "tall landscape": lambda: landscape(bowl, bounds=((0, 1), (0, 6)), resolution=30, title=LONG),
    "density": lambda: density_beside_truth(
        bowl,
        100.0,
        toy_density("moons"),
        bounds=((-4, 4), (-3, 3)),
        samples=torch.randn(9, 2),
        resolution=30,
        title=LONG,
    ),
    "wide density": lambda: density_beside_truth(
        bowl, 100.0, toy_density("8gaussians"), bounds=((-9, 9), (-2, 2)), resolution=30
    ),
    "one curve": lambda: curves({"one": ([1, 2], [3.0, 4.0])}, x_label="x", y_label="y"),
    "curves": lambda: curves(
        many_curves(5), x_label="step", y_label="KL", log_x=True, log_y=True, reference={"floor": 1.0}, title=LONG
    ),
    "many curves": lambda: curves(many_curves(15), x_label="step", y_label="KL", title=LONG),
    "histogram": lambda: energy_histogram({"data": np.arange(50.0), "a longer name": [1e9, 2.0, 3.0]}, title=LONG),
    "many groups": lambda: energy_histogram({f"group {k}": np.arange(50.0) + k for k in range(12)}),
    "images": lambda: ranked_images(np.random.rand(30, 8, 8), np.arange(30), labels=np.arange(30) % 2, title=LONG),
    "one image": lambda: ranked_images(np.random.rand(1, 8, 12), [3.0], labels=[1], title=LONG),
    "training": lambda: training_curves(records(), title=LONG),
    "lines": lambda: line_panels(
        [Panel(LONG, [0, 1, 2], {f"curve {k}": [1, 2, 3] for k in range(9)}, x_label="x", y_label="y")] * 5, title=LONG
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_sticks_out_of_the_page(name: str) -> None:
    figure = PICTURES[name]()
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    tight = figure.get_tightbbox()
    assert tight.x0 > -0.01 and tight.y0 > -0.01 and tight.x1 < width + 0.01 and tight.y1 < height + 0.01
    # titles that wrap must not run into the panels
    if (suptitle := figure.get_suptitle()) and not name.startswith("many"):
        assert suptitle.replace("\n", " ") == LONG
        title = next(text for text in figure.texts if text.get_text() == suptitle)
        tops = [axes.get_tightbbox().y1 for axes in figure.axes]
        assert title.get_window_extent().y0 >= max(tops) - 1


def test_settings_of_the_caller_stay() -> None:
    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        figure = landscape(bowl, bounds=SQUARE, resolution=10)
        assert dict(matplotlib.rcParams) == before
    assert figure.axes[0].xaxis.label.get_fontsize() == 10
    assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)
    # the ticks were made while the style held
    assert figure.axes[0].get_xticklabels()[0].get_fontsize() == 9


def test_matplotlib_is_lazy_and_pyplot_is_not_used() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
from chainfree.plotting import energy_histogram
try:
    energy_histogram({"a": [1.0, 2.0]})
except ImportError as error:
    assert str(error) == "plots need matplotlib: pip install 'chainfree[plot]'", error
else:
    raise SystemExit("no ImportError")
del sys.modules["matplotlib"]
energy_histogram({"a": [1.0, 2.0]})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


# landscape ------------------------------------------------------------------------------------------------------------


def test_contours_of_a_bowl_are_circles_of_the_right_radius() -> None:
    figure = landscape(bowl, bounds=SQUARE, resolution=201, clip=3.0)
    (axes,) = figure.axes
    filled, lines = axes.collections
    assert filled.extend == "max"
    np.testing.assert_allclose(filled.levels, np.linspace(0, 3, 25))
    # E - min E = r^2 / 2, so the line at level e has the radius sqrt(2 e)
    assert len(lines.levels) >= 4
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        np.testing.assert_allclose(np.linalg.norm(path.vertices, axis=1), np.sqrt(2 * level), atol=2e-3)
    # everything above the clip has one colour, out to the corner
    assert np.abs(filled.get_paths()[-1].vertices).max() == 4


def test_landscape_covers_the_bounds_and_draws_samples() -> None:
    seen: list[Tensor] = []

    def energy(x: Tensor) -> Tensor:
        seen.append(x)
        return x[:, 0].double() * 0 + x[:, 1]

    points = torch.tensor([[0.5, 1.0], [0.25, 2.0]], dtype=torch.float64, requires_grad=True)
    figure = landscape(energy, bounds=((0, 1), (1, 3)), samples=points, resolution=5)
    rows = torch.cat(seen)
    assert rows.shape == (25, 2)
    assert rows.min(0).values.tolist() == [0, 1] and rows.max(0).values.tolist() == [1, 3]
    scatter = figure.axes[0].collections[-1]
    np.testing.assert_array_equal(scatter.get_offsets(), points.detach().numpy())
    filled = figure.axes[0].collections[0]
    assert filled.extend == "neither" and filled.levels[-1] == pytest.approx(2)


def test_landscape_of_a_float64_module_with_parameters() -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    landscape(network, bounds=SQUARE, resolution=8)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_points_come_in_the_dtype_of_a_modules_weights() -> None:
    class Mixed(nn.Module):
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self.register_buffer("log_z", torch.zeros((), dtype=torch.float64))
            self.weight = nn.Parameter(torch.ones(2, 2, dtype=dtype))

        def log_prob(self, x: Tensor) -> Tensor:
            return -self(x)

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.weight).square().sum(-1)  # raises for another dtype

    for dtype in (torch.float32, torch.float64):
        grid = planar_grid(SQUARE, 3, centres=False)
        for function in (Mixed(dtype), Mixed(dtype).log_prob):
            assert abs(on_grid(function, grid)[0, 0]) == 128


def test_landscape_of_flat_and_partly_infinite_energies() -> None:
    landscape(lambda x: torch.zeros(len(x)), bounds=SQUARE, resolution=8)
    half = landscape(lambda x: torch.where(x[:, 0] > 0, 0.0, torch.inf), bounds=SQUARE, resolution=9)
    assert half.axes[0].collections[0].extend == "max"


# density --------------------------------------------------------------------------------------------------------------


def test_density_panels_hold_the_densities_at_the_cells_centres() -> None:
    truth = Gaussian(torch.tensor([0.5, 0.0], dtype=torch.float64), 0.5 * torch.eye(2, dtype=torch.float64))
    figure = density_beside_truth(bowl, -102.0, truth, bounds=((-4, 4), (-2, 2)), resolution=40)
    true, model, difference = (axes.images[0] for axes in figure.axes)
    x, y = -4 + 0.2 * (13 + 0.5), -2 + 0.1 * (30 + 0.5)
    expected_true = np.exp(-((x - 0.5) ** 2 + y**2)) / np.pi
    expected_model = np.exp(2 - 0.5 * (x**2 + y**2))
    assert true.get_array()[30, 13] == pytest.approx(expected_true, rel=1e-6)
    assert model.get_array()[30, 13] == pytest.approx(expected_model, rel=1e-5)
    x, y = -4 + 0.2 * (20 + 0.5), -2 + 0.1 * (22 + 0.5)
    expected = 2 - 0.5 * (x**2 + y**2) + (x - 0.5) ** 2 + y**2 + np.log(np.pi)
    assert difference.get_array()[22, 20] == pytest.approx(expected, rel=1e-5)
    assert true.get_extent() == [-4, 4, -2, 2]
    assert true.get_clim() == model.get_clim() == (0, true.get_array().max())
    low, high = difference.get_clim()
    assert low == -high
    # a Gaussian's 99.9 % region is the disc of squared radius 2 ln 1000 variances, up to the cells' size
    shown = ~np.ma.getmaskarray(difference.get_array())
    assert shown.sum() * 0.2 * 0.1 == pytest.approx(_disc_in_the_frame(), rel=0.06)
    # P(|y| < 2) = erf(2), the whole of x to five digits
    assert "0.995" in figure.axes[0].get_title(loc="left")


def _disc_in_the_frame() -> float:
    # the disc of radius sqrt(ln 1000) = 2.63 is cut by the frame at |y| = 2
    radius = np.sqrt(0.5 * 2 * np.log(1000))
    return float(2 * (2 * np.sqrt(radius**2 - 4) + radius**2 * np.arcsin(2 / radius)))


def test_difference_is_drawn_where_the_truth_has_mass() -> None:
    truth = toy_density("checkerboard")
    figure = density_beside_truth(
        lambda x: torch.where(x[:, 0] > 0, 0.0, torch.inf), 5.0, truth, bounds=((-5, 5), (-5, 5)), resolution=50
    )
    axis = -5 + 0.2 * (np.arange(50) + 0.5)
    x, y = np.meshgrid(axis, axis)
    dark = (np.abs(x) < 4) & (np.abs(y) < 4) & ((np.floor(x / 2) + np.floor(y / 2)) % 2 == 0)
    drawn = figure.axes[2].images[0].get_array()
    # -inf, where the model has no mass, is drawn too
    np.testing.assert_array_equal(~np.ma.getmaskarray(drawn), dark)
    assert (drawn[dark & (x < 0)] < figure.axes[2].images[0].get_clim()[0]).all()
    np.testing.assert_allclose(drawn[dark & (x > 0)].astype(float), -5 + np.log(32), rtol=1e-5)


# curves ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", ["min-max", "std"])
def test_curves_draw_mean_and_band(band: Any) -> None:
    x = torch.arange(6, dtype=torch.float64)
    y = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    figure = curves({"a": (x, y), "single": (x, y[0])}, x_label="step", y_label="loss (nats)", band=band)
    (axes,) = figure.axes
    values = y.detach().numpy()
    first, single = axes.lines
    np.testing.assert_allclose(first.get_ydata(), np.mean(values, 0))
    np.testing.assert_allclose(single.get_ydata(), values[0])
    (area,) = axes.collections
    corners = area.get_paths()[0].vertices
    for k in range(6):
        edge = corners[corners[:, 0] == k, 1]
        if band == "min-max":
            low, high = values[:, k].min(), values[:, k].max()
        else:
            spread = np.sqrt(((values[:, k] - values[:, k].mean()) ** 2).sum() / 3)
            low, high = values[:, k].mean() - spread, values[:, k].mean() + spread
        assert edge.min() == pytest.approx(low) and edge.max() == pytest.approx(high)
    note, *names = legend_texts(figure)
    assert note == "mean of 4 seeds, band: " + ("min to max" if band == "min-max" else "± 1 std")
    assert names == ["a", "single"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats)")


def test_curves_references_and_axes() -> None:
    figure = curves(
        {"a": ([1, 10, 1000], [1.0, 2.0, 3.0])},
        x_label="x",
        y_label="y",
        log_x=True,
        log_y=True,
        reference={"floor": 0.5, "switch": ("vertical", 20), "roof": ("horizontal", 4.0)},
    )
    axes = figure.axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    floor, switch, roof = axes.lines[1:]
    assert set(floor.get_ydata()) == {0.5} and set(switch.get_xdata()) == {20} and set(roof.get_ydata()) == {4.0}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10", "1000"]


def test_every_series_looks_different() -> None:
    figure = curves(many_curves(20), x_label="x", y_label="y")
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in figure.axes[0].lines}
    assert len(looks) == 20


# histogram ------------------------------------------------------------------------------------------------------------


def test_histogram_shares_bins_and_counts_what_lies_beyond() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, 5000)
    odd = np.concatenate([rng.normal(6, 1, 100), [1e8, np.inf]])
    groups = {"data": torch.tensor(data, requires_grad=True), "odd": odd}
    figure = energy_histogram(groups, bins=24)
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch)]
    assert len(patches) == 4  # an area and an outline each
    low = min(np.percentile(data, 0.5), np.percentile(odd[:-1], 0.5))
    high = max(np.percentile(data, 99.5), np.percentile(odd[:-1], 99.5))
    for patch, rows in zip(patches, (data, data, odd, odd), strict=True):
        shares, edges, _ = patch.get_data()
        np.testing.assert_allclose(edges, np.linspace(low, high, 25))
        bins = np.clip(np.searchsorted(edges, rows, side="right") - 1, 0, 23)
        np.testing.assert_allclose(shares, np.bincount(bins, minlength=24) / len(rows))
    medians = [line.get_xdata()[0] for line in figure.axes[0].lines]
    np.testing.assert_allclose(medians, [np.median(data), np.median(odd)])
    beyond = sum(int(((rows < low) | (rows > high)).sum()) for rows in (data, odd))
    assert f"the {beyond} of 5,102 rows" in figure.get_supxlabel()
    assert any("odd: 102 rows" in text for text in legend_texts(figure))


def test_histogram_of_one_value_and_of_huge_values() -> None:
    for value in (0.0, 1e12, -3.0):
        patch = energy_histogram({"same": [value] * 5}).axes[0].patches[0]
        assert patch.get_data().values.sum() == pytest.approx(1)


# images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", [False, True])
def test_images_are_ranked_framed_and_labelled(channel: bool) -> None:
    energies = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 0.0, 6.0, 7.0], dtype=torch.float64, requires_grad=True)
    # an image's pixels are its energy and a shared ramp
    ramp = torch.linspace(0, 1, 12).reshape(3, 4)
    images = energies.detach()[:, None, None] * 0.1 + ramp
    labels = torch.tensor([0, 0, 0, 1, 0, 0, 1, 1])
    figure = ranked_images(images[:, None] if channel else images, energies, labels=labels, columns=3)
    lowest, highest = figure.axes
    texts = [[text.get_text() for text in axes.texts] for axes in (lowest, highest)]
    assert texts == [["0.00", "1.00", "2.00"], ["5.00", "6.00", "7.00"]]
    for axes, wanted in ((lowest, [0, 1, 2]), (highest, [5, 6, 7])):
        assert [image.get_extent()[0] for image in axes.images] == sorted(
            image.get_extent()[0] for image in axes.images
        )
        for image, energy in zip(axes.images, wanted, strict=True):
            # one scale for all that is shown: from 0 to 0.7 + 1
            np.testing.assert_allclose(image.get_array(), (0.1 * energy + ramp.numpy()) / 1.7, atol=1e-6)
        frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        thick = [frame.get_linewidth() > 1 for frame in frames]
        assert thick == [energy in (2, 6, 7) for energy in wanted]
    assert "1 of the 3 lowest, 2 of the 3 highest" in figure.get_supxlabel().replace("\n", " ")


def test_few_images_are_shown_once_and_many_rows_fill_in_order() -> None:
    figure = ranked_images(np.zeros((5, 2, 2)), [3.0, -1.0, 2.0, 0.0, 4.0])
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert shown == ["\N{MINUS SIGN}1.00", "0.00", "2.00", "3.00", "4.00"]
    figure = ranked_images(np.zeros((20, 3, 2, 2)), np.arange(20) * 100.0, rows=4, columns=2)
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [
        ["0", "100", "200", "300"],
        ["1600", "1700", "1800", "1900"],
    ]


# training -------------------------------------------------------------------------------------------------------------


def test_training_panels_and_lines() -> None:
    figure = training_curves(records())
    loss, energy, rate = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "mean energy (nats)", "learning rate"]
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[10 * k, 5 - 0.1 * k] for k in range(12)])
    np.testing.assert_allclose(loss.lines[1].get_xydata(), [[0, 6], [40, 6], [80, 6]])
    assert [line.get_label() for line in energy.lines] == ["energy data", "energy draws"]
    assert len(rate.lines) == 1
    assert len(training_curves([{"step": 0, "loss": 1.0}]).axes) == 1
    # of a player called energy
    (only,) = training_curves([{"step": 0, "lr_energy": 1e-3, "lr_generator": 2e-3}]).axes
    assert (only.get_title(loc="left"), len(only.lines)) == ("learning rate", 2)


def test_training_keeps_the_later_record_and_marks_what_is_not_finite() -> None:
    rows: list[Any] = [{"step": k, "loss": float(k)} for k in range(6)] + [{"step": 3, "loss": 30.0}]
    rows += [{"step": 6, "loss": float("nan")}, {"step": 7, "loss": None}, {"step": 8, "loss": 8.0}]
    line, crosses = training_curves(rows).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [0, 1, 2, 30, 4, 5, np.nan, np.nan, 8])
    assert list(crosses.get_xdata()) == [6, 7]


def test_long_runs_get_a_running_mean() -> None:
    values = np.random.default_rng(0).normal(size=500)
    raw, mean = training_curves([{"step": k, "loss": float(v)} for k, v in enumerate(values)]).axes[0].lines
    np.testing.assert_array_equal(raw.get_ydata(), values)
    np.testing.assert_allclose(mean.get_ydata(), [values[k : k + 10].mean() for k in range(491)])
    np.testing.assert_allclose(mean.get_xdata(), np.arange(491) + 4.5)


# panels ---------------------------------------------------------------------------------------------------------------


def test_line_panels() -> None:
    x = torch.linspace(0, 1, 5, requires_grad=True)
    panels = [
        Panel("first", x, {"true": x**2, "learned": [1, 2, np.inf, 4, 5]}, x_label="w", y_label="loss"),
        Panel("second", x, {"learned": x.double()}, vertical=0.2, vertical_label="true weight"),
    ]
    figure = line_panels(panels)
    first, second = figure.axes
    np.testing.assert_allclose(first.lines[0].get_ydata(), np.linspace(0, 1, 5) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(first.lines[1].get_ydata(), [1, 2, np.nan, 4, 5])
    assert first.lines[1].get_color() == second.lines[0].get_color() != first.lines[0].get_color()
    assert set(second.lines[1].get_xdata()) == {0.2}
    assert legend_texts(figure)[1:] == ["true", "learned", "true weight"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second"]
    assert len(line_panels(panels * 3, columns=4, share_y=True).axes) == 6


# saving ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_else(ending: str, tmp_path: Path) -> None:
    written = []
    for folder in ("a", "b"):
        path = save(energy_histogram({"a": [1.0, 2.0]}), tmp_path / folder / "deep" / f"x.{ending}")
        assert list(path.parent.iterdir()) == [path]
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert b"Matplotlib v" not in written[0] and b"CreationDate" not in written[0]


def test_png_has_150_dots_per_inch(tmp_path: Path) -> None:
    figure = energy_histogram({"a": [1.0, 2.0]})
    shape = matplotlib.image.imread(save(figure, tmp_path / "x.png")).shape
    np.testing.assert_allclose(shape[:2][::-1], 150 * figure.get_size_inches(), atol=1)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    figure = energy_histogram({"a": [1.0, 2.0]})

    def fail(source: Path, target: Any) -> None:
        assert source.parent == Path(target).parent  # or the rename would be a copy
        assert source.read_bytes().startswith(b"\x89PNG")
        raise OSError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk"):
            save(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"'x\.bmp'; end its name in"):
        save(figure, tmp_path / "x.bmp")
    assert list(tmp_path.iterdir()) == [path]


# bad input ------------------------------------------------------------------------------------------------------------

X = [0.0, 1.0]
TRUTH = toy_density("8gaussians")
IMAGES = np.zeros((2, 3, 3))
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "bounds reversed": (lambda: landscape(bowl, bounds=((1, 0), (0, 1))), "finite and increasing"),
    "bounds flat": (lambda: landscape(bowl, bounds=(0, 1)), "x_low"),  # type: ignore[arg-type]
    "resolution": (lambda: landscape(bowl, bounds=SQUARE, resolution=1), "at least 2"),
    "clip": (lambda: landscape(bowl, bounds=SQUARE, clip=0.0), "above 0"),
    "samples": (lambda: landscape(bowl, bounds=SQUARE, samples=torch.zeros(3)), r"samples\[:, :2\]"),
    "energy shape": (lambda: landscape(lambda x: x[:, :1], bounds=SQUARE, resolution=4), "squeeze"),
    "energy nan": (lambda: landscape(lambda x: x[:, 0] * torch.nan, bounds=SQUARE, resolution=4), "NaN"),
    "energy inf": (
        lambda: landscape(lambda x: x[:, 0].exp() * torch.inf, bounds=SQUARE, resolution=4),
        "move the bounds",
    ),
    "log z": (lambda: density_beside_truth(bowl, np.inf, TRUTH, bounds=SQUARE), "estimate it again"),
    "no truth": (
        lambda: density_beside_truth(bowl, 0.0, toy_density("checkerboard"), bounds=((5, 6), (5, 6)), resolution=4),
        "zero on the whole grid",
    ),
    "no series": (lambda: curves({}, x_label="", y_label=""), "at least one"),
    "curve shape": (lambda: curves({"a": (X, [1.0, 2.0, 3.0])}, x_label="", y_label=""), "one row per seed"),
    "ragged": (lambda: curves({"a": (X, [[1.0], [1.0, 2.0]])}, x_label="", y_label=""), "one shape"),
    "curve nan": (lambda: curves({"a": (X, [1.0, np.nan])}, x_label="", y_label=""), "drop them"),
    "log x": (lambda: curves({"a": (X, X)}, x_label="", y_label="", log_x=True), "log_x=False"),
    "log y": (lambda: curves({"a": (X, X)}, x_label="", y_label="", log_y=True), "log_y=False"),
    "band": (lambda: curves({"a": (X, X)}, x_label="", y_label="", band="sem"), "min-max"),  # type: ignore[arg-type]
    "reference": (
        lambda: curves({"a": (X, X)}, x_label="", y_label="", reference={"r": ("diagonal", 1.0)}),  # type: ignore[dict-item]
        "'vertical'",
    ),
    "no groups": (lambda: energy_histogram({}), "at least one"),
    "empty group": (lambda: energy_histogram({"a": []}), "leave it out"),
    "group nan": (lambda: energy_histogram({"a": [np.nan, 1.0]}), "drop them"),
    "group inf": (lambda: energy_histogram({"a": [np.inf]}), "leave it out"),
    "flat images": (lambda: ranked_images(np.zeros((4, 64)), np.zeros(4)), "reshape"),
    "odd rows": (lambda: ranked_images(IMAGES, X, rows=3), "even"),
    "energies": (lambda: ranked_images(IMAGES, [1.0]), "one for each image"),
    "labels": (lambda: ranked_images(IMAGES, X, labels=[1]), "one for each image"),
    "pixels": (lambda: ranked_images(IMAGES * np.nan, X), "drop them"),
    "no records": (lambda: training_curves([]), "log at least"),
    "nothing drawn": (lambda: training_curves([{"step": 1, "speed": 3.0}]), "log at least"),
    "no step": (lambda: training_curves([{"loss": 1.0}]), "record 0 has no 'step'"),
    "text": (lambda: training_curves([{"step": 1, "loss": "low"}]), "plain numbers"),  # type: ignore[dict-item]
    "no panels": (lambda: line_panels([]), "at least one"),
    "no curves": (lambda: Panel("p", X, {}), "at least one"),
    "panel shape": (lambda: Panel("p", X, {"c": [1.0]}), "evaluate it on that x"),
    "vertical": (lambda: Panel("p", X, {"c": X}, vertical=np.nan), "use None"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case: str) -> None:
    call, remedy = BAD[case]
    with pytest.raises(ValueError, match=remedy) as caught:
        call()
    assert "\n" not in str(caught.value)
