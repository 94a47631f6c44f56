"""ATOM's rules: the browser serves requests as Python does, to the last bit."""

import dataclasses

import numpy as np
import pytest
from figuredata import page_with_rules

from aiexplained.serving import (
    SLO,
    EngineConfig,
    Fleet,
    Link,
    StepCost,
    attainment,
    goodput_rps,
    percentile,
    poisson_requests,
    simulate,
    unit_draws,
)
from aiexplained.viz.assets import rule_file

N = 37
POOLS = {
    "colocated": {"n_colocated": 3},
    "more write": {"n_prefill": 1, "n_decode": 2},
    "more read": {"n_prefill": 2, "n_decode": 1},
}
ENGINES = {
    "prefill first": {},
    "mixed": {"policy": "mixed", "max_num_batched_tokens": 509},
    "small steps": {"max_num_batched_tokens": 191},
    "few blocks": {"n_blocks": 113, "block_size": 7},
    "few blocks, mixed": {
        "policy": "mixed", "n_blocks": 113, "block_size": 7, "max_num_batched_tokens": 191,
    },
    "few sequences": {"max_num_seqs": 3},
    "one sequence, mixed": {"policy": "mixed", "max_num_seqs": 1, "max_num_batched_tokens": 67},
    "odd blocks": {"block_size": 97, "n_blocks": 41},
}  # fmt: skip
LOADS = {
    "busy": {"arrival_rate_rps": 23.0, "prompt_tokens": 631, "output_tokens": 53},
    "long answers": {"arrival_rate_rps": 23.0, "prompt_tokens": 131, "output_tokens": 211},
    "one token": {"arrival_rate_rps": 23.0, "prompt_tokens": 631, "output_tokens": 1},
}
LINKS = {"fast": Link(), "slow": Link(bandwidth=2.5e8, latency_s=0.013)}
COSTS = {
    "usual": StepCost(token_s=1 / 9_000, kv_token_s=4e-7),
    "attention": StepCost(token_s=1 / 20_000, pair_s=3e-7, overhead_s=0.001),
}
CASES = {
    f"{pools}, {engine}, {load}, {link}": (pools, engine, load, link, "usual")
    for pools in POOLS for engine in ENGINES for load in LOADS for link in LINKS
    if pools != "colocated" or link == "fast"
}  # fmt: skip
CASES |= {f"{pools}, attention": (pools, "mixed", "busy", "slow", "attention") for pools in POOLS}

SERVE = """([rows, load, fleet, concurrency]) => {
  const rule = aiexplained.rules.atom;
  return rule.simulate(rule.makeRequests(rows, load), fleet, concurrency);
}"""


@pytest.fixture(scope="module")
def rule(browser):
    yield from page_with_rules(browser, "atom_scheduler", "atom")


def draws_of(seed, n=N):
    return np.random.default_rng(seed).random((n, 3))


def make_fleet(pools, engine, link, cost):
    config = EngineConfig(prefix_caching=False, **ENGINES[engine])
    return Fleet(**POOLS[pools], engine=config, link=LINKS[link], cost=COSTS[cost])


def python_run(load, fleet, seed=5, concurrency=None):
    return simulate(poisson_requests(N, seed=seed, **load), fleet, concurrency=concurrency)


def browser_run(page, load, fleet, seed=5, concurrency=None):
    rows = unit_draws(draws_of(seed)).tolist()
    return page.evaluate(SERVE, [rows, load, dataclasses.asdict(fleet), concurrency])


def check_same(found, expected):
    assert found["spans"] == [list(span) for span in expected.spans]
    assert found["transfers"] == [list(transfer) for transfer in expected.transfers]
    assert found["most_in_engine"] == expected.most_in_engine
    assert found["makespan_s"] == expected.makespan_s
    for own, served in zip(found["served"], expected.served, strict=True):
        assert own["request"]["prompt_tokens"] == len(served.request.prompt)
        assert own["request"]["arrival_s"] == served.request.arrival_s
        assert own["start_s"] == served.start_s
        assert own["token_times_s"] == served.token_times_s
        assert own["engines"] == served.engines
        assert own["readings"] == [list(reading) for reading in served.readings]


@pytest.mark.browser
@pytest.mark.parametrize("case", CASES)
def test_the_browser_serves_requests_as_python_does(rule, case):
    pools, engine, load, link, cost = CASES[case]
    fleet = make_fleet(pools, engine, link, cost)
    check_same(browser_run(rule, LOADS[load], fleet), python_run(LOADS[load], fleet))


@pytest.mark.browser
@pytest.mark.parametrize("pools", POOLS)
def test_so_many_requests_are_in_flight(rule, pools):
    fleet = make_fleet(pools, "mixed", "slow", "usual")
    load = LOADS["busy"]
    found = browser_run(rule, load, fleet, concurrency=5)
    check_same(found, python_run(load, fleet, concurrency=5))
    assert sum(own["start_s"] == 0 for own in found["served"]) == 5


@pytest.mark.browser
def test_the_cases_preempt_queue_at_the_link_and_hold_requests_back(rule):
    busy = LOADS["busy"]
    for pools in POOLS:
        small = make_fleet(pools, "few blocks", "fast", "usual")
        run = browser_run(rule, LOADS["long answers"], small)
        assert sum(own["preemptions"] for own in run["served"]) > 5
    for pools in ("more write", "more read"):
        run = browser_run(rule, busy, make_fleet(pools, "prefill first", "slow", "usual"))
        ends = {transfer[4] for transfer in run["transfers"]}
        assert sum(transfer[3] in ends for transfer in run["transfers"]) > 5
        held = browser_run(rule, busy, make_fleet(pools, "few sequences", "fast", "usual"))
        assert max(held["most_in_engine"]) == 3


BUSY = ("more write", "prefill first", "busy", "slow", "usual")
FEW = ("colocated", "few blocks", "long answers", "fast", "usual")
CUT = ("colocated", "small steps", "busy", "fast", "usual")
HELD = ("more read", "few sequences", "busy", "slow", "usual")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("script", "right", "wrong", "case"),
    [
        ("atom_scheduler", "waiting.unshift(sequence)", "waiting.push(sequence)", FEW),
        ("atom_scheduler", "this.running.pop()", "this.running.shift()", FEW),
        ("atom_scheduler", "const CHUNK_MULTIPLE = 64", "const CHUNK_MULTIPLE = 1", CUT),
        ("atom_scheduler", "+ this.parked.size <", "<", HELD),
        ("atom", "receiver.linkFree)", "0)", HELD),
        ("atom", "if (held.delete(id)) times.push(now);", "", BUSY),
        ("atom", "a.order < b.order", "a.order > b.order", BUSY),
        ("atom", "load < fewest", "load <= fewest", BUSY),
    ],
)
def test_the_comparison_would_catch_a_wrong_rule(browser, script, right, wrong, case):
    page = browser.new_page()
    for name in ("atom_scheduler", "atom"):
        source = rule_file(name).read_text("utf-8")
        if name == script:
            assert source.count(right) == 1
            source = source.replace(right, wrong)
        page.add_script_tag(content=source)
    pools, engine, load, link, cost = case
    fleet = make_fleet(pools, engine, link, cost)
    # All that start at once tell which of several events at one time comes first.
    expected = python_run(LOADS[load], fleet, concurrency=11)
    found = browser_run(page, LOADS[load], fleet, concurrency=11)
    page.close()
    with pytest.raises(AssertionError):
        check_same(found, expected)


@pytest.mark.browser
def test_limits_percentiles_and_goodput_are_those_of_python(rule):
    fleet = make_fleet("colocated", "prefill first", "fast", "usual")
    run = python_run(LOADS["busy"], fleet)
    limits = {"mean": 0.0155, "p95": 0.0503, "worst": 0.1447}
    slos = [
        SLO(ttft_s=ttft, gap_s=gap, pace=pace)
        for pace, gap in limits.items() for ttft in (0.0716, 0.9)
    ]  # fmt: skip
    found = rule.evaluate(
        """([rows, load, fleet, slos]) => {
          const rule = aiexplained.rules.atom;
          const serve = (arrival_rate_rps) =>
            rule.simulate(rule.makeRequests(rows, { ...load, arrival_rate_rps }), fleet);
          const { served } = serve(load.arrival_rate_rps);
          const most = { share: 0.8, high: 29, steps: 5 };
          const shares = [0, 0.01, 0.5, 0.95, 0.99, 1];
          return {
            shares: slos.map((slo) => rule.attainment(served, slo)),
            goodput: slos.map((slo) => rule.goodput(serve, slo, most)),
            gaps: served.map(rule.gaps), ttft: served.map(rule.ttft), tpot: served.map(rule.tpot),
            ranks: shares.map((share) => rule.percentile(served.map(rule.ttft), share)),
            summary: rule.summarize(serve(load.arrival_rate_rps)),
          };
        }""",
        [unit_draws(draws_of(5)).tolist(), LOADS["busy"], dataclasses.asdict(fleet),
         [dataclasses.asdict(slo) for slo in slos]],
    )  # fmt: skip
    assert found["shares"] == [attainment(run.served, slo) for slo in slos]
    assert len(set(found["shares"])) > 3
    assert found["gaps"] == [served.gaps_s for served in run.served]
    assert found["tpot"] == [served.tpot_s for served in run.served]
    waits = [served.ttft_s for served in run.served]
    assert found["ttft"] == waits
    assert found["ranks"] == [percentile(waits, s) for s in (0, 0.01, 0.5, 0.95, 0.99, 1)]

    def serve(rate):
        return python_run(LOADS["busy"] | {"arrival_rate_rps": rate}, fleet)

    assert found["goodput"] == [
        goodput_rps(serve, slo, share=0.8, high=29, steps=5) for slo in slos
    ]
    gaps = [gap for served in run.served for gap in served.gaps_s]
    assert found["summary"]["gap_p99_s"] == percentile(gaps, 0.99)
    assert found["summary"]["gap_worst_s"] == max(gaps)
    assert found["summary"]["n_gaps"] == len(gaps)


@pytest.mark.browser
@pytest.mark.parametrize("shortest", [0.3, 0.8, 1.0])
def test_requests_are_those_of_python(rule, shortest):
    # Lengths of 5 and 7 tokens: many draws come near a half, where rounding could differ.
    options = {"arrival_rate_rps": 0.7, "prompt_tokens": 7, "output_tokens": 5}
    options |= {"shortest": shortest}
    found = rule.evaluate(
        """([flat, options]) => {
          const { makeRequests, rowsOf } = aiexplained.rules.atom;
          return makeRequests(rowsOf(flat), options);
        }""",
        [unit_draws(draws_of(11, 499)).ravel().tolist(), options],
    )
    expected = poisson_requests(499, seed=11, **options)
    assert [(r["id"], r["prompt_tokens"], r["max_new_tokens"], r["arrival_s"]) for r in found] == [
        (r.id, len(r.prompt), r.max_new_tokens, r.arrival_s) for r in expected
    ]


@pytest.mark.browser
def test_halves_are_rounded_to_the_even_neighbor(rule):
    draws = [[0.0, draw, 0.0] for draw in (0.0, 0.25, 0.5, 0.75)]
    options = {"arrival_rate_rps": 1, "prompt_tokens": 10, "output_tokens": 1, "shortest": 0.5}
    found = rule.evaluate("([r, o]) => aiexplained.rules.atom.makeRequests(r, o)", [draws, options])
    assert [r["prompt_tokens"] for r in found] == [round(5 + 5 * draw[1]) for draw in draws]
    halves = [[0.0, draw, 0.0] for draw in (0.1, 0.3, 0.5, 0.7, 0.9)]
    found = rule.evaluate(
        "([r, o]) => aiexplained.rules.atom.makeRequests(r, o)", [halves, options]
    )
    assert [r["prompt_tokens"] for r in found] == [6, 6, 8, 8, 10]


@pytest.mark.browser
def test_a_prompt_that_no_engine_can_hold_is_refused(rule):
    fleet = make_fleet("colocated", "few blocks", "fast", "usual")
    load = LOADS["busy"] | {"prompt_tokens": 1009}
    with pytest.raises(ValueError, match=r"needs \d+ blocks, the engine has 113"):
        python_run(load, fleet)
    with pytest.raises(Exception, match=r"needs \d+ blocks, the engine has 113"):
        browser_run(rule, load, fleet)


@pytest.mark.parametrize(
    ("draws", "match"),
    [
        (np.zeros((0, 3)), r"n of at least 1, got \(0, 3\)"),
        (np.zeros((5, 2)), r"\(n, 3\)"),
        (np.full((5, 3), 1.0), r"\[0, 1\), got 1 to 1"),
        (np.full((5, 3), np.nan), r"\[0, 1\), got nan"),
    ],
)
def test_rows_are_checked(draws, match):
    with pytest.raises(ValueError, match=match):
        unit_draws(draws)
