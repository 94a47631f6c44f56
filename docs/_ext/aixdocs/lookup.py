"""The registry as the pages see it, and which pages depend on which concept."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging

from aiexplained import registry
from aiexplained.registry import Claim, Concept

from .perpage import PerPage

logger = logging.getLogger(__name__)
USES = PerPage("aix_registry_uses")
EVERY_CONCEPT = "*"
Place: TypeAlias = nodes.Node | str


def concepts(env: BuildEnvironment) -> tuple[Concept, ...]:
    """All concepts of the site, newest first."""
    folder = Path(env.srcdir, env.config.aix_concepts_folder or registry.CONCEPTS_FOLDER)
    files = [*folder.glob("*.py"), *folder.glob("*/__init__.py")]
    return _read(folder, frozenset((path, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _read(folder: Path, stamp: frozenset[tuple[Path, int]]) -> tuple[Concept, ...]:
    try:
        return registry.concepts(folder)
    except (ValueError, TypeError) as error:
        raise ExtensionError(f"the concept registry cannot be read: {error}") from error


def every_concept(env: BuildEnvironment) -> tuple[Concept, ...]:
    """All concepts; the page being read is read again when any of them changes."""
    _note_use(env, EVERY_CONCEPT)
    return concepts(env)


def find_concept(env: BuildEnvironment, name: str, place: Place) -> Concept | None:
    """The concept called ``name``, or ``None`` after a located warning."""
    _note_use(env, name)
    for concept in concepts(env):
        if concept.name == name:
            return concept
    known = ", ".join(sorted(concept.name for concept in concepts(env))) or "none"
    warn(f"no concept {name!r} in the registry; it has {known}", place)
    return None


def find_claim(env: BuildEnvironment, reference: str, place: Place) -> tuple[Concept, Claim] | None:
    """The claim that ``concept:claim-id`` names, or ``None`` after a located warning."""
    name, colon, claim_id = reference.partition(":")
    if not colon:
        warn(f"a claim is written 'concept:claim-id', got {reference!r}", place)
        return None
    concept = find_concept(env, name, place)
    if concept is None:
        return None
    try:
        return concept, concept.claim(claim_id)
    except KeyError as error:
        warn(str(error.args[0]), place)
        return None


def warn(message: str, place: Place | None) -> None:
    logger.warning(message, location=place, type="aix")


def _note_use(env: BuildEnvironment, name: str) -> None:
    uses = USES.table(env).setdefault(env.docname, {})
    uses[name] = _fingerprint(env, name)


def _fingerprint(env: BuildEnvironment, name: str) -> str:
    found = [c for c in concepts(env) if name in (EVERY_CONCEPT, c.name)]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Pages whose concept says something else than when they were read."""
    return [
        docname
        for docname, uses in USES.table(env).items()
        if docname in env.found_docs
        and any(_fingerprint(env, name) != mark for name, mark in uses.items())
    ]


def setup(app: Sphinx) -> None:
    app.add_config_value("aix_concepts_folder", "", "env", [str])
    app.connect("env-get-outdated", outdated)
    USES.connect(app)
