"""Figures of the gated delta rule: what they count is in the state, what they say is recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figuredata import drawn_figures, sources_with, title_of, write_figures
from playwright.sync_api import Page, expect

from aiexplained import viz
from aiexplained.viz import gated_delta as figures

RULES, KEYS, STEPS = (
    ("adds", "corrects"),
    ("apart", "alike", "the same"),
    ("nothing", "a", "b", "c"),
)
THINGS, VALUES = ("sky", "leaf"), ("blue", "green", "gray", "red", "white")
"""All sizes differ, so that a swapped axis cannot pass."""

SAID = np.array([[-1, -1], [0, -1], [2, -1], [2, 1]])


def make_steps(first: tuple[int, int, int] = (0, 0, 0)) -> viz.Explorable:
    """Sky is blue, then gray; leaf is green. The first rule adds, the second replaces."""
    answers = np.zeros((len(RULES), len(KEYS), len(STEPS), len(THINGS), len(VALUES)))
    answers[:, :, 1:, 0, 0] = 1
    answers[:, :, 2:, 0, 2] = 1
    answers[1, :, 2:, 0, 0] = -0.25
    answers[:, :, 3:, 1, 1] = 0.5
    answers[:, 1, 3:, 1, 3] = 0.48
    states = np.concatenate([answers, answers[..., :1, :]], axis=-2)
    labels = {"rules": RULES, "keys": KEYS, "steps": STEPS}
    return figures.state_steps(
        states, answers, SAID, **labels, things=THINGS, values=VALUES, first=first
    )


def entry(width: int, ours: float, **setting: Any) -> dict[str, Any]:
    seconds = {"ours": ours, "chunks": 8 * ours, "transformers": 10 * ours, "loop": 50 * ours}
    return {
        "setting": {"instructions": "AVX2", "width": width, "tokens": 1000, **setting},
        "result": {"heads": 4, "seconds": seconds, "over": {"transformers": 10.0}},
    }


ENTRIES = [entry(128, 4e-3), entry(64, 1e-3)]
CHUNKS = [entry(w, 1e-3 * w / 64, chunk=c) for w in (64, 128) for c in (16, 64, 32)]
for each in CHUNKS:
    each["result"]["seconds"]["chunks"] = 1e-5 * (60 + abs(each["setting"]["chunk"] - 32))
WORK = {64: (1.2, 1.4, 1.8), 128: (1.1, 1.2, 1.4)}


def test_an_answer_is_right_where_the_last_word_is_alone_the_loudest() -> None:
    assert title_of(make_steps((0, 0, 0))) == "“nothing”: nothing is asked"
    assert title_of(make_steps((0, 0, 1))) == "“a”: 1 of 1 answered right"
    assert title_of(make_steps((0, 0, 2))) == "“b”: 0 of 1 answered right", "blue and gray tie"
    assert title_of(make_steps((1, 0, 2))) == "“b”: 1 of 1 answered right"
    assert title_of(make_steps((1, 0, 3))) == "“c”: 2 of 2 answered right"
    assert title_of(make_steps((1, 1, 3))) == "“c”: 1 of 2 answered right", "too near to tell"


def test_what_is_heard_is_said_loudest_first() -> None:
    said = make_steps((1, 2, 3)).drawing.alt
    assert said.startswith("The rule corrects; the keys are the same. After “c”, 2 of 2 things")
    assert "sky: gray 1.0, blue -0.2 (said: gray); leaf: green 0.5 (said: green)." in said
    assert make_steps().drawing.alt.endswith("After “nothing”, nothing that was said holds.")


def test_a_mark_is_as_large_as_its_number_and_negative_ones_are_marks_of_their_own() -> None:
    cells = sources_with(make_steps((1, 0, 2)), "plus")
    assert sorted(len(cell["name"]) for cell in cells) == [5 * len(THINGS), 5 * 3]
    assert all("minus" in cell and "number" in cell for cell in cells)


def test_forms_stand_in_order_of_width_and_say_the_ratio() -> None:
    figure = figures.forms(ENTRIES)
    assert title_of(figure) == "The C++ loop: 10.0 times as fast as HF chunks"
    assert figure.drawing.alt == (
        "AVX2, width 64, nanoseconds for a token and head: our loop in C++ 250; our chunks in "
        "torch 2,000; the chunks of transformers 2,500; the loop in torch 12,500."
    )
    assert "RadioButtonGroup" not in figures.forms(ENTRIES[:1]).drawing.item


def test_chunks_are_compared_at_their_best_length() -> None:
    figure = figures.chunk_sizes(CHUNKS, WORK)
    assert title_of(figure) == "Even chunks of 32 take 0.6 times as long as the loop"
    assert "chunks of 32 tokens are fastest, with 150 nanoseconds" in figure.drawing.alt
    assert "Chunks of 16 do 1.2 times the arithmetic of the loop in 63 steps" in figure.drawing.alt
    (source,) = sources_with(figure, "steps")
    assert source["chunk"] == [16, 32, 64]
    assert source["steps"] == [63, 32, 16]


def test_every_figure_is_the_same_bytes_twice() -> None:
    makers: tuple[Callable[[], viz.Explorable], ...] = (
        make_steps, lambda: figures.forms(ENTRIES), lambda: figures.chunk_sizes(CHUNKS, WORK),
    )  # fmt: skip
    for make in makers:
        assert make()._repr_mimebundle_() == make()._repr_mimebundle_()


@pytest.mark.browser
def test_titles_and_captions_follow_the_controls(
    site: Path, open_page: Callable[..., Page]
) -> None:
    drawn = (make_steps(), figures.forms(ENTRIES), figures.chunk_sizes(CHUNKS, WORK))
    write_figures(site, "gated_delta", drawn)
    page = open_page("gated_delta", local=True)
    steps, bars, chunks = drawn_figures(page)
    slider = steps.get_by_role("slider", name="Said last")
    for _ in range(2):
        slider.press("ArrowRight")
    expect(steps.locator(".aix-caption")).to_contain_text("After “b”, 0 of 1 things")
    steps.get_by_role("button", name="corrects").click()
    expect(steps.locator(".aix-caption")).to_contain_text("The rule corrects; the keys are apart")
    assert titles(steps)[0] == "“b”: 1 of 1 answered right"
    bars.get_by_role("button", name="width 128").click()
    expect(bars.locator(".aix-caption")).to_contain_text("AVX2, width 128, nanosec")
    chunks.get_by_role("button", name="128").click()
    expect(chunks.locator(".aix-caption")).to_contain_text("Heads of 128 numbers")
    assert titles(chunks)[0] == "Even chunks of 32 take 0.3 times as long as the loop"


def titles(figure: Any) -> list[str]:
    """The plots' titles, each on one line."""
    return figure.evaluate("""figure => {
      const models = [...window.aiexplained.drawn.get(figure).doc.all_models];
      const texts = models.map((m) => m.title?.text).filter((text) => typeof text === "string");
      return texts.map((text) => text.replaceAll("\\n", " ")).filter((text) => text.trim());
    }""")
