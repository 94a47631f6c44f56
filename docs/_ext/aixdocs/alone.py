"""One page built alone: ``-D aix_only=concepts/x`` leaves out what other pages execute.

Of every other page with code cells only the title stays, so that links and tables of contents lead
somewhere; pages without cells cost next to nothing and are built whole.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError

CELL = "{code-cell}"
TITLE = re.compile(r"^# .+$", re.MULTILINE)
LEFT_OUT = "\n\nThis page was left out of this build.\n"


def is_left_out(env: BuildEnvironment, docname: str) -> bool:
    """Whether this build shows only the title of an executed page."""
    only = env.config.aix_only
    return bool(only) and docname != only and _is_executed(env, docname)


def _is_executed(env: BuildEnvironment, docname: str) -> bool:
    return CELL in env.doc2path(docname).read_text(encoding="utf-8")


def check(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    only = app.config.aix_only
    if only and only not in env.found_docs:
        raise ConfigError(f"aix_only: there is no page {only!r}")


def keep_title(app: Sphinx, docname: str, content: list[str]) -> None:
    if is_left_out(app.env, docname):
        title = TITLE.search(content[0])
        content[0] = (title[0] if title else f"# {docname}") + LEFT_OUT


def setup(app: Sphinx) -> None:
    app.add_config_value("aix_only", "", "env", [str])
    app.connect("env-before-read-docs", check)
    app.connect("source-read", keep_title, priority=100)
