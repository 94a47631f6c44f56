"""``{claims-ledger}``: all claims of the site, judged once more when all pages have been read.

The same is written for programs: ``claims.json`` and ``claims.csv`` in the output folder.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from aiexplained.errors import UnsupportedVerdict
from aiexplained.registry import Concept, Kind, Reading, Verdict
from aiexplained.viz.claims import row_id
from aiexplained.viz.render import figure_node

from .addresses import up_from
from .alone import is_left_out
from .badges import SIGNS, badge, counted, verdict_class, verdict_counts
from .claims import LEDGERS, claims_part, shown_tables
from .lookup import concepts, every_concept, warn

JSON_NAME, CSV_NAME = "claims.json", "claims.csv"
COLUMNS = (
    "concept", "id", "statement", "reported", "where", "source", "unit", "kind", "verdict", "value",
    "low", "high", "n", "how", "why", "rerun",
)  # fmt: skip


class claims_ledger(nodes.container):  # noqa: N801
    """Where the ledger goes; filled when all pages have been read."""


class ClaimsLedger(SphinxDirective):
    """Tally, overview and table of all claims of the site."""

    def run(self) -> list[nodes.Node]:
        every_concept(self.env)
        LEDGERS.table(self.env)[self.env.docname] = True
        ledger = claims_ledger("", classes=["aix-ledger"])
        self.set_source_info(ledger)
        return [ledger]


def rewrite_ledgers(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The ledger shows what other pages computed, so it is written whenever it may differ."""
    return list(LEDGERS.table(env))


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for ledger in doctree.findall(claims_ledger):
        _judge_all(app.env, ledger)
        ledger += [_tally(concepts(app.env)), _overview(concepts(app.env))]
        ledger += _effects(app, doctree)
        ledger += nodes.raw("", '<div class="aix-filter" hidden></div>', format="html")
        for concept in concepts(app.env):
            ledger += _concept_claims(app, docname, concept)
        ledger += _downloads(app, docname)


def _judge_all(env: BuildEnvironment, ledger: nodes.Node) -> None:
    """Warn of claims that no page shows, and of verdicts that a shown reading does not support."""
    tables = shown_tables(env)
    for concept in concepts(env):
        if is_left_out(env, concept.page):
            continue
        rows = {row["id"]: row for row in tables.get(concept.name, {"rows": []})["rows"]}
        for claim in concept.claims:
            reading = rows[claim.id]["reading"] if claim.id in rows else None
            if reading is None and claim.kind is not Kind.NONE:
                warn(f"no page shows our reading of {concept.name}:{claim.id}", ledger)
            elif reading is not None:
                try:
                    claim.judge(Reading(**reading))
                except UnsupportedVerdict as error:
                    warn(f"{concept.name}: {error}", ledger)


def _tally(found: tuple[Concept, ...]) -> nodes.paragraph:
    counts = verdict_counts(found)
    claims = counted(sum(number for _, number in counts), "claim")
    line = nodes.paragraph("", f"{claims} of {counted(len(found), 'concept')}: ")
    line["classes"] += ["aix-tally"]
    for verdict, number in counts:
        part = nodes.inline("", classes=["aix-tally-part"])
        part += [nodes.strong("", str(number)), nodes.Text(" "), badge(verdict)]
        line += [part, nodes.Text(" ")]
    return line


def _overview(found: tuple[Concept, ...]) -> nodes.bullet_list:
    """The whole at a glance: a line a concept, a square a claim, in the order of the verdicts."""
    lines = nodes.bullet_list("", classes=["aix-overview"])
    order = list(Verdict)
    for concept in (c for c in found if c.claims):
        squares = nodes.inline("", classes=["aix-squares"])
        for claim in sorted(concept.claims, key=lambda c: order.index(c.verdict)):
            said = f"{claim.statement}: {claim.verdict.value}"
            sign = nodes.inline("", SIGNS[claim.verdict])
            link = nodes.reference(
                "", "", sign, refid=row_id(concept.name, claim.id), internal=True, reftitle=said,
                classes=["aix-square", *verdict_class(claim.verdict)],
            )  # fmt: skip
            link += nodes.inline("", f" {said}", classes=["visually-hidden"])
            squares += link
        name = nodes.inline("", concept.title, classes=["aix-overview-name"])
        lines += nodes.list_item("", nodes.paragraph("", "", name, nodes.Text(" "), squares))
    return lines


def _effects(app: Sphinx, doctree: nodes.document) -> list[nodes.Node]:
    """The figure of all effects, as if a cell of the page had drawn it."""
    if not app.config.aix_figures:
        return []
    from aiexplained.viz.effects import effects_figure  # needs Bokeh, which small sites may lack

    shown = effects_figure(list(shown_tables(app.env).values()))
    return [figure_node(json.dumps(shown.drawing.payload()), doctree)] if shown else []


def _downloads(app: Sphinx, docname: str) -> nodes.paragraph:
    up = up_from(app, docname)
    line = nodes.paragraph("", "For programs: ", classes=["aix-downloads"])
    for number, name in enumerate((JSON_NAME, CSV_NAME)):
        line += nodes.Text(", " if number else "")
        line += nodes.reference("", name, internal=False, refuri=up + name)
    return line


def _concept_claims(app: Sphinx, docname: str, concept: Concept) -> list[nodes.Node]:
    """The concept's name, linked, and its claims table as its page shows it."""
    table = shown_tables(app.env).get(concept.name)
    if table is None:
        return []
    uri = app.builder.get_relative_uri(docname, concept.page)
    link = nodes.reference("", concept.title, internal=True, refuri=uri)
    name = nodes.paragraph("", "", nodes.strong("", "", link), classes=["aix-ledger-concept"])
    body = claims_part(app, docname, table)
    return [name, nodes.container("", body, classes=["aix-claims"], aix_claims=json.dumps(table))]


def flat_rows(tables: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat dictionary a claim, with the keys of ``COLUMNS``; empty where not measured."""
    rows = []
    for concept, table in tables.items():
        for row in table["rows"]:
            reading = row["reading"] or {}
            flat = row | reading | {"concept": concept, "source": row["source"]["url"]}
            rows.append({column: flat.get(column, "") for column in COLUMNS})
    return rows


def write_files(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html" or not LEDGERS.table(app.env):
        return
    tables = shown_tables(app.env)
    text = json.dumps(list(tables.values()), indent=1, ensure_ascii=False, sort_keys=True)
    Path(app.outdir, JSON_NAME).write_text(text + "\n", encoding="utf-8")
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat_rows(tables))
    Path(app.outdir, CSV_NAME).write_text(sheet.getvalue(), encoding="utf-8")


def add_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if page in LEDGERS.table(app.env):
        app.add_js_file("ledger.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    app.add_directive("claims-ledger", ClaimsLedger)
    app.connect("env-updated", rewrite_ledgers)
    # Before the claims tables of pages, among which the ledger's then are, get their links.
    app.connect("doctree-resolved", resolve, priority=400)
    app.connect("build-finished", write_files)
    app.connect("html-page-context", add_script)
