"""Recorded results on the pages: where they come from, and a badge when they are out of date.

``{recorded}`concept/study``` says when and on what a study was recorded. A claim that names its
study gets the same badge. Both are filled in when a page is written, so that an edit of the package
that makes a record stale shows on every page that rests on it, without executing any.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

from aiexplained import records
from aiexplained.errors import RecordError
from aiexplained.provenance import PACKAGE_ROOT

from .lookup import concepts, warn
from .perpage import PerPage
from .shown import Shown

SHOWN = Shown("records")
USES = PerPage("aix_recorded_uses")
"""Studies, as ``concept/study``, that each page shows something of."""


class recorded_note(nodes.inline):  # noqa: N801
    """Where ``study`` comes from; filled in when the page is written."""


class RecordedRole(SphinxRole):
    """Dates, machine and number of runs of a recorded study."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        note = recorded_note("", study=self.text)
        if summary(self.env, self.text) is None:
            warn(f"no recorded study {self.text!r}; write 'concept/study'", self.get_location())
            return [], []
        return [note], []


def summary(env: BuildEnvironment, study: str) -> records.Summary | None:
    """What is recorded of ``concept/study``; ``None`` if nothing is, or it cannot be read."""
    found: dict[str, records.Summary | None] = env.aix_recorded_summaries
    if study not in found:
        found[study] = _summarize(env, *study.partition("/")[::2])
    return found[study]


def _summarize(env: BuildEnvironment, concept: str, study: str) -> records.Summary | None:
    if not any((_folder(env) / concept).glob(f"{study}--*.json")):
        return None
    try:
        return records.summarize(records.load(concept, study, folder=_folder(env)))
    except RecordError as error:
        warn(str(error), None)
        return None


def studies(env: BuildEnvironment) -> list[str]:
    """All recorded studies of the site's concepts."""
    names = {concept.name for concept in concepts(env)}
    files = _folder(env).glob("*/*--*.json")
    keys = {f"{file.parent.name}/{file.name.partition('--')[0]}" for file in files}
    return sorted(key for key in keys if key.partition("/")[0] in names)


def _folder(env: BuildEnvironment) -> Path:
    return Path(env.srcdir, env.config.aix_data_folder)


def forget_if_changed(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Keep what an earlier build summed up while neither the package nor a record has changed."""
    files = [*(PACKAGE_ROOT / "aiexplained").rglob("*.py"), *_folder(env).glob("*/*.json")]
    stamp = sorted((str(file), file.stat().st_mtime_ns) for file in files)
    if getattr(env, "aix_recorded_stamp", None) != stamp:
        env.aix_recorded_stamp, env.aix_recorded_summaries = stamp, {}


def badge(found: records.Summary | None) -> list[nodes.Node]:
    """The mark of a record that is older than the code that it rests on."""
    if found is None or not found.stale:
        return []
    return [nodes.Text(" "), nodes.inline("", found.warning, classes=["aix-stale"])]


def note_uses(app: Sphinx, doctree: nodes.document) -> None:
    used = {node["study"] for node in doctree.findall(recorded_note)}
    for node in doctree.findall(nodes.container):
        if "aix_claims" in node:
            table = json.loads(node["aix_claims"])
            used |= {f"{table['concept']}/{row['study']}" for row in table["rows"] if row["study"]}
    if used:
        USES.table(app.env)[app.env.docname] = sorted(used)


def rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Pages that say something else about their records than when they were written."""
    uses = USES.table(env).items()
    return SHOWN.changed(app, {page: repr([summary(env, s) for s in used]) for page, used in uses})


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for note in list(doctree.findall(recorded_note)):
        found = summary(app.env, note["study"])
        said = found.origin if found else "not recorded"
        note.replace_self(nodes.inline("", "", nodes.Text(said), *badge(found)))


def setup(app: Sphinx) -> None:
    app.add_role("recorded", RecordedRole())
    app.connect("env-before-read-docs", forget_if_changed)
    app.connect("doctree-read", note_uses)
    app.connect("env-updated", rewrite)
    app.connect("doctree-resolved", fill)
    USES.connect(app)
