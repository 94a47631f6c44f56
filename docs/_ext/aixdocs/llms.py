"""``llms.txt``: what the site holds, for programs that read (the shape of llmstxt.org).

Its sections are those of the table of contents, a page a line; what a line says of a page is the
page's own description. Written after each build, only where the site has an address.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from .addresses import BUILDERS, address, write_or_remove

NAME = "llms.txt"
DESCRIPTION = re.compile(r'<meta (?=[^>]*\bname="description")[^>]*\bcontent="([^"]*)"')
NO_CAPTION = "Pages"


def write_llms(app: Sphinx, error: Exception | None) -> None:
    """Write the file; remove the one of an earlier build where the site has no address now."""
    if error or app.builder.name not in BUILDERS:
        return
    write_or_remove(app, NAME, llms_text(app) if app.config.html_baseurl else "")


def llms_text(app: Sphinx) -> str:
    parts = [f"# {app.config.project}\n"]
    if summary := described(app, app.config.root_doc):
        parts.append(f"> {summary}\n")
    for caption, pages in sections(app.env).items():
        lines = "\n".join(line(app, page) for page in pages)
        parts.append(f"## {caption}\n\n{lines}\n")
    return "\n".join(parts)


def sections(env: BuildEnvironment) -> dict[str, list[str]]:
    """Pages by the caption of the start page's table of contents that leads to them."""
    found: dict[str, list[str]] = {}
    listed = {env.config.root_doc}
    for toctree in env.get_doctree(env.config.root_doc).findall(addnodes.toctree):
        pages = found.setdefault(toctree.get("caption") or NO_CAPTION, [])
        for child in toctree["includefiles"]:
            pages += _with_descendants(env, child, listed)
    return {caption: pages for caption, pages in found.items() if pages}


def _with_descendants(env: BuildEnvironment, page: str, listed: set[str]) -> Iterator[str]:
    if page not in listed:
        listed.add(page)
        yield page
        for child in env.toctree_includes.get(page, []):
            yield from _with_descendants(env, child, listed)


def line(app: Sphinx, page: str) -> str:
    """One page as a list item: its title, linked, and its description."""
    title = re.sub(r"([\[\]\\])", r"\\\1", app.env.titles[page].astext())
    about = described(app, page)
    return f"- [{title}]({address(app, page)})" + (f": {about}" if about else "")


def described(app: Sphinx, page: str) -> str:
    """The description in the head of the built page, on one line, or nothing."""
    text = Path(app.builder.get_outfilename(page)).read_text(encoding="utf-8")
    found = DESCRIPTION.search(text)
    return " ".join(html.unescape(found[1]).split()) if found else ""


def setup(app: Sphinx) -> None:
    app.connect("build-finished", write_llms)
