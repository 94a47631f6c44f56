"""The claims table refuses a verdict that its reading does not support."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from aiexplained.errors import UnsupportedVerdict
from aiexplained.registry import Concept, Reading
from aiexplained.viz import claims_table
from aiexplained.viz.html import CLAIMS_MIME


class Cells(HTMLParser):
    """Texts of the cells of a table, row by row, with their roles."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, str]]] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        self.open = self.open or tag in ("td", "th")
        if tag in ("td", "th"):
            self.rows[-1].append((dict(attrs)["role"] or "", ""))

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.open:
            role, text = self.rows[-1][-1]
            self.rows[-1][-1] = (role, text + data)


def cells(text: str) -> list[list[tuple[str, str]]]:
    parser = Cells()
    parser.feed(text)
    return parser.rows


def test_a_reading_that_contradicts_the_verdict_raises(
    concept: Concept, readings: dict[str, Reading]
) -> None:
    readings["first-token"] = Reading(4.0, 3.0, 5.0, "The wrong way.", 5)
    with pytest.raises(UnsupportedVerdict, match="first-token"):
        claims_table(concept, readings)


def test_readings_are_for_exactly_the_testable_claims(
    concept: Concept, readings: dict[str, Reading]
) -> None:
    with pytest.raises(ValueError, match=r"missing \['memory'\], unknown \[\]"):
        claims_table(concept, {"first-token": readings["first-token"]})
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['scale'\]"):
        claims_table(concept, readings | {"scale": readings["memory"]})


def test_payload_is_one_json_text_with_the_readings(
    concept: Concept, readings: dict[str, Reading]
) -> None:
    text = claims_table(concept, readings)._repr_mimebundle_()[CLAIMS_MIME]
    payload = json.loads(text)
    assert payload["concept"] == "made_up"
    first, memory, scale = payload["rows"]
    assert Reading(**first["reading"]) == readings["first-token"]
    assert Reading(**memory["reading"]) == readings["memory"]
    assert scale["reading"] is None
    assert [row["verdict"] for row in payload["rows"]] == [c.verdict.value for c in concept.claims]


def test_table_shows_report_finding_verdict_and_command(
    concept: Concept, readings: dict[str, Reading]
) -> None:
    head, first, _, scale = cells(claims_table(concept, readings)._repr_mimebundle_()["text/html"])
    assert head == [
        ("columnheader", name) for name in ("Claim", "They report", "We find", "Verdict")
    ]
    assert [role for role, _ in first] == ["rowheader", "cell", "cell", "cell"]
    texts = [text.replace("\u00a0", " ") for _, text in first]
    assert texts[1].startswith("−20 % to −33 % Table 2, Doe et al. 2026")
    assert texts[2].startswith("−27.0 % −29.5 to −25.0, n = 5measured Five seeds")
    assert texts[3].startswith("✓ reproduced")
    assert texts[3].endswith("nox -s record -- made_up")
    assert scale[2] == ("cell", "not measured")
    assert "We have no such model." in scale[3][1]


def test_texts_of_a_concept_cannot_break_the_table(
    concept: Concept, readings: dict[str, Reading]
) -> None:
    nasty = replace(concept.claims[0], statement='<script>"&', why='</td>"')
    table = claims_table(replace(concept, claims=(nasty, *concept.claims[1:])), readings)
    text = table._repr_mimebundle_()["text/html"]
    assert "<script>" not in text
    assert "A <bold>" not in text
    assert len(re.findall("</td>", text)) == 9


def test_plain_text_names_every_verdict(concept: Concept, readings: dict[str, Reading]) -> None:
    lines = claims_table(concept, readings)._repr_mimebundle_()["text/plain"].splitlines()
    assert [line.rsplit(": ", 1)[1] for line in lines] == [c.verdict.value for c in concept.claims]
