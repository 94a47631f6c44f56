"""Claims on the pages: the sources' numbers, verdict badges, and the ledger over all concepts.

A page's claims table leaves what it shows in the document as JSON (attribute ``aix_claims`` of a
container). These tables are collected while pages are read, judged again, and listed by
``{claims-ledger}``; ``claims.json`` in the output folder says the same to programs.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

from aiexplained.errors import UnsupportedVerdict
from aiexplained.registry import Claim, Concept, Kind, Reading, Verdict
from aiexplained.viz.claims import claims_html

from .badges import badge, depart_reported, reported, reported_number, visit_reported
from .lookup import concepts, every_concept, find_claim, warn
from .perpage import PerPage

TABLES = PerPage("aix_claims_tables")
LEDGERS = PerPage("aix_ledgers")
JSON_NAME = "claims.json"


class ReportedRole(SphinxRole):
    """The source's number for ``concept:claim-id``, as the source prints it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = find_claim(self.env, self.text, self.get_location())
        return (reported_number(*found) if found else []), []


class verdict_badge(nodes.inline):  # noqa: N801
    """A badge that links to the claim's row of the ledger, where the site has one."""


class VerdictRole(SphinxRole):
    """The published verdict on ``concept:claim-id``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = find_claim(self.env, self.text, self.get_location())
        if found is None:
            return [], []
        concept, claim = found
        return [verdict_badge("", "", badge(claim.verdict), row=row_id(concept, claim))], []


class claims_ledger(nodes.container):  # noqa: N801
    """Where the ledger goes; filled when all pages have been read."""


class ClaimsLedger(SphinxDirective):
    """Tally and table of all claims of the site."""

    def run(self) -> list[nodes.Node]:
        every_concept(self.env)
        LEDGERS.table(self.env)[self.env.docname] = True
        ledger = claims_ledger("", classes=["aix-ledger"])
        self.set_source_info(ledger)
        return [ledger]


def row_id(concept: Concept, claim: Claim) -> str:
    return f"claim-{concept.name.replace('_', '-')}-{claim.id}"


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Note the claims tables that the page shows, by concept."""
    found = [
        json.loads(n["aix_claims"]) for n in doctree.findall(nodes.container) if "aix_claims" in n
    ]
    if found:
        TABLES.table(app.env)[app.env.docname] = {table["concept"]: table for table in found}


def shown_tables(env: BuildEnvironment) -> dict[str, dict[str, Any]]:
    """Claims table of each concept of the registry that a page shows."""
    by_page = TABLES.table(env)
    found = {name: table for page in sorted(by_page) for name, table in by_page[page].items()}
    return {c.name: found[c.name] for c in concepts(env) if c.name in found}


def rewrite_ledgers(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The ledger shows what other pages computed, so it is written whenever it may differ."""
    return list(LEDGERS.table(env))


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for ledger in doctree.findall(claims_ledger):
        _judge_all(app.env, ledger)
        ledger += _tally(concepts(app.env))
        for concept in concepts(app.env):
            ledger += _concept_claims(app, docname, concept)
        up = "../" * app.builder.get_target_uri(docname).count("/")
        link = nodes.reference("", JSON_NAME, internal=False, refuri=up + JSON_NAME)
        ledger += nodes.paragraph("", "The same for programs: ", link, nodes.Text("."))
    home = next(iter(sorted(LEDGERS.table(app.env))), None)
    for node in list(doctree.findall(verdict_badge)):
        if home:
            uri = app.builder.get_relative_uri(docname, home) + "#" + node["row"]
            node[:] = [nodes.reference("", "", *node.children, internal=True, refuri=uri)]


def _judge_all(env: BuildEnvironment, ledger: nodes.Node) -> None:
    """Warn of claims that no page shows, and of verdicts that a shown reading does not support."""
    tables = shown_tables(env)
    for concept in concepts(env):
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
    counts = Counter(claim.verdict for concept in found for claim in concept.claims)
    total = sum(counts.values())
    line = nodes.paragraph("", f"{_count(total, 'claim')} of {_count(len(found), 'concept')}: ")
    line["classes"] += ["aix-tally"]
    for verdict in Verdict:
        if counts[verdict]:
            line += [nodes.strong("", str(counts[verdict])), nodes.Text(" "), badge(verdict)]
            line += nodes.Text(" ")
    return line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _concept_claims(app: Sphinx, docname: str, concept: Concept) -> list[nodes.Node]:
    """The concept's name, linked, and its claims table as its page shows it."""
    table = shown_tables(app.env).get(concept.name)
    if table is None:
        return []
    uri = app.builder.get_relative_uri(docname, concept.page)
    link = nodes.reference("", concept.title, internal=True, refuri=uri)
    name = nodes.paragraph("", "", nodes.strong("", "", link), classes=["aix-ledger-concept"])
    body = nodes.raw("", claims_html(table), format="html")
    return [name, nodes.container("", body, classes=["aix-claims"], aix_claims=json.dumps(table))]


def write_json(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html" and LEDGERS.table(app.env):
        text = json.dumps(
            list(shown_tables(app.env).values()), indent=1, ensure_ascii=False, sort_keys=True
        )
        Path(app.outdir, JSON_NAME).write_text(text + "\n", encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_role("reported", ReportedRole())
    app.add_role("verdict", VerdictRole())
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_node(reported, html=(visit_reported, depart_reported))
    app.connect("doctree-read", collect)
    app.connect("env-updated", rewrite_ledgers)
    app.connect("doctree-resolved", resolve)
    app.connect("build-finished", write_json)
    TABLES.connect(app)
    LEDGERS.connect(app)
