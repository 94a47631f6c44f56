"""The claims of a page beside our readings, each with a verdict that the reading supports."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

from aiexplained.registry import Claim, Concept, Kind, Reading, Source, Verdict
from aiexplained.viz.assets import static_text
from aiexplained.viz.html import CLAIMS_MIME

SIGNS = {
    Verdict.REPRODUCED: "✓",
    Verdict.DIRECTION: "↗",
    Verdict.ARITHMETIC: "=",
    Verdict.NOT_REPRODUCED: "✗",
    Verdict.NOT_TESTABLE: "○",
}
"""Sign of each verdict; the words always stand beside it."""


@dataclass(frozen=True)
class ClaimsTable:
    """A displayable table of claims, made by :func:`claims_table`.

    Args:
        title: Name of the concept.
        concept: Module name of the concept.
        rows: One dictionary a claim, plain JSON values.
    """

    title: str
    concept: str
    rows: tuple[dict[str, Any], ...]

    def payload(self) -> dict[str, Any]:
        """What the site collects for its ledger: ``concept``, ``title`` and ``rows``."""
        return {"concept": self.concept, "title": self.title, "rows": list(self.rows)}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        table = f'<div class="aix-claims">{claims_html(self.payload())}</div>'
        return {
            CLAIMS_MIME: json.dumps(self.payload(), ensure_ascii=False),
            "text/html": f"<style>{static_text('explorables.css')}</style>{table}",
            "text/plain": "\n".join(
                f"{row['statement']}: they report {row['reported']}; "
                f"we have {row['value_text']}: {row['verdict']}"
                for row in self.rows
            ),
        }


def claims_table(concept: Concept, readings: Mapping[str, Reading]) -> ClaimsTable:
    """Judge every claim of ``concept`` by our readings.

    Args:
        concept: A module's ``CONCEPT``.
        readings: Claim id to our reading, for exactly the testable claims.

    Returns:
        The table, for display as the last expression of a cell.

    Raises:
        ValueError: if readings are missing or have no claim.
        UnsupportedVerdict: if a published verdict is not supported by its reading.
    """
    testable = {claim.id for claim in concept.claims if claim.kind is not Kind.NONE}
    missing, unknown = sorted(testable - set(readings)), sorted(set(readings) - testable)
    if missing or unknown:
        raise ValueError(
            f"claims_table: {concept.name} needs readings for exactly its testable claims; "
            f"missing {missing}, unknown {unknown}"
        )
    sources = {source.key: source for source in concept.sources}
    rows = tuple(
        _row(concept, claim, sources[claim.source], readings.get(claim.id))
        for claim in concept.claims
    )
    return ClaimsTable(title=concept.title, concept=concept.name, rows=rows)


def _row(concept: Concept, claim: Claim, source: Source, reading: Reading | None) -> dict[str, Any]:
    verdict = claim.verdict if reading is None else claim.judge(reading)
    untested = isnan(claim.reported_low)
    return {
        "id": claim.id,
        "statement": claim.statement,
        "reported": claim.reported,
        "where": claim.where,
        "source": {
            "key": source.key, "title": source.title, "authors": source.authors,
            "date": source.date, "url": source.url,
        },
        "kind": claim.kind.value,
        "verdict": verdict.value,
        # Not a number is no JSON.
        "reported_low": None if untested else claim.reported_low,
        "reported_high": None if untested else claim.reported_high,
        "direction_zero": claim.direction_zero,
        "unit": claim.unit,
        "digits": claim.digits,
        "reading": asdict(reading) if reading else None,
        "why": claim.why,
        "rerun": claim.rerun or _record_again(concept, claim),
        "study": claim.study,
        "value_text": _with_unit(reading.value, claim) if reading else "not measured",
        "spread_text": _spread(reading, claim) if reading else "",
    }  # fmt: skip


def _record_again(concept: Concept, claim: Claim) -> str:
    # Into a folder of its own: runs that are recorded already would be skipped.
    command = f"nox -s record -- {concept.name} --only {claim.study} --folder again"
    return command if claim.study else ""


def _number(value: float, digits: int) -> str:
    # Adding zero turns a rounded −0.0 into 0.0.
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def _with_unit(value: float, claim: Claim) -> str:
    joint = "" if claim.unit in ("", "×") else "\u00a0"
    return f"{_number(value, claim.digits)}{joint}{claim.unit}"


def _spread(reading: Reading, claim: Claim) -> str:
    if reading.low == reading.high:
        return ""
    low, high = (_number(end, claim.digits) for end in (reading.low, reading.high))
    return f"{low} to {high}, n\u00a0=\u00a0{reading.n}"


def _short_citation(source: Mapping[str, str]) -> str:
    first, *rest = source["authors"].replace(" and ", ", ").replace(" et al", ", et al").split(", ")
    return f"{first.split()[-1]}{' et al.' if rest else ''} {source['date'][:4]}"


def claims_html(
    payload: Mapping[str, Any],
    *,
    report: Callable[[Mapping[str, Any]], str] | None = None,
    stale: Mapping[str, str] | None = None,
) -> str:
    """The table's HTML.

    Roles are spelled out: on a phone the rows are laid out as cards, and browsers then drop the
    table's own semantics.

    Args:
        payload: As from :meth:`ClaimsTable.payload`.
        report: Address at which a row's error can be reported; left out, rows have no such link.
        stale: For studies whose code has changed since they were recorded, what to say of it.
    """
    heads = "".join(
        f'<th role="columnheader" scope="col">{head}</th>'
        for head in ("Claim", "They report", "We find", "Verdict")
    )
    rows = "".join(
        _row_html(payload["concept"], row, report, stale or {}) for row in payload["rows"]
    )
    label = html.escape(f"Claims about {payload['title']} and what we find")
    return (
        f'<table class="aix-claims-table" role="table" aria-label="{label}">'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )


def row_id(concept: str, claim_id: str) -> str:
    """Id of a claim's row, on its concept's page and in the ledger."""
    return f"claim-{concept.replace('_', '-')}-{claim_id}"


def _row_html(
    concept: str,
    row: Mapping[str, Any],
    report: Callable[[Mapping[str, Any]], str] | None,
    stale: Mapping[str, str],
) -> str:
    text = {key: html.escape(value) for key, value in row.items() if isinstance(value, str)}
    source = {key: html.escape(value) for key, value in row["source"].items()}
    cite = html.escape(_short_citation(row["source"]))
    theirs = (
        f'<strong>{text["reported"]}</strong> <span class="aix-small">{text["where"]}, '
        f'<a href="{source["url"]}" title="{source["title"]}">{cite}</a></span>'
    )
    error = (
        f'<a class="aix-small aix-report" href="{html.escape(report(row))}">Report an error</a>'
        if report
        else ""
    )
    return (
        f'<tr role="row" id="{row_id(concept, row["id"])}" data-concept="{concept}" '
        f'data-kind="{text["kind"]}" data-verdict="{text["verdict"]}">'
        f'<th role="rowheader" scope="row">{text["statement"]}</th>'
        f'<td role="cell" data-label="They report">{theirs}</td>'
        f'<td role="cell" data-label="We find">{_finding(row, text, stale)}</td>'
        f'<td role="cell" data-label="Verdict">{_verdict(row, text)}{error}</td></tr>'
    )


def _finding(row: Mapping[str, Any], text: Mapping[str, str], stale: Mapping[str, str]) -> str:
    if row["reading"] is None:
        return '<span class="aix-small">not measured</span>'
    how = html.escape(row["reading"]["how"])
    spread = f' <span class="aix-small">{text["spread_text"]}</span>' if row["spread_text"] else ""
    warning = stale.get(row["study"], "")
    mark = f'<span class="aix-stale">{html.escape(warning)}</span>' if warning else ""
    return (
        f"<strong>{text['value_text']}</strong>{spread}"
        f'<span class="aix-small"><span class="aix-kind">{text["kind"]}</span> {how}</span>{mark}'
    )


def _verdict(row: Mapping[str, Any], text: Mapping[str, str]) -> str:
    verdict = Verdict(row["verdict"])
    badge = (
        f'<span class="aix-verdict aix-verdict-{verdict.value.replace(" ", "-")}">'
        f'<span aria-hidden="true">{SIGNS[verdict]}</span> {text["verdict"]}</span>'
    )
    why = f'<span class="aix-small">{text["why"]}</span>' if row["why"] else ""
    rerun = (
        "<details><summary>How to rerun this</summary>"
        f'<pre tabindex="0"><code>{text["rerun"]}</code></pre></details>'
        if row["rerun"]
        else ""
    )
    return badge + why + rerun
