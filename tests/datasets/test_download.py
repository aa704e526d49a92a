"""Downloads from a server on this machine that can misbehave."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chainfree.datasets import DataError, download
from chainfree.datasets.download import has_checksum

BODY = bytes(range(256)) * 1000
MD5 = "md5:" + hashlib.md5(BODY).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(BODY).hexdigest().upper()


class Handler(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/hangup" or (self.path == "/flaky" and len(self.requests) < 3):
            # lingering for no time sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:-1] if self.path in ("/short", "/unsized") else BODY)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Handler.requests = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.handle_error = lambda *_: None  # type: ignore[assignment,method-assign]  # the hang-ups are on purpose
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.mark.parametrize("checksum", [MD5, SHA256])
@pytest.mark.parametrize("name", ["whole", "moved"])
def test_a_whole_body(server: str, tmp_path: Path, checksum: str, name: str) -> None:
    path = tmp_path / "new" / "folder" / "a.gz"
    assert download(f"{server}/{name}", path, checksum=checksum, timeout=5) == path
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    assert has_checksum(path, checksum)


@pytest.mark.parametrize(
    "case",
    [
        ("whole", "md5:" + "0" * 32, "not 0000", 1),
        ("missing", MD5, "status 404", 1),
        ("short", MD5, "255999 of 256000 bytes", 3),
        ("unsized", MD5, "checksum", 1),
        ("hangup", MD5, "broke off 3 times", 3),
    ],
)
def test_a_failure_leaves_what_was_there(server: str, tmp_path: Path, case: tuple[str, str, str, int]) -> None:
    name, checksum, message, requests = case
    path = tmp_path / "a.gz"
    path.write_bytes(b"old")
    with pytest.raises(DataError, match=message) as caught:
        download(f"{server}/{name}", path, checksum=checksum, timeout=5)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    assert len(Handler.requests) == requests
    assert not has_checksum(path, checksum)


def test_a_dropped_connection_is_tried_again(server: str, tmp_path: Path) -> None:
    download(f"{server}/flaky", tmp_path / "a", checksum=MD5, timeout=5)
    assert (tmp_path / "a").read_bytes() == BODY and len(Handler.requests) == 3


def test_a_refused_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
        with pytest.raises(DataError, match="no connection"):
            download(url, tmp_path / "a", checksum=MD5, timeout=5)
    assert not list(tmp_path.iterdir())


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(DataError, match="broke off 3 times"):
            download(url, tmp_path / "a", checksum=MD5, timeout=0.1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        download(f"{server}/whole", tmp_path / "file" / "a", checksum=MD5)


@pytest.mark.parametrize(
    ("url", "checksum", "timeout"),
    [
        ("file:///etc/passwd", MD5, 1.0),
        ("http://x/a", "sha1:" + "0" * 40, 1.0),
        ("http://x/a", "md5:123", 1.0),
        ("http://x/a", "md5:" + "z" * 32, 1.0),
        ("http://x/a", MD5, 0.0),
    ],
)
def test_bad_arguments(tmp_path: Path, url: str, checksum: str, timeout: float) -> None:
    with pytest.raises(ValueError, match="must"):
        download(url, tmp_path / "a", checksum=checksum, timeout=timeout)
