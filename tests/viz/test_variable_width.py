"""The figures of variable widths: the solver in the browser is the solver in Python."""

import itertools

import pytest
from figuredata import attributes_of

from aiexplained.concepts import variable_width as vw
from aiexplained.viz import variable_width as figures
from aiexplained.viz.assets import rule_file
from aiexplained.viz.variable_width.stack import PRESETS, RULES

VOCAB, TOKENS = 100_263, 4096
SHAPES = [
    (n_layers, d_model, waist, turn)
    for n_layers, d_model in vw.SCALES.values()
    for waist, turn in itertools.product(
        (0.15, 0.3, 0.55, 0.85, 1.0, 1.35, 1.6), (2, n_layers // 3, 3 * n_layers // 4, n_layers - 1)
    )
]


@pytest.fixture(scope="module")
def rule(browser):
    """A page that has loaded the scripts and nothing else."""
    page = browser.new_page()
    for name in RULES:
        page.add_script_tag(path=rule_file(name))
    yield page
    page.close()


def python_solves(n_layers, d_model, waist, turn):
    solved = vw.solve_widths(n_layers, d_model, waist=waist, turn=turn, vocab_size=VOCAB)
    return {
        "widths": list(solved.widths),
        "shrink": solved.shrink,
        "flare": solved.flare,
        "end": solved.end,
        "parameters": vw.count_parameters(solved.widths, d_model, VOCAB),
        "flops": vw.count_flops(solved.widths, d_model, VOCAB, TOKENS),
        "cache": vw.count_cache_bytes(solved.widths, TOKENS),
    }


def browser_solves(rule, shapes):
    return rule.evaluate(
        """([shapes, vocabSize, tokens]) => {
          const rule = aiexplained.rules.variable_width;
          return shapes.map(([n, d, waist, turn]) => {
            const found = rule.solveWidths(n, d, {waist, turn, vocabSize, multiple: 32});
            return {
              widths: found.widths, shrink: found.shrink, flare: found.flare, end: found.end,
              parameters: rule.countParameters(found.widths, d, vocabSize),
              flops: rule.countFlops(found.widths, d, vocabSize, tokens),
              cache: rule.countCacheBytes(found.widths, tokens),
            };
          });
        }""",
        [shapes, VOCAB, TOKENS],
    )


@pytest.mark.browser
def test_the_browser_solves_and_counts_as_python_does(rule):
    for shape, found in zip(SHAPES, browser_solves(rule, SHAPES), strict=True):
        expected = python_solves(*shape)
        assert found.pop("widths") == expected.pop("widths"), shape
        assert found == pytest.approx(expected, rel=1e-12), shape


@pytest.mark.browser
def test_the_comparison_would_catch_a_waist_in_another_layer(rule):
    n_layers, d_model, waist, turn = SHAPES[4 * 1 + 2]
    (found,) = browser_solves(rule, [(n_layers, d_model, waist, turn - 1)])
    assert found["widths"] != python_solves(n_layers, d_model, waist, turn)["widths"]


@pytest.mark.browser
def test_a_bulge_with_too_many_weights_is_refused_in_both(rule):
    with pytest.raises(ValueError, match="alone has more"):
        vw.solve_widths(16, 640, waist=4.5)
    assert rule.evaluate(
        "aiexplained.rules.variable_width.solveWidths("
        "16, 640, {waist: 4.5, turn: 12, vocabSize: 0, multiple: 32}) === null"
    )


@pytest.fixture
def stack(rule):
    """Calls the figure's functions on plain objects that remember what they are given."""
    rule.evaluate(
        """([models, presets, lengths]) => {
          globalThis.args = {
            models, presets, lengths, model: {active: 0}, preset: {active: 0},
            waist: {value: 0.3, start: 0.15, end: 1, step: 0.05},
            turn: {value: 12, start: 2, end: 15}, tokens: {value: 0},
            layers: {}, label: {}, costs: {data: {cost: ["a", "b", "c"]}}, alt: {}, title: {},
          };
        }""",
        [
            [
                {"name": name, "n_layers": n, "d_model": d, "vocab_size": VOCAB}
                for name, (n, d) in vw.SCALES.items()
            ],
            [dict(p) for p in PRESETS],
            [TOKENS, 131_072],
        ],
    )

    def call(name, setup="", event="undefined"):
        return rule.evaluate(
            f"{setup}; aiexplained.rules.variable_width_view.{name}(args, {event});"
            "({widths: args.layers.data.width, change: args.costs.data.change,"
            " label: args.costs.data.label, title: args.title.text, alt: args.alt.data.text[0],"
            " turn: args.turn, waist: args.waist.value, preset: args.preset.active})"
        )

    return call


@pytest.mark.browser
def test_the_first_state_of_the_stack_is_the_published_one(stack):
    state, account = stack("stack"), vw.measure_accounts()["200M"]
    assert state["widths"] == list(account["widths"])
    assert state["change"] == pytest.approx([account[k] for k in ("cache", "flops", "weights")])
    assert state["label"] == ["−10.0 %", "−3.2 %", "+0.1 %"]
    assert state["title"] == "Ends 1152, waist 192: as many weights as 16 layers of 640"
    assert "operations at 4,096 tokens −3.2 %, cache −10.0 %" in state["alt"]


@pytest.mark.browser
@pytest.mark.parametrize("index", range(len(PRESETS)))
def test_presets_set_the_sliders(stack, index):
    state, preset = stack("preset", f"args.preset.active = {index}"), PRESETS[index]
    assert state["preset"] == index
    assert (state["waist"], state["turn"]["value"]) == (preset["waist"], int(16 * preset["turn"]))
    expected = vw.solve_widths(
        16, 640, waist=preset["waist"], turn=int(16 * preset["turn"]), vocab_size=VOCAB
    )
    assert state["widths"] == list(expected.widths)


@pytest.mark.browser
def test_a_preset_stays_chosen_when_the_sliders_that_it_set_report_back(stack):
    stack("preset", "args.preset.active = 1")
    assert stack("reshape")["preset"] == 1
    stack("remodel", "args.model.active = 3")
    assert stack("reshape")["preset"] == 1
    assert stack("reshape", "args.turn.value += 1")["preset"] is None


@pytest.mark.browser
def test_another_model_keeps_the_place_of_the_waist(stack):
    state = stack("remodel", "args.model.active = 3")
    assert (state["turn"]["value"], state["turn"]["end"]) == (30, 39)
    assert state["widths"] == list(vw.measure_accounts()["2B"]["widths"])


@pytest.mark.browser
def test_dragging_picks_layer_and_width_within_bounds(stack):
    state = stack("drag", event="{x: -0.26, y: 0.4}")
    assert (state["turn"]["value"], state["waist"], state["preset"]) == (7, 0.5, None)
    state = stack("drag", event="{x: 7, y: -3}")
    assert (state["turn"]["value"], state["waist"]) == (2, 1)
    state = stack("drag", event="{x: 0, y: 3}")
    assert (state["turn"]["value"], state["waist"]) == (15, 0.15)


@pytest.mark.browser
def test_a_slider_moved_by_hand_leaves_the_preset(stack):
    assert stack("reshape", "args.waist.value = 0.5")["preset"] is None


@pytest.mark.browser
def test_longer_sequences_save_more(stack):
    short = stack("stack")["change"]
    long = stack("stack", "args.tokens.value = 1")["change"]
    assert long[1] < short[1] < 0
    assert (long[0], long[2]) == (short[0], short[2])


def found_with(resize):
    return vw.measure_contributions([7, 5, 3, 5, 7], d_model=5, resize=resize)


def test_the_map_tells_waiting_from_thrown_away():
    figure = figures.follow_coordinate(
        {"Carry-forward": found_with(vw.carry_forward), "Zero padding": found_with(vw.zero_pad)},
        unit=32,
        first=4,
    )
    assert figure.drawing.alt == (
        "Carry-forward: layer 3 is too narrow for coordinates 129 to 160. Layer 4 finds "
        "there, untouched, the work of 3 earlier writers."
    )
    for text in (
        "Coordinates 129 to 160 are thrown away after layer 2",
        "Zero padding: layer 3 is too narrow for coordinates 129 to 160. Layer 4 finds zeros",
        "Carry-forward: every layer reads and writes coordinates 1 to 32.",
        "Coordinates 193 to 224 wait from layer 1 to layer 5",
    ):
        assert text in figure.drawing.item


def test_two_layers_say_how_much_cache_is_left():
    pairs = [(1.0, 1.0), (7 / 5, 1 / 5)]
    assert figures.two_layers(pairs, first=0).drawing.alt.endswith(
        "holds 100 % of the uniform one."
    )
    told = figures.two_layers(pairs, first=1).drawing
    assert told.alt.startswith(
        "Widths 1.40 and 0.20 of the uniform width: the squares still add up"
    )
    assert "The same weights, 20 % less cache" in told.item


def make_figures():
    account = vw.measure_accounts()["200M"]
    models = [{"name": "200M", "n_layers": 16, "d_model": 640, "vocab_size": VOCAB}] * 2
    view = {
        "uniform": [(50, 2.0), (100, 1.5), (150, 1.4)], "other": [(95, 1.6), (95, 1.7)],
        "curve": [(50.0, 2.0), (150.0, 1.4)], "matched": 85.0, "title": "t", "alt": "a",
    }  # fmt: skip
    return {
        "stack": figures.stack_of_layers(models, (9, TOKENS), at=1, first={**account, "alt": "a"}),
        "follow": figures.follow_coordinate(
            {"a": found_with(vw.carry_forward), "b": found_with(vw.zero_pad)}, unit=8, first=1
        ),
        "circle": figures.two_layers([(1.0, 1.0), (1.4, 0.2)], first=1),
        "seeds": figures.seeds_by_arm(
            {"one": [0.1, 0.2], "two": [0.3]}, {"one": -0.1}, title="t", axis="x", alt="a"
        ),
        "matched": figures.loss_matched(
            {"a": view, "b": view}, axis="cost (%)", loss_axis="loss (nats)", name="other"
        ),
        "rates": figures.layer_rates(
            {"uniform": [(64, 3.0)], "paper": [(32, 1.0), (96, 4.0)]}, title="t", alt="a"
        ),
    }  # fmt: skip


def test_every_figure_is_the_same_bytes_twice():
    first, second = make_figures(), make_figures()
    for name, figure in first.items():
        assert figure._repr_mimebundle_() == second[name]._repr_mimebundle_(), name


@pytest.mark.parametrize(("reported", "marks"), [({}, 3), ({"one": -0.3}, 4)])
def test_zero_and_the_source_are_always_in_sight(reported, marks):
    arms = {"one": [0.4, 0.5], "two": [0.6]}
    figure = figures.seeds_by_arm(arms, reported, title="t", axis="x", alt="a")
    (ends,) = attributes_of(figure, "Range1d")
    assert ends["start"] < min([0, *reported.values()]) < 0.6 < ends["end"]
    # The spread, the seeds, their mean, and the source where it is known.
    assert len(attributes_of(figure, "GlyphRenderer")) == marks
