"""Figures of recorded results on Ternary Mamba: what they draw is what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figuredata import drawn_figures, numbers, page_with_rules, sources_with, write_figures
from playwright.sync_api import Browser, Page, expect

from aiexplained import viz
from aiexplained.viz import ternary_mamba as figures
from aiexplained.viz.explorable import PAGE_WIDTH, PHONE_WIDTH
from aiexplained.viz.ternary_mamba import drift, weight_budget

STEPS, HEIGHT, WIDTH = (0, 50, 1200), 5, 7


def make_run(label: str, shares: tuple[float, ...], seed: int) -> dict[str, Any]:
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH))
    codes = [np.where(np.abs(noise) < 2 * share, 0, np.sign(noise)).astype(int) for share in shares]
    return {
        "label": label, "zeros": list(zip(STEPS, shares, strict=True)),
        "low": [x - 0.01 for x in shares], "high": [x + 0.02 for x in shares], "codes": codes,
    }  # fmt: skip


def make_runs() -> list[dict[str, Any]]:
    return [
        make_run("recomputed", (0.3125, 0.3135, 0.312), 1),
        make_run("learned", (0.315, 0.405, 0.525), 2),  # 0.525: a half that is rounded
    ]


def make_drift(first: tuple[int, int] | None = None, **changes: Any) -> viz.Explorable:
    runs = make_runs()
    runs[1] |= changes
    return figures.zero_drift(runs, patch="the input projection", first=first)


def test_the_drift_starts_with_the_last_run_and_step_and_tells_both() -> None:
    run = make_runs()[1]
    count = {code: int((run["codes"][2] == code).sum()) for code in (0, 1, -1)}
    assert make_drift().drawing.alt == (
        "learned: 52.5 % of the weights are zero after 1,200 steps (51.5 to 54.5 % over seeds), "
        "31.5 % at step 0. At the same step: recomputed 31.2 %. Of the 5 x 7 weights of the input "
        f"projection, {count[0]} are zero, {count[1]} are +1 and {count[-1]} are −1."
    )
    title = "recomputed: 31 % of the weights are zero before training"
    assert title in make_drift((0, 0)).drawing.item


def test_the_curves_are_the_shares_in_percent() -> None:
    runs, sources = make_runs(), sources_with(make_drift(), "low")
    assert len(sources) == 2
    for run, source in zip(runs, sources, strict=True):
        assert source["x"] == list(STEPS)
        assert source["y"] == pytest.approx([100 * share for _, share in run["zeros"]])
        assert source["low"] == pytest.approx([100 * share for share in run["low"]])
        assert source["high"] == pytest.approx([100 * share for share in run["high"]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "recomputed"}, "differ in name, got \\['recomputed', 'recomputed'\\]"),
        ({"zeros": [(0, 0.3), (51, 0.4), (1200, 0.5)]}, "'learned' has \\[0, 51, 1200\\]"),
        ({"low": [0.1, 0.2]}, "3 of each, one a step, got {'low': 2"),
        ({"high": [0.9, 0.1, 0.9]}, "share <= high <= 1, but 'learned' has"),
        ({"codes": [np.zeros((WIDTH, HEIGHT), int)] * 3}, "one shape \\(R, C\\), 'learned' has"),
        ({"codes": [np.full((HEIGHT, WIDTH), 2)] * 3}, "'learned' has \\[2\\]"),
        ({"codes": [np.full((HEIGHT, WIDTH), 0.5)] * 3}, "'learned' has \\[0.5\\]"),
    ],
)
def test_the_drift_names_the_rule_that_a_run_breaks(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_drift(**changes)


def test_the_drift_refuses_a_place_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="3 is not a position among 3"):
        make_drift((0, 3))


def test_four_runs_of_a_large_patch_fit_the_page() -> None:
    rng = np.random.default_rng(3)
    steps, shares = range(0, 225, 25), np.linspace(0.3, 0.5, 9)
    runs = [
        {
            "label": f"{name}, decay 0.1", "zeros": list(zip(steps, shares, strict=True)),
            "low": shares - 0.0123, "high": shares + 0.0071,
            # The worst case: a new draw at every step.
            "codes": [rng.integers(-1, 2, (12, 48)) for _ in steps],
        }
        for name in ("recomputed", "learned", "both", "neither")
    ]  # fmt: skip
    figure = figures.zero_drift(runs, patch="the input projection of layer 2")
    assert len(figure.drawing.item.encode()) < 50_000


@pytest.fixture(scope="module")
def rule(browser: Browser) -> Iterator[Page]:
    yield from page_with_rules(browser, drift.RULE)


def draw_in_browser(rule: Page, run: int, at: int, codes: Any) -> dict[str, Any]:
    """What the rule makes of plain objects that remember what they are given."""
    runs = make_runs()
    shares = [[r["low"], [share for _, share in r["zeros"]], r["high"]] for r in runs]
    texts = [f"{step:,}" for step in STEPS]
    found: dict[str, Any] = rule.evaluate(
        """(args) => {
          args.lines = args.labels.map(() => ({}));
          Object.assign(args, {cells: {data: {kept: 1}}, now: {}, title: {}, alt: {}});
          aiexplained.rules.ternary_mamba_drift.draw(args);
          return args;
        }""",
        {
            "labels": [r["label"] for r in runs], "steps": texts, "at": list(STEPS),
            "when": ["before training", *(f"after {text} steps" for text in texts[1:])],
            "patch": "the input projection", "shape": [HEIGHT, WIDTH],
            "pick": {"active": run}, "slider": {"value": at}, "thin": 2, "thick": 4,
            "shares": (100 * np.array(shares)).ravel().tolist(), "codes": codes.ravel().tolist(),
        },
    )  # fmt: skip
    return found


def packed_codes() -> Any:
    """Codes of both runs as the page carries them: by weight, run and step."""
    codes = np.array([run["codes"] for run in make_runs()])
    return codes.reshape(2, len(STEPS), -1).transpose(2, 0, 1)


@pytest.mark.browser
@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("at", range(len(STEPS)))
def test_the_browser_tells_and_draws_what_python_does(rule: Page, run: int, at: int) -> None:
    found, expected = draw_in_browser(rule, run, at, packed_codes()), make_drift((run, at))
    assert found["alt"]["data"]["text"] == [expected.drawing.alt]
    assert f'"{found["title"]["text"]}"' in expected.drawing.item
    codes = make_runs()[run]["codes"][at]
    assert found["cells"]["data"] == {"kept": 1, "code": codes.ravel().tolist()}
    share = make_runs()[run]["zeros"][at][1]
    assert found["now"]["data"]["x"] == [STEPS[at]]
    assert found["now"]["data"]["y"] == pytest.approx([100 * share])
    assert [line["line_width"] for line in found["lines"]] == ([2, 4] if run else [4, 2])


@pytest.mark.browser
def test_the_comparison_would_catch_codes_packed_in_another_order(rule: Page) -> None:
    found = draw_in_browser(rule, 1, 0, packed_codes().transpose(0, 2, 1))
    assert found["alt"]["data"]["text"] != [make_drift((1, 0)).drawing.alt]


KB = {"16 bits": 672, "8": 352, "4": 197, "3": 157}
POINTS = [
    {
        "name": name, "kind": "rounded" if i else "full", "bytes": 1000 * kb,
        "losses": [1.68 + 0.01 * i**2, 1.67 + 0.01 * i**2],
    }
    for i, (name, kb) in enumerate(KB.items())
] + [
    {"name": "ternary, rounded", "kind": "rounded", "bytes": 148_496, "losses": [2.0, 1.97, 2.03]},
    {
        "name": "ternary, trained", "kind": "trained ternary", "bytes": 148_496,
        "losses": [1.743, 1.75, 1.751],
    },
    {"name": "small", "kind": "small model", "bytes": 147_001, "losses": [1.86, 1.85]},
]  # fmt: skip


def make_budget(points: Any = POINTS) -> viz.Explorable:
    return figures.loss_by_bytes(points, title="T", alt="A.")


def test_a_mark_stands_at_its_size_and_mean_loss() -> None:
    (source,) = sources_with(make_budget(), "kb")
    found = numbers(source, "name", "kind", "kb", "low", "high", "seeds")
    assert found[0] == ("16 bits", "full", 672.0, 1.67, 1.68, 2)
    assert found[4:] == [
        ("ternary, rounded", "rounded", 148.496, 1.97, 2.03, 3),
        ("ternary, trained", "trained ternary", 148.496, 1.743, 1.751, 3),
        ("small", "small model", 147.001, 1.85, 1.86, 2),
    ]
    assert source["mean"] == pytest.approx([np.mean(p["losses"]) for p in POINTS])


def covered(columns: dict[str, Any], places: Any, width: int) -> float:
    """Square pixels of names that lie outside the frame, on a mark or on another name."""
    ends = weight_budget.axis_ends(columns)
    frame, marks = weight_budget.mark_boxes(columns, width, *ends)
    names = [
        weight_budget.name_box(name, place, mark)
        for name, place, mark in zip(columns["name"], places, marks, strict=True)
    ]
    total = 0.0
    for i, box in enumerate(names):
        area = (box[2] - box[0]) * (box[3] - box[1])
        total += area - weight_budget.overlap(box, frame)
        total += sum(weight_budget.overlap(box, other) for other in marks + names[i + 1 :])
    return total


@pytest.mark.parametrize("width", [PHONE_WIDTH, PAGE_WIDTH])
def test_names_cover_neither_marks_nor_one_another(width: int) -> None:
    (source,) = sources_with(make_budget(), "kb")
    places = numbers(source, "align", "dx", "dy")
    assert covered(source, places, width) == 0


def test_names_that_all_stand_on_the_right_would_cover_something() -> None:
    (source,) = sources_with(make_budget(), "kb")
    assert covered(source, [weight_budget.PLACES[0]] * len(POINTS), PHONE_WIDTH) > 0


def test_one_model_alone_is_drawn() -> None:
    (source,) = sources_with(make_budget([POINTS[0] | {"losses": [1.5]}]), "kb")
    assert source["mean"] == [1.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "one of \\['full', .*'16 bits' has 'magic'"),
        ({"bytes": 0}, "bytes are positive, '16 bits' has 0"),
        ({"bytes": float("nan")}, "bytes are positive, '16 bits' has nan"),
        ({"losses": []}, "at least one; '16 bits' has \\[\\]"),
        ({"losses": [1.0, float("inf")]}, "losses are finite, at least one; '16 bits'"),
    ],
)
def test_the_budget_names_the_rule_that_a_point_breaks(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_budget([POINTS[0] | change])
    with pytest.raises(ValueError, match="at least one point"):
        make_budget([])


@pytest.mark.parametrize("make", [make_drift, make_budget])
def test_every_figure_is_the_same_bytes_twice(make: Callable[[], viz.Explorable]) -> None:
    assert make()._repr_mimebundle_() == make()._repr_mimebundle_()


@pytest.mark.browser
def test_figures_are_drawn_on_a_phone_and_follow_their_controls(
    site: Path, open_page: Callable[..., Page]
) -> None:
    write_figures(site, "ternary-mamba-results", [make_drift(), make_budget()])
    page = open_page("ternary-mamba-results", local=True, width=390)
    drifting, budget = drawn_figures(page)
    expect(budget.get_by_text("Data as a table")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    caption = drifting.locator(".aix-caption")
    expect(caption).to_contain_text("learned: 52.5 % of the weights are zero after 1,200 steps")
    drifting.get_by_role("slider", name="Training step").press("ArrowLeft")
    expect(caption).to_contain_text("learned: 40.5 % of the weights are zero after 50 steps")
    drifting.get_by_role("button", name="recomputed").click()
    expect(caption).to_have_text(make_drift((0, 1)).drawing.alt)
