"""One page built alone: ``-D aix_only=concepts/x`` leaves out what other pages execute.

Of every other page with code cells the headings stay, their labels, and what the front matter says
of old addresses, so that links lead somewhere; pages without cells cost next to nothing and are
built whole.
"""

from __future__ import annotations

import json
import re

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError

from .pagesource import Kind, Page

CELL = "{code-cell}"
LABEL = re.compile(r"\([^()\s]+\)=")
LEFT_OUT = "This page was left out of this build."


def is_left_out(env: BuildEnvironment, docname: str) -> bool:
    """Whether this build shows only the headings of an executed page."""
    only = env.config.aix_only
    return bool(only) and docname != only and docname in env.found_docs and _runs(env, docname)


def _runs(env: BuildEnvironment, docname: str) -> bool:
    return CELL in env.doc2path(docname).read_text(encoding="utf-8")


def check(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    only = app.config.aix_only
    if only and only not in env.found_docs:
        raise ConfigError(f"aix_only: there is no page {only!r}")


def skeleton(page: Page) -> str:
    """The page's headings with their labels, and the front matter that concerns other pages."""
    kept = {line for line, _, _ in page.headings}
    kept |= {n for n, x in enumerate(page.only(Kind.PROSE), 1) if LABEL.fullmatch(x.strip())}
    lines = [page.lines[number - 1] for number in sorted(kept)] or [f"# {page.name}"]
    title = next((i for i, line in enumerate(lines) if line.startswith("#")), 0)
    lines.insert(title + 1, LEFT_OUT)
    moved = {key: page.front[key] for key in ("moved_from",) if key in page.front}
    front = f"---\n{json.dumps(moved)}\n---\n\n" if moved else ""
    return front + "\n\n".join(lines) + "\n"


def keep_headings(app: Sphinx, docname: str, content: list[str]) -> None:
    if is_left_out(app.env, docname):
        content[0] = skeleton(Page(docname, content[0]))


def setup(app: Sphinx) -> None:
    app.add_config_value("aix_only", "", "env", [str])
    app.connect("env-before-read-docs", check)
    app.connect("source-read", keep_headings, priority=100)
