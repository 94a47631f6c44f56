"""The figure of sizes: what its bars, titles and table hold is the package's account."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from figuredata import drawn_figures, sources_with, title_of, write_figures
from playwright.sync_api import Page, expect

from aiexplained import viz
from aiexplained.concepts.ternary_mamba import account
from aiexplained.viz import ternary_mamba as figures
from aiexplained.viz.ternary_mamba.size import TERMS

SIZES, GROUPS = ("130M", "370M", "1.3B"), (32, 128)


def make(first: tuple[int, int, int] = (2, 1, 0)) -> viz.Explorable:
    return figures.size_account(
        account.measure_sizes(SIZES, GROUPS), sizes=SIZES, groups=GROUPS, first=first,
        printed={"1.3B": account.PAPER_TERNARY_MB},
    )  # fmt: skip


def test_the_title_gives_both_sizes_and_their_ratio() -> None:
    assert title_of(make()) == "1.3B: 2,687.5 MB become 743.9 MB, 3.61 times smaller"
    assert title_of(make((2, 1, 1))) == "1.3B: 2,687.5 MB become 537.9 MB, 5.00 times smaller"
    assert title_of(make((0, 0, 0))).startswith("130M: 258.0 MB become ")


def test_the_alternative_names_each_term_and_what_the_paper_prints() -> None:
    alt = make().drawing.alt
    assert "output shared: 2,687.5 MB (projections 2,478.8, embedding 206.0, the rest 2.7)" in alt
    assert "(projections 309.9, scales 19.4, embedding 206.0, output 206.0, the rest 2.7)" in alt
    assert "takes 2.125 bits. The paper prints 744 MB, as this account does." in alt
    assert "The paper prints 744 MB, which this is not." in make((2, 0, 0)).drawing.alt
    small = make((0, 1, 1)).drawing.alt
    assert "paper" not in small
    assert "output 7" not in small  # a tied head takes nothing


@pytest.mark.parametrize("first", [(0, 0, 1), (2, 1, 0)])
def test_the_parts_of_a_bar_follow_one_another_and_add_up(first: tuple[int, int, int]) -> None:
    ((data),) = sources_with(make(first), "bar")
    shape = account.SHAPES[SIZES[first[0]]]
    small = account.size_terms(shape, group_size=GROUPS[first[1]], tied_head=bool(first[2]))
    sizes = [sum(account.full_size(shape).values()), sum(small.values())]
    reached = [0.0, 0.0]
    for name in TERMS:
        parts = _numbers(data[name])
        reached = [a + b for a, b in zip(reached, parts, strict=True)]
        assert _numbers(data[f"{name} to"]) == pytest.approx(reached, rel=1e-6)
    assert reached == pytest.approx([size / 1e6 for size in sizes], rel=1e-6)
    assert _numbers(data["projections"])[1] == pytest.approx(small["codes"] / 1e6)


def _numbers(column: object) -> list[float]:
    """Numbers of a column as the document carries them: packed, then in base 64."""
    assert isinstance(column, dict)
    raw = gzip.decompress(base64.b64decode(column["array"]["data"]))
    return np.frombuffer(raw, dtype=column["dtype"]).astype(float).tolist()


def test_a_missing_account_is_named() -> None:
    rows = account.measure_sizes(["370M"], (32,))
    with pytest.raises(ValueError, match="no account of \\('370M', 128, False\\)"):
        figures.size_account(rows, sizes=["370M"], groups=GROUPS)


def test_the_figure_is_the_same_bytes_twice_and_small_enough_for_the_page() -> None:
    assert make()._repr_mimebundle_() == make()._repr_mimebundle_()
    whole = figures.size_account(
        account.measure_sizes(), sizes=list(account.SHAPES), groups=account.GROUP_SIZES,
        printed={"1.3B": account.PAPER_TERNARY_MB},
    )  # fmt: skip
    assert len(whole.drawing.item) < 50_000


@pytest.mark.browser
def test_title_and_caption_follow_the_controls(site: Path, open_page: Callable[..., Page]) -> None:
    write_figures(site, "ternary-mamba-size", [make()])
    page = open_page("ternary-mamba-size", local=True)
    (figure,) = drawn_figures(page)
    caption = figure.locator(".aix-caption")
    expect(caption).to_contain_text("output apart: 743.9 MB")
    figure.get_by_role("button", name="shared with the embedding").click()
    expect(caption).to_contain_text("output shared: 537.9 MB")
    figure.get_by_role("slider", name="Weights that share a scale").press("ArrowLeft")
    expect(caption).to_contain_text("groups of 32, output shared: 596.0 MB")
    figure.get_by_role("button", name="130M").click()
    expect(caption).to_contain_text("130M in 16 bits, output shared: 258.0 MB")
