"""Figures of the ternary linear layer: what they count is in the row, what they say is recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figuredata import drawn_figures, title_of, write_figures
from playwright.sync_api import Page, expect

from aiexplained import viz
from aiexplained.viz import ternary_linear as figures

WEIGHT, X = [0.5, -1.0, 0.1, 2.4, -0.2, 0.6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
TERNARY = [[0, -1, 0, 1, 0, 1], [1, -1, 0, 1, -1, 1]]
SCALE = [[1.0] * 4 + [0.4] * 2, [0.5] * 6]
SIZES = (4, 6)


def make_row(first: tuple[int, int] = (0, 0)) -> viz.Explorable:
    codes = [[f"{t + 1:02b}" for t in row] for row in TERNARY]
    return figures.ternary_row(WEIGHT, X, TERNARY, SCALE, codes, sizes=SIZES, first=first)


def entry(
    activations: str, rows: int, n_out: int, over: float, instructions: str = "AVX2"
) -> dict[str, Any]:
    names = {"bfloat16": 90.0, "float32": 1.0, "int8": 0.5, "int4": 0.4}
    return {
        "setting": {
            "instructions": instructions, "activations": activations, "rows": rows,
            "n_out": n_out, "n_in": 1000,
        },
        "result": {
            "over": {name: over * x for name, x in names.items()},
            "seconds": {"ours": 1e-3, **{name: 1e-3 * over * x for name, x in names.items()}},
            "bandwidth_gb_a_s": 10.0,
        },
    }  # fmt: skip


ENTRIES = [
    entry(mode, rows, n_out, over)
    for mode, over in (("native", 8.0), ("int8", 16.0))
    for n_out in (2000, 4000)
    for rows in (1, 16, 64)
    if rows < 64 or n_out == 2000
]


def test_the_row_counts_what_becomes_of_its_weights() -> None:
    assert title_of(make_row()) == "2 of 6 become +1, 1 −1, 3 zero"
    assert title_of(make_row((1, 0))) == "3 of 6 become +1, 2 −1, 1 zero"


def test_the_sum_is_that_of_scaled_inputs() -> None:
    assert title_of(make_row((0, 4))) == "1 added, 1 subtracted: the sum is 2.00"  # 4 − 2
    whole = make_row((0, 6))
    assert title_of(whole) == "2 added, 1 subtracted: the sum is 4.40"  # and 0.4 · 6
    assert "the sum is 4.40; the whole row gives 4.40." in whole.drawing.alt
    assert "Groups of 4: of 6 weights 2 become +1, 1 −1 and 3 zero" in whole.drawing.alt


def test_ratios_stand_by_mode_and_size() -> None:
    figure = figures.rows_at_once(ENTRIES)
    assert title_of(figure) == "One row: 16.0 times as fast as float32"
    assert "AVX2, int8 activations, 2,000 outputs of 1,000 inputs" in figure.drawing.alt
    assert "float32 16.0, 16.0, 16.0; bfloat16 1440.0" in figure.drawing.alt
    assert "; int8 weights 8.0, 8.0, 8.0" in figure.drawing.alt


BOTH = [
    *ENTRIES,
    *(entry(mode, rows, 2000, 3.0, "AVX-512") for mode in ("int8", "native") for rows in (1, 16)),
]


def test_a_page_speaks_of_the_widest_instructions_whatever_the_order() -> None:
    for entries in (BOTH, BOTH[::-1]):
        found = figures.by_processor(entries)
        assert list(found) == ["AVX-512", "AVX2"]
        assert [len(of_one) for of_one in found.values()] == [4, len(ENTRIES)]
    assert list(figures.by_processor(ENTRIES)) == ["AVX2"]


def test_two_processors_are_a_choice_and_are_not_mixed() -> None:
    figure = figures.rows_at_once(BOTH)
    assert "Processor with" in figure.drawing.item
    assert "Processor with" not in figures.rows_at_once(ENTRIES).drawing.item
    alt = figures.rows_at_once(BOTH).drawing.alt
    assert alt.startswith("AVX-512, int8 activations, 2,000 outputs")
    assert "float32 3.0, 3.0;" in alt


def test_bytes_stand_beside_the_bandwidth() -> None:
    figure = figures.bytes_and_time(
        ENTRIES[0], {"float32": 40e6, "int8": 10e6, "unknown": 1.0, "ours": 2.5e6}
    )
    assert "Ternary weights come at 2 GB/s; memory gives 10" in figure.drawing.item
    assert "float32 40.0 MB in 8.00 ms; int8 weights 10.0 MB in 4.00 ms" in figure.drawing.alt
    assert "ternary 2.5 MB in 1.00 ms" in figure.drawing.alt


def test_every_figure_is_the_same_bytes_twice() -> None:
    makers: tuple[Callable[[], viz.Explorable], ...] = (
        make_row, lambda: figures.rows_at_once(ENTRIES),
        lambda: figures.bytes_and_time(ENTRIES[0], {"float32": 4e6, "ours": 2.5e5}),
    )  # fmt: skip
    for make in makers:
        assert make()._repr_mimebundle_() == make()._repr_mimebundle_()


@pytest.mark.browser
def test_titles_and_captions_follow_the_controls(
    site: Path, open_page: Callable[..., Page]
) -> None:
    drawn = (
        make_row(), figures.rows_at_once(ENTRIES),
        figures.bytes_and_time(ENTRIES[0], {"float32": 4e6, "ours": 2.5e5}),
    )  # fmt: skip
    write_figures(site, "ternary", drawn)
    page = open_page("ternary", local=True)
    row, ratios, _ = drawn_figures(page)
    row.get_by_role("slider", name="Weights taken").press("ArrowRight")
    expect(row.locator(".aix-caption")).to_contain_text("After 1 of them 0 inputs were added")
    row.get_by_role("button", name="6").click()
    expect(row.locator(".aix-caption")).to_contain_text("After 1 of them 1 inputs were added")
    ratios.get_by_role("button", name="native").click()
    ratios.get_by_role("button", name="4,000").click()
    expect(ratios.locator(".aix-caption")).to_contain_text("native activations, 4,000 outputs")
    expect(ratios.locator(".aix-caption")).to_contain_text("float32 8.0, 8.0; bfloat16 720.0")


def test_a_row_is_drawn_from_arrays() -> None:
    codes = [[f"{t + 1:02b}" for t in row] for row in TERNARY]
    arrays = (np.array(x) for x in (WEIGHT, X, TERNARY, SCALE))
    figure = figures.ternary_row(*arrays, codes, sizes=SIZES)
    assert figure.drawing.alt == make_row().drawing.alt
