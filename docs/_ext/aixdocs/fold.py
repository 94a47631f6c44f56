"""``{folded} Title``: folds everything after it, up to the end of its section.

A code cell cannot stand inside a directive, so the directive marks where the fold begins, and what
follows is moved into it when the page has been read.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator


class folded(nodes.container):  # noqa: N801
    """Folded part of a page; ``title`` is what the reader opens it by."""


class Folded(SphinxDirective):
    """The beginning of a folded part."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return [folded("", title=self.arguments[0], classes=["aix-folded"])]


def gather(app: Sphinx, doctree: nodes.document) -> None:
    """Move what follows each mark into it."""
    for mark in list(doctree.findall(folded)):
        place = mark.parent.index(mark) + 1
        following = mark.parent.children[place:]
        del mark.parent[place:]
        mark += following


def visit_folded(self: HTML5Translator, node: folded) -> None:
    self.body.append(self.starttag(node, "details"))
    self.body.append(f"<summary>{self.encode(node['title'])}</summary>\n")


def depart_folded(self: HTML5Translator, node: folded) -> None:
    self.body.append("</details>\n")


def setup(app: Sphinx) -> None:
    app.add_directive("folded", Folded)
    app.add_node(folded, html=(visit_folded, depart_folded))
    app.connect("doctree-read", gather, priority=400)
