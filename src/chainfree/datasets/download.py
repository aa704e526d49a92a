"""Download one file, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from ..checks import require_positive
from .errors import DataError

__all__ = ["download", "has_checksum"]

_ATTEMPTS = 3
_CHUNK = 1 << 16


class _DroppedError(Exception):
    """The connection broke off: worth another attempt."""


def download(url: str, path: str | os.PathLike[str], *, checksum: str, timeout: float = 60.0) -> Path:
    """Fetch ``url`` into ``path``.

    The body goes to a temporary file in the same folder, which takes the name ``path`` only when it is whole and its
    checksum is right; a file that is there already stays until then. A connection that breaks off is tried three times.

    Args:
        url: ``http`` or ``https``.
        path: the file to write; missing parent folders are made.
        checksum: ``"md5:..."`` or ``"sha256:..."`` in hexadecimal.
        timeout: of each wait for the network, in seconds.

    Returns:
        ``path``.

    Raises:
        ValueError: the form of ``url``, ``checksum`` or ``timeout``.
        DataError: no connection, a refusal by the server, a broken-off or wrong body, or no room to write it.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url must start with http:// or https://, got {url!r}")
    require_positive("timeout", timeout)
    _hasher(checksum)
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch_with_retries(url, part, checksum, timeout)
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"cannot write {path} ({_reason(error)}); make room or choose another folder") from error
    finally:
        _remove(part)
    return path


def has_checksum(path: str | os.PathLike[str], checksum: str) -> bool:
    """Whether the file is there and has this checksum (``"md5:..."`` or ``"sha256:..."``).

    Raises:
        ValueError: the form of ``checksum``.
    """
    digest, wanted = _hasher(checksum)
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return bool(digest.hexdigest() == wanted)


def _hasher(checksum: str) -> tuple[Any, str]:
    name, _, wanted = checksum.partition(":")
    lengths = {"md5": 32, "sha256": 64}
    if len(wanted) != lengths.get(name) or not set(wanted.lower()) <= set("0123456789abcdef"):
        raise ValueError(f"checksum must be 'md5:' or 'sha256:' and its 32 or 64 hexadecimal digits, got {checksum!r}")
    return hashlib.new(name, usedforsecurity=False), wanted.lower()


def _fetch_with_retries(url: str, part: Path, checksum: str, timeout: float) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        digest, wanted = _hasher(checksum)
        try:
            with open(part, "wb") as file:
                _fetch(url, file, digest, timeout)
                file.flush()
                os.fsync(file.fileno())
        except _DroppedError as error:
            if attempt == _ATTEMPTS:
                raise DataError(
                    f"{url} broke off {_ATTEMPTS} times ({error}); try again later, or fetch it by hand"
                ) from error
            continue
        if digest.hexdigest() != wanted:
            raise DataError(
                f"{url} has checksum {digest.hexdigest()}, not {wanted}: it is damaged or was changed; fetch it from "
                "another place"
            )
        return


def _fetch(url: str, file: BinaryIO, digest: Any, timeout: float) -> None:
    try:
        response = urllib.request.urlopen(url, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{url} was refused with status {error.code}; check the address") from error
    except urllib.error.URLError as error:
        # lost while the request was sent; one that could not be made at all is not worth an attempt at once
        if isinstance(error.reason, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
            raise _DroppedError(_reason(error.reason)) from error
        raise DataError(
            f"no connection to {url} ({_reason(error.reason)}); check the network, or fetch it by hand"
        ) from error
    except (http.client.HTTPException, OSError) as error:
        raise _DroppedError(_reason(error)) from error
    with response:
        length = response.headers.get("Content-Length")
        received = 0
        while chunk := _read(response):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
    # http.client ends a short body quietly when it is read in pieces
    if length is not None and length.isdigit() and received != int(length):
        raise _DroppedError(f"{received} of {length} bytes came")


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _DroppedError(_reason(error)) from error
    return chunk


def _reason(error: BaseException | str) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _remove(part: Path) -> None:
    # os.path first: where the folder could not be made, unlink would hide the real error behind its own
    if os.path.exists(part):
        part.unlink()
