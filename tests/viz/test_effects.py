"""All claims in one figure: the share of the reported effect that we saw."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiexplained.viz.effects import MOST, effects, effects_figure, finding, headline


def row(
    value: float, low: float, high: float, *, theirs: tuple[float, float] = (-30.0, -20.0),
    zero: float | None = 0.0, verdict: str = "direction reproduced",
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": "x", "statement": "It falls", "verdict": verdict, "direction_zero": zero,
        "reported_low": theirs[0], "reported_high": theirs[1],
        "reading": {"value": value, "low": low, "high": high, "how": "", "n": 3},
    }  # fmt: skip


def table(*rows: dict[str, Any], title: str = "Tiny") -> dict[str, Any]:
    return {"concept": title.lower(), "title": title, "rows": list(rows)}


def test_no_effect_is_0_and_the_middle_of_what_they_report_is_100() -> None:
    (half,) = effects([table(row(-12.5, -15.0, -10.0))])
    assert (half.share, half.low, half.high) == pytest.approx((50, 40, 60))
    assert half.theirs == pytest.approx((80, 120))
    (ratio,) = effects([table(row(2.0, 1.5, 2.5, theirs=(3.0, 3.0), zero=1.0))])
    assert ratio.share == pytest.approx(50)


def test_the_opposite_of_the_claim_is_negative() -> None:
    (against,) = effects([table(row(5.0, 4.0, 6.0))])
    assert against.share == pytest.approx(-20)
    assert against.low < against.share < against.high


def test_claims_without_a_direction_or_a_reading_have_no_effect() -> None:
    unread = {**row(1, 1, 1), "reading": None}
    assert effects([table(row(1, 1, 1, zero=None), unread)]) == []
    assert effects_figure([table(unread)]) is None


def test_the_title_and_the_text_count_what_was_seen() -> None:
    rows = row(-21, -22, -20), row(-50, -51, -49), row(-5, -6, -4), row(5, 4, 6)
    found = effects([table(*rows)])
    assert headline(found) == "We saw the whole reported effect in 2 of 4 claims"
    assert "more in 2 of them, a part of it in 1, and none or the opposite in 1" in finding(found)


def test_what_lies_beyond_the_edge_is_drawn_there_and_said_in_full() -> None:
    shown = effects_figure([table(row(-250, -260, -240), title="Far"), table(row(-20, -21, -19))])
    assert shown is not None
    (data,) = columns_with("drawn", json.loads(shown.drawing.item))
    assert data["drawn"] == [MOST, pytest.approx(80)]
    assert data["share"] == [1000, 80]
    assert data["marker"] == ["triangle", "diamond"]
    assert data["concept"] == ["Far", "Tiny"]


def columns_with(name: str, node: Any) -> list[dict[str, Any]]:
    """Data of all column sources below ``node`` that have a column of this name."""
    if isinstance(node, list):
        return [found for child in node for found in columns_with(name, child)]
    if not isinstance(node, dict):
        return []
    entries = node.get("entries")
    own = dict(entries) if isinstance(entries, list) and all(map(is_pair, entries)) else {}
    found = [own] if name in own else []
    return found + [more for child in node.values() for more in columns_with(name, child)]


def is_pair(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)
