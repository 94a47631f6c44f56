"""Live reload: a real server rebuilds at an edit and shows the new page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tiny import REPOSITORY, Site

PATIENCE_S = 30


def wait_for(found: Callable[[], str | None]) -> str:
    """What ``found`` gives as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.2)
    raise TimeoutError(f"nothing after {PATIENCE_S} s")


def test_an_edit_is_built_and_served(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.page("one", "# One\n\nBefore.\n")
    log = tmp_path / "log.txt"
    folders = [REPOSITORY / "docs" / "_ext", REPOSITORY]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "sphinx_autobuild", "--port", "0"]
    command += [str(tmp_path / "docs"), str(tmp_path / "out")]
    with (
        log.open("w") as out,
        subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT) as server,
    ):
        try:
            said = wait_for(lambda: _find(r"Serving on (http://[\d.:]+)", log))
            page = f"{said}/pages/one.html"
            assert "Before." in wait_for(lambda: _get(page))
            site.page("one", "# One\n\nAfter.\n")
            after = wait_for(lambda: text if "After." in (text := _get(page) or "") else None)
        finally:
            server.terminate()
    assert "WebSocket" in after, "the page reloads itself"


def _find(pattern: str, log: Path) -> str | None:
    found = re.search(pattern, log.read_text(encoding="utf-8"))
    return found[1] if found else None


def _get(address: str) -> str | None:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return None
