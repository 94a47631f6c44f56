"""What the search finds beside words and symbols: claims, and the terms of the glossary.

Sphinx offers terms as entries of its index, and forgets those of pages that a later build does not
write again. Here both are objects of a domain, which the search lists by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains import Domain, ObjType

from aiexplained.viz.claims import row_id

from .claims import shown_tables
from .lookup import concepts

Found = tuple[str, str, str, str, str, int]


class FindingDomain(Domain):
    """Objects for the search only; nothing can link to them by a role."""

    name = "aixfinding"
    label = "Found"
    object_types = {  # noqa: RUF012 (as Sphinx declares it)
        "claim": ObjType("claim"),
        "term": ObjType("term"),
    }

    def get_objects(self) -> Iterable[Found]:
        yield from self._claims()
        for name, title, kind, docname, anchor, _ in self.env.domains["std"].get_objects():
            if kind == "term":
                yield name, title, "term", docname, anchor, 1

    def _claims(self) -> Iterable[Found]:
        tables = shown_tables(self.env)
        for concept in concepts(self.env):
            for row in tables.get(concept.name, {"rows": []})["rows"]:
                text = f"{concept.title}: {row['statement']}"
                yield text, text, "claim", concept.page, row_id(concept.name, row["id"]), 1

    def resolve_any_xref(self, *_: Any) -> list[tuple[str, nodes.Element]]:
        """Nothing: a link that names no role is none of this domain's."""
        return []

    def merge_domaindata(self, docnames: Iterable[str], otherdata: Mapping[str, Any]) -> None:
        """Nothing of its own to merge."""


def drop_index_entries(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Terms would be found twice; the general index has its entries from the reading already."""
    for glossary in doctree.findall(addnodes.glossary):
        for entry in list(glossary.findall(addnodes.index)):
            entry.parent.remove(entry)


def setup(app: Sphinx) -> None:
    app.add_domain(FindingDomain)
    app.connect("doctree-resolved", drop_index_entries)
