"""What pages showed when they were last written, to write those again that would show other things.

Kept beside the doctrees, and only once a build has come to its end: an interrupted build must not
leave the belief that its pages were written.
"""

from __future__ import annotations

import json
from pathlib import Path

from sphinx.application import Sphinx


class Shown:
    """For each page, a text that stands for what it shows of one kind of thing.

    Args:
        name: Kind of thing; names the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def changed(self, app: Sphinx, now: dict[str, str]) -> list[str]:
        """Pages whose text is not that of the last finished build; keeps ``now`` for the next."""
        file = Path(app.doctreedir, f"shown-{self.name}.json")
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

        def keep(app: Sphinx, error: Exception | None) -> None:
            if error is None:
                file.write_text(json.dumps(now, sort_keys=True), encoding="utf-8")

        app.connect("build-finished", keep)
        return [page for page, text in now.items() if before.get(page) != text]
