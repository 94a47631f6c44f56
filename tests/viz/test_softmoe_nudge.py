"""A near miss under hard and soft top-k: the first state is Python's, the controls move it."""

import itertools
import math

import numpy as np
import pytest
import torch
from figuredata import attributes_of, drawn_figures, page_with_rules, sources_with, write_figures

from aiexplained.concepts.softmoe.lapsum import soft_top_k
from aiexplained.concepts.softmoe.routing import HardTopK
from aiexplained.viz.softmoe import nudge
from aiexplained.viz.softmoe.nudge import HOWS
from aiexplained.viz.softmoe.shown import RULES, TEMPERATURES

SCORES, K = [1.2, -0.6, 0.4, 0.5, -1.0, -0.1, -2.0], 2
NEAR, LAST = 2, 3


def by_python(route, away=-0.1):
    """Weights of the near miss and the last chosen, and their derivatives by its score."""
    r = torch.tensor(SCORES, dtype=torch.float64)
    r[NEAR] = SCORES[LAST] + away
    weights = route(r[None])[0]
    rows = torch.autograd.functional.jacobian(lambda x: route(x[None])[0], r)
    both = [NEAR, LAST]
    return weights[both].numpy(), rows[both, NEAR].numpy()


def make_first(temperature, **changes):
    hard, hard_slope = by_python(HardTopK(K))
    soft, soft_slope = by_python(lambda r: soft_top_k(r, K, temperature=temperature))
    first = {"hard": hard, "hard_slope": hard_slope, "soft": soft, "soft_slope": soft_slope}
    return first | changes


def make_figure(scores=SCORES, *, k=K, temperature=0.5, **changes):
    return nudge(scores, k=k, temperature=temperature, first=make_first(temperature, **changes))


@pytest.fixture(scope="module")
def rule(browser):
    yield from page_with_rules(browser, *RULES)


@pytest.fixture
def view(rule):
    """Calls the figure's function on plain objects that remember what they are given."""
    rule.evaluate(
        """(given) => {
          globalThis.args = {
            ...given, how: {}, away: {start: -1.5, end: 1.5, step: 0.05}, temperature: {},
            hard: {}, soft: {}, jump: {}, marks: {}, said: {}, moments: [{}, {}], hardTitle: {},
            softTitle: {}, alt: {},
          };
        }""",
        {
            "temperatures": TEMPERATURES, "hows": ["softmax, then choose", "choose, then softmax"],
            "scores": SCORES, "near": NEAR, "last": LAST, "k": K,
        },
    )  # fmt: skip

    def call(away=-0.1, temperature=0.5, how=0):
        return rule.evaluate(
            """([how, away, temperature]) => {
              args.how.active = how;
              args.away.value = away;
              args.temperature.value = temperature;
              aiexplained.rules.softmoe_view.drawNudge(args);
              return args;
            }""",
            [how, away, TEMPERATURES.index(temperature)],
        )

    return call


@pytest.mark.browser
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_figure_says_in_both_languages_what_the_marks_say(view, temperature):
    found, figure = view(temperature=temperature), make_figure(temperature=temperature)
    titles = {title["text"] for title in attributes_of(figure, "Title")}
    assert titles >= {found["hardTitle"]["text"], found["softTitle"]["text"]}
    assert max(map(len, titles)) <= 55
    assert found["alt"]["data"]["text"] == [figure.drawing.alt]
    (marks,) = sources_with(figure, "hard_slope")
    for name, values in found["marks"]["data"].items():
        assert values == pytest.approx(marks[name], rel=1e-9, abs=1e-9), name
    (said,) = (source for source in sources_with(figure, "hard") if "y" in source)
    assert {name: said[name] for name in ("hard", "soft")} == found["said"]["data"]


@pytest.mark.browser
@pytest.mark.parametrize("how", range(len(HOWS)))
def test_weights_and_slopes_are_those_of_python_wherever_the_near_miss_is(view, how):
    hard = HardTopK(K, renormalize=bool(how))
    for away, temperature in itertools.product((-1.5, -0.35, 0.05, 0.6, 1.5), (0.02, 0.5, 5)):
        found = view(away, temperature, how)["marks"]["data"]
        for name, route in (
            ("hard", hard), ("soft", lambda r: soft_top_k(r, K, temperature=temperature)),  # noqa: B023
        ):  # fmt: skip
            weights, slopes = by_python(route, away)
            assert found[name] == pytest.approx(weights, rel=1e-9, abs=1e-15)
            assert found[f"{name}_slope"] == pytest.approx(slopes, rel=1e-9, abs=1e-14)


@pytest.mark.browser
@pytest.mark.parametrize("how", range(len(HOWS)))
def test_who_is_not_chosen_has_no_slope_under_hard_top_k_but_some_under_soft(view, how):
    for away in (-1.5, -0.1):
        found = view(away, how=how)["marks"]["data"]
        assert (found["hard"][0], found["hard_slope"][0]) == (0, 0)
        assert found["soft"][0] > 0.01
        assert found["soft_slope"][0] > 0.01
        # The last chosen feels the near miss through the denominator of the softmax alone.
        assert (found["hard_slope"][1] == 0) == bool(how)
    assert view(0.1, how=how)["marks"]["data"]["hard_slope"][0] > 0.01


@pytest.mark.browser
def test_the_hard_line_jumps_where_the_soft_one_does_not(view):
    drawn = view()

    def steps(name):
        x, y = (np.array(drawn[name]["data"][column], dtype=float) for column in ("x", "near"))
        # A number that is none comes out of the page as none.
        return x, np.abs(np.diff(y[~np.isnan(y)])), np.isnan(y).sum()

    x, hard, gaps = steps("hard")
    _, soft, none = steps("soft")
    # Steps are 1/80 wide; a slope is f (1 - q) / α, and a density f is at most 1/2.
    assert soft.max() <= 1 / 80 / (2 * 0.5)
    assert (gaps, none) == (1, 0)
    jump = drawn["jump"]["data"]["top"][0]
    assert hard.max() == pytest.approx(jump, rel=1e-6)
    assert jump == pytest.approx(by_python(HardTopK(K), 1e-9)[0][0], rel=1e-9)
    assert jump > 10 * soft.max()
    assert (x[0], x[-1]) == (-1.5, 1.5)


@pytest.mark.browser
def test_the_caption_tells_whose_place_is_taken(view):
    def alt(away):
        return view(away)["alt"]["data"]["text"][0]

    assert "C scores 0.10 below D, the last chosen." in alt(-0.1)
    # Of equal scores the first is chosen, and C stands before D.
    assert "C scores the same as D, which was chosen before." in alt(0)
    assert view(0)["marks"]["data"]["hard"][0] > view(0)["marks"]["data"]["hard"][1] == 0
    assert "C scores 0.25 above D, which was chosen before." in alt(0.25)
    assert view(-1.5, 0.02)["softTitle"]["text"].endswith("weighs < 0.01, its slope is < 0.01")
    assert all(len(view(away, 0.02)[f"{name}Title"]["text"]) <= 55
               for away in (-1.5, 0, 1.5) for name in ("hard", "soft"))  # fmt: skip


@pytest.mark.browser
def test_a_gesture_and_the_controls_move_the_near_miss(open_page, site, view):
    write_figures(site, "nudge", [make_figure()])
    page = open_page("nudge", width=390, local=True)
    (figure,) = drawn_figures(page)
    caption, slider = figure.locator(".aix-caption"), figure.get_by_role("slider").first
    assert caption.inner_text() == make_figure().drawing.alt

    def expect(*state):
        caption.filter(has_text=view(*state)["alt"]["data"]["text"][0]).wait_for()

    slider.press("ArrowRight")
    expect(-0.05)
    figure.get_by_role("slider").nth(1).press("ArrowLeft")
    expect(-0.05, 0.3)
    figure.get_by_role("button", name=HOWS[1]).click()
    expect(-0.05, 0.3, 1)
    plot = figure.locator(".bk-Figure").nth(1)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.6 * box["height"])
    caption.filter(has_text="above D, which was chosen before").wait_for()
    tapped = float(figure.locator(".bk-slider-value").first.inner_text())
    assert 0.5 < tapped < 1.5
    expect(tapped, 0.3, 1)


def test_the_figure_is_small_and_the_same_bytes_twice():
    assert make_figure()._repr_mimebundle_() == make_figure()._repr_mimebundle_()
    assert len(make_figure().drawing.item.encode()) < 50_000


@pytest.mark.parametrize(
    ("scores", "changes", "message"),
    [
        (SCORES, {"k": 0}, "whole number from 1 to 6, got 0"),
        (SCORES, {"k": 7}, "whole number from 1 to 6, got 7"),
        (SCORES, {"k": 1.5}, "whole number from 1 to 6, got 1.5"),
        ([0.0, 2.0, 0.1], {"k": 1}, "at most 1.5 below the last, got 1.9"),
        (SCORES, {"temperature": 0.6}, "nudge: temperature is one of .* got 0.6"),
        (SCORES, {"soft": [0.1] * 3}, r"'soft': 2.* got .*'soft': \(3,\)"),
        ([3.5, 0.0, 0.1], {}, "multiples of 0.05 from -3 to 3"),
        ([math.nan, 0.0, 0.1], {}, "multiples of 0.05 from -3 to 3, got .nan"),
    ],
)
def test_rejects_what_does_not_fit(scores, changes, message):
    temperature = changes.pop("temperature", 0.5)
    k = changes.pop("k", K)
    with pytest.raises(ValueError, match=message):
        nudge(scores, k=k, temperature=temperature, first=make_first(0.5, **changes))


def test_a_whole_k_is_written_without_decimals():
    assert "Hard top-2 (" in make_figure(k=2.0).drawing.alt


def test_the_first_state_lacks_nothing():
    first = make_first(0.5)
    del first["soft_slope"]
    with pytest.raises(ValueError, match=r"the first state lacks \['soft_slope'\]"):
        nudge(SCORES, k=K, temperature=0.5, first=first)
