"""``{concept-card} name``: the head of a concept page, from the registry and the page itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from aiexplained.registry import Concept

from .badges import short_citation
from .fold import folded
from .fresh import last_execution
from .lookup import find_concept, warn

WORDS_PER_MINUTE = 220
NOT_PROSE = (folded, nodes.literal_block, nodes.raw, nodes.math, nodes.math_block, nodes.comment)


class concept_head(nodes.container):  # noqa: N801
    """Head of a concept page; ``title`` is what the page's first heading must say."""


class page_facts(nodes.paragraph):  # noqa: N801
    """Reading time and date of the last execution, filled in when the page has been read."""


class ConceptCard(SphinxDirective):
    """Tag, headline, source, reading time, last verified, what to know first."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        concept = find_concept(self.env, self.arguments[0], self.get_location())
        if concept is None:
            return []
        head = concept_head("", classes=["aix-head"], title=concept.title)
        self.set_source_info(head)
        tag = nodes.inline("", concept.tag, classes=["aix-tag"])
        date = nodes.inline("", concept.date, classes=["aix-head-date"])
        head += nodes.paragraph("", "", tag, nodes.Text(" "), date, classes=["aix-head-top"])
        head += nodes.paragraph("", concept.headline, classes=["aix-headline"])
        head += _source(concept)
        head += page_facts("", classes=["aix-head-facts"])
        if concept.prerequisites:
            head += self._prerequisites(concept)
        return [head]

    def _prerequisites(self, concept: Concept) -> nodes.paragraph:
        line = nodes.paragraph("", "Know first: ", classes=["aix-head-first"])
        for number, name in enumerate(concept.prerequisites):
            line += nodes.Text(", " if number else "")
            line += self._cross_reference(name)
        return line

    def _cross_reference(self, name: str) -> addnodes.pending_xref:
        """A page if ``name`` has a slash, else a glossary term."""
        is_page = "/" in name
        link = addnodes.pending_xref(
            "", nodes.inline("", name), refdomain="std", reftype="doc" if is_page else "term",
            reftarget=f"/{name}" if is_page else name, refdoc=self.env.docname,
            refexplicit=not is_page, refwarn=True,
        )  # fmt: skip
        self.set_source_info(link)
        return link


def _source(concept: Concept) -> nodes.paragraph:
    source = concept.sources[0]
    link = nodes.reference("", source.title, refuri=source.url, internal=False)
    line = nodes.paragraph("", "Source: ", link, classes=["aix-head-source"])
    line += nodes.Text(f", {source.authors}, {short_citation(source).split()[-1]}")
    if source.note:
        line += nodes.Text(f" (we read: {source.note})")
    return line


def reading_minutes(doctree: nodes.document) -> int:
    """Minutes to read the prose at 220 words a minute; code, formulas and folded parts aside."""
    words = sum(len(re.findall(r"\w[\w'’.,-]*", text)) for text in _prose(doctree))
    return max(1, math.ceil(words / WORDS_PER_MINUTE))


def _prose(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Text):
        yield node.astext()
    elif not isinstance(node, NOT_PROSE) and "cell" not in getattr(node, "attributes", {}).get(
        "classes", []
    ):
        for child in node.children:
            yield from _prose(child)


def fill_in_facts(app: Sphinx, doctree: nodes.document) -> None:
    for head in doctree.findall(concept_head):
        heading = next(iter(doctree.findall(nodes.title)), None)
        if heading is None or heading.astext() != head["title"]:
            said = heading.astext() if heading else "nothing"
            warn(f"the first heading must be {head['title']!r} as in CONCEPT, it is {said!r}", head)
        facts = next(iter(head.findall(page_facts)))
        minutes = reading_minutes(doctree)
        executed = last_execution(app.env, app.env.docname)
        facts += nodes.Text(f"{minutes} min read")
        if executed:
            facts += nodes.Text(" · last verified ")
            facts += nodes.inline("", executed, classes=["aix-verified", "aix-varies", "no-search"])


def setup(app: Sphinx) -> None:
    app.add_directive("concept-card", ConceptCard)
    app.connect("doctree-read", fill_in_facts)
