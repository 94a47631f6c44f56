"""The matrix of SubQ: the selectors in the browser choose what those in Python choose."""

import itertools

import numpy as np
import pytest
import torch
from figuredata import drawn_figures, sources_with, write_figures

from aiexplained.concepts.subq.selectors import SELECTORS
from aiexplained.concepts.subq.toy import SETTINGS, choose_in_toy, make_toy
from aiexplained.viz.assets import rule_file
from aiexplained.viz.subq import selector_matrix
from aiexplained.viz.subq.matrix import NAMES, RULES

SMALL = {"window_size": 5, "members": 3, "probes": 2, "block_size": 7, "n_groups": 3}
TEXTS = {
    "256 tokens": (make_toy(), SETTINGS, (32, 64, 128), (72,)),
    "another seed": (make_toy(seed=7), SETTINGS, (48,), (0, 239)),
    "prime sizes": (make_toy(97, 12, seed=3), SMALL, (11, 13, 29, 47), (2, 53, 91)),
    # 25 blocks in groups of the square root of 25 / 4: a half, which Python rounds to 2.
    "a half": (make_toy(175, 8, seed=5), SMALL, (31,), (17,)),
}


def in_browser(settings):
    """Settings by their names in JavaScript."""
    words = {name: name.split("_") for name in settings}
    return {
        first + "".join(word.capitalize() for word in rest): settings[name]
        for name, (first, *rest) in words.items()
    }


def open_rule(browser, scripts):
    """A page that has loaded the scripts and the texts, and nothing else."""
    page = browser.new_page()
    for script in scripts:
        page.add_script_tag(content=script)
    page.evaluate(
        """(texts) => {
          const flat = (values) => Float64Array.from(values.flat(Infinity));
          const all = (given) => Object.fromEntries(
            Object.entries(given).map(([name, values]) => [name, flat(values)]));
          const shape = (given) => ({nTokens: given.key.length, dim: given.key[0].length,
            bits: given.planes[0].length});
          globalThis.texts = Object.fromEntries(Object.entries(texts).map(
            ([name, given]) => [name, {...shape(given), ...all(given)}]));
        }""",
        {name: text[0].as_lists() for name, text in TEXTS.items()},
    )
    return page


@pytest.fixture(scope="module")
def rule(browser):
    """The page rules as the site has them."""
    page = open_rule(browser, [rule_file(name).read_text("utf-8") for name in RULES])
    yield page
    page.close()


def browser_chooses(rule, text, name, budget, position):
    """States ``(T, T)`` and products, as the script finds them."""
    state, dots = rule.evaluate(
        """([of, name, position, options]) => {
          const text = {...texts[of], key: texts[of].key.slice()};
          text.key.set(text.needle, position * text.dim);
          const {state, dots} = aiexplained.rules.subq.select(name, text, {...text, ...options});
          return [state.join(""), dots];
        }""",
        [text, name, position, {**in_browser(TEXTS[text][1]), "budget": budget}],
    )
    n = len(TEXTS[text][0].key)
    return np.array(list(state), dtype=int).reshape(n, n), dots


def ties(toy, name, position):
    """Pairs that score zero in the indexer: which of them fill a list, PyTorch leaves open."""
    if name != "indexer":
        return np.zeros((len(toy.key),) * 2, dtype=bool)
    narrow = toy.narrow.double()
    scores = (toy.query.double() @ narrow) @ (toy.with_needle(position).double() @ narrow).T
    return (scores <= 0).numpy()


def check_same(state, mask, free):
    """The same keys of every query; those that are ``free`` only in number."""
    read = state >= 2
    assert (state > 0).tolist() == np.tri(len(state), dtype=bool).tolist()
    assert ((read != mask) & ~free).sum() == 0
    assert read.sum(axis=1).tolist() == mask.sum(axis=1).tolist()


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TEXTS)
def test_the_browser_chooses_as_python_does(rule, text, name):
    toy, settings, budgets, positions = TEXTS[text]
    for budget, position in itertools.product(budgets, positions):
        mask, dots = choose_in_toy(toy, name, budget=budget, position=position, settings=settings)
        state, found = browser_chooses(rule, text, name, budget, position)
        check_same(state, mask.numpy(), ties(toy, name, position))
        assert found == pytest.approx(dots, rel=1e-12)
        window_size = budget if name == "window" else settings["window_size"]
        age = np.subtract.outer(*(np.arange(len(state)),) * 2)
        assert ((state == 2) == ((age >= 0) & (age < window_size))).all()


WRONG = {
    "hash": (".slice(-members)", ".slice(0, members)"),
    "centroids": ("home.push(near(key", "home.push(near(query"),
    "block means": ("position - windowSize + blockSize", "position - windowSize"),
    "two levels": ("nGroups), complete]", "nGroups)]"),
    "indexer": ("Math.max(dot(queries, i, keys, j, width), 0)", "-dot(queries, i, keys, j, width)"),
    "oracle": ("dot(query, i, key, j, dim), options", "dot(key, i, key, j, dim), options"),
}
"""The script's words, and a plausible mistake."""


@pytest.mark.browser
@pytest.mark.parametrize("name", WRONG)
def test_the_comparison_would_catch_a_wrong_rule(browser, name):
    text, budget, position = "prime sizes", 29, 53
    script, (right, wrong) = rule_file(RULES[0]).read_text("utf-8"), WRONG[name]
    assert right in script
    page = open_rule(browser, [script.replace(right, wrong)])
    toy, settings, _, _ = TEXTS[text]
    mask, _ = choose_in_toy(toy, name, budget=budget, position=position, settings=settings)
    state, _ = browser_chooses(page, text, name, budget, position)
    page.close()
    with pytest.raises(AssertionError):
        check_same(state, mask.numpy(), ties(toy, name, position))


def test_the_buttons_are_the_selectors():
    assert list(SELECTORS) == list(NAMES)


def make_figure(name="hash", budget=64, position=72, **changes):
    toy, settings, _, _ = TEXTS["256 tokens"]
    mask, dots = choose_in_toy(toy, name, budget=budget, position=position)
    state = {"selector": name, "budget": budget, "position": position, "mask": mask.tolist()}
    given = {**toy.as_lists(), "settings": settings, "first": {**state, "dots": dots}}
    return selector_matrix(**{**given, **changes})


@pytest.fixture
def view(rule):
    """Calls the figure's functions on plain objects that remember what they are given."""
    toy, settings, _, _ = TEXTS["256 tokens"]
    rule.evaluate(
        """([given, names, options]) => {
          class Image extends Uint8Array {
            constructor(values, shape) { super(values); this.shape = shape; }
          }
          const flat = (values) => values.flat(Infinity).map((value) => value * 4096);
          const image = () => ({data: {image: [new Image(1, [1, 1])]}});
          globalThis.args = {
            selector: {active: 0}, budget: {value: 64}, needle: {value: 72, start: 0, end: 239},
            names, labels: names.map((name) => name[0].toUpperCase() + name.slice(1)),
            options: {...options, bits: given.planes[0].length}, step: 2 ** -12, margin: 0.2,
            given: Object.fromEntries(Object.entries(given).map(([k, v]) => [k, flat(v)])),
            matrix: image(), row: image(), mark: {data: {}}, keys: {}, costs: {data: {}},
            title: {}, alt: {},
          };
        }""",
        [toy.as_lists(), NAMES, in_browser(settings)],
    )

    def call(name, budget=64, position=72):
        return rule.evaluate(
            """([active, budget, position]) => {
              args.selector.active = active;
              args.budget.value = budget;
              args.needle.value = position;
              aiexplained.rules.subq_view.draw(args);
              const [matrix] = args.matrix.data.image, [row] = args.row.data.image;
              return {
                title: args.title.text, alt: args.alt.data.text[0], keys: args.keys.data,
                costs: args.costs.data, mark: args.mark.data, state: matrix.join(""),
                row: row.join(""), shapes: [matrix.shape, row.shape],
              };
            }""",
            [NAMES.index(name), budget, position],
        )

    return call


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_the_figure_says_in_both_languages_what_the_mask_says(view, name):
    for budget, position in ((64, 72), (48, 239)):
        found, figure = view(name, budget, position), make_figure(name, budget, position)
        assert found["title"] in figure.drawing.item
        assert found["alt"] == figure.drawing.alt
        (keys,) = sources_with(figure, "why")
        if name != "indexer":  # where ties are open
            assert found["keys"] == keys
        (costs,) = sources_with(figure, "cost")
        assert (found["costs"]["count"], found["costs"]["label"]) == (
            costs["count"],
            costs["label"],
        )
        (mark,) = sources_with(figure, "label_x")
        assert found["mark"].items() <= mark.items()


@pytest.mark.browser
def test_titles_tell_a_needle_that_is_read_from_one_that_is_missed(view):
    read, missed = view("oracle"), view("window")
    assert read["title"] == "Oracle: the last query reads 64 of 256 keys, the needle among them"
    assert "the needle, key 72, is among them" in read["alt"]
    assert read["mark"]["text"] == ["✓ needle read"]
    assert read["keys"]["why"][read["keys"]["key"].index(72)] == "chosen, the needle"
    assert missed["title"] == "Window: the last query reads 64 of 256 keys and misses the needle"
    assert "the needle, key 72, is not among them" in missed["alt"]
    assert (missed["mark"]["text"], missed["row"][72]) == (["✗ needle missed"], "1")


@pytest.mark.browser
def test_the_strip_is_the_last_row_of_the_matrix(view):
    found = view("hash")
    assert found["shapes"] == [[256, 256], [1, 256]]
    assert found["row"] == found["state"][-256:]
    assert found["keys"]["key"] == [i for i, s in enumerate(found["row"]) if s in "23"]
    assert found["costs"]["count"][0] == 2 * sum(s in "23" for s in found["state"])


@pytest.mark.browser
def test_dragging_stays_where_the_slider_can_go(rule, view):
    def drag(x):
        rule.evaluate(f"aiexplained.rules.subq_view.drag(args, {{x: {x}}})")
        return rule.evaluate("args.needle.value")

    assert [drag(x) for x in (-7, 0.4, 100.9, 255)] == [0, 0, 100, 239]


@pytest.mark.browser
def test_a_tap_in_the_matrix_and_the_slider_move_the_same_needle(open_page, site):
    write_figures(site, "subq", [make_figure("window")])
    page = open_page("subq", width=390)
    (figure,) = drawn_figures(page)
    plot, caption = figure.locator(".bk-Figure").first, figure.locator(".aix-caption")
    assert "key 72, is not among them" in caption.inner_text()
    box = plot.bounding_box()
    page.mouse.click(box["x"] + 0.85 * box["width"], box["y"] + 0.6 * box["height"])
    caption.filter(has_text="is among them").wait_for()
    handle = figure.get_by_role("slider").nth(1)
    value = float(handle.get_attribute("aria-valuenow"))
    assert 192 < value < 240
    assert f"key {value:.0f}, is among them" in caption.inner_text()
    handle.press("ArrowRight")
    caption.filter(has_text=f"key {value + 1:.0f}, is among them").wait_for()


def test_the_figure_is_the_same_bytes_twice():
    assert make_figure()._repr_mimebundle_() == make_figure()._repr_mimebundle_()


def test_rejects_a_needle_that_everybody_reads_as_new():
    with pytest.raises(ValueError, match="at 0 to 239, got 240"):
        make_figure(position=240)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": torch.zeros(255, 16).tolist()}, r"query must be \(256, 16\)"),
        ({"planes": [[0.0] * 16] * 14}, r"planes \(tables, bits, D\), got"),
        ({"needle": [0.0] * 15}, r"needle \(16,\)"),
        ({"planes": torch.zeros(13, 5, 16).tolist()}, "asks for 14 tables, got directions for 13"),
        ({"centroids": torch.full((16, 16), 8.0).tolist()}, "numbers are less than 8, got 8.0"),
        ({"budgets": (32, 48, 72, 64)}, "equal steps"),
        ({"budgets": (32, 96, 160)}, "the first one, 64, is among them"),
    ],
)
def test_rejects_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        make_figure(**changes)
