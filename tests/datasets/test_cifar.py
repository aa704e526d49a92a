"""CIFAR-10 from every form that its files come in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from chainfree.datasets import DataError, Images, cifar, load_cifar10

NAMES = [f"data_batch_{k}.bin" for k in range(1, 6)]
Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINFREE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CHAINFREE_DATA", raising=False)
    monkeypatch.setattr(cifar, "_ROWS", 2)


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    made = {}
    for split, n in (("train", 10), ("test", 2)):
        made[f"x_{split}"] = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        made[f"y_{split}"] = rng.integers(0, 10, n, dtype=np.uint8)
    return made


def _records(x: np.ndarray, y: np.ndarray) -> bytes:
    """The class, then rows of red, green and blue, one image after the other."""
    return b"".join(bytes([int(label)]) + image.tobytes() for image, label in zip(x, y, strict=True))


def _files(arrays: Arrays) -> dict[str, bytes]:
    files = {
        name: _records(arrays["x_train"][2 * k : 2 * k + 2], arrays["y_train"][2 * k : 2 * k + 2])
        for k, name in enumerate(NAMES)
    }
    return files | {"test_batch.bin": _records(arrays["x_test"], arrays["y_test"])}


def _npz(folder: Path, arrays: Arrays) -> None:
    np.savez(folder / "cifar10.npz", **arrays)


def _unpacked(folder: Path, arrays: Arrays) -> None:
    (folder / "cifar-10-batches-bin").mkdir()
    for name, content in _files(arrays).items():
        (folder / "cifar-10-batches-bin" / name).write_bytes(content)


def _packed(folder: Path, arrays: Arrays) -> None:
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in _files(arrays).items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _same(got: Images, arrays: Arrays, split: str) -> None:
    assert torch.equal(got.x, torch.from_numpy(arrays[f"x_{split}"]))
    assert torch.equal(got.y, torch.from_numpy(arrays[f"y_{split}"].astype(np.int64)))


@pytest.mark.parametrize("write", [_npz, _unpacked, _packed])
def test_all_forms_hold_the_same_images(tmp_path: Path, arrays: Arrays, write: Callable[[Path, Arrays], None]) -> None:
    write(tmp_path, arrays)
    _same(load_cifar10("train", tmp_path), arrays, "train")
    _same(load_cifar10("test", tmp_path), arrays, "test")


def test_an_archive_is_fetched_once_and_named_where_it_cannot_be(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fetched(url: str, path: Path, *, checksum: str) -> Path:
        calls.append((url, checksum))
        path.parent.mkdir(parents=True)
        _packed(path.parent, arrays)
        return path

    monkeypatch.setattr(cifar, "download", fetched)
    _same(load_cifar10("test"), arrays, "test")
    assert calls[0][0].startswith("https://") and calls[0][1].startswith("md5:")

    def refused(url: str, path: Path, *, checksum: str) -> Path:
        raise DataError("no connection")

    monkeypatch.setattr(cifar, "download", refused)
    with pytest.raises(DataError, match="no connection; or set CHAINFREE_DATA to a folder that holds"):
        load_cifar10("train")
    with pytest.raises(DataError, match=r"has no cifar10\.npz"):  # a named folder is not replaced by a download
        load_cifar10("train", tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:3073], lambda b: b"\x0a" + b[1:]])
def test_damaged_files_are_refused(tmp_path: Path, arrays: Arrays, damage: Callable[[bytes], bytes]) -> None:
    _unpacked(tmp_path, arrays)
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="fetch it again"):
        load_cifar10("test", tmp_path)


def test_a_damaged_archive_a_missing_part_and_other_arrays_are_refused(tmp_path: Path, arrays: Arrays) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="cannot be read"):
        load_cifar10("test", tmp_path)
    _unpacked(tmp_path, arrays)
    (tmp_path / "cifar-10-batches-bin" / NAMES[2]).unlink()
    with pytest.raises(DataError, match=r"data_batch_3[.]bin"):
        load_cifar10("train", tmp_path)
    np.savez(tmp_path / "cifar10.npz", **(arrays | {"y_train": np.arange(10) - 1}))
    with pytest.raises(DataError, match="classes from -1 to 8"):
        load_cifar10("train", tmp_path)
    np.savez(tmp_path / "cifar10.npz", **(arrays | {"x_test": arrays["x_test"].transpose(0, 2, 3, 1)}))
    with pytest.raises(DataError, match=r"needs uint8 images \(N, 3, 32, 32\)"):
        load_cifar10("test", tmp_path)
    with pytest.raises(ValueError, match="split must be"):
        load_cifar10("valid", tmp_path)  # type: ignore[arg-type]
