"""Every way of holding the program wrong: status 2, one line with a remedy, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainfree import __version__

Run = Callable[..., Any]

TOY = ("--data", "toy:25gaussians")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "what is to be done?"),
        (("trian",), "unknown command 'trian'; there are train"),
        (("--data", "toy:moons"), "unknown command"),
        (("evaluate",), "required: run; see chainfree evaluate --help"),
        (("evaluate", "a", "b"), "unrecognized arguments: b"),
        (("evaluate", "nowhere"), "no run folder"),
        (("plot", "nowhere"), "no run folder"),
        (("doctor", "now"), "unrecognized arguments"),
        (("recipes", "nothing"), "no recipe is called 'nothing'"),
        (("recipes", "ed_25gaussians"), "is a training run"),
        (("recipes", "ed_nearsightedness", "--threads", "0"), "threads must be"),
        (("recipes", "ed_nearsightedness", "--threads", "two"), "threads"),
        (("evaluate", "a\0b"), "not valid text"),
        (("evaluate", "\udcff"), "not valid text"),
    ],
)
def test_commands(arguments: tuple[str, ...], says: str, chainfree: Run) -> None:
    assert says in chainfree(*arguments).refused()
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "data is missing; give it as a flag (--data ...)"),
        (("--data",), "--data"),
        (("--data", ""), "unknown kind of file"),
        (("--data", "nothing.csv"), "no such file"),
        (("--data", "rows.xlsx"), "unknown kind of file '.xlsx'"),
        (("--data", "toy:moonz"), "there are 25gaussians"),
        (("--data", "toy"), "there are 25gaussians"),
        (("--data", "digits"), "--anomaly 0..9"),
        (("--data", "digits:3"), "takes no name"),
        (("--data", "digits", "--anomaly", "10"), "a class from 0 to 9"),
        (("--data", "digits", "--anomaly", "3"), "--scaling none"),
        ((*TOY, "--anomaly", "3"), "anomaly names a class"),
        ((*TOY, "--drop", "a"), "leave them out"),
        ((*TOY, "--drop", "a", "b"), "names joined by commas: --drop a,b"),
        ((*TOY, "--key", "a"), "leave them out"),
        ((*TOY, "--lr", "1"), "did you mean optimizer.lr?"),
        ((*TOY, "--optimizer.lrr", "1"), "optimizer.lr"),
        ((*TOY, "--zzz", "1"), "--help lists all settings"),
        ((*TOY, "stray"), "unknown setting 'stray'"),
        ((*TOY, "--steps", "many"), "steps"),
        ((*TOY, "--steps", "0"), "steps must be a whole number above 0, got 0"),
        ((*TOY, "--steps", "-1"), "steps must be"),
        ((*TOY, "--steps", "1.5"), "steps"),
        ((*TOY, "--steps", "1" + 400 * "0"), "too large"),
        ((*TOY, "--batch", "0"), "batch must be"),
        ((*TOY, "--batch", "1000000000000"), "not enough memory; lower --batch"),
        ((*TOY, "--seed", "-1"), "seed must be"),
        ((*TOY, "--seed", str(2**63)), "seed must be at most"),
        ((*TOY, "--held_out", "1"), "held_out must be"),
        ((*TOY, "--held_out", "0"), "held_out must be"),
        ((*TOY, "--held_out", "nan"), "held_out"),
        ((*TOY, "--ema", "1"), "ema must be"),
        ((*TOY, "--clip", "0"), "clip must be"),
        ((*TOY, "--patience", "0"), "patience must be"),
        ((*TOY, "--threads", "0"), "threads must be"),
        ((*TOY, "--threads", "100000"), "threads must be"),
        ((*TOY, "--precision", "fp16"), "precision"),
        ((*TOY, "--device", "gpu"), "use --device cpu"),
        ((*TOY, "--device", "meta"), "use --device cpu"),
        ((*TOY, "--name", ""), "name must be"),
        ((*TOY, "--name", "../x"), "give the folder around it as out"),
        ((*TOY, "--name", ".."), "name must be"),
        ((*TOY, "--network.kind", "conv"), "use auto"),
        ((*TOY, "--network.width", "0"), "width must be"),
        ((*TOY, "--network.activation", "swish"), "network.activation"),
        ((*TOY, "--network.frequency_scale", "0"), "scale must be"),
        ((*TOY, "--base.components", "0"), "components must be"),
        ((*TOY, "--base.regularisation", "-1"), "regularisation must be"),
        ((*TOY, "--base.kind", "mixture", "--base.components", "2000"), "lower it"),
        ((*TOY, "--loss.draws", "0"), "draws must be"),
        ((*TOY, "--loss.w", "-1"), "w must be"),
        ((*TOY, "--loss.chunk", "0"), "chunk must be"),
        ((*TOY, "--loss.t", "0"), "t must be"),
        ((*TOY, "--loss.t", "[2,1]"), "low must not be above high"),
        ((*TOY, "--loss.t", "[1,2,3]"), "loss.t"),
        ((*TOY, "--loss.t", "wide"), "loss.t"),
        ((*TOY, "--loss.perturbation", "ou"), "needs perturbation gaussian"),
        ((*TOY, "--loss.perturbation", "mean_pool", "--loss.t", "1"), "choose another --loss.perturbation"),
        ((*TOY, "--optimizer.lr", "0"), "lr must be"),
        ((*TOY, "--optimizer.betas", "[0.9]"), "betas"),
        ((*TOY, "--optimizer.betas", "[0.9,1]"), "betas must be"),
        ((*TOY, "--schedule.warmup", "-1"), "warmup must be"),
        ((*TOY, "--guard.backoff", "1"), "backoff must be"),
        ((*TOY, "--guard.tries", "0"), "tries must be"),
        ((*TOY, "--out", "/dev/null/runs"), "choose another --out"),
        (("none.toml",), "cannot read the config file 'none.toml'"),
        (("--config",), "--config"),
        (("--config", "."), "cannot read the config file"),
        (("--resume",), "--resume needs the folder"),
    ],
)
def test_settings(arguments: tuple[str, ...], says: str, chainfree: Run, no_pictures: None) -> None:
    assert says in chainfree("train", *arguments).refused()
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("data = ", "not valid TOML"),
        ("data = 'toy:moons'\nsteps = 'five'", "steps"),
        ("data = 'toy:moons'\nstepps = 5", "did you mean steps"),
        ("data = 'toy:moons'\n[netwrk]\nwidth = 3", "did you mean network"),
        ("data = 'toy:moons'\n[network]\nwdth = 3", "network.width"),
        ("data = 'toy:moons'\n[network]\nwidth = 3.5", "width"),
        ("data = 'toy:moons'\nnetwork = 3", "below [network]"),
        ("data = 'toy:moons'\nconfig = 'config.toml'", "unknown setting 'config'"),
        ("data = 'toy:moons'\n[steps]\na = 3", "steps"),
        ("data = 'toy:moons'\nsteps = true", "steps"),
        ("data = ['toy:moons']", "data"),
        ("data = 3", "data"),
        ("data = 1979-05-27", "data"),
        ("steps = 5", "data is missing"),
        ("", "data is missing"),
        ("data = 'toy:moons'\ndata = 'toy:moons'", "not valid TOML"),
        ("a = " + 5000 * "[", "not valid TOML"),
        ("data = 'toy:moons'\nsteps = 1" + 400 * "0", "too large"),
    ],
)
def test_config_files(toml: str, says: str, chainfree: Run) -> None:
    Path("config.toml").write_text(toml)
    assert says in chainfree("train", "config.toml").refused()
    assert [p.name for p in Path().iterdir()] == ["config.toml"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00", "data = 'ä'".encode("latin-1")])
def test_config_files_that_are_no_text(content: bytes, chainfree: Run) -> None:
    Path("config.toml").write_bytes(content)
    assert "not valid TOML" in chainfree("train", "config.toml").refused()


@pytest.mark.parametrize(
    ("content", "flags", "says"),
    [
        ("a,b\n" + 30 * "1,2\n", (), "--drop a,b"),
        ("a,b\n" + "".join(f"{i},{-i}\n" for i in range(10)), (), "at least 20"),
        ("a,b\n" + "".join(f"{i},{-i}\n" for i in range(25)), ("--batch", "64"), "lower --batch"),
        ("a,b\n" + "".join(f"{i},\n" for i in range(30)), (), "missing values"),
        ("a,b\n" + "".join(f"{i},x\n" for i in range(30)), (), "is not numeric"),
        ("a,b\n" + "".join(f"{i},{-i}\n" for i in range(30)), ("--drop", "c"), "there is no column 'c'"),
        ("a,b\n" + "".join(f"{i},{-i}\n" for i in range(30)), ("--drop=a,b",), "keep at least one"),
        ("a,b\n" + "".join(f"{i},{-i}\n" for i in range(30)), ("--key", "x"), "is for .npz files"),
    ],
)
def test_tables(content: str, flags: tuple[str, ...], says: str, chainfree: Run, tiny: tuple[str, ...]) -> None:
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    Path("rows.csv").write_text(content)
    assert says in chainfree("train", "--data", "rows.csv", *tiny, *flags).refused()
    assert [p.name for p in Path().iterdir()] == ["rows.csv"]


def test_a_missing_extra_leaves_no_run(chainfree: Run, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    message = chainfree("train", *TOY, *tiny, "--tensorboard", "true").refused()
    assert "pip install 'chainfree[tensorboard]'" in message
    assert not list(Path("runs").iterdir())


def test_drop_takes_names_or_a_list(chainfree: Run, tiny: tuple[str, ...], no_pictures: None) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.savez("rows.npz", x=x, columns=np.array(["a", "b", "c,d", "e"]))
    from chainfree.cli.run_folder import RunFolder

    for name, drop, left in [
        ("one", ["--drop", "a, b"], ("c,d", "e")),
        ("two", ["--drop=a,b"], ("c,d", "e")),
        ("three", ["--drop", '["c,d"]'], ("a", "b", "e")),
    ]:
        assert chainfree("train", "--data", "rows.npz", *tiny, *drop, "--name", name).status == 0
        assert RunFolder.open(f"runs/{name}").columns() == left


def test_the_version(chainfree: Run) -> None:
    assert chainfree("--version").out.strip() == chainfree("-V").out.strip() == __version__


def test_help_is_no_error(chainfree: Run) -> None:
    for arguments in [("--help",), ("-h",), ("help",), *((c, "--help") for c in ("train", "score", "recipes"))]:
        ended = chainfree(*arguments)
        assert ended.status == 0
        assert "usage: chainfree" in ended.out
        assert ended.err == ""


def test_a_fault_of_the_program_is_status_1(chainfree: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("a\nfault")

    # the package's own name "main" is the function
    monkeypatch.setattr(sys.modules["chainfree.cli.main"], "train", fault)
    ended = chainfree("train")
    assert ended.status == 1
    assert ended.err == "chainfree: RuntimeError: a fault (CHAINFREE_DEBUG=1 shows where)\n"
    monkeypatch.setenv("CHAINFREE_DEBUG", "1")
    with pytest.raises(RuntimeError, match="fault"):
        chainfree("train")


def test_a_process_of_its_own_refuses_in_one_line() -> None:
    """As a person sees it: no warnings of libraries beside the message."""
    command = [sys.executable, "-m", "chainfree", "train", *TOY, "--steps", "many"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
