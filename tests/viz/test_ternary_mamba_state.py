"""The state of Ternary Mamba with an input that is off: the browser runs what Python runs."""

import itertools

import numpy as np
import pytest
import torch
from figuredata import drawn_figures, sources_with, write_figures

from aiexplained.concepts import ternary_mamba as tm
from aiexplained.viz.assets import rule_file
from aiexplained.viz.ternary_mamba import in_steps, state_error
from aiexplained.viz.ternary_mamba.patch import RULES
from aiexplained.viz.ternary_mamba.state import HOWS, WHATS

T, N, AT = 53, 7, 17
DECAYS = {"Short": -2.0, "Middle": -0.2, "Long": -0.02}


def make_head(name, seed):
    generator = np.random.default_rng(seed)
    return {
        "name": name, "decay": DECAYS[name],
        "dt": in_steps(np.log1p(np.exp(generator.normal(size=T)))),
        "B": in_steps(generator.normal(size=(T, N))), "x": in_steps(generator.normal(size=T)),
    }  # fmt: skip


HEADS = [make_head(name, seed) for seed, name in enumerate(DECAYS)]
ENTRIES = in_steps(tm.make_noise(T, N, seed=11))
NOISE = {"token": ENTRIES[:, 0], "entry": ENTRIES}
"""As the package's rule takes them: what is written or when has the first column."""


def perturb(head, what, how, size):
    """Norms of the two states and the error, as the page is to find them; ``size`` in percent."""
    parts = (torch.tensor(head[name]) for name in ("dt", "B", "x"))
    exact = tm.HeadInput(head["decay"], *parts)
    named = dict(zip(HOWS, tm.HOW, strict=True))[how]
    noise = torch.tensor(ENTRIES)
    moved = tm.perturb(exact, what=what, how=named, size=size / 100, noise=noise, at=AT)
    return {name: np.array(values) for name, values in tm.compare_states(exact, moved).items()}


def open_rule(browser, scripts):
    """A page that has loaded the scripts, the heads and the noise."""
    page = browser.new_page()
    for script in scripts:
        page.add_script_tag(content=script)
    page.evaluate(
        """([heads, noise]) => {
          const flat = (values) => Float64Array.from(values.flat());
          globalThis.heads = heads.map((head) => ({
            ...head, dt: flat(head.dt), B: flat(head.B), x: flat(head.x)}));
          globalThis.noise = {token: flat(noise.token), entry: flat(noise.entry)};
        }""",
        [[as_lists(head) for head in HEADS], as_lists(NOISE)],
    )
    return page


def as_lists(given):
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in given.items()}


@pytest.fixture(scope="module")
def rule(browser):
    page = open_rule(browser, [rule_file(name).read_text("utf-8") for name in RULES])
    yield page
    page.close()


def browser_runs(page, head, what, how, size, at=AT):
    found = page.evaluate(
        """([head, what, how, size, at]) => {
          const rule = aiexplained.rules.ternary_mamba;
          const found = rule.stateError(heads[head], noise, {what, how, size, at});
          return {...Object.fromEntries(Object.entries(found).map(([k, v]) => [k, Array.from(v)])),
                  said: rule.summarize(found.error, at)};
        }""",
        [head, what, how, size / 100, at],
    )
    said = found.pop("said")
    return {name: np.array(values) for name, values in found.items()}, said


def check_same(page, head, what, how, size):
    # Each step rounds a few times, and a head keeps what it rounded: T steps of 2^-52 each.
    found, _ = browser_runs(page, head, what, how, size)
    for name, values in perturb(HEADS[head], what, how, size).items():
        assert np.abs(found[name] - values).max() <= 8 * T * 2**-52 * found["norm"].max(), name


@pytest.mark.browser
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("how", HOWS)
def test_the_browser_runs_the_state_as_python_does(rule, what, how):
    for head, size in itertools.product(range(3), (0, 5, 20, 50)):
        check_same(rule, head, what, how, size)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Math.exp(dt[t] * decay)", "Math.exp(dt[0] * decay)"),
        ("const write = dt[t] * x[t]", "const write = x[t]"),
        ("...head, [what]:", "...head, x:"),
        ("=== at ? 1 : 0", ">= at ? 1 : 0"),
    ],
)
def test_the_comparison_would_catch_a_wrong_rule(browser, right, wrong):
    script = rule_file(RULES[0]).read_text("utf-8")
    assert right in script
    page = open_rule(browser, [script.replace(right, wrong)])
    with pytest.raises(AssertionError):
        check_same(page, 1, "dt", "once", 20)
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("head", range(3))
def test_an_error_made_once_fades_as_the_state_does(rule, head, what):
    found, said = browser_runs(rule, head, what, "once", 30)
    error = found["error"]
    assert (error[:AT] == 0).all()
    dt, decay = HEADS[head]["dt"], DECAYS[HEADS[head]["name"]]
    fades = np.exp(decay * np.cumsum(dt[AT + 1 :]))
    # The difference of two states is known to a rounding of the states, not of itself.
    unit = 8 * T * 2**-52 * max(found["norm"].max(), 1)
    assert np.abs(error[AT + 1 :] - error[AT] * fades).max() <= unit
    gone = np.flatnonzero(fades <= 0.5)
    assert said["half"] == (int(gone[0]) + 1 if len(gone) else None)
    assert (said["peak"], said["end"]) == (error[AT], error[-1])


@pytest.mark.browser
def test_an_input_that_is_always_off_alike_scales_the_state_but_a_step_does_not(rule):
    def away_from_scaling(what):
        found, _ = browser_runs(rule, 1, what, "same", 20)
        return np.abs(found["perturbed"] / found["norm"] - 1.2).max()

    assert away_from_scaling("B") < 1e-12
    assert away_from_scaling("x") < 1e-12
    assert away_from_scaling("dt") > 0.1


@pytest.mark.browser
def test_half_of_no_error_is_never_gone(rule):
    _, said = browser_runs(rule, 1, "dt", "once", 0)
    assert said == {"peak": 0, "end": 0, "half": None}


def make_figure(head=1, what="dt", how="once", size=20, **changes):
    state = {"head": head, "what": what, "how": how, "size": size}
    first = {**state, **perturb(HEADS[head], what, how, size)}
    return state_error(**{"heads": HEADS, "noise": NOISE, "at": AT, "first": first, **changes})


@pytest.fixture
def view(rule):
    """Calls the figure's function on plain objects that remember what they are given."""
    rule.evaluate(
        """([labels, whats, hows, at]) => {
          const packed = (values) => ({values: values.map((v) => v * 2 ** 20), step: 2 ** -20});
          globalThis.args = {
            heads: heads.map(({decay, dt, B, x}) => (
              {decay, dt: packed(dt), B: packed(B), x: packed(x)})),
            noise: {token: packed(noise.token), entry: packed(noise.entry)},
            labels, whats, hows, at, head: {}, what: {}, how: {}, size: {end: 50},
            lines: {}, half: {}, mark: {}, moments: [{}, {}], heights: {}, errors: {}, title: {},
            alt: {},
          };
        }""",
        [list(DECAYS), WHATS, HOWS, AT],
    )

    def call(head=1, what="dt", how="once", size=20):
        return rule.evaluate(
            """([head, what, how, size]) => {
              args.head.active = head;
              args.what.active = what;
              args.how.active = how;
              args.size.value = size;
              aiexplained.rules.ternary_mamba_view.drawState(args);
              return {
                title: args.title.text, alt: args.alt.data.text[0], lines: args.lines.data,
                half: args.half.data, mark: args.mark.data, moments: args.moments,
                heights: args.heights.end, errors: args.errors.end,
              };
            }""",
            [head, WHATS.index(what), HOWS.index(how), size],
        )

    return call


@pytest.mark.browser
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("how", HOWS)
def test_the_figure_says_in_both_languages_what_the_lines_say(view, what, how):
    for head, size in itertools.product(range(3), (0, 5, 20, 50)):
        found, figure = view(head, what, how, size), make_figure(head, what, how, size)
        assert found["title"] in figure.drawing.item
        assert len(found["title"]) <= 55
        assert found["alt"] == figure.drawing.alt
        (lines,) = sources_with(figure, "norm")
        for name, values in lines.items():
            assert found["lines"][name] == pytest.approx(values, rel=1e-9, abs=1e-9)
        marks = {tuple(source["text"]): source for source in sources_with(figure, "y")}
        for name in ("half", "mark"):
            assert marks[tuple(found[name]["text"])]["x"] == found[name]["x"]
        shown = how == "once" and size > 0
        assert [moment["visible"] for moment in found["moments"]] == [shown] * 2


@pytest.mark.browser
def test_titles_tell_once_from_always(view):
    gone = view()["half"]["x"][0] - AT - 1
    assert view()["title"] == f"dt off by 20 % once: half is gone after {gone} tokens"
    assert view(head=2)["title"] == "dt off by 20 % once: half stays to the end"
    assert "Half of the first error is still there at the end." in view(head=2)["alt"]
    alike = view(what="x", how="same")
    largest = 20 * max(alike["lines"]["norm"]) / np.linalg.norm(alike["lines"]["norm"]) * T**0.5
    assert alike["title"] == f"x off by 20 % at each token: state off by up to {largest:.0f} %"
    assert view(size=0)["title"] == "Nothing is off: the two states are the same"
    assert view(size=0)["mark"] == {"x": [], "y": [], "text": []}


@pytest.mark.browser
def test_axes_stay_while_the_slider_moves_and_hold_every_line(view):
    for what, how in itertools.product(WHATS, HOWS):
        drawn = [view(what=what, how=how, size=size) for size in (0, 5, 50)]
        assert len({(state["heights"], state["errors"]) for state in drawn}) == 1
        for state in drawn:
            assert max(state["lines"]["error"]) < state["errors"]
            assert max(state["lines"]["perturbed"]) < state["heights"]


@pytest.mark.browser
def test_the_controls_run_the_state_anew(open_page, site, view):
    write_figures(site, "state", [make_figure()])
    page = open_page("state", width=390, local=True)
    (figure,) = drawn_figures(page)
    caption = figure.locator(".aix-caption")
    assert caption.inner_text() == make_figure().drawing.alt
    figure.get_by_role("slider").press("ArrowRight")
    caption.filter(has_text="dt is off by 25 % at token 18 alone").wait_for()
    for name in ("Long", "x (what)", "Each, alike"):
        figure.get_by_role("button", name=name, exact=True).click()
    caption.filter(has_text="Long: x is off by 25 % at each token, always").wait_for()
    assert caption.inner_text() == view(2, "x", "same", 25)["alt"]


def test_the_figure_is_the_same_bytes_twice():
    assert make_figure()._repr_mimebundle_() == make_figure()._repr_mimebundle_()


FIRST = {"head": 0, "what": "B", "how": "same", "size": 20, **perturb(HEADS[0], "B", "same", 20)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": [HEADS[0], {**HEADS[1], "x": np.zeros(T + 1)}]}, "every head must be"),
        ({"heads": [{**HEADS[0], "decay": 0.0}]}, "a decay is negative, got 0.0"),
        ({"noise": {**NOISE, "entry": np.zeros((N, T))}}, r"noise is \(53,\) a token"),
        ({"noise": {**NOISE, "token": np.full(T, -2.0)}}, "greater than -2, .* got -2.0"),
        ({"at": T - 1}, "before the last of 53, got 52"),
        ({"first": {**FIRST, "what": "A"}}, "got 0, 'A' and 'same'"),
        ({"first": {**FIRST, "head": 3}}, "one of 3 heads"),
        ({"first": {**FIRST, "size": 22}}, "in steps of 5, got 22"),
        ({"first": {**FIRST, "norm": [0.0]}}, r"must be \(53,\)"),
    ],
)
def test_rejects_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        make_figure(**changes)
