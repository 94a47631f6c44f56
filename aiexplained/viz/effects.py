"""How much of each reported effect we saw: all claims of the site in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, Span

from aiexplained.registry import Verdict
from aiexplained.viz.explorable import Explorable, data_table, show
from aiexplained.viz.theme import PALETTE, figure

LEAST, MOST = -60.0, 260.0
"""Ends of the axis in percent; what lies beyond is drawn at the end, as a triangle."""

ROW = 18
"""Pixels a line."""

LOOKS = {
    Verdict.REPRODUCED: (PALETTE["reused"], "circle"),
    Verdict.DIRECTION: (PALETTE["greedy"], "diamond"),
    Verdict.ARITHMETIC: (PALETTE["sorted"], "square"),
    Verdict.NOT_REPRODUCED: (PALETTE["warning"], "x"),
}


@dataclass(frozen=True)
class Effect:
    """One claim as a share of the reported effect, in percent: 0 is no effect, 100 is theirs.

    Args:
        concept: Title of the concept.
        statement: The claim.
        verdict: The published verdict.
        share: Our value.
        low: Lower end of our spread.
        high: Upper end of our spread.
        theirs: The reported range, e.g. ``(75, 125)``.
    """

    concept: str
    statement: str
    verdict: Verdict
    share: float
    low: float
    high: float
    theirs: tuple[float, float]


def effects(tables: Sequence[Mapping[str, Any]]) -> list[Effect]:
    """Effects of all claims that have a direction and a reading.

    Args:
        tables: Payloads of claims tables, see :meth:`aiexplained.viz.ClaimsTable.payload`.
    """
    found = []
    for table in tables:
        for row in table["rows"]:
            zero, reading = row["direction_zero"], row["reading"]
            if zero is None or reading is None:
                continue
            unit = (row["reported_low"] + row["reported_high"]) / 2 - zero

            def share(value: float, zero: float = zero, unit: float = unit) -> float:
                return 100 * (value - zero) / unit

            low, high = sorted(share(reading[end]) for end in ("low", "high"))
            theirs = sorted(share(row[end]) for end in ("reported_low", "reported_high"))
            found.append(
                Effect(
                    table["title"],
                    row["statement"],
                    Verdict(row["verdict"]),
                    share(reading["value"]),
                    low,
                    high,
                    (theirs[0], theirs[1]),
                )
            )
    return found


def headline(found: Sequence[Effect]) -> str:
    """The figure's title."""
    return f"We saw the whole reported effect in {_count(found, whole=True)} of {len(found)} claims"


def finding(found: Sequence[Effect]) -> str:
    """The figure's text alternative."""
    full, part = _count(found, whole=True), _count(found, whole=False)
    return (
        f"{len(found)} claims have a direction. We saw the reported effect or more in {full} of "
        f"them, a part of it in {part}, and none or the opposite in {len(found) - full - part}. "
        "Gray bars are the ranges that sources report, thin lines the spread of our numbers; a "
        "triangle lies beyond the edge."
    )


def _count(found: Sequence[Effect], *, whole: bool) -> int:
    """Effects of which we saw the whole, or only a part; the lowest reported number counts."""
    is_whole = [effect.share >= min(100.0, effect.theirs[0]) for effect in found]
    is_part = [e.share > 0 and not full for e, full in zip(found, is_whole, strict=True)]
    return sum(is_whole if whole else is_part)


def effects_figure(tables: Sequence[Mapping[str, Any]]) -> Explorable | None:
    """A line a claim, grouped by concept; ``None`` where no claim has a direction.

    Args:
        tables: Payloads of claims tables, see :meth:`aiexplained.viz.ClaimsTable.payload`.
    """
    found = effects(tables)
    if not found:
        return None
    places, ticks = _places(found)
    source = ColumnDataSource(_columns(found, places))
    data_table(
        source, "Share of the reported effect",
        {
            "concept": "concept", "statement": "claim", "verdict": "verdict",
            "share": "ours (% of theirs)", "low": "lowest (%)", "high": "highest (%)",
        },
    )  # fmt: skip
    plot = figure(
        headline(found), height=int(120 + ROW * (max(places) + 2)),
        y_range=(max(places) + 1, -1), x_range=(LEAST - 15, MOST + 15),
        x_axis_label="% of the reported effect",
    )  # fmt: skip
    plot.yaxis.ticker = list(ticks)
    plot.yaxis.major_label_overrides = ticks
    plot.ygrid.visible = False
    for place, dash in ((0, "solid"), (100, "dashed")):
        plot.add_layout(
            Span(location=place, dimension="height", line_color=PALETTE["neutral"], line_dash=dash)
        )
    plot.hbar(
        y="y", left="theirs_low", right="theirs_high", height=0.9, source=source,
        color=PALETTE["neutral"], alpha=0.3,
    )  # fmt: skip
    plot.segment("drawn_low", "y", "drawn_high", "y", source=source, color="color", line_width=2)
    marks = plot.scatter(
        "drawn", "y", source=source, size=11, color="color", marker="marker", line_width=2
    )
    says = [("claim", "@statement"), ("ours", "@share{0} % of theirs"), ("verdict", "@verdict")]
    plot.add_tools(HoverTool(renderers=[marks], tooltips=says))
    return show(plot, alt=finding(found))


def _places(found: Sequence[Effect]) -> tuple[list[int], dict[float, str]]:
    """A line an effect, one left free between concepts; and where each concept's name goes."""
    places: list[int] = []
    lines: dict[str, list[int]] = {}
    for effect in found:
        places.append((places[-1] + 1 + (effect.concept not in lines)) if places else 0)
        lines.setdefault(effect.concept, []).append(places[-1])
    return places, {(mine[0] + mine[-1]) / 2: concept for concept, mine in lines.items()}


def _columns(found: Sequence[Effect], places: Sequence[int]) -> dict[str, list[Any]]:
    def clip(value: float) -> float:
        return min(max(value, LEAST), MOST)

    def marker(effect: Effect) -> str:
        inside = LEAST <= effect.share <= MOST
        return LOOKS[effect.verdict][1] if inside else "triangle"

    return {
        "y": list(places),
        "concept": [effect.concept for effect in found],
        "statement": [effect.statement for effect in found],
        "verdict": [effect.verdict.value for effect in found],
        "color": [LOOKS[effect.verdict][0] for effect in found],
        "marker": [marker(effect) for effect in found],
        "share": [round(effect.share) for effect in found],
        "low": [round(effect.low) for effect in found],
        "high": [round(effect.high) for effect in found],
        "drawn": [clip(effect.share) for effect in found],
        "drawn_low": [clip(effect.low) for effect in found],
        "drawn_high": [clip(effect.high) for effect in found],
        "theirs_low": [clip(effect.theirs[0]) for effect in found],
        "theirs_high": [clip(effect.theirs[1]) for effect in found],
    }
