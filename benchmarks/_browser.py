"""An installed Chromium or Chrome, and a watch on what pages do in it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response

from aiexplained.viz.pictures import BROWSERS, FLAGS, find_browser

NOT_FOUND = f"none of {', '.join(BROWSERS)} is on the path (Debian: apt-get install chromium)"


def launch_options() -> dict[str, Any] | None:
    """Options for Playwright's ``launch``; ``None`` if no browser is on the path."""
    program = find_browser()
    return {"executable_path": program, "args": list(FLAGS)} if program else None


class Watch:
    """Notes whatever a page should not do: messages, errors, failed and foreign requests."""

    def __init__(self, context: BrowserContext, home: str) -> None:
        self.home = home
        self.troubles: list[str] = []
        context.on("console", self._console)
        context.on("weberror", lambda error: self._note("page error", str(error.error)))
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)

    def _note(self, kind: str, text: str) -> None:
        trouble = f"{kind}: {text}"
        if trouble not in self.troubles:
            self.troubles.append(trouble)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            place = f"{message.location['url']}:{message.location['lineNumber']}"
            self._note(f"console {message.type}", f"{message.text} at {place}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.home, "data:", "blob:", "about:")):
            self._note("foreign request", request.url)

    def _failed(self, request: Request) -> None:
        if request.failure != "csp":  # how a browser without JavaScript declines a script
            self._note("failed", f"{request.url} {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"status {response.status}", response.url)
