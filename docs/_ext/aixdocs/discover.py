"""``{concept-cards}``: the index's cards and the hidden table of contents.

Both come from the registry alone, so that a new concept needs no edit of the index. A concept
without a page fails as a missing document of the table of contents, a page without a concept as a
document that is in no table of contents.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from aiexplained.registry import Concept

from .badges import SIGNS, verdict_class, verdict_counts
from .lookup import every_concept
from .pictures import picture_slot


class ConceptCards(SphinxDirective):
    """All concepts as cards, newest first."""

    def run(self) -> list[nodes.Node]:
        found = every_concept(self.env)
        cards = nodes.bullet_list("", classes=["aix-cards"])
        cards += [nodes.list_item("", *self._card(c), classes=["aix-card"]) for c in found]
        contents = "```{toctree}\n:hidden:\n:caption: Concepts\n\n"
        contents += "\n".join(f"/{concept.page}" for concept in found) + "\n```\n"
        toctree = self.parse_text_to_nodes(contents) if found else []
        return [cards, *toctree] if found else []

    def _card(self, concept: Concept) -> list[nodes.Node]:
        title = nodes.inline("", concept.headline, classes=["aix-card-headline"])
        link = addnodes.pending_xref(
            "", title, refdomain="std", reftype="doc", reftarget=f"/{concept.page}",
            refdoc=self.env.docname, refexplicit=True, refwarn=True,
        )  # fmt: skip
        self.set_source_info(link)
        name = nodes.inline("", concept.title, classes=["aix-card-name"])
        tag = nodes.inline("", concept.tag, classes=["aix-tag"])
        date = nodes.inline("", concept.date, classes=["aix-card-date"])
        return [
            picture_slot(page=concept.page),
            nodes.paragraph("", "", tag, nodes.Text(" "), name, classes=["aix-card-top"]),
            nodes.paragraph("", "", link, classes=["aix-card-title"]),
            nodes.paragraph("", concept.summary, classes=["aix-card-summary"]),
            nodes.paragraph("", "", date, *tally(concept), classes=["aix-card-foot"]),
        ]


def tally(concept: Concept) -> list[nodes.Node]:
    """How many claims of the concept have which verdict, as small badges."""
    found: list[nodes.Node] = []
    for verdict, number in verdict_counts([concept]):
        text = f"{SIGNS[verdict]} {number} {verdict.value}"
        found += [nodes.Text(" "), nodes.inline("", text, classes=verdict_class(verdict))]
    return found


def setup(app: Sphinx) -> None:
    app.add_directive("concept-cards", ConceptCards)
