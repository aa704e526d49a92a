"""Images from archives, idx files and a refused network."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from chainfree.datasets import DataError, Images, data_dir, images, load_fashion_mnist, load_mnist, read_idx


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {"train": 6, "test": 3}
    made = {f"x_{s}": rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for s, n in sizes.items()}
    return made | {f"y_{s}": rng.integers(0, 10, n, dtype=np.uint8) for s, n in sizes.items()}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("CHAINFREE_CACHE", str(tmp_path / "cache"))


def _write_idx(folder: Path, arrays: dict[str, np.ndarray], *, packed: bool) -> None:
    folder.mkdir(parents=True)
    for split, start in [("train", "train"), ("test", "t10k")]:
        for key, kind in [("x", "images-idx3"), ("y", "labels-idx1")]:
            content = _idx(arrays[f"{key}_{split}"])
            name = f"{start}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(content) if packed else content)


def _same(got: Images, arrays: dict[str, np.ndarray], split: str) -> None:
    np.testing.assert_array_equal(got.x.numpy(), arrays[f"x_{split}"][:, None])
    np.testing.assert_array_equal(got.y.numpy(), arrays[f"y_{split}"])
    assert got.x.dtype == torch.uint8 and got.y.dtype == torch.int64


@pytest.mark.parametrize("split", ["train", "test"])
def test_archives(tmp_path: Path, arrays: dict[str, np.ndarray], split: str) -> None:
    np.savez(tmp_path / "mnist.npz", **arrays)
    np.savez(tmp_path / "fashion_mnist.npz", **arrays)
    _same(load_mnist(split, tmp_path), arrays, split)  # type: ignore[arg-type]
    _same(load_fashion_mnist(split, tmp_path), arrays, split)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_folders(
    tmp_path: Path, arrays: dict[str, np.ndarray], folder: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_idx(tmp_path / folder, arrays, packed=packed)
    monkeypatch.setenv("CHAINFREE_DATA", str(tmp_path))
    _same(load_mnist("train"), arrays, "train")
    _same(load_mnist("test"), arrays, "test")


def test_a_named_folder_must_hold_the_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no mnist\.npz"):
        load_mnist("train", tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        load_mnist("train", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="split must be"):
        load_mnist("valid", tmp_path)  # type: ignore[arg-type]


def test_a_refused_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CHAINFREE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    source = images._MNIST
    monkeypatch.setattr(
        images, "_MNIST", images._Source(source.npz, source.folders, "http://127.0.0.1:9/", source.checksums)
    )
    with pytest.raises(
        DataError, match=r"no connection.*set CHAINFREE_DATA to a folder that holds mnist\.npz"
    ) as caught:
        load_mnist("train")
    assert "\n" not in str(caught.value)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_the_cache_is_used_only_where_its_checksum_is_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    import hashlib

    monkeypatch.delenv("CHAINFREE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "cache" / "mnist"
    _write_idx(folder, arrays, packed=True)
    checksums = {
        name: "md5:" + hashlib.md5((folder / name).read_bytes()).hexdigest() for name in images._MNIST.checksums
    }
    monkeypatch.setattr(images, "_MNIST", images._Source("mnist.npz", ("mnist",), "http://127.0.0.1:9/", checksums))
    _same(load_mnist("test"), arrays, "test")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="no connection"):
        load_mnist("test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((6, 28, 28), np.float32)}, "uint8"),
        ({"x_train": np.zeros((6, 784), np.uint8)}, "uint8"),
        ({"y_train": np.zeros(5, np.uint8)}, "labels for 6 images"),
        ({"y_train": np.zeros(6, np.float32)}, "labels for 6 images"),
    ],
)
def test_bad_archives(
    tmp_path: Path, arrays: dict[str, np.ndarray], change: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "mnist.npz", **(arrays | change))
    with pytest.raises(DataError, match=message):
        load_mnist("train", tmp_path)


def test_an_archive_without_the_split(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=arrays["x_train"])
    with pytest.raises(DataError, match=r"has no array 'y_train'.*it has 'x_train'"):
        load_mnist("train", tmp_path)


GOOD = _idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (b"\0\0\x0d" + GOOD[3:], "not an idx file"),
        (b"\1" + GOOD[1:], "not an idx file"),
        (b"\0\0\x08\0", "not an idx file"),
        (GOOD[:9], "inside its header"),
        (GOOD[:-1], "has 5 values where its header says 6"),
        (GOOD + b"x", "has 7 values where its header says 6"),
        (struct.pack(">HBB", 0, 8, 255) + b"\xff" * 1020, "has 0 values"),
    ],
)
def test_bad_idx_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "a")
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "a.gz")


def test_unreadable_idx_files(tmp_path: Path) -> None:
    np.testing.assert_array_equal(_read(tmp_path / "good", GOOD), np.arange(6).reshape(2, 3))
    packed = gzip.compress(GOOD)
    for name, content in [("a.gz", packed[:-5]), ("b.gz", b"rubbish"), ("c.gz", packed[:10] + b"\xff" + packed[11:])]:
        with pytest.raises(DataError, match="cannot be read"):
            _read(tmp_path / name, content)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "missing")


def _read(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    return read_idx(path)


def test_images_check_themselves() -> None:
    x, y = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    assert len(Images(x, y)) == 2
    for bad in [(x.float(), y), (x[0], y), (x, y[:1]), (x, y.int()), (x[:0], y[:0])]:
        with pytest.raises(DataError):
            Images(*bad)


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
def test_the_real_files(load: object) -> None:
    name = "mnist.npz" if load is load_mnist else "fashion_mnist.npz"
    folder = data_dir()
    if folder is None or not (folder / name).is_file():
        pytest.skip(f"CHAINFREE_DATA names no folder with {name}")
    test = load("test")  # type: ignore[operator]
    assert test.x.shape == (10_000, 1, 28, 28) and test.y.unique().tolist() == list(range(10))
