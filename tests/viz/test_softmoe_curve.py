"""The curve of soft top-k: its first state is Python's, and gestures and sliders move it."""

import itertools
import math
import re

import numpy as np
import pytest
from figuredata import attributes_of, drawn_figures, page_with_rules, sources_with, write_figures

from aiexplained.concepts.softmoe.gradients import measure_curve
from aiexplained.viz.softmoe import slide_the_curve
from aiexplained.viz.softmoe.curve import EXPANSION, GAIN, NONE, REACH, RESTS, RUNS
from aiexplained.viz.softmoe.shown import NAMES, RULES, TEMPERATURES

SCORES = [2.0, -0.4, 0.9, -1.4, -1.9, 1.0, -0.9]
TIED = [0.5, 0.5, 0.5, -0.25, 0.5, 3.0, -3.0]


def make_first(scores, k, temperature, cut):
    return measure_curve(scores, k=k, temperature=temperature, cut=cut)


def make_figure(scores=SCORES, *, k=2.0, temperature=0.5, cut=1.8, **changes):
    first = {**make_first(scores, k, temperature, cut), **changes}
    return slide_the_curve(scores, k=k, temperature=temperature, cut=cut, first=first)


@pytest.fixture(scope="module")
def rule(browser):
    yield from page_with_rules(browser, *RULES)


@pytest.fixture
def view(rule):
    """Calls the figure's functions on plain objects that remember what they are given."""
    rule.evaluate(
        """(given) => {
          globalThis.args = {
            ...given, k: {value: 2}, temperature: {}, cut: {value: 1.8}, expert: {active: 0},
            score: {start: -3, end: 3, step: 0.05}, experts: {data: {}}, curve: {},
            thresholdSpan: {}, thresholdMark: {}, cutSpan: {}, cutMark: {}, title: {},
            barsTitle: {}, alt: {},
          };
        }""",
        {
            "temperatures": TEMPERATURES, "reach": REACH, "expansion": EXPANSION, "gain": GAIN,
            "colors": {"runs": RUNS, "rests": RESTS, "none": NONE},
        },
    )  # fmt: skip

    def call(scores=SCORES, k=2, temperature=0.5, cut=1.8, *, name="drawCurve", event=None):
        rule.evaluate(
            """([scores, k, temperature, cut, name, event]) => {
              args.experts.data = {...args.experts.data, score: scores};
              args.k.value = k;
              args.temperature.value = temperature;
              args.cut.value = cut;
              aiexplained.rules.softmoe_view[name](args, event);
            }""",
            [list(scores), k, TEMPERATURES.index(temperature), cut, name, event],
        )
        return rule.evaluate("args")

    return call


def same(values, expected):
    return values == expected or values == pytest.approx(expected, rel=1e-9, abs=1e-9)


KINDS = list(itertools.product((0.25, 0.9, 2, 4.75, 6.75), (0.02, 0.5, 5)))
STATES = [
    (scores, k, temperature, cut)
    for scores in (SCORES, TIED)
    for (k, temperature), cut in zip(KINDS, itertools.cycle((0, 1, 1.8, 3)), strict=False)
    # Which of equal scores is chosen, torch leaves open.
    if scores is SCORES or int(k + 0.5) not in (2, 3, 4)
]


@pytest.mark.browser
def test_the_figure_says_in_both_languages_what_the_marks_say(view):
    for scores, k, temperature, cut in STATES:
        figure = make_figure(scores, k=k, temperature=temperature, cut=cut)
        found = view(scores, k, temperature, cut)
        titles = {title["text"] for title in attributes_of(figure, "Title")}
        assert titles >= {found["title"]["text"], found["barsTitle"]["text"]}
        assert max(map(len, titles)) <= 55
        assert found["alt"]["data"]["text"] == [figure.drawing.alt]
        (experts,) = sources_with(figure, "tip")
        for name, values in found["experts"]["data"].items():
            assert same(values, experts[name]), name
        marks = {tuple(source["text"]): source for source in sources_with(figure, "x")
                 if "text" in source}  # fmt: skip
        for name, columns in (("thresholdMark", "x align offset"), ("cutMark", "y")):
            data = found[name]["data"]
            mark = marks[tuple(data["text"])]
            for column in columns.split():
                assert same(data[column], mark[column]), name


@pytest.mark.browser
def test_the_curve_runs_through_every_mark_and_over_the_whole_axis(view):
    for temperature in (0.5, 5):
        found = view(temperature=temperature)
        curve, experts = found["curve"]["data"], found["experts"]["data"]
        assert (curve["x"][0], curve["x"][-1]) == (-REACH, REACH)
        # Points are at most 0.1 apart; between them a chord is off by h² F'' / 8.
        off = 0.1**2 / 8 / (2 * temperature**2)
        on_curve = np.interp(experts["score"], curve["x"], curve["y"])
        assert np.abs(on_curve - experts["weight"]).max() <= off


@pytest.mark.browser
def test_arrows_add_up_to_what_k_grows_by(view):
    experts = view()["experts"]["data"]
    gains = np.subtract(experts["tip"], experts["weight"])
    assert gains.sum() == pytest.approx(GAIN, rel=1e-12)
    grown = view(k=2 + 1e-6)["experts"]["data"]["weight"]
    slopes = np.subtract(grown, experts["weight"]) / 1e-6
    # A difference quotient is off by half a second derivative, at most 1, times its step.
    assert gains / GAIN == pytest.approx(slopes, abs=1e-6)


@pytest.mark.browser
def test_a_gesture_takes_the_nearest_expert_and_stays_on_the_slider(view):
    assert view(name="grabExpert", event={"x": 0.94})["expert"]["active"] == NAMES.index("C")
    found = view(name="dragExpert", event={"x": -0.13})
    assert found["score"]["value"] == -0.15
    assert found["experts"]["data"]["score"] == [*SCORES[:2], -0.15, *SCORES[3:]]
    assert view(name="dragExpert", event={"x": 7.1})["score"]["value"] == REACH


@pytest.mark.browser
def test_of_experts_with_one_score_the_one_in_hand_stays(view):
    assert view(TIED, name="grabExpert", event={"x": 0.4})["expert"]["active"] == 0
    view(TIED, name="grabExpert", event={"x": -3})
    assert view(TIED, name="grabExpert", event={"x": 0.4})["expert"]["active"] == 0
    view([0.5, 0.6, 0.4], name="grabExpert", event={"x": 0.6})
    assert view([0.5] * 3, name="grabExpert", event={"x": 0.6})["expert"]["active"] == 1


@pytest.mark.browser
def test_letters_of_near_scores_stand_in_rows(view):
    scores, letters = [0.0, 0.1, 0.2, 0.6, 1.0], view([0.0, 0.1, 0.2, 0.6, 1.0])
    rows = letters["experts"]["data"]["letter"]
    assert len(set(rows[:3])) == 3
    assert rows[3:] == [rows[0]] * 2
    for (x, y), (other, at) in itertools.combinations(zip(scores, rows, strict=True), 2):
        assert y != at or abs(x - other) >= 0.3


def sums_said(caption):
    """``k`` and the sum of all weights, as the caption has them."""
    return re.search(r"k = ([\d.]+),.* sum to ([\d.]+)\.", caption.inner_text()).groups()


@pytest.mark.browser
def test_an_expert_is_dragged_and_the_weights_still_sum_to_k(open_page, site):
    write_figures(site, "curve", [make_figure()])
    page = open_page("curve", width=390, local=True)
    (figure,) = drawn_figures(page)
    caption = figure.locator(".aix-caption")
    assert caption.inner_text() == make_figure().drawing.alt
    plot, score = figure.locator(".bk-Figure").first, figure.locator(".bk-slider-value").nth(3)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 0.6 * box["height"], steps=5)
    page.mouse.up()
    score.filter(has_text=f"{REACH:.2f}").wait_for()
    chosen = NAMES.index(figure.locator(".bk-active").inner_text())
    assert abs(SCORES[chosen]) < 2
    expected = make_figure([*SCORES[:chosen], float(REACH), *SCORES[chosen + 1 :]])
    caption.filter(has_text=expected.drawing.alt).wait_for()
    assert sums_said(caption) == ("2.00", "2.00")


@pytest.mark.browser
def test_every_control_changes_the_figure(open_page, site):
    write_figures(site, "curve", [make_figure()])
    page = open_page("curve", width=390, local=True)
    (figure,) = drawn_figures(page)
    caption = figure.locator(".aix-caption")
    sliders = figure.get_by_role("slider")

    def expect(scores, **state):
        text = make_figure(scores, **state).drawing.alt
        caption.filter(has_text=text).wait_for()

    sliders.nth(0).press("ArrowLeft")
    expect(SCORES, k=1.95)
    sliders.nth(1).press("ArrowRight")
    expect(SCORES, k=1.95, temperature=0.7)
    sliders.nth(2).press("ArrowLeft")
    expect(SCORES, k=1.95, temperature=0.7, cut=1.7)
    figure.get_by_role("button", name="E", exact=True).click()
    page.wait_for_function("(slider) => slider.ariaValueNow === '-1.9'",
                           arg=sliders.nth(3).element_handle())  # fmt: skip
    expect(SCORES, k=1.95, temperature=0.7, cut=1.7)
    sliders.nth(3).press("End")
    expect([*SCORES[:4], 3.0, *SCORES[5:]], k=1.95, temperature=0.7, cut=1.7)
    assert sums_said(caption) == ("1.95", "1.95")


def test_the_figure_is_small_and_the_same_bytes_twice():
    eight = make_figure([*SCORES, 0.1])
    assert eight._repr_mimebundle_() == make_figure([*SCORES, 0.1])._repr_mimebundle_()
    assert len(eight.drawing.item.encode()) < 50_000


@pytest.mark.parametrize(
    ("scores", "changes", "message"),
    [
        ([0.0] * 9, {}, r"3 to 8 experts, got \(9,\)"),
        ([3.05, *SCORES[1:]], {}, "multiples of 0.05 from -3 to 3, got .3.05"),
        ([0.01, *SCORES[1:]], {}, "multiples of 0.05 from -3 to 3, got .0.01"),
        (SCORES, {"k": 6.8}, "k is a multiple of 0.05 from 0.25 to 6.75, got 6.8"),
        (SCORES, {"k": 2.01}, "k is a multiple of 0.05 .* got 2.01"),
        (SCORES, {"cut": 3.1}, "cut is a multiple of 0.1 from 0 to 3, got 3.1"),
        (SCORES, {"temperature": 0.6}, "temperature is one of .* got 0.6"),
        (SCORES, {"weights": [0.25] * 7}, "weights sum to k = 2.0, got 1.75"),
        (SCORES, {"weights": [math.nan] * 7}, r"is finite, but \['weights'\] are not"),
        (SCORES, {"threshold": math.nan}, r"is finite, but \['threshold'\] are not"),
        (SCORES, {"kept": [9.0] + [0.0] * 6}, "each kept weight is the weight or 0, got .9.0"),
        (SCORES, {"shares": [1.0]}, r"'shares': \(1,\)"),
        (SCORES, {"hard": [0.1] * 3 + [0.0] * 4}, "2 of the first hard weights are not zero"),
    ],
)
def test_rejects_what_does_not_fit(scores, changes, message):
    with pytest.raises(ValueError, match=message):
        make_figure(scores, **changes)
