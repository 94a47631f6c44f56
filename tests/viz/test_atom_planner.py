"""The planner in the page: Python's numbers for every layout, and a figure that follows."""

import dataclasses
import re

import numpy as np
import pytest
from figuredata import (
    attributes_of,
    drawn_figures,
    numbers,
    page_with_rules,
    sources_with,
    write_figures,
)
from playwright.sync_api import expect

from aiexplained.concepts.atom.hardware import GPUS, MODELS, gpus_needed, kv_blocks, step_cost
from aiexplained.concepts.atom.planner import Workload, plan
from aiexplained.serving import SLO, unit_draws
from aiexplained.viz.atom.planner import RULES, VALUES, planner

N, SEED = 31, 3
GPU_FIELDS, MODEL_FIELDS = (
    {name: dataclasses.asdict(x) for name, x in table.items()} for table in (GPUS, MODELS)
)
START = {
    "gpu": "MI300X", "model": "Llama-3.1-8B", "n_engines": 3, "pace": "worst",
    "arrival_rate_rps": 8, "prompt_tokens": 8192, "output_tokens": 64, "ttft_s": 2,
    "gap_s": 0.007, "link_bandwidth": 25e9,
}  # fmt: skip
STATES = [
    START,
    START | {"pace": "mean", "n_engines": 2, "gap_s": 0.05},
    START | {"gpu": "H100 SXM", "model": "Qwen3-32B", "pace": "p95", "gap_s": 0.1},
    START | {"link_bandwidth": 1e8, "output_tokens": 1, "n_engines": 4},
    START | {"ttft_s": 0.1, "gap_s": 0.005, "gpu": "L40S"},
]


def python_plan(state):
    gpu, model = GPUS[state["gpu"]], MODELS[state["model"]]
    return plan(
        Workload(**{field.name: state[field.name] for field in dataclasses.fields(Workload)}),
        gpu, model, n_engines=state["n_engines"],
        slo=SLO(ttft_s=state["ttft_s"], gap_s=state["gap_s"], pace=state["pace"]),
        link_bandwidth=state["link_bandwidth"], gpus_per_engine=gpus_needed(gpu, model),
        n_requests=N, seed=SEED,
    )  # fmt: skip


def draws():
    return np.random.default_rng(SEED).random((N, 3))


def make_figure(state=START, **changes):
    known = python_plan(START) if not changes else None
    options = {name: state[name] for name in ("gpu", "model", "n_engines", "pace")}
    options |= {"start": {name: state[name] for name in VALUES}}
    if known:
        options |= {"outcomes": known.rows(), "verdict": known.verdict, "advice": known.advice}
    else:
        options |= {"outcomes": [], "verdict": "v", "advice": "a"}
    needed = gpus_needed(GPUS[state["gpu"]], MODELS[state["model"]])
    options |= {"gpus_per_engine": needed, "share": 0.9} | changes
    return planner(GPU_FIELDS, MODEL_FIELDS, draws(), **options)


@pytest.fixture(scope="module")
def rule(browser):
    yield from page_with_rules(browser, *RULES)


@pytest.fixture(scope="module")
def figure():
    return make_figure()


def settings_of(state):
    gpu, model = GPUS[state["gpu"]], MODELS[state["model"]]
    return state | {
        "gpu": GPU_FIELDS[state["gpu"]], "model": MODEL_FIELDS[state["model"]],
        "gpus_per_engine": gpus_needed(gpu, model), "rows": unit_draws(draws()).tolist(),
    }  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
def test_the_script_plans_as_python_does(rule, state):
    found = rule.evaluate(
        """(settings) => {
          const { plan, verdict, advice } = aiexplained.rules.atom_planner;
          const outcomes = plan(settings);
          return {outcomes, word: verdict(outcomes).word, advice: advice(outcomes)};
        }""",
        settings_of(state),
    )
    known = python_plan(state)
    assert found["advice"] == known.advice
    for own, outcome in zip(found["outcomes"], known.outcomes, strict=True):
        assert own["layout"] == outcome.layout._asdict()
        fields = outcome._asdict() | {"layout": own["layout"]}
        assert {name: own[name] for name in fields} == fields


@pytest.mark.browser
def test_the_script_reads_a_data_sheet_as_python_does(rule):
    for gpu in GPUS.values():
        for model in MODELS.values():
            cost, blocks, needed = rule.evaluate(
                """([gpu, model]) => {
                  const rule = aiexplained.rules.atom_planner;
                  const n = rule.gpusNeeded(gpu, model);
                  return [rule.stepCost(gpu, model, n), rule.kvBlocks(gpu, model, n), n];
                }""",
                [dataclasses.asdict(gpu), dataclasses.asdict(model)],
            )
            assert needed == gpus_needed(gpu, model)
            assert blocks == kv_blocks(gpu, model, gpus_per_engine=needed)
            known = step_cost(gpu, model, gpus_per_engine=needed)
            assert cost == dataclasses.asdict(known)


def test_states_differ_in_their_verdict():
    """A script that always said the same could not pass the comparison above."""
    words = {python_plan(state).verdict.partition(":")[0] for state in STATES}
    assert {"Split", "Do not split", "No layout keeps the limits"} <= words


def test_the_first_state_is_pythons(figure):
    known = python_plan(START)
    (bars,) = sources_with(figure, "goodput")
    assert list(bars["layout"]) == [o.layout.name for o in known.outcomes]
    assert list(bars["goodput"]) == [o.goodput_rps for o in known.outcomes]
    starred = [name for name, _, rate in numbers(bars, "layout", "goodput", "rate") if "★" in rate]
    assert starred == [known.best.layout.name]
    assert known.advice in figure.drawing.alt
    assert known.verdict in {a.get("text") for a in attributes_of(figure, "Title")}
    assert known.verdict == f"Split: {known.best.layout.name}"


@pytest.mark.browser
def test_the_script_comes_back_to_the_first_state(site, open_page, figure):
    write_figures(site, "atom-planner", [figure])
    page = open_page("atom-planner")
    (drawn,) = drawn_figures(page)
    caption = drawn.locator("figcaption")
    first = caption.inner_text()
    handle = drawn.locator(".noUi-handle").first
    handle.press("ArrowRight")
    expect(caption).to_contain_text("4 engines", timeout=30_000)
    handle.press("ArrowLeft")
    expect(caption).to_contain_text(figure.drawing.alt, timeout=30_000)
    assert caption.inner_text() == first


@pytest.mark.browser
def test_every_control_changes_the_answer(site, open_page, figure):
    write_figures(site, "atom-planner-controls", [figure])
    page = open_page("atom-planner-controls")
    (drawn,) = drawn_figures(page)
    caption = drawn.locator("figcaption")

    def changed(act):
        before = re.escape(caption.inner_text())
        act()
        expect(caption).not_to_have_text(re.compile(before), timeout=30_000)

    for index, option in ((0, "H200"), (1, "Qwen3-8B")):
        select = drawn.locator("select").nth(index)
        changed(lambda select=select, option=option: select.select_option(option))
    handles = drawn.locator(".noUi-handle").all()
    assert len(handles) == 1 + len(VALUES)
    for handle in handles:
        changed(lambda handle=handle: handle.press("ArrowRight"))
    changed(drawn.get_by_role("button", name="mean gap").click)


@pytest.mark.browser
def test_only_the_last_of_several_moves_is_answered(site, open_page, figure):
    write_figures(site, "atom-planner-moves", [figure])
    page = open_page("atom-planner-moves")
    (drawn,) = drawn_figures(page)
    rate = drawn.locator(".noUi-handle").nth(1)
    for _ in range(3):
        rate.press("ArrowRight")
    caption = drawn.locator("figcaption")
    last = START | {"arrival_rate_rps": 24}
    expect(caption).to_contain_text("At 24 requests/s", timeout=30_000)
    page.wait_for_timeout(300)
    known = python_plan(last)
    assert known.advice in caption.inner_text()
    assert len({o.attainment for o in known.outcomes}) > 1
    shown = page.evaluate(
        """() => Bokeh.documents.flatMap((d) => [...d._all_models.values()])
          .filter((m) => m.data?.within).map((m) => [...m.data.within])"""
    )
    assert shown == [[100 * o.attainment for o in known.outcomes]]


@pytest.mark.browser
def test_a_prompt_without_room_is_refused_in_the_caption(rule):
    tiny = {"gpu": {"name": "tiny", "flops": 1e14, "bandwidth": 1e12, "memory": 2.1e10}}
    found = rule.evaluate(
        """([gpu, model, values]) => {
          const args = {
            gpus: {a: gpu}, gpu: {value: "a"}, models: {b: model}, model: {value: "b"},
            n_engines: {value: 2}, paces: ["mean"], pace: {active: 0}, values, wider: 1.4,
            draws: {data: {rows: [1, 0.5, 0.5]}}, bars: {}, factors: {}, reach: {}, title: {},
            alt: {}, colors: ["", "", ""], hatches: ["", "", ""],
          };
          for (const name of Object.keys(values)) args[name] = {value: values[name].length - 1};
          aiexplained.rules.atom_planner_view.change(args);
          return [args.title.text, args.alt.data.text[0], args.bars.data.rate];
        }""",
        [tiny["gpu"], MODEL_FIELDS["Llama-3.1-8B"], dict(VALUES)],
    )
    assert found[0] == "A prompt with its answer does not fit"
    assert found[1].startswith("A prompt with its answer does not fit beside the weights. 2 eng")
    assert set(found[2]) == {"…"}


@pytest.mark.browser
def test_the_last_block_decides_what_fits(rule):
    too_long = settings_of(START | {"gpu": "L40S", "model": "Qwen3-32B", "prompt_tokens": 32768})
    check = "(settings) => aiexplained.rules.atom_planner.fits(settings)"
    room = 16 * kv_blocks(GPUS["L40S"], MODELS["Qwen3-32B"], gpus_per_engine=2)
    assert rule.evaluate(check, too_long) == (room >= 32768 + 64)
    just, more = room - 64, room - 63
    assert rule.evaluate(check, too_long | {"prompt_tokens": just}) is True
    assert rule.evaluate(check, too_long | {"prompt_tokens": more}) is False


def test_a_figure_fits_a_phones_patience(figure):
    assert len(figure.drawing.item) < 50_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"gpu": "GTX"}, "'GTX' is none of"), ({"pace": "median"}, "'median' is none of"),
     ({"n_engines": 9}, "n_engines is from 2 to 8, got 9"), ({"start": {}}, "start gives"),
     ({"start": {name: START[name] for name in VALUES} | {"ttft_s": 3}}, "ttft_s is one of"),
     ({"outcomes": [{"name": "x"}]}, "one misses")],
)  # fmt: skip
def test_states_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_figure(**changes)
