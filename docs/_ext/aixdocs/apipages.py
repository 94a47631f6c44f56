"""API pages: public is what a module's ``__all__`` names, or what it defines if it has none.

A public name, or a public method of a public class, without a docstring is a located warning.

``{api-module} name`` documents one module or package; with ``:optional:``, a package that is not
installed is said to be missing. ``{api-concepts}`` does so for every concept of the registry, each
under a heading of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module, util
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from .lookup import every_concept, warn

# Directives of docstrings are written in reStructuredText, the pages around them in Markdown.
AUTOMODULE = "```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


METHODS = (staticmethod, classmethod, property)


def undocumented(module: ModuleType) -> Iterator[str]:
    """Public functions, classes and methods of ``module`` that have no docstring."""
    for name in public_names(module):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            if not _documented(value):
                yield name
            yield from (f"{name}.{method}" for method in _bare_methods(value))


def public_names(module: ModuleType) -> list[str]:
    """Names that ``module`` offers."""
    own = (
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    )
    return list(getattr(module, "__all__", own))


def _documented(value: Any) -> bool:
    # A dataclass without a docstring is given one that only repeats its signature.
    text = value.__doc__ or ""
    return bool(text) and not text.startswith(f"{getattr(value, '__name__', '')}(")


def _bare_methods(value: Any) -> Iterator[str]:
    for name, member in vars(value).items() if inspect.isclass(value) else ():
        is_method = inspect.isfunction(member) or isinstance(member, METHODS)
        if is_method and not name.startswith("_") and not inspect.getdoc(getattr(value, name)):
            yield name


class ApiModule(SphinxDirective):
    """The documentation of one module."""

    required_arguments = 1
    option_spec: ClassVar = {"optional": directives.flag}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if "optional" in self.options and util.find_spec(name) is None:
            said = " is not installed where this site was built, so its reference is not here."
            return [nodes.paragraph("", "", nodes.literal("", name), nodes.Text(said))]
        return self.document_module(name)

    def document_module(self, name: str, title: str = "") -> list[nodes.Node]:
        for symbol in undocumented(import_module(name)):
            warn(f"{name}.{symbol} is public and has no docstring", self.get_location())
        text = title + AUTOMODULE.format(name=name)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class ApiConcepts(ApiModule):
    """The documentation of every concept's module."""

    required_arguments = 0

    def run(self) -> list[nodes.Node]:
        found = every_concept(self.env)
        parts = [
            self.document_module(f"aiexplained.concepts.{concept.name}", f"## {concept.title}\n\n")
            for concept in found
        ]
        return [node for part in parts for node in part]


def setup(app: Sphinx) -> None:
    app.add_directive("api-module", ApiModule)
    app.add_directive("api-concepts", ApiConcepts)
