"""A row a category: its marks are the means, its lines the spreads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from figuredata import attributes_of, drawn_figures, numbers, sources_with, write_figures
from playwright.sync_api import Page, expect

from aiexplained import viz
from aiexplained.viz.dots import dots
from aiexplained.viz.theme import PALETTE

ROWS = {
    "rounded only": {"one step": [2.5, 2.0, 2.25]},
    "trained with a teacher": {"one step": [1.75], "scratch": [1.5, 1.75, 2.0]},
}
STYLE = {
    "one step": (PALETTE["greedy"], "solid", "circle"),
    "never given": (PALETTE["reused"], "solid", "triangle"),
    "scratch": ("ink", "dashed", "square"),
}


def make_dots(rows: Any = ROWS, **options: Any) -> viz.Explorable:
    return dots(rows, style=STYLE, x_label="loss (nats)", title="T", alt="A.", **options)


def test_a_row_of_dots_shows_mean_spread_and_how_many_values() -> None:
    (source,) = sources_with(make_dots(), "mean")
    assert numbers(source, "category", "series", "mean", "low", "high", "seeds") == [
        ("rounded only", "one step", 2.25, 2.0, 2.5, 3),
        ("trained with a teacher", "one step", 1.75, 1.75, 1.75, 1),
        ("trained with a teacher", "scratch", 1.75, 1.5, 2.0, 3),
    ]


def test_series_of_a_row_stand_apart_and_around_its_middle() -> None:
    (source,) = sources_with(make_dots(), "mean")
    alone, first, second = source["y"]
    assert alone == 0
    assert first + second == pytest.approx(2)
    assert 0.2 < second - first < 0.5  # one below the other, and clear of the next row


def test_each_series_draws_its_own_marks_only() -> None:
    held = sorted(tuple(f["indices"]) for f in attributes_of(make_dots(), "IndexFilter"))
    assert held == [(0, 1), (2,)]


def test_long_names_break_where_the_longer_line_is_shortest() -> None:
    item = make_dots().drawing.item
    assert "trained with\\na teacher" in item
    assert "rounded only" in item


def test_baselines_are_named_and_within_sight() -> None:
    figure = make_dots(baseline={"not rounded": 0.5, "chance": 3.75})
    assert "not rounded" in figure.drawing.item
    ends = [(r["start"], r["end"]) for r in attributes_of(figure, "Range1d")]
    assert any(start < 0.5 and end > 3.75 for start, end in ends)
    ends = [(r["start"], r["end"]) for r in attributes_of(make_dots(), "Range1d")]
    assert not any(start < 0.5 and end > 3.75 for start, end in ends)


def test_one_series_needs_no_legend_and_more_rows_more_height() -> None:
    one = make_dots({"a": {"one step": [1, 2]}})
    assert not attributes_of(one, "LegendItem")
    assert len(attributes_of(make_dots(), "LegendItem")) == 2
    more = make_dots({name: {"one step": [1, 2]} for name in "abcde"})
    assert more.drawing.height > one.drawing.height + 4 * 22


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "at least one row, got none"),
        ({"a": {}}, "at least one; 'a' has \\[\\]"),
        ({"a": {"psychic": [1]}}, "'a' has \\['psychic'\\]"),
        ({"a": {"scratch": []}}, "'scratch' of 'a' has \\[\\]"),
        ({"a": {"scratch": [1, float("nan")]}}, "finite values, at least one; 'scratch'"),
    ],
)
def test_dots_name_the_rule_that_rows_break(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_dots(rows)
    with pytest.raises(ValueError, match=r"a baseline is finite, got \{'x': inf\}"):
        make_dots(baseline={"x": float("inf")})


def test_the_rows_are_the_same_bytes_twice() -> None:
    assert make_dots()._repr_mimebundle_() == make_dots()._repr_mimebundle_()


@pytest.mark.browser
def test_rows_are_drawn_on_a_phone_with_their_table(
    site: Path, open_page: Callable[..., Page]
) -> None:
    write_figures(site, "dots", [make_dots(baseline={"not rounded": 1.25})])
    page = open_page("dots", local=True, width=390)
    (figure,) = drawn_figures(page)
    expect(figure.get_by_text("Data as a table")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
