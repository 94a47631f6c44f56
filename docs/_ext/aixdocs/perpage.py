"""Facts that pages leave in the environment, safe under parallel and partial builds."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


class PerPage:
    """A table ``docname -> value`` kept in the environment.

    A page that is read again or removed loses its entry; tables read by parallel workers are
    merged.

    Args:
        name: Attribute of the environment that holds the table.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def table(self, env: BuildEnvironment) -> dict[str, Any]:
        if not hasattr(env, self.name):
            setattr(env, self.name, {})
        found: dict[str, Any] = getattr(env, self.name)
        return found

    def connect(self, app: Sphinx) -> None:
        app.connect("env-purge-doc", self._purge)
        app.connect("env-merge-info", self._merge)

    def _purge(self, app: Sphinx, env: BuildEnvironment, docname: str) -> None:
        self.table(env).pop(docname, None)

    def _merge(
        self, app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment
    ) -> None:
        theirs = self.table(other)
        self.table(env).update({name: theirs[name] for name in docnames if name in theirs})
