"""The figures of SubQ that show numbers: what they say is what they are given."""

import numpy as np
import pytest
from figuredata import drawn_figures, sources_with, title_of, write_figures
from playwright.sync_api import expect

from aiexplained.concepts import subq
from aiexplained.viz import subq as figures
from aiexplained.viz.subq.lengths import _band

LENGTHS, BUDGETS, COSINES = (500, 2000), (64, 1000), (0.5, 0.9)


def make_law(at=1):
    rows = subq.work_by_length([1024, 8192, 2**20], 4096)
    return figures.length_law(rows, [(2**18, 32.5)], budget=4096, at=at)


def make_recall(first=(500, 64, 0.5)):
    cells = {
        (n, b, c): {"hash": (100 * c, n + b), "oracle": (100.0, 2 * n + b)}
        for n in LENGTHS
        for b in BUDGETS
        for c in COSINES
    }
    return figures.needle_recall(
        cells, lengths=LENGTHS, budgets=BUDGETS, cosines=COSINES, first=first
    )


def make_curves():
    views = {
        name: figures.View(
            {
                "hash": ([1, 10, 100], [k, 2 * k, 3 * k]),
                "dense": ([1, 100], [k, k]),
                "window": ([], []),
            },
            f"Title {name}",
            f"Alternative {name}.",
        )
        for name, k in (("small", 1.0), ("large", 50.0))
    }
    ticks = {1: "1", 10: "10", 100: "100"}
    return figures.curves(views, x_label="tokens", control="Size", x_ticks=ticks, y_log=True)


def test_the_law_says_how_many_pairs_are_saved():
    assert title_of(make_law(0)) == "Shorter than two budgets: nothing is saved"
    assert title_of(make_law(2)) == "128.0 times fewer pairs"
    assert "adds 8.0 times that work" in make_law(2).drawing.alt


def test_the_band_is_as_large_as_the_share_of_pairs():
    for n_tokens in (8192, 40_960):
        x, y = map(np.array, _band(4096 / n_tokens))
        area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
        assert area / 0.5 == pytest.approx(1 / subq.exact_work_ratio(n_tokens, 4096), rel=1e-3)


def test_recall_and_price_stand_by_the_readers_choice():
    figure = make_recall()
    assert title_of(figure) == "Hash: 50 % of the needles"
    assert "hash 50 %, oracle 100 %" in figure.drawing.alt
    (source,) = sources_with(figure, "recall")
    assert list(source["cost_text"]) == ["564", "1,064"]
    assert title_of(make_recall((500, 1000, 0.9))) == "The budget covers the whole text"


def test_curves_leave_out_what_has_no_points_and_refuse_other_names():
    figure = make_curves()
    assert title_of(figure) == "Title small"
    assert '"window"' not in figure.drawing.item
    odd = {"": figures.View({"psychic": ([1], [1])}, "t", "a")}
    with pytest.raises(ValueError, match="got \\['psychic'\\]"):
        figures.curves(odd, x_label="x")


@pytest.mark.browser
def test_the_controls_move_the_figures(site, open_page):
    write_figures(site, "subq", [make_law(), make_recall(), make_curves()])
    page = open_page("subq", local=True)
    law, recall, curves = drawn_figures(page)
    law.get_by_role("slider", name="Tokens in the text").press("ArrowRight")
    expect(law.locator(".aix-caption")).to_contain_text("At 1,048,576 tokens")
    recall.get_by_role("button", name="0.9").click()
    expect(recall.locator(".aix-caption")).to_contain_text("hash 90 %")
    curves.get_by_role("button", name="large").click()
    expect(curves.locator(".aix-caption")).to_contain_text("Alternative large.")
