"""Claims on the pages: the sources' numbers, verdict badges, and each page's claims table.

A page's claims table leaves what it shows in the document as JSON (attribute ``aix_claims`` of a
container). These tables are collected while pages are read, for the ledger and for the search; when
a page is written, each row gets a link for those who found an error in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

from aiexplained.viz.claims import claims_html, row_id

from .badges import badge, depart_reported, reported, reported_number, visit_reported
from .lookup import concepts, find_claim
from .perpage import PerPage
from .recorded import summary

TABLES = PerPage("aix_claims_tables")
LEDGERS = PerPage("aix_ledgers")
"""Pages that hold the ledger."""


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
        row = row_id(concept.name, claim.id)
        return [verdict_badge("", "", badge(claim.verdict), row=row)], []


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Note the claims tables that the page shows, by concept."""
    found = [json.loads(node["aix_claims"]) for node in claims_nodes(doctree)]
    if found:
        TABLES.table(app.env)[app.env.docname] = {table["concept"]: table for table in found}


def claims_nodes(doctree: nodes.Node) -> list[nodes.container]:
    return [node for node in doctree.findall(nodes.container) if "aix_claims" in node]


def shown_tables(env: BuildEnvironment) -> dict[str, dict[str, Any]]:
    """Claims table of each concept of the registry that a page shows."""
    by_page = TABLES.table(env)
    found = {name: table for page in sorted(by_page) for name, table in by_page[page].items()}
    return {c.name: found[c.name] for c in concepts(env) if c.name in found}


def error_reports(
    app: Sphinx, docname: str, concept: str
) -> Callable[[Mapping[str, Any]], str] | None:
    """Where to report an error in a row: an issue with the claim filled in, or the guide."""
    repository = app.config.aix_repository.rstrip("/")
    guide, _, anchor = app.config.aix_corrections.partition("#")
    if repository:
        return lambda row: new_issue(repository, concept, row)
    if guide in app.env.found_docs:
        address = app.builder.get_relative_uri(docname, guide)
        return lambda row: f"{address}#{anchor}"
    return None


def new_issue(repository: str, concept: str, row: Mapping[str, Any]) -> str:
    """Address of a new issue about one claim, on GitHub or GitLab."""
    title = f"Claim {concept}:{row['id']}"
    body = (
        f"{row['statement']}\n\nThey report: {row['reported']} ({row['where']})\n"
        f"The site finds: {row['value_text']} {row['spread_text']}\nVerdict: {row['verdict']}\n\n"
        "What is wrong, and how can we see it?\n"
    )
    if "gitlab" in repository:
        query = urlencode({"issue[title]": title, "issue[description]": body})
        return f"{repository}/-/issues/new?{query}"
    return f"{repository}/issues/new?{urlencode({'title': title, 'body': body})}"


def claims_part(app: Sphinx, docname: str, table: dict[str, Any]) -> nodes.raw:
    """A claims table as it stands on ``docname``."""
    concept = table["concept"]
    found = {row["study"]: summary(app.env, f"{concept}/{row['study']}") for row in table["rows"]}
    stale = {study: about.warning for study, about in found.items() if about}
    report = error_reports(app, docname, concept)
    return nodes.raw("", claims_html(table, report=report, stale=stale), format="html")


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in claims_nodes(doctree):
        node.children = [claims_part(app, docname, json.loads(node["aix_claims"]))]
    home = next(iter(sorted(LEDGERS.table(app.env))), None)
    for mark in list(doctree.findall(verdict_badge)):
        if home:
            uri = app.builder.get_relative_uri(docname, home) + "#" + mark["row"]
            mark[:] = [nodes.reference("", "", *mark.children, internal=True, refuri=uri)]


def setup(app: Sphinx) -> None:
    app.add_config_value(
        "aix_corrections", "guide/how-we-judge#report-an-error-or-answer-us", "html", [str]
    )
    app.add_role("reported", ReportedRole())
    app.add_role("verdict", VerdictRole())
    app.add_node(reported, html=(visit_reported, depart_reported))
    app.connect("doctree-read", collect)
    app.connect("doctree-resolved", resolve)
    TABLES.connect(app)
    LEDGERS.connect(app)
