"""A server on this machine that sends files, with ranges, and can be told to fail."""

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from pipeline_lib.data import download


class FileServer(ThreadingHTTPServer):
    """Serve `files` (path: content) with ranges.

    Each request uses up one of `faults`: an int is the status to answer, a tuple (n,) sends n bytes and breaks off.
    `ranges` records the range that each request asked for, or None.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.knows_ranges = True
        self.faults: list[int | tuple[int]] = []
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.answer(302, {"Location": "/file"})
            return
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(10_000))
            return
        self.server.ranges.append(self.headers["Range"])
        if self.path not in self.server.files:
            self.answer(404, {})
            return
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.answer(fault, {})
        else:
            self.send_file(*fault or ())

    def send_file(self, length=None):
        """Announce the whole rest, send `length` bytes of it."""
        asked = self.headers["Range"] if self.server.knows_ranges else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        rest = self.server.files[self.path][start:]
        if not rest:
            self.answer(416, {})
            return
        headers = {"Content-Range": f"bytes {start}-{start + len(rest) - 1}/{start + len(rest)}"} if asked else {}
        self.answer(206 if asked else 200, headers, rest, length)

    def answer(self, status, headers, body=b"", length=None):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[:length])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Run a server of these files in a thread; downloads try three times and do not wait."""
    monkeypatch.setattr(download, "BACK_OFF", (0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer(files) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
