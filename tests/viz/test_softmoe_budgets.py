"""Budgets of SoftMoE's layers: the browser shares and tells them as Python does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figuredata import (
    attributes_of,
    drawn_figures,
    numbers,
    page_with_rules,
    sources_with,
    write_figures,
)
from playwright.sync_api import Browser, Page, expect

from aiexplained import viz
from aiexplained.concepts.softmoe.routing import LayerBudgets
from aiexplained.viz import softmoe as figures
from aiexplained.viz.assets import rule_file
from aiexplained.viz.softmoe import budgets, journey

ETAS = (-0.6, 0.1, 0.0, 1.7, -3.0)
N_EXPERTS = 17


def make_compete(etas: Any = ETAS, **changes: Any) -> viz.Explorable:
    return figures.compete(etas, **{"mean": 1.5, "n_experts": N_EXPERTS, **changes})


def package_budgets(etas: Any, mean: float) -> list[float]:
    layer = LayerBudgets(len(etas), mean, 1000)
    layer.eta = torch.nn.Parameter(torch.tensor(etas, dtype=torch.float64))
    found: list[float] = layer().tolist()
    return found


@pytest.fixture(scope="module")
def rules(browser: Browser) -> Iterator[Page]:
    yield from page_with_rules(browser, budgets.RULE, journey.RULE)


def browser_budgets(page: Page, etas: Any, mean: float) -> list[float]:
    found: list[float] = page.evaluate(
        "([etas, mean]) => aiexplained.rules.softmoe_budgets.budgets(etas, mean)",
        [list(etas), mean],
    )
    return found


# A few roundings of a double each: an exponential, a sum, a division, a product, a sum.
TOLERANCE = 32 * np.finfo(float).eps


@pytest.mark.browser
@pytest.mark.parametrize("mean", [1.0, 1.1, 1.5, 3.0])
@pytest.mark.parametrize("n_layers", [1, 2, 7, 23])
def test_the_browser_shares_the_sum_as_the_package_does(
    rules: Page, n_layers: int, mean: float
) -> None:
    rng = np.random.default_rng(n_layers)
    for scale in (0, 1, 300):
        etas = (scale * rng.normal(size=n_layers)).tolist()
        found = browser_budgets(rules, etas, mean)
        assert found == pytest.approx(package_budgets(etas, mean), rel=TOLERANCE)
        assert sum(found) == pytest.approx(n_layers * mean, rel=TOLERANCE)
        assert min(found) >= 1


@pytest.mark.browser
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("(mean - 1)", "mean"), ("* free + 1", "* free"), ("Math.exp(eta - highest)", "eta ** 2")],
)
def test_the_comparison_would_catch_a_wrong_rule(browser: Browser, right: str, wrong: str) -> None:
    script = rule_file(budgets.RULE).read_text("utf-8")
    assert right in script
    page = browser.new_page()
    page.add_script_tag(content=script.replace(right, wrong))
    found = browser_budgets(page, ETAS, 1.5)
    page.close()
    assert found != pytest.approx(package_budgets(ETAS, 1.5), rel=1e-3)


@pytest.mark.parametrize("mean", [1.0, 1.5, 3.0])
def test_the_first_bars_are_the_budgets_of_the_package(mean: float) -> None:
    (bars,) = sources_with(make_compete(mean=mean), "eta")
    assert bars["budget"] == pytest.approx(package_budgets(ETAS, mean), rel=TOLERANCE)
    assert bars["eta"] == list(ETAS)
    assert bars["label"] == [f"{b:.1f}" for b in bars["budget"]]


def test_the_first_state_is_told_with_its_numbers() -> None:
    figure, shared = make_compete(layer=1), package_budgets(ETAS, 1.5)
    assert f'"Layer 1 takes {shared[0]:.1f}; the five sum to 7.5"' in figure.drawing.item
    assert figure.drawing.alt == (
        "5 layers of 17 experts compete for a sum of 7.5, 1.5 on average. Each keeps 1; the other "
        f"2.5 go by the softmax of their wishes. Budgets from the bottom layer: "
        f"{', '.join(f'{b:.1f}' for b in shared)}. Layer 1, with a wish of −0.6, takes "
        f"{shared[0]:.1f}."
    )


def test_a_bar_that_is_too_high_moves_the_end_of_the_axis() -> None:
    def end(figure: viz.Explorable) -> float:
        return max(r["end"] for r in attributes_of(figure, "Range1d"))

    assert end(make_compete()) == budgets.HEIGHT + 0.5  # that of the layers, 5 of them
    tall = make_compete((3.0, -3.0, -3.0, -3.0, -3.0), mean=3.0)
    assert end(tall) == pytest.approx(
        budgets.ROOM * max(package_budgets([3.0, *[-3.0] * 4], 3.0)), rel=TOLERANCE
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"etas": [0.0]}, "two to 10 layers, got 1"),
        ({"etas": [0.0] * 11}, "two to 10 layers, got 11"),
        ({"etas": [0.0, 3.1]}, r"tenths from -3 to 3, got \[3.1\]"),
        ({"etas": [0.0, 0.25]}, r"tenths from -3 to 3, got \[0.25\]"),
        ({"etas": [0.0, float("nan")]}, r"tenths from -3 to 3, got \[nan\]"),
        ({"mean": 0.9}, "tenths from 1 to 3, got 0.9"),
        ({"mean": 1.25}, "tenths from 1 to 3, got 1.25"),
        ({"n_experts": 11}, "win up to 11, which must be less than its experts, got 11"),
        ({"layer": 6}, "5 is not a position among 5"),
        ({"layer": 0}, "-1 is not a position among 5"),
    ],
)
def test_the_competition_names_the_rule_that_is_broken(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_compete(**changes)


STEPS = (0, 50, 1200)
N_LAYERS = 7  # the last two are 30 % of them, rounded


def make_runs(n_runs: int = 3, n_layers: int = N_LAYERS, steps: Any = STEPS) -> list[Any]:
    wishes = np.random.default_rng(n_layers).normal(size=(n_runs, len(steps), n_layers))
    wishes[:, 0] = 0
    shared = [[package_budgets(wish, 1.5) for wish in run] for run in wishes]
    return [{"label": f"seed {i}", "budgets": run} for i, run in enumerate(shared)]


def make_journey(first: tuple[int, int] | None = None, **changes: Any) -> viz.Explorable:
    options = {"steps": STEPS, "reported_share": 0.5, **changes}
    return figures.budget_journey(options.pop("runs", make_runs()), first=first, **options)


def share(run: int, at: int) -> float:
    """Percent that the last two of seven layers hold."""
    budget = make_runs()[run]["budgets"][at]
    return 100 * sum(budget[-2:]) / sum(budget)


def test_the_journey_starts_with_the_first_run_and_the_last_step() -> None:
    budget = ", ".join(f"{b:.2f}" for b in make_runs()[0]["budgets"][2])
    assert make_journey().drawing.alt == (
        f"seed 0: after 1,200 steps the last 2 of 7 layers hold {share(0, 2):.1f} % of the budget "
        f"(28.6 % if shared evenly, 50 % in the source). Budgets from the bottom layer: {budget}. "
        f"In the other runs: seed 1 {share(1, 2):.1f} %; seed 2 {share(2, 2):.1f} %."
    )
    begin = make_journey((1, 0))
    assert '"Before training the last 2 of 7 layers hold 29 %"' in begin.drawing.item
    without = make_journey(reported_share=None)
    assert "in the source" not in without.drawing.alt
    assert "reported" not in without.drawing.item


def test_bars_marks_and_lines_are_the_budgets() -> None:
    figure, runs = make_journey((1, 1)), make_runs()
    (bars,) = sources_with(figure, "budget")
    assert bars["budget"] == pytest.approx(runs[1]["budgets"][1], rel=1e-6)
    (lines,) = sources_with(figure, "step")
    rows = numbers(lines, "run0", "run1", "run2")
    for at, row in enumerate(rows):
        assert row == pytest.approx([share(run, at) for run in range(3)], rel=1e-6)
    marks = next(s for s in sources_with(figure, "x") if len(s["x"]) == 2 * N_LAYERS)
    assert marks["y"] == pytest.approx(runs[0]["budgets"][1] + runs[2]["budgets"][1], rel=1e-6)
    assert [round(x) for x in marks["x"]] == [*range(1, 8), *range(1, 8)]
    assert len(set(marks["x"])) == 2 * N_LAYERS  # no run stands on another


def test_one_layer_of_three_is_the_last_of_them() -> None:
    figure = make_journey(runs=make_runs(n_layers=3))
    assert "the last of 3 layers holds" in figure.drawing.alt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": make_runs(1)}, r"two runs or more that differ in name, got \['seed 0'\]"),
        ({"runs": make_runs(1) * 2}, "differ in name"),
        ({"steps": (0, 50, 50)}, r"rising from 0 on, got \[0, 50, 50\]"),
        ({"steps": (-1, 50, 60)}, r"rising from 0 on, got \[-1, 50, 60\]"),
        ({"steps": (0, 50)}, r"budgets are \(2, L\) with two layers or more, got \(3, 7\)"),
        ({"runs": [*make_runs(1), make_runs(2, 5)[1]]}, r"'seed 1' has \(3, 5\)"),
        ({"floor": 1.2}, "at least the floor of 1.2, 'seed 0' has 1"),
        ({"reported_share": 50}, "share is from 0 to 1, got 50"),
    ],
)
def test_the_journey_names_the_rule_that_is_broken(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_journey(**changes)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 0.5])
def test_the_journey_refuses_a_budget_that_is_none(odd: float) -> None:
    runs = make_runs()
    runs[2]["budgets"][1][3] = odd
    with pytest.raises(ValueError, match="'seed 2' has"):
        make_journey(runs=runs)


def test_a_long_journey_of_six_runs_fits_the_page() -> None:
    steps = range(0, 1025, 25)
    figure = make_journey(runs=make_runs(6, 10, steps), steps=steps)
    assert len(figure.drawing.item.encode()) < 50_000


def draw_journey(rules: Page, run: int, at: int, budget: Any) -> dict[str, Any]:
    """What the rule makes of plain objects that remember what they are given."""
    told = journey._told([r["label"] for r in make_runs()], STEPS, 2, N_LAYERS, 0.5)
    found: dict[str, Any] = rules.evaluate(
        """(args) => {
          Object.assign(args, {bars: {data: {kept: 1}}, marks: {}, now: {}, chosen: {},
            title: {}, alt: {}});
          aiexplained.rules.softmoe_journey.draw(args);
          return args;
        }""",
        {
            **told, "pick": {"active": run}, "slider": {"value": at}, "at": list(STEPS),
            "nLast": 2, "apart": journey.APART,
            "budgets": np.float32(budget).astype(float).ravel().tolist(),
        },
    )  # fmt: skip
    return found


@pytest.mark.browser
@pytest.mark.parametrize("run", range(3))
@pytest.mark.parametrize("at", range(len(STEPS)))
def test_the_browser_tells_and_draws_the_journey_as_python(rules: Page, run: int, at: int) -> None:
    found = draw_journey(rules, run, at, [r["budgets"] for r in make_runs()])
    figure = make_journey((run, at))
    assert found["alt"]["data"]["text"] == [figure.drawing.alt]
    assert f'"{found["title"]["text"]}"' in figure.drawing.item
    (bars,) = sources_with(figure, "budget")
    assert found["bars"]["data"] == {"kept": 1, "budget": bars["budget"]}
    drawn = sources_with(figure, "x")
    for name in ("marks", "now", "chosen"):
        data = found[name]["data"]
        assert any(
            source["x"] == pytest.approx(data["x"]) and source["y"] == pytest.approx(data["y"])
            for source in drawn
            if len(source["x"]) == len(data["x"])
        )


@pytest.mark.browser
def test_the_comparison_would_catch_steps_and_layers_that_are_swapped(rules: Page) -> None:
    swapped = np.array([r["budgets"] for r in make_runs()]).swapaxes(1, 2)
    found = draw_journey(rules, 1, 1, swapped)
    assert found["alt"]["data"]["text"] != [make_journey((1, 1)).drawing.alt]


@pytest.mark.parametrize("make", [make_compete, make_journey])
def test_every_figure_is_the_same_bytes_twice(make: Callable[[], viz.Explorable]) -> None:
    assert make()._repr_mimebundle_() == make()._repr_mimebundle_()


@pytest.mark.browser
def test_figures_are_drawn_on_a_phone_and_follow_their_controls(
    site: Path, open_page: Callable[..., Page]
) -> None:
    write_figures(site, "softmoe-budgets", [make_compete(), make_journey()])
    page = open_page("softmoe-budgets", local=True, width=390)
    competing, trained = drawn_figures(page)
    caption = competing.locator(".aix-caption")
    competing.get_by_role("button", name="5").click()
    expect(caption).to_have_text(make_compete(layer=5).drawing.alt)
    wish, mean = competing.get_by_role("slider").all()
    wish.press("End")
    raised = (*ETAS[:4], 3.0)
    expect(caption).to_have_text(make_compete(raised, layer=5).drawing.alt)
    mean.press("End")
    expect(caption).to_have_text(make_compete(raised, layer=5, mean=3.0).drawing.alt)
    competing.get_by_role("button", name="1").click()
    wish.press("Home")
    moved = (-3.0, *raised[1:])
    expect(caption).to_have_text(make_compete(moved, layer=1, mean=3.0).drawing.alt)
    caption = trained.locator(".aix-caption")
    trained.get_by_role("slider", name="Training step").press("ArrowLeft")
    expect(caption).to_have_text(make_journey((0, 1)).drawing.alt)
    trained.get_by_role("button", name="seed 2").click()
    expect(caption).to_have_text(make_journey((2, 1)).drawing.alt)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
