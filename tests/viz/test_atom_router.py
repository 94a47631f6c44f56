"""ATOMesh's router in the browser: its tree and policies are those of Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figuredata import drawn_figures, page_with_rules, write_figures
from playwright.sync_api import Browser, Page, expect

from aiexplained.serving import (
    CacheAware,
    ExplainedPolicy,
    LeastLoaded,
    PrefixHash,
    RadixTree,
    Request,
    RoundRobin,
    Sticky,
    WorkerLoad,
)
from aiexplained.serving.policies import token_hash
from aiexplained.viz.atom import routes as figures

N_ENGINES, N_CALLS = 5, 61
OPTIONS: dict[str, dict[str, Any]] = {
    "cache aware": {"balance_abs": 3, "match_threshold": 0.4, "max_nodes": 7, "evict_every_s": 11},
    "prefix hash": {"prefix_tokens": 2, "n_points": 13, "load_factor": 1.5},
    "sticky": {"idle_timeout_s": 7},
    "least loaded": {},
    "round robin": {},
}
MADE: dict[str, Callable[..., ExplainedPolicy]] = {
    "cache aware": CacheAware, "prefix hash": PrefixHash, "sticky": Sticky,
    "least loaded": LeastLoaded, "round robin": RoundRobin,
}  # fmt: skip


@pytest.fixture(scope="module")
def rule(browser: Browser) -> Iterator[Page]:
    yield from page_with_rules(browser, *figures.RULES)


def make_calls(seed: int) -> list[tuple[list[int], int, list[Any], float]]:
    """Prompts, sessions, loads with engines that cannot be used, and times."""
    rng = np.random.default_rng(seed)
    calls = []
    for i in range(N_CALLS):
        loads: list[Any] = [
            None if rng.random() < 0.2 else [int(rng.integers(7)), int(rng.integers(97))]
            for _ in range(N_ENGINES)
        ]
        loads[int(rng.integers(N_ENGINES))] = [1, 1]
        prompt = rng.integers(3, size=int(rng.integers(1, 8))).tolist()
        calls.append((prompt, int(rng.integers(-1, 4)), loads, i + float(rng.integers(3)) / 4))
    return calls


def python_decisions(policy: ExplainedPolicy, calls: Any) -> list[list[Any]]:
    decisions = []
    for prompt, session, loads, now_s in calls:
        known = [None if load is None else WorkerLoad(*load) for load in loads]
        policy.choose(Request(0, prompt, 1, 0.0, session), known, now_s)
        assert policy.last is not None
        decisions.append([*policy.last])
    return decisions


def browser_decisions(page: Page, name: str, options: Any, calls: Any) -> list[list[Any]]:
    found: list[list[Any]] = page.evaluate(
        """([name, options, calls]) => {
          const policy = new aiexplained.rules.atom_router.policies[name](options);
          return calls.map(([prompt, session, loads, now]) => {
            const known = loads.map((load) => load && {requests: load[0], tokens: load[1]});
            const {engine, reason, share} = policy.decide({prompt, session}, known, now);
            return [engine, reason, share];
          });
        }""",
        [name, options, calls],
    )
    return found


@pytest.mark.browser
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_browser_decides_as_python_does(rule: Page, name: str, seed: int) -> None:
    calls = make_calls(seed)
    expected = python_decisions(MADE[name](**OPTIONS[name]), calls)
    assert browser_decisions(rule, name, OPTIONS[name], calls) == expected


@pytest.mark.browser
@pytest.mark.parametrize("name", ["cache aware", "prefix hash", "sticky"])
def test_the_comparison_would_catch_another_threshold(rule: Page, name: str) -> None:
    calls = make_calls(0)
    other = python_decisions(MADE[name](), calls)
    assert browser_decisions(rule, name, OPTIONS[name], calls) != other


@pytest.mark.browser
@pytest.mark.parametrize("name", MADE)
def test_the_defaults_are_the_same(rule: Page, name: str) -> None:
    calls = [
        ([7] * 250 + prompt, session, [load and [10 * load[0], load[1]] for load in loads], 600 * t)
        for prompt, session, loads, t in make_calls(3)
    ]
    assert browser_decisions(rule, name, {}, calls) == python_decisions(MADE[name](), calls)


@pytest.mark.browser
def test_draws_take_engines_that_can_be_used_and_two_draws_spare_the_fullest(rule: Page) -> None:
    calls = [([1], -1, [None, [1, 5], [1, 9], [1, 7]], 0.0)] * 200
    for name, expected in {"random": {1, 2, 3}, "power of two": {1, 3}}.items():
        found = browser_decisions(rule, name, {}, calls)
        assert {engine for engine, _, _ in found} == expected
    alone = [([1], -1, [None, None, [1, 9]], 0.0)]
    assert browser_decisions(rule, "power of two", {}, alone)[0][0] == 2


@pytest.mark.browser
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_tree_matches_evicts_and_forgets_as_python_does(rule: Page, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [rng.integers(2, size=int(rng.integers(9))).tolist() for _ in range(37)]
    engines = rng.integers(3, size=37).tolist()
    tree, expected = RadixTree(), []
    for i, (text, engine) in enumerate(zip(texts, engines, strict=True)):
        expected.append([[*pair] for pair in tree.match(text).items()])
        tree.insert(text, engine)
        if i % 7 == 6:
            tree.evict(11)
        if i % 17 == 16:
            tree.forget(engine)
        expected.append([tree.n_nodes])
    found = rule.evaluate(
        """([texts, engines]) => {
          const tree = new aiexplained.rules.atom_router.RadixTree();
          return texts.flatMap((text, i) => {
            const match = tree.match(text);
            tree.insert(text, engines[i]);
            if (i % 7 === 6) tree.evict(11);
            if (i % 17 === 16) tree.forget(engines[i]);
            return [match, [tree.nodes().length]];
          });
        }""",
        [texts, engines],
    )
    assert found == expected


@pytest.mark.browser
def test_hashes_are_the_same(rule: Page) -> None:
    texts = [[], [0], [1, 2, 3], [2**31, 2**32 - 1], list(range(257))]
    found = rule.evaluate("(texts) => texts.map(aiexplained.rules.atom_router.tokenHash)", texts)
    assert found == [token_hash(text) for text in texts]


def test_the_figure_teaches_that_knowing_the_texts_finds_more() -> None:
    def share(name: str, threshold: float = 0.5) -> float:
        steps = figures.replay(
            figures.PROMPTS, figures.MADE[name](threshold), n_engines=figures.N_ENGINES,
            stay=figures.STAY,
        )  # fmt: skip
        assert all(step.found <= step.best for step in steps)
        assert all(sum(step.loads) <= figures.STAY for step in steps)
        return sum(step.found for step in steps) / sum(len(text) for _, text in figures.PROMPTS)

    assert share("cache aware") > share("sticky") > share("round robin") + 0.1
    assert share("cache aware", 1.0) < share("cache aware") - 0.1
    assert share("cache aware", 0.0) < share("cache aware", 0.3)  # the loads begin to differ


def test_two_figures_are_the_same_bytes_and_small() -> None:
    first, second = figures.router(), figures.router()
    assert first._repr_mimebundle_() == second._repr_mimebundle_()
    assert len(first.drawing.item) < 50_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sent": 0}, "from 1 to 24, got 0"),
        ({"sent": 25}, "from 1 to 24, got 25"),
        ({"threshold": 0.55}, "a tenth from 0 to 1, got 0.55"),
        ({"threshold": 1.1}, "a tenth from 0 to 1, got 1.1"),
    ],
)
def test_rejects_a_start_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.router(**change)


@pytest.mark.browser
def test_the_figure_is_drawn_on_a_phone_and_follows_its_controls(
    site: Path, open_page: Callable[..., Page]
) -> None:
    write_figures(site, "atom-router", [figures.router(sent=3)])
    page = open_page("atom-router", local=True, width=390)
    (figure,) = drawn_figures(page)
    caption = figure.locator(".aix-caption")
    expect(caption).to_have_text(figures.tell("cache aware", 3, 0.5)[1])
    figure.get_by_role("button", name="Send next").click()
    expect(caption).to_have_text(figures.tell("cache aware", 4, 0.5)[1])
    figure.get_by_role("slider", name="Match threshold").press("ArrowRight")
    expect(caption).to_have_text(figures.tell("cache aware", 4, 0.6)[1])
    sent = figure.get_by_role("slider", name="Requests sent")
    sent.press("End")
    for name in figures.MADE:
        figure.get_by_role("button", name=figures.POLICIES[name], exact=True).click()
        expect(caption).to_have_text(figures.tell(name, 24, 0.6)[1])
    figure.get_by_role("button", name="Send next").click()  # there is no next
    sent.press("ArrowLeft")
    expect(caption).to_have_text(figures.tell("round robin", 23, 0.6)[1])
    assert figures.tell("round robin", 23, 0.6)[0] in page.evaluate(
        """Bokeh.documents.flatMap((document) => [...document._all_models.values()])
          .filter((model) => model.type === "Title").map((model) => model.text)"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
