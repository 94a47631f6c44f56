"""API pages: which public names a module offers is read from its ``__all__``.

``{api-module} name`` documents one module or package. ``{api-concepts}`` does so for every concept
of the registry, each under a heading of its own.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from .lookup import every_concept

# Directives of docstrings are written in reStructuredText, the pages around them in Markdown.
AUTOMODULE = "```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


class ApiModule(SphinxDirective):
    """The documentation of one module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(AUTOMODULE.format(name=self.arguments[0]))


class ApiConcepts(SphinxDirective):
    """The documentation of every concept's module."""

    def run(self) -> list[nodes.Node]:
        parts = [
            f"## {concept.title}\n\n"
            + AUTOMODULE.format(name=f"aiexplained.concepts.{concept.name}")
            for concept in every_concept(self.env)
        ]
        return self.parse_text_to_nodes("\n".join(parts), allow_section_headings=True)


def setup(app: Sphinx) -> None:
    app.add_directive("api-module", ApiModule)
    app.add_directive("api-concepts", ApiConcepts)
