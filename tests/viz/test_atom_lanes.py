"""The lanes of ATOM's engines: the page serves, draws and tells as Python does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figuredata import (
    attributes_of,
    drawn_figures,
    page_with_rules,
    sources_with,
    write_figures,
)
from playwright.sync_api import Browser, Page, expect

from aiexplained import viz
from aiexplained.serving import EngineConfig, Link, StepCost, unit_draws
from aiexplained.viz.assets import rule_file
from aiexplained.viz.atom import lanes_state as states
from aiexplained.viz.atom.lanes import ANSWERS, BANDWIDTHS, CHUNKS, PROMPTS, RULES, lanes
from aiexplained.viz.atom.lanes_state import Shown

N = 61
COST, LINK = asdict(StepCost()), asdict(Link())
SHOWN = {
    "colocated": Shown(request=14),
    "chunked": Shown(system="Chunked prefill", request=14),
    "two pools": Shown(system="Two pools", request=14),
    "pools, one reads": Shown(system="Two pools", n_read=1, rate=3.5, request=31),
    "pools, slow link": Shown(system="Two pools", n_read=3, bandwidth=0.25, request=2),
    "pools, short": Shown(system="Two pools", prompt=256, answer=16, rate=12),
    "overload": Shown(rate=12, prompt=16384, answer=512, request=40),
    "small chunks": Shown(system="Chunked prefill", chunk=256, prompt=16384, request=40),
    "calm": Shown(rate=1, prompt=1024, answer=64, request=7),
}
SMALL = {"n_blocks": 1801}  # memory decides how many are served at once


def draws_of(seed: int = 2, n: int = N) -> Any:
    return np.random.default_rng(seed).random((n, 3))


def make_lanes(shown: Shown = SHOWN["colocated"], n: int = N, **changes: Any) -> viz.Explorable:
    options = {"cost": COST, "link": LINK, "engine": {}, "first": asdict(shown), **changes}
    return lanes(draws_of(n=n), **options)


def python_state(shown: Shown, engine: Any = ()) -> dict[str, Any]:
    fleet = states.fleet_of(shown, COST, LINK, dict(engine))
    return states.state_of(states.serve(draws_of(), shown, fleet), shown)


def view_args(engine: Any = ()) -> dict[str, Any]:
    config = asdict(EngineConfig(prefix_caching=False, **dict(engine)))
    return {
        "rows": unit_draws(draws_of()).ravel().tolist(), "cost": COST, "link": LINK,
        "engine": config, "edges": states.EDGES_S.tolist(),
    }  # fmt: skip


def browser_state(page: Page, shown: Shown, engine: Any = ()) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        """([args, shown]) => {
          const view = aiexplained.rules.atom_view;
          return view.stateOf(view.serve(args, shown), shown);
        }""",
        [view_args(engine), asdict(shown)],
    )
    return found


def check_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        assert found[name] == (list(plain) if isinstance(plain, tuple) else plain), name


@pytest.fixture(scope="module")
def rules(browser: Browser) -> Iterator[Page]:
    yield from page_with_rules(browser, *RULES)


@pytest.mark.browser
@pytest.mark.parametrize("case", SHOWN)
@pytest.mark.parametrize("engine", [{}, SMALL], ids=["roomy", "small"])
def test_the_page_draws_and_tells_a_run_as_python_does(rules: Page, case: str, engine: Any) -> None:
    check_same(browser_state(rules, SHOWN[case], engine), python_state(SHOWN[case], engine))


@pytest.mark.browser
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("box[3] === size || !ofEqualSize", "true"),
        ("if (!ofEqualSize) box[3] += size", ""),
        ("ordered) {", "ordered.slice(1)) {"),
        ("edges[bin] <= gap", "edges[bin] < gap - 1e-3"),
        ("t[0] === shown.request - 1", "t[0] === shown.request"),
        ("box[2] > from && box[1] < to", "box[1] < to"),
        ("* batch) / most", "* batch) / 9"),
    ],
)
def test_the_comparison_would_catch_a_wrong_view(browser: Browser, right: str, wrong: str) -> None:
    shown = replace(SHOWN["pools, one reads"], request=31)
    page = browser.new_page()
    for name in RULES:
        script = rule_file(name).read_text("utf-8")
        if name == "atom_view":
            assert script.count(right) == 1
            script = script.replace(right, wrong)
        page.add_script_tag(content=script)
    found = browser_state(page, shown)
    page.close()
    with pytest.raises(AssertionError):
        check_same(found, python_state(shown))


@pytest.mark.parametrize("case", ["colocated", "two pools"])
def test_the_first_state_stands_without_a_script(case: str) -> None:
    figure, state = make_lanes(SHOWN[case]), python_state(SHOWN[case])
    assert figure.drawing.alt == state["alt"]
    for title in (state["title"], state["gap_title"]):
        assert f'"{title}"' in figure.drawing.item
        assert len(title) <= 50
    for name, size in (("reading", "tokens"), ("writing", "batch")):
        drawn = max(sources_with(figure, size), key=lambda source: len(source[size]["array"]))
        assert drawn["left"]["shape"] == [len(state[name]["left"])]
    (bins,) = sources_with(figure, "count")
    assert bins["from"][:3] == ["0", "1", "1.26"]
    assert bins["to"][-1] == "more"


def test_every_gap_is_counted_once_and_marks_lie_in_their_bins() -> None:
    shown = SHOWN["two pools"]
    run = states.serve(draws_of(), shown, states.fleet_of(shown, COST, LINK, {}))
    state = states.state_of(run, shown)
    gaps = [gap for served in run.served for gap in served.gaps_s]
    assert sum(state["count"]) == len(gaps)
    assert state["count"][0] == N  # tokens 1 and 2 of each request come together
    assert state["marks"]["worst"] == [1000 * max(gaps)]
    filled = np.flatnonzero(state["count"])
    assert states.EDGES_S[filled[-1] - 1] <= max(gaps) < states.EDGES_S[filled[-1]]


def test_boxes_cover_the_steps_and_do_not_overlap() -> None:
    for case in ("colocated", "chunked", "two pools"):
        shown = replace(SHOWN[case], request=1)
        run = states.serve(draws_of(), shown, states.fleet_of(shown, COST, LINK, {}))
        for column, of_equal_size in ((3, False), (4, True)):
            steps = [(span[0], span[1], span[2], span[column]) for span in run.spans]
            boxes = states._merged(steps, of_equal_size=of_equal_size)
            assert len(boxes) < len([step for step in steps if step[3]]) / (3 if column == 4 else 1)
            spent = sum(step[2] - step[1] for step in steps if step[3])
            assert sum(box[2] - box[1] for box in boxes) == pytest.approx(spent, rel=1e-9)
            for number in range(states.ENGINES):
                own = [box for box in boxes if box[0] == number]
                assert all(a[2] <= b[1] for a, b in pairwise(own))


def test_steps_are_joined_only_where_they_touch() -> None:
    steps = [(0, 0, 1, 2), (1, 0, 1, 2), (0, 1, 3, 2), (0, 3, 4, 5), (1, 2, 3, 2), (0, 4, 5, 0)]
    assert states._merged(steps, of_equal_size=True) == [
        [0, 0, 3, 2], [1, 0, 1, 2], [0, 3, 4, 5], [1, 2, 3, 2],
    ]  # fmt: skip
    assert states._merged(steps, of_equal_size=False) == [
        [0, 0, 4, 9], [1, 0, 1, 2], [1, 2, 3, 2],
    ]  # fmt: skip


def test_a_second_pool_takes_the_stalls_away_and_a_slow_link_moves_them_to_the_start() -> None:
    worst, first = {}, {}
    for name, shown in {
        "colocated": Shown(), "pools": Shown(system="Two pools"),
        "slow": Shown(system="Two pools", bandwidth=1),
    }.items():  # fmt: skip
        run = states.serve(draws_of(), shown, states.fleet_of(shown, COST, LINK, {}))
        worst[name] = max(gap for served in run.served for gap in served.gaps_s)
        first[name] = float(np.median([served.ttft_s for served in run.served]))
    assert worst["colocated"] > 0.3
    assert worst["pools"] < 0.012
    assert worst["slow"] < 0.012
    assert first["slow"] > 10 * first["pools"] > 10 * first["colocated"]


def test_the_followed_request_is_in_sight() -> None:
    for case, shown in SHOWN.items():
        state = python_state(shown)
        begin, end = state["window"]
        assert begin <= state["wait"]["arrival"][0] < state["wait"]["first"][0] < end, case
        assert max(state["outline"]["right"]) <= end
        assert (len(state["trip"]["start"]) == 1) == (shown.system == "Two pools")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 1}, "two requests at least, got 1"),
        ({"first": {"system": "One pool"}}, "system is one of .*, got 'One pool'"),
        ({"first": {"prompt": 300}}, r"prompt is one of .*16384\), got 300"),
        ({"first": {"answer": 300}}, "answer is one of"),
        ({"first": {"bandwidth": 3}}, "bandwidth is one of"),
        ({"first": {"chunk": 100}}, "chunk is one of"),
        ({"first": {"n_read": 4}}, r"n_read is one of range\(1, 4\), got 4"),
        ({"first": {"request": 41}}, r"request is one of range\(1, 41\), got 41"),
        ({"first": {"rate": 0.25}}, "rate is one of"),
        ({"engine": {"prefix_caching": True}}, "no prefix caching and no delay gate"),
        ({"engine": {"delay_factor": 0.5}}, "no prefix caching and no delay gate"),
    ],
)
def test_what_the_page_cannot_serve_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_lanes(**changes)


def test_the_figure_is_small_and_the_same_bytes_twice() -> None:
    first = make_lanes(n=97)
    assert first._repr_mimebundle_() == make_lanes(n=97)._repr_mimebundle_()
    assert len(first.drawing.item.encode()) < 50_000
    assert [button["labels"] for button in attributes_of(first, "RadioButtonGroup")] == [
        list(states.SYSTEMS)
    ]


@pytest.mark.browser
def test_every_control_changes_the_figure_on_a_phone(
    site: Path, open_page: Callable[..., Page]
) -> None:
    shown = SHOWN["colocated"]
    write_figures(site, "atom-lanes", [make_lanes(shown)])
    page = open_page("atom-lanes", local=True, width=390)
    (figure,) = drawn_figures(page)
    caption = figure.locator(".aix-caption")

    def slide(title: str, key: str, **changes: Any) -> None:
        nonlocal shown
        shown = replace(shown, **changes)
        figure.get_by_role("slider", name=title).press(key)
        expect(caption).to_have_text(python_state(shown)["alt"])

    def press(system: str) -> None:
        nonlocal shown
        shown = replace(shown, system=system)
        figure.get_by_role("button", name=system).click()
        expect(caption).to_have_text(python_state(shown)["alt"])

    def next_of(values: tuple[Any, ...], value: Any) -> Any:
        return values[values.index(value) + 1]

    slide("Request to follow", "ArrowRight", request=15)
    slide("Requests a second", "ArrowRight", rate=7.5)
    slide("Prompt", "ArrowLeft", prompt=PROMPTS[PROMPTS.index(8192) - 1])
    slide("Answer", "ArrowRight", answer=next_of(ANSWERS, 256))
    press("Chunked prefill")
    slide("Tokens a step", "ArrowRight", chunk=next_of(CHUNKS, 512))
    press("Two pools")
    slide("Engines that read", "ArrowRight", n_read=3)
    slide("Link", "Home", bandwidth=BANDWIDTHS[0])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    drawn = page.evaluate(
        """() => {
          const { doc } = [...aiexplained.drawn.values()][0];
          const models = [...doc.all_models];
          const named = (name) => models.find((model) => model.name === name).data;
          const on = (start) => models.find((model) => model.title?.startsWith?.(start)).visible;
          return {
            trips: Array.from(named("aix-trips").start), trip: Array.from(named("aix-trip").end),
            on: ["Tokens a step", "Engines that", "Link"].map(on),
          };
        }"""
    )
    state = python_state(shown)
    assert drawn["trips"] == state["trips"]["start"]
    assert drawn["trip"] == state["trip"]["end"]
    assert drawn["on"] == [False, True, True]
