"""A folder of files served on loopback as a host would.

With gzip, caching for ten minutes, and the headers that the folder's file ``_headers`` asks for.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PACKED = {".html", ".css", ".js", ".json", ".svg", ".txt", ".xml", ".ipynb", ".md"}


@functools.lru_cache(maxsize=512)
def _packed(path: Path, _modified_ns: int) -> bytes:
    return gzip.compress(path.read_bytes(), mtime=0)


def headers_for_all(folder: Path) -> dict[str, str]:
    """Headers below the line ``/*`` of the file ``_headers``; none without that file."""
    path = folder / "_headers"
    if not path.is_file():
        return {}
    first, *lines = path.read_text(encoding="ascii").splitlines()
    if first != "/*":
        raise ValueError(f"{path}: only the pattern '/*' is served, got {first!r}")
    return dict(line.strip().split(": ", 1) for line in lines)


class _Handler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD, compressed where the client takes it and the kind of file gains."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, extra: dict[str, str], **options: Any) -> None:
        self.extra = extra
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        body = self._answer()
        if body is not None:
            with contextlib.suppress(ConnectionError):  # a page that was left takes no more
                self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> bytes | None:
        """Send the head of the answer, and return its body."""
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return None
        zipped = path.suffix in PACKED and "gzip" in self.headers.get("Accept-Encoding", "")
        body = _packed(path, path.stat().st_mtime_ns) if zipped else path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        for name, value in self.extra.items():
            self.send_header(name, value)
        if zipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        """Keep quiet: the browser reports what fails."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve ``folder`` on a free port of 127.0.0.1; yields the address, without a final slash."""
    handler = functools.partial(_Handler, directory=str(folder), extra=headers_for_all(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
