"""The patch of weights of Ternary Mamba: the browser rounds as `ternarize` does."""

import numpy as np
import pytest
import torch
from figuredata import drawn_figures, sources_with, write_figures

from aiexplained.nn import ternarize
from aiexplained.viz.assets import rule_file
from aiexplained.viz.ternary_mamba import in_steps, weight_patch
from aiexplained.viz.ternary_mamba.patch import RULES

STEPS = (0, 20, 60, 150)
ROWS, COLUMNS = 5, 24
SIZES = (3, 4, 8, 24)


def make_snapshots(seed=0):
    """Weights that drift, with a group of zeros, and ties in a group of ones and threes."""
    generator = np.random.default_rng(seed)
    shape = (len(STEPS), ROWS, COLUMNS)
    snapshots = 0.1 * generator.normal(size=shape[1:]) + 0.02 * generator.normal(size=shape)
    snapshots[:, 1, :8] = 0
    snapshots[:, 2, 8:16] = np.array([1, -1, 3, -3, 1, -1, 3, -3]) / 16
    return in_steps(snapshots)


def rounded(weights, size):
    ternary, scale = ternarize(torch.tensor(weights, dtype=torch.float64), size)
    return ternary.numpy(), scale.numpy()


def open_rule(browser, scripts):
    page = browser.new_page()
    for script in scripts:
        page.add_script_tag(content=script)
    return page


@pytest.fixture(scope="module")
def rule(browser):
    """A page that has loaded the scripts and nothing else."""
    page = open_rule(browser, [rule_file(name).read_text("utf-8") for name in RULES])
    yield page
    page.close()


def whole_numbers(seed, shape, largest):
    return np.random.default_rng(seed).integers(-largest, largest + 1, size=shape).astype(float)


TIES = [[0.5, -0.5, 1.5, -1.5], [0, 0, 0, 0], [2, -2, 6, 6], [1, 1, 1, -1], [0, 0, 0, 7]]
INPUTS = {
    "ties and zeros": (np.array(TIES, dtype=float), (4, 2, 1, 3)),
    "many ties": (whole_numbers(1, (211, 32), 3), (2, 4, 8, 16, 32)),
    "many zero groups": (whole_numbers(2, (101, 24), 1), (2, 3, 5, 24)),
    "short last groups": (whole_numbers(3, (53, 37), 9), (2, 5, 7, 11, 36, 38)),
    "two bytes": (whole_numbers(4, (97, 64), 2**15 - 1) * 2.0**-17, (4, 8, 16, 32, 64, 61)),
    "trained": (make_snapshots().reshape(-1, COLUMNS), SIZES),
}


def browser_rounds(page, weights, size):
    codes, scales = page.evaluate(
        """([weights, columns, size]) => {
          const found = aiexplained.rules.ternary_mamba.ternarize(
            Float64Array.from(weights), columns, size);
          return [Array.from(found.codes), Array.from(found.scales)];
        }""",
        [weights.ravel().tolist(), weights.shape[1], size],
    )
    return np.array(codes).reshape(weights.shape), np.array(scales).reshape(len(weights), -1)


def check_same(page, weights, size):
    codes, scales = browser_rounds(page, weights, size)
    ternary, scale = rounded(weights, size)
    assert (codes == ternary).all()
    assert (scales == scale).all()


@pytest.mark.browser
@pytest.mark.parametrize("name", INPUTS)
def test_the_browser_rounds_as_python_does_to_the_entry(rule, name):
    weights, sizes = INPUTS[name]
    for size in sizes:
        check_same(rule, weights, size)


@pytest.mark.browser
def test_half_a_scale_and_a_group_of_zeros_become_zero(rule):
    codes, scales = browser_rounds(rule, INPUTS["ties and zeros"][0], 4)
    assert codes.tolist() == [
        [0, 0, 1, -1], [0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, -1], [0, 0, 0, 1],
    ]  # fmt: skip
    assert scales.ravel().tolist() == [1, 0, 4, 1, 1.75]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("right", "wrong", "name"),
    [
        ("ratio > 0.5 ? 1", "ratio >= 0.5 ? 1", "ties and zeros"),
        ("ratio < -0.5 ? -1", "ratio <= -0.5 ? -1", "many ties"),
        ("total / (to - from)", "total / groupSize", "short last groups"),
    ],
)
def test_the_comparison_would_catch_a_wrong_rule(browser, right, wrong, name):
    script = rule_file(RULES[0]).read_text("utf-8")
    assert right in script
    page = open_rule(browser, [script.replace(right, wrong)])
    weights, sizes = INPUTS[name]
    with pytest.raises(AssertionError):
        check_same(page, weights, sizes[0] if sizes[0] > 3 else sizes[1])
    page.close()


def make_first(step=60, group_size=8, seed=0):
    snapshots = make_snapshots(seed)
    ternary, scale = rounded(snapshots[STEPS.index(step)], group_size)
    flips = int((ternary != rounded(snapshots[0], group_size)[0]).sum())
    return {
        "step": step, "group_size": group_size, "ternary": ternary.tolist(),
        "scale": scale.tolist(), "flips": flips,
    }  # fmt: skip


def make_figure(step=60, group_size=8, **changes):
    given = {"steps": STEPS, "group_sizes": SIZES, "first": make_first(step, group_size)}
    return weight_patch(**{"snapshots": make_snapshots(), **given, **changes})


@pytest.fixture(scope="module")
def view(rule):
    """Calls the figure's function on plain objects that remember what they are given."""
    rule.evaluate(
        """([values, sizes, labels, rows, columns]) => {
          class Image extends Float32Array {
            constructor(values, shape) { super(values); this.shape = shape; }
          }
          const image = () => ({data: {image: [new Image(1, [1, 1])]}});
          globalThis.args = {
            snapshots: {values, step: 2 ** -20}, sizes, labels, rows, columns, size: {}, at: {},
            weights: image(), rounded: image(), cuts: {data: {x: []}}, bars: {data: {}},
            groups: {}, title: {}, flips: {}, alt: {},
          };
        }""",
        [
            (make_snapshots() * 2**20).ravel().tolist(), SIZES, [str(s) for s in STEPS],
            ROWS, COLUMNS,
        ],
    )  # fmt: skip

    def call(step, group_size):
        return rule.evaluate(
            """([at, active]) => {
              args.at.value = at;
              args.size.active = active;
              aiexplained.rules.ternary_mamba_view.drawPatch(args);
              const [weights] = args.weights.data.image, [rounded] = args.rounded.data.image;
              return {
                title: args.title.text, flips: args.flips.text, alt: args.alt.data.text[0],
                bars: args.bars.data, groups: args.groups.data, cuts: args.cuts.data,
                weights: Array.from(weights), rounded: Array.from(rounded),
                shapes: [weights.shape, rounded.shape],
              };
            }""",
            [STEPS.index(step), SIZES.index(group_size)],
        )

    return call


@pytest.mark.browser
@pytest.mark.parametrize("group_size", SIZES)
@pytest.mark.parametrize("step", STEPS)
def test_the_figure_says_in_both_languages_what_the_codes_say(view, step, group_size):
    found, figure = view(step, group_size), make_figure(step, group_size)
    for text in (found["title"], found["flips"]):
        assert text in figure.drawing.item
    assert found["alt"] == figure.drawing.alt
    (bars,), (groups,) = sources_with(figure, "is 0"), sources_with(figure, "places")
    assert found["bars"].items() <= bars.items()
    assert found["groups"] == groups
    (cuts,) = sources_with(figure, "top")
    assert found["cuts"] == cuts


@pytest.mark.browser
def test_the_images_are_the_weights_and_the_scaled_codes(view):
    found, weights = view(150, 4), make_snapshots()[3]
    ternary, scale = rounded(weights, 4)
    assert found["shapes"] == [[ROWS, COLUMNS]] * 2
    assert found["weights"] == np.float32(weights).ravel().tolist()
    multiplied = np.float32(np.repeat(scale, 4, axis=1) * ternary)
    assert found["rounded"] == multiplied.ravel().tolist()
    assert found["cuts"]["x"] == [4, 8, 12, 16, 20]


@pytest.mark.browser
def test_every_weight_is_in_one_bar_and_no_bar_crosses_a_cut(view):
    for group_size in SIZES:
        bars = view(60, group_size)["bars"]
        assert sum(sum(bars[f"is {sign}"]) for sign in (-1, 0, 1)) == ROWS * COLUMNS
        held = np.array([bars[f"is {sign}"] for sign in (-1, 0, 1)]) > 0
        assert held[0, 28:].sum() == held[1, :28].sum() == 0
        assert held[1, 36:].sum() == held[2, :36].sum() == 0


@pytest.mark.browser
def test_the_title_counts_what_was_rounded(view):
    weights = make_snapshots()[3]
    ternary, scale = rounded(weights, 24)
    zeros = round(100 * (ternary == 0).mean())
    error = np.linalg.norm(weights - scale * ternary) / np.linalg.norm(weights)
    found = view(150, 24)
    assert found["title"] == (
        f"Groups of 24: {zeros} % zeros, 2.67 bits a weight, error {100 * error:.0f} %"
    )
    flips = int((ternary != rounded(make_snapshots()[0], 24)[0]).sum())
    assert 0 < flips < ROWS * COLUMNS
    assert found["flips"] == f"{flips} of 120 codes differ from step 0"
    assert view(0, 24)["flips"] == "120 weights, cut at half their group's scale"


@pytest.mark.browser
def test_the_slider_and_the_buttons_round_anew(open_page, site, view):
    write_figures(site, "patch", [make_figure()])
    page = open_page("patch", width=390, local=True)
    (figure,) = drawn_figures(page)
    caption = figure.locator(".aix-caption")
    assert caption.inner_text() == make_figure().drawing.alt
    figure.get_by_role("slider").press("ArrowRight")
    caption.filter(has_text="Step 150, groups of 8").wait_for()
    figure.get_by_role("button", name="24", exact=True).click()
    caption.filter(has_text="Step 150, groups of 24").wait_for()
    assert caption.inner_text() == view(150, 24)["alt"]


def test_the_figure_is_the_same_bytes_twice():
    assert make_figure()._repr_mimebundle_() == make_figure()._repr_mimebundle_()


def test_numbers_in_steps_are_near_and_stay():
    values = np.random.default_rng(5).normal(size=(7, 11, 13))
    found = in_steps(values)
    assert (in_steps(found) == found).all()
    step = 2.0 ** np.ceil(np.log2(np.abs(values).max() / (2**15 - 1)))
    assert np.abs(found - values).max() <= step / 2
    assert (np.round(found / step) == found / step).all()
    assert (in_steps(np.zeros(3)) == 0).all()


@pytest.mark.parametrize("numbers", [[], [1.0, np.nan], [np.inf]])
def test_steps_need_finite_numbers(numbers):
    with pytest.raises(ValueError, match="finite and at least one"):
        in_steps(numbers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": (0, 20, 60)}, r"for 3 steps, got \(4, 5, 24\)"),
        ({"group_sizes": (8, 16, 7)}, r"multiple of each group size, got \[16, 7\]"),
        ({"group_sizes": (4, 24)}, "got 60 and 8"),
        ({"first": {**make_first(), "step": 61}}, "got 61 and 8"),
        ({"first": {**make_first(), "group_size": 4}}, r"must be \(\(5, 24\), \(5, 6\)\)"),
        ({"snapshots": np.zeros((4, ROWS, COLUMNS))}, "all zeros"),
    ],
)
def test_rejects_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        make_figure(**changes)
