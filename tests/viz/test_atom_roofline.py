"""The roofline in the page: the same points as Python's, and every control moves them."""

import dataclasses

import pytest
from figuredata import attributes_of, drawn_figures, page_with_rules, sources_with, write_figures

from aiexplained.concepts.atom.hardware import GPUS, MODELS, roofline_point
from aiexplained.viz.atom.roofline import FIELDS, RULES, VALUES, roofline

GPU_FIELDS, MODEL_FIELDS = (
    {name: dataclasses.asdict(x) for name, x in table.items()} for table in (GPUS, MODELS)
)
START = {"gpu": "H200", "model": "Qwen3-32B", "batch": 8, "context": 4096, "prompt": 2048}
STATES = [
    START,
    START | {"gpu": "L40S", "model": "Llama-3.1-8B"},
    START | {"batch": 512, "context": 128},
    START | {"batch": 1, "context": 131072},
    START | {"prompt": 16, "model": "Llama-3.1-70B"},
]


def points(state):
    gpu, model = GPUS[state["gpu"]], MODELS[state["model"]]
    return {
        "prefill": roofline_point(gpu, model, tokens=state["prompt"], context=0),
        "decode": roofline_point(gpu, model, tokens=state["batch"], context=state["context"]),
    }


def make_figure(state=START, **changes):
    return roofline(GPU_FIELDS, MODEL_FIELDS, **(state | {"first": points(state)} | changes))


@pytest.fixture(scope="module")
def rule(browser):
    yield from page_with_rules(browser, *RULES)


def draw(rule, state):
    """What the script puts into the figure's models."""
    positions = {name: VALUES[name].index(state[name]) for name in VALUES}
    return rule.evaluate(
        """([given, positions, picks]) => {
          const args = {...given, steps: {}, roof: {}, ridge: {}, title: {}, alt: {}};
          const controls = Object.entries({...positions, ...picks});
          for (const [name, value] of controls) args[name] = {value};
          aiexplained.rules.atom_roofline.draw(args);
          return args;
        }""",
        [
            {"gpus": GPU_FIELDS, "models": MODEL_FIELDS, "values": VALUES, "reach": [0.5, 1e5]},
            positions,
            {name: state[name] for name in ("gpu", "model")},
        ],
    )


@pytest.mark.browser
def test_the_script_has_pythons_points(rule):
    for gpu in GPUS.values():
        for model in MODELS.values():
            for tokens, context in ((1, 127), (61, 4093), (509, 131071), (7919, 0), (1, 0)):
                found = rule.evaluate(
                    "(a) => aiexplained.rules.atom_roofline.point(...a)",
                    [dataclasses.asdict(gpu), dataclasses.asdict(model), tokens, context],
                )
                known = roofline_point(gpu, model, tokens=tokens, context=context)
                assert tuple(found[name] for name in FIELDS) == known


@pytest.mark.browser
@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_first_state_is_the_scripts(rule, state):
    figure, found = make_figure(state), draw(rule, state)
    assert found["alt"]["data"]["text"] == [figure.drawing.alt]
    (steps,) = sources_with(figure, "intensity")
    assert {k: list(v) for k, v in steps.items()} == found["steps"]["data"]
    (roof,) = (s for s in sources_with(figure, "x") if len(s["x"]) == 3)
    assert {k: list(v) for k, v in roof.items()} == found["roof"]["data"]
    assert found["title"]["text"] in {a.get("text") for a in attributes_of(figure, "Title")}
    assert found["ridge"]["location"] in {a.get("location") for a in attributes_of(figure, "Span")}


def test_the_caption_says_on_which_side_each_lies():
    (first, full, idle) = (make_figure(STATES[i]).drawing.alt for i in (0, 2, 4))
    assert "beyond the ridge at 206: arithmetic is the limit. Decode of 8 answers" in first
    assert first.endswith("memory is the limit and 96 % of the arithmetic is idle.")
    assert full.count("arithmetic is the limit") == 2
    assert idle.count("memory is the limit") == 2


@pytest.mark.browser
def test_every_control_changes_the_figure(site, open_page):
    write_figures(site, "atom-roofline", [make_figure()])
    page = open_page("atom-roofline")
    (figure,) = drawn_figures(page)
    caption = figure.locator("figcaption")
    seen = [caption.inner_text()]
    for index, option in ((0, "L40S"), (1, "Llama-3.1-8B")):
        figure.locator("select").nth(index).select_option(option)
        seen.append(caption.inner_text())
    for handle in figure.locator(".noUi-handle").all():
        handle.press("ArrowRight")
        seen.append(caption.inner_text())
    assert len(set(seen)) == 6
    last = START | {"gpu": "L40S", "model": "Llama-3.1-8B", "batch": 16, "context": 8192}
    assert make_figure(last | {"prompt": 4096}).drawing.alt in seen[-1]


def test_a_figure_fits_a_phones_patience():
    assert len(make_figure().drawing.item) < 50_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"gpu": "GTX"}, "'GTX' is none of"), ({"model": "GPT"}, "'GPT' is none of"),
     ({"batch": 7}, "batch is one of"), ({"first": {"decode": [1.0] * 4}}, "of prefill and decode"),
     ({"first": {"prefill": [1.0] * 4, "decode": [1.0] * 3}}, "'decode': 3")],
)  # fmt: skip
def test_states_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_figure(**changes)
