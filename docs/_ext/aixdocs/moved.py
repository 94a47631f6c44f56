"""Pages that moved: the old address leads to the new one.

A page whose front matter says ``moved_from: [old/name]`` gets a small page at the old address. It
carries no script, so that the strictest content-security policy lets it work, from ``file://`` too;
what stood behind a ``#`` is lost. These pages are neither searched nor in the table of contents.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from .addresses import BUILDERS, address
from .lookup import warn

KEY = "moved_from"
WRITTEN = "moved.json"
"""File beside the doctrees that lists the pages written last time, to remove those given up."""

GENERATED = {"genindex", "py-modindex", "search"}
PAGE_NAME = re.compile(r"[a-zA-Z0-9][\w.-]*(/[a-zA-Z0-9][\w.-]*)*(?<!/index)")
HTML = """\
<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url={link}">
{canonical}<title>{title}</title>
</head>
<body>
<main><h1>This page has moved</h1><p>It is now <a href="{link}">{title}</a>.</p></main>
</body>
</html>
"""


def moves(env: BuildEnvironment, *, say: bool = False) -> dict[str, str]:
    """Old names and the pages that they lead to.

    Args:
        env: The environment.
        say: Warn, at the page, of names that are no page's name, are a page's, or are taken.
    """
    found: dict[str, str] = {}
    for docname in sorted(env.found_docs):
        for old in _old_names(env.metadata[docname].get(KEY, [])):
            problem = _problem(old, docname, env.found_docs, found)
            if problem is None:
                found[str(old)] = docname
            elif say:
                warn(f"{KEY}: {problem}", docname)
    return found


def _old_names(value: Any) -> Iterator[Any]:
    """Names in the front matter's value, which MyST hands on as JSON if it is a list."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    yield from value if isinstance(value, list) else [value]


def _problem(old: Any, docname: str, pages: set[str], found: dict[str, str]) -> str | None:
    if not isinstance(old, str) or not PAGE_NAME.fullmatch(old) or old.endswith(".html"):
        return f"an old name is written like 'folder/page', without suffix, got {old!r}"
    if old in pages | GENERATED:
        return f"{old!r} is a page of the site"
    if old in found:
        return f"{old!r} leads to {found[old]!r} already"
    return None


def check(app: Sphinx, env: BuildEnvironment) -> None:
    moves(env, say=True)


def write_moved(app: Sphinx, error: Exception | None) -> None:
    """Write the pages of all old names, and remove those of names given up."""
    if error or app.builder.name not in BUILDERS:
        return
    kept = Path(app.doctreedir, WRITTEN)
    before = set(json.loads(kept.read_text("utf-8"))) if kept.is_file() else set()
    now = moves(app.env)
    for old in before - set(now) - app.env.found_docs:
        Path(app.builder.get_outfilename(old)).unlink(missing_ok=True)
    for old, docname in now.items():
        target = Path(app.builder.get_outfilename(old))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page_of(app, old, docname), encoding="utf-8")
    kept.write_text(json.dumps(sorted(now)) + "\n", encoding="utf-8")


def page_of(app: Sphinx, old: str, docname: str) -> str:
    """HTML of the page at an old address."""
    home = html.escape(address(app, docname))
    return HTML.format(
        language=app.config.language,
        link=html.escape(app.builder.get_relative_uri(old, docname)),
        canonical=f'<link rel="canonical" href="{home}">\n' if home else "",
        title=html.escape(app.env.titles[docname].astext()),
    )


def setup(app: Sphinx) -> None:
    app.connect("env-updated", check)
    app.connect("build-finished", write_moved)
