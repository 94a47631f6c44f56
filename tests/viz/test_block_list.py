"""The block-list figures: what they count is what the lists read, and what they say is recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figuredata import drawn_figures, title_of, write_figures
from playwright.sync_api import Page, expect

from aiexplained import viz
from aiexplained.nn import block_list_mask
from aiexplained.viz import block_list as figures

BLOCK, N = 64, 5
BUDGETS, SINKS = (1, 2, 4), (0, 7)
HEADS, KINDS = ("nearby", "far"), ("Sliding window", "Every block", "Own block", "None")
SHAPE = (len(HEADS), len(KINDS), len(BUDGETS), len(SINKS))
"""All sizes differ, so that a swapped axis cannot pass."""


def visible(budget: int, sinks: int) -> np.ndarray:
    """Shares of visible pairs under a window of ``budget`` blocks, from the definition."""
    every = torch.arange(N, dtype=torch.int32).expand(1, 1, N, N)
    counts, tokens = torch.full((1, 1, N), N), N * BLOCK
    mask = block_list_mask(
        counts, every, tokens, tokens, window_size=budget * BLOCK, sink_tokens=sinks
    )[0, 0]
    return mask.view(N, BLOCK, N, BLOCK).double().mean(dim=(1, 3)).numpy()


def make_map(first: tuple[int, int, int, int] = (0, 0, 1, 1)) -> viz.Explorable:
    shares, kept = np.zeros((*SHAPE, N, N)), np.zeros((*SHAPE, N))
    for at in np.ndindex(SHAPE):
        _, kind, budget, sink = at
        own = visible(1, 0) if kind != 1 else visible(N, 0)
        shares[at] = visible(BUDGETS[budget], SINKS[sink]) if kind == 0 else own
        kept[at] = 10 * (1 + budget + sink) + np.arange(N)
    attention = np.tril(np.ones((len(HEADS), N, N))) / np.arange(1, N + 1)[:, None]
    return figures.block_map(
        shares, kept, attention, heads=HEADS, kinds=KINDS, budgets=BUDGETS, sinks=SINKS, first=first
    )


def entry(device: str, dtype: str, dim: int, tokens: int, **more: Any) -> dict[str, Any]:
    result = {
        "work_ratio": tokens / 2000, "over_dense": tokens / 4000, "over_flex": tokens / 8000,
        "spread": {"over_dense": [tokens / 5000, tokens / 3000], "over_flex": [1.0, 2.0]},
        "ours_tflops": 0.3, "dense_tflops": 0.2, "gemm_tflops": 0.5, **more,
    }  # fmt: skip
    unit = {"cpu": "AVX2", "gpu": "Triton"}[device]
    setting = {
        "device": device, "instructions": unit, "dtype": dtype, "head_dim": dim, "tokens": tokens,
    }  # fmt: skip
    made_on = {"cpu": "AMD EPYC, 2 cores", "gpu": "NVIDIA H100 80GB HBM3"}[device]
    return {"setting": setting, "result": result, "provenance": {"device": made_on}}


CPU = [
    entry("cpu", "float32", 64, 8000),
    *(entry("cpu", "bfloat16", 64, tokens) for tokens in (128000, 8000, 32000)),
]
GPU = [entry("gpu", "bfloat16", 128, tokens) for tokens in (8000, 32000)]


def test_a_window_with_sinks_reads_the_blocks_that_a_pencil_finds() -> None:
    # Rows 0 to 4 of five: the diagonal and the window's far edge are cut (two blocks back, from
    # row 2 on), the block before the own one is whole, and the sinks cut block 0 in rows 3 and 4.
    said = make_map().drawing.alt
    assert "4 pairs of blocks are read whole, 10 are read and masked inside, 1 are not" in said
    assert "2 key blocks besides its own block and 7 sink tokens" in said
    assert "93 % of the work of dense attention" in said


def test_without_sinks_fewer_blocks_are_read() -> None:
    said = make_map((0, 0, 1, 0)).drawing.alt
    assert "4 pairs of blocks are read whole, 8 are read and masked inside, 3 are not" in said
    assert "sink tokens" not in said


def test_the_title_counts_blocks_and_attention() -> None:
    assert title_of(make_map()) == "14 of 15 blocks are read, with 32 % of the attention"


def test_the_map_says_one_block_in_the_singular() -> None:
    assert "Sliding window: 1 key block besides" in make_map((1, 0, 0, 0)).drawing.alt


def test_series_are_told_apart_and_stand_in_order() -> None:
    series = figures.series_of([*GPU, *CPU])
    assert list(series) == [
        "H100, bfloat16, width 128",
        "CPU with AVX2, bfloat16, width 64",
        "CPU with AVX2, float32, width 64",
    ]
    assert [p.tokens for p in series["CPU with AVX2, bfloat16, width 64"]] == [8000, 32000, 128000]


def test_a_point_is_the_record_beside_its_limits() -> None:
    (point,) = figures.series_of(CPU[:1])["CPU with AVX2, float32, width 64"]
    assert (point.work, point.ours, point.rival) == (4, 2, 2)
    assert (point.low, point.high) == pytest.approx((1.6, 8 / 3))
    assert point.efficiency == pytest.approx(50)
    assert (point.share, point.dense_share) == pytest.approx((60, 40))


def test_shares_are_of_the_highest_peak_of_a_machine() -> None:
    slow = entry("cpu", "float32", 64, 16000, gemm_tflops=0.4)
    points = figures.series_of([slow, CPU[0]])["CPU with AVX2, float32, width 64"]
    assert [p.share for p in points] == pytest.approx([60, 60])


def test_without_a_gpu_the_figure_stands() -> None:
    one = figures.speed(figures.series_of(CPU[1:]))
    assert "H100" not in one.drawing.item
    assert "RadioButtonGroup" not in one.drawing.item, "nothing to choose from"
    assert "at 128,000 tokens 32.0 times (64.0 times fewer pairs" in one.drawing.alt
    both = figures.speed(figures.series_of([*CPU, *GPU]))
    assert "H100, bfloat16, width 128. How much faster" in both.drawing.item


def test_the_title_of_the_speed_states_work_and_time() -> None:
    title = title_of(figures.speed(figures.series_of(CPU)))
    assert title == "At 128,000 tokens: 64 times less work, 32 times as fast as dense"


def test_the_table_has_a_row_for_every_record() -> None:
    table = figures.SpeedTable(figures.series_of([*CPU, *GPU]))
    html = table._repr_html_()
    assert html.count("<tbody>") == 3
    assert html.count('<th scope="row">') == len(CPU) + len(GPU)
    row = '<th scope="row">8,000</th><td>4.0\u00a0×</td><td>2.0\u00a0×</td><td>50\u00a0%</td>'
    assert f"{row}<td>2.0\u00a0×</td><td>60\u00a0%</td><td>40\u00a0%</td>" in html
    assert "8,000 | 4.0\u00a0×" in repr(table)


def test_every_figure_is_the_same_bytes_twice() -> None:
    makers: tuple[Callable[[], viz.Explorable], ...] = (
        make_map, lambda: figures.speed(figures.series_of([*CPU, *GPU])),
    )  # fmt: skip
    for make in makers:
        assert make()._repr_mimebundle_() == make()._repr_mimebundle_()


@pytest.mark.browser
def test_titles_colors_and_captions_follow_the_controls(
    site: Path, open_page: Callable[..., Page]
) -> None:
    speed = figures.speed(figures.series_of([*CPU, *GPU]))
    write_figures(site, "block_list", (make_map(), speed))
    page = open_page("block_list", local=True)
    first, second = drawn_figures(page)
    assert title(first) == "14 of 15 blocks are read, with 32 % of the attention"
    assert drawn(first) == {"1": 10, "2": 4}
    first.get_by_role("slider", name="Sink tokens").press("ArrowLeft")
    expect(first.locator(".aix-caption")).to_contain_text("8 are read and masked inside")
    assert title(first) == "12 of 15 blocks are read, with 22 % of the attention"
    assert drawn(first) == {"1": 8, "2": 4}
    expect(second.locator(".aix-caption")).to_contain_text("H100, bfloat16, width 128")
    second.get_by_role("button", name="float32").click()
    expect(second.locator(".aix-caption")).to_contain_text("CPU with AVX2, float32, width 64")
    assert title(second) == "At 8,000 tokens: 4 times less work, 2 times as fast as dense"


def title(figure: Any) -> str:
    """The plot's title, on one line."""
    return figure.evaluate("""figure => {
      const models = [...window.aiexplained.drawn.get(figure).doc.all_models];
      return models.find((m) => m.title?.text).title.text.replaceAll("\\n", " ");
    }""")


def drawn(figure: Any) -> dict[str, int]:
    """Blocks that the page draws in each state, as its filters let them through."""
    return figure.evaluate("""figure => {
      const models = [...window.aiexplained.drawn.get(figure).doc.all_models];
      const views = models.filter((m) => m.type === "CDSView" && m.filter.group);
      return Object.fromEntries(views.map((v) => [v.filter.group, [...v.indices.ones()].length]));
    }""")
