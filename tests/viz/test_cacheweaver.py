"""The CacheWeaver figures: the rule in the browser is the rule in Python."""

import dataclasses

import numpy as np
import pytest
from figuredata import page_with_rules

from aiexplained.concepts import cacheweaver as cw
from aiexplained.data import traces
from aiexplained.viz import cacheweaver as figures
from aiexplained.viz.cacheweaver.weaving import LENGTHS, NAMES, SCENES

ENGINES = (
    cw.Engine(),
    cw.Engine(capacity_blocks=61, window=7),  # evicts and forgets all the time
    cw.Engine(capacity_blocks=0),
    cw.Engine(capacity_blocks=211, block_size=7, instruction_tokens=5, question_tokens=3),
)
TRACES = {
    "ordinary": lambda: traces.synthetic_trace(
        40,
        n_topics=5,
        passages_per_topic=7,
        k=4,
        zipf=1.1,
        mean_session_length=3,
        noise=0.3,
        seed=1,
    ),
    "one-off": lambda: traces.one_off_first_trace(
        40, n_topics=5, passages_per_topic=7, k=4, seed=2
    ),
}


@pytest.fixture(scope="module")
def rule(browser):
    yield from page_with_rules(browser, "cacheweaver", "cacheweaver_view")


@pytest.mark.browser
@pytest.mark.parametrize("kind", TRACES)
@pytest.mark.parametrize("engine", ENGINES, ids=["large", "small", "off", "odd"])
@pytest.mark.parametrize("policy", ["retrieval", "sorted", "greedy", "repaired", "oracle"])
def test_the_browser_serves_a_trace_as_python_does(rule, kind, engine, policy):
    trace = TRACES[kind]()
    lengths = traces.passage_lengths(
        max(map(max, trace)) + 1, mean_tokens=53, spread=0.5, seed=3
    ).tolist()
    expected = cw.simulate(trace, lengths, policy, engine=engine)
    result = rule.evaluate(
        "([t, l, p, e]) => aiexplained.rules.cacheweaver.simulate(t, l, p, e)",
        [[list(r) for r in trace], lengths, policy, dataclasses.asdict(engine)],
    )
    assert result["cached"] == expected.cached.tolist()
    assert result["total"] == expected.total.tolist()


@pytest.mark.browser
def test_the_comparison_would_catch_a_rule_that_never_forgets(rule):
    trace, engine = TRACES["ordinary"](), ENGINES[1]
    lengths = [64] * (max(map(max, trace)) + 1)
    forgetful = cw.simulate(trace, lengths, "greedy", engine=engine)
    endless = dataclasses.replace(engine, capacity_blocks=10_000, window=1000)
    assert (
        forgetful.cached.tolist()
        != cw.simulate(trace, lengths, "greedy", engine=endless).cached.tolist()
    )


@pytest.mark.browser
@pytest.mark.parametrize("scene", SCENES, ids=[s["name"] for s in SCENES])
def test_the_orders_of_the_scenes_are_those_of_python(rule, scene):
    tree = cw.PrefixTree()
    for order in scene["served"]:
        tree.serve(order)
    result = rule.evaluate(
        """([served, retrieved]) => {
          const {PrefixTree, weave, deepest} = aiexplained.rules.cacheweaver;
          const tree = new PrefixTree(400);
          served.forEach((order) => tree.serve(order));
          return [
            weave(retrieved, tree), weave(retrieved, tree, "popular"), deepest(retrieved, tree),
          ];
        }""",
        [scene["served"], scene["retrieved"]],
    )
    assert [tuple(order) for order in result] == [
        cw.weave(scene["retrieved"], tree),
        cw.weave(scene["retrieved"], tree, tail="popular"),
        cw.deepest(scene["retrieved"], tree),
    ]


def test_the_scenes_teach_what_their_names_say():
    depths = {}
    for scene in SCENES:
        tree = cw.PrefixTree()
        for order in scene["served"]:
            tree.serve(order)
        got = scene["retrieved"]
        orders = (got, cw.weave(got, tree), cw.deepest(got, tree))
        depths[scene["name"]] = [tree.depth(order) for order in orders]
        assert all(p < len(NAMES) == len(LENGTHS) for order in scene["served"] for p in order)
    assert depths == {
        "Follow the walk": [0, 5, 5],
        "Beat the walk": [1, 1, 4],
        "A one-off passage first": [0, 0, 0],
    }


def make_figures():
    engine = dataclasses.asdict(cw.Engine())
    grid = cw.make_scrubber_traces(zipf=(0.0, 1.1), session=(1, 4), n_requests=11, width=5)
    lengths = cw.make_passage_lengths()
    numbers = {"median_s": [1.0, 2.0], "p90_s": [3.0, 4.0]}
    points = {"points": [(1.0, 0.5, 1.5), (2.0, 1.5, 2.5), (3.0, 2.0, 4.0)]}
    return {
        "weave": figures.weave_it(engine),
        "scrub": figures.trace_scrubber(
            grid, lengths, engine, zipf=(0.0, 1.1), session=(1, 4), capacities=(10, 20, 30),
            windows=(5, 9),
            first={k: [1] * 11 for k in ("total", "retrieval_cached", "woven_cached")}, alt="a",
        ),
        "fail": figures.failure(
            np.array(grid[1, 1]), [*lengths, *[150] * 11], engine, policies=("greedy", "repaired"),
            alt="a",
        ),
        "ttft": figures.ttft_by_order(
            {k: {"retrieval": numbers, "greedy": numbers} for k in "ab"}, title="t", alts=["x", "y"]
        ),
        "share": figures.share_by_order(
            {k: {"retrieval": [1.0, 2.0], "greedy": [3.0, 5.0]} for k in "ab"}, title="t",
            axis="share (%)", alts=["x", "y"],
        ),
        "chain": figures.block_chain(["none", "token 1"], [["aa", "bb"], ["cc", "dd"]]),
        "differences": figures.differences(
            ["one", "two"], [(0.1, 0.0, 0.2), (-0.1, -0.3, 0.1)], title="t", axis="x", alt="a"
        ),
        "sweeps": figures.sweeps(
            {setting: {"greedy": points, "oracle": points} for setting in ("k", "size")},
            {"k": [1, 2, 3], "size": [10, 20, 30]}, alts=["x", "y"],
        ),
    }  # fmt: skip


def test_every_figure_is_the_same_bytes_twice():
    first, second = make_figures(), make_figures()
    for name, figure in first.items():
        bundle, again = figure._repr_mimebundle_(), second[name]._repr_mimebundle_()
        assert bundle == again, name


def test_a_changed_token_is_told_from_an_unchanged_one():
    text = make_figures()["chain"].drawing.item
    assert "Changed: none. 2 of 2 block hashes stay the same." in text
    assert "Changed: token 1. 0 of 2 block hashes stay the same, and every hash" in text
