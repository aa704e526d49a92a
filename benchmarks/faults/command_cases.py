"""Bad words, flags and config files."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.program import Case, in_a_process, in_process
from benchmarks.faults.settings import TINY
from chainfree.cli.settings import TrainSettings

_BAD_FLAGS: dict[str, tuple[str, ...]] = {
    "--anomaly": ("3", "-1", "x"),
    "--held_out": ("0", "1", "-0.5", "nan", "x"),
    "--scaling": ("log", "1", ""),
    "--network": ("mlp", "3", "none.toml"),
    "--network.kind": ("conv", "resnet", "transformer"),
    "--network.width": ("0", "-3", "1.5", "wide"),
    "--network.depth": ("0", "-1", "deep"),
    "--network.activation": ("swish", "3"),
    "--network.spectral_norm": ("2", "maybe"),
    "--base": ("gaussian", "[]"),
    "--base.kind": ("uniform", "0"),
    "--base.components": ("0", "-2", "2.5"),
    "--base.regularisation": ("-1", "inf", "small"),
    "--loss.perturbation": ("laplace", "ou", "mean_pool"),
    "--loss.t": ("0", "-1", "nan", "inf", "[1]", "[2,1]", "[0,1]", "[1,2,3]", "wide"),
    "--loss.draws": ("0", "-4", "2.5", "many"),
    "--loss.w": ("-1", "nan", "inf", "one"),
    "--loss.chunk": ("0", "-1", "1.5"),
    "--method": ("gan", "1", ""),
    "--vera": ("bank", "3"),
    "--vera.samples": ("16", "0", "-1", "many"),
    "--vera.latent": ("-1", "1.5"),
    "--vera.entropy": ("none", "3"),
    "--vera.weighted": ("maybe", "2"),
    "--vera.share": ("0", "-1", "nan"),
    "--optimizer.lr": ("0", "-1", "nan", "inf", "fast"),
    "--optimizer.betas": ("0.9", "[0.9]", "[0.9,1]", "[-1,0.9]", "[a,b]"),
    "--optimizer.eps": ("0", "-1", "nan"),
    "--optimizer.weight_decay": ("-1", "inf"),
    "--schedule.kind": ("linear", "2"),
    "--schedule.warmup": ("-1", "1.5", "slow"),
    "--steps": ("0", "-1", "1.5", "1e3", "ten", "1" + 400 * "0"),
    "--batch": ("0", "-8", "1.5", "1000", "all"),
    "--seed": ("-1", "0.5", str(2**63), "x"),
    "--clip": ("0", "-1", "nan", "inf"),
    "--ema": ("1", "-0.1", "nan", "x"),
    "--precision": ("fp16", "32"),
    "--accumulate": ("0", "1.5"),
    "--compile": ("maybe", "3"),
    "--device": ("gpu", "meta", "cpu:x", ""),
    "--threads": ("0", "-1", "100000", "all"),
    "--guard.limit": ("0", "-1", "nan"),
    "--guard.every": ("0", "1.5"),
    "--guard.tries": ("0", "-1"),
    "--guard.backoff": ("0", "1", "2"),
    "--patience": ("0", "-1", "x"),
    "--evaluate_every": ("0", "x"),
    "--log_every": ("0", "-1"),
    "--checkpoint_every": ("0", "1.5"),
    "--tensorboard": ("maybe",),
    "--name": ("", "..", "a/b", "a\0b", "\udcff"),
    "--out": ("/dev/null/x", "rows.npy"),
    "--key": ("x",),
    "--drop": ("nothing", "x0,x1,x2"),
    "--config": ("none.toml", "."),
    "--resume": ("nowhere",),
    "--lr": ("1",),
    "--stepps": ("1",),
}

_WORDS: tuple[tuple[str, ...], ...] = (
    (),
    ("trian",),
    ("--data", "rows.npy"),
    ("train",),
    ("train", "--data"),
    ("train", "--data", ""),
    ("train", "none.toml"),
    ("train", "--resume"),
    ("train", "--data", "toy:moonz"),
    ("train", "--data", "toy:"),
    ("train", "--data", "digits"),
    ("train", "--data", "digits", "--anomaly", "10"),
    ("train", "--data", "digits:3", "--anomaly", "3"),
    ("train", "--data", "toy:moons", "--drop", "x"),
    ("train", "--data", "toy:moons", "--batch", "1000000000000"),
    ("evaluate",),
    ("evaluate", "nowhere"),
    ("evaluate", "a", "b"),
    ("evaluate", "--key", "x"),
    ("score", "nowhere", "rows.npy", "--out", "e.csv"),
    ("score", "nowhere"),
    ("train", "--data", "rows.npy", *TINY, "--method", "vera", "--vera.samples", "0"),
    ("train", "--data", "rows.npy", *TINY, "--method", "vera", "--vera.covering", "-1"),
    ("train", "--data", "rows.npy", *TINY, "--method", "vera", "--vera.gradient_penalty", "nan"),
    ("sample", "nowhere", "--out", "new.csv"),
    ("sample", "good", "--out", "new.csv"),
    ("sample", "good"),
    ("plot", "."),
    ("recipes", "nothing"),
    ("recipes", "--threads", "x"),
    ("recipes", "ed_nearsightedness", "--threads", "0"),
    ("doctor", "now"),
)


def flag_cases() -> Iterator[Case]:
    for flag, values in _BAD_FLAGS.items():
        for value in values:
            arguments = ("train", "--data", "rows.npy", *TINY, flag, value)
            yield Case(f"{flag} {value[:20]!r}", lambda a=arguments: in_process(*a))
    for words in _WORDS:
        yield Case(" ".join(words) or "no word", lambda a=words: in_process(*a))


def of_process_cases(rng: random.Random) -> Iterator[Case]:
    """Some of the above in a process of their own: nothing of it may depend on how it is called."""
    flags = [(f, v) for f, values in _BAD_FLAGS.items() for v in values if "\0" not in v and v.isprintable()]
    for flag, value in rng.sample(flags, k=8):
        arguments = ("train", "--data", "rows.npy", *TINY, flag, value)
        yield Case(f"process: {flag} {value!r}", lambda a=arguments: in_a_process(*a))
    for words in rng.sample(_WORDS, k=2):
        yield Case(f"process: {' '.join(words)}", lambda a=words: in_a_process(*a))


def config_cases(rng: random.Random) -> Iterator[Case]:
    texts = {
        "cut off": "steps = ",
        "twice": "steps = 1\nsteps = 2",
        "deep": "a = " + 5000 * "[",
        "a colon": "steps: 3",
        "an open text": 'name = "a',
        "an unknown key": "stepps = 3",
        "an unknown table": "[netwrk]\nwidth = 3",
        "itself": "config = 'config.toml'",
        "a table of a number": "[steps]\na = 1",
        "a huge number": "seed = 1" + 400 * "0",
    }
    for entry in dataclasses.fields(TrainSettings):
        for name, value in (("a table", "{a = 1}"), ("a date", "1979-05-27"), ("a nest", "[[1], {b = 2}]")):
            texts[f"{entry.name} is {name}"] = f"{entry.name} = {value}"
    for name, text in texts.items():
        data = "" if text.startswith("data") else "data = 'rows.npy'\n"
        yield Case(f"config: {name}", lambda t=data + text: _with_config(t.encode()))
    for number in range(20):
        content = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 80))) + b"\xff"
        yield Case(f"config: random bytes {number}", lambda c=content: _with_config(c))


def _with_config(content: bytes) -> str | None:
    Path("config.toml").write_bytes(content)
    return in_process("train", "config.toml", *TINY)
