"""ATOM's claims at small size, and what the summaries make of runs."""

import numpy as np
import pytest

from aiexplained.concepts import atom
from aiexplained.concepts.atom import measure, summary
from aiexplained.records import load
from aiexplained.serving import Link, StepCost, describe_latency, poisson_requests, simulate

SMALL = {"n_rates": 3, "span_s": 3.0}


@pytest.fixture(scope="module")
def documents():
    """Served at a rate that one pool bears, by layout."""
    requests = poisson_requests(
        97, arrival_rate_rps=3.0, prompt_tokens=8192, output_tokens=127, seed=1
    )
    return {
        layout.name: measure.describe(simulate(requests, atom.study_fleet(layout)).served)
        for layout in atom.study_layouts()
    }


def test_two_pools_have_no_long_stall_and_one_pool_has(documents):
    two, one = documents["2 read, 2 write"], documents["colocated"]
    assert two["gap_worst_s"] < 0.1 * one["gap_worst_s"]
    assert one["gap_worst_s"] > 0.3  # as long as it takes to read a prompt


def test_chunked_prefill_takes_most_of_the_stall_away(documents):
    assert documents["chunks of 512"]["gap_worst_s"] < 0.1 * documents["colocated"]["gap_worst_s"]


def test_the_first_token_waits_longer_with_two_pools(documents):
    assert documents["2 read, 2 write"]["ttft_p50_s"] > documents["colocated"]["ttft_p50_s"]


def test_all_layouts_use_four_engines():
    for layout in atom.study_layouts():
        assert atom.study_fleet(layout).n_engines == 4


@pytest.mark.parametrize("workload", list(atom.WORKLOADS))
def test_rates_fall_from_the_bound_and_layouts_share_them(workload):
    result = atom.measure_rates(workload=workload, seed=0, **SMALL)
    rates = np.array(result["rates_rps"])
    assert rates[-1] == pytest.approx(atom.bound_rps(*atom.WORKLOADS[workload]))
    np.testing.assert_allclose(rates[1:] / rates[:-1], measure.RATIO)
    assert list(result["layouts"]) == [layout.name for layout in atom.study_layouts()]
    for rows in result["layouts"].values():
        for row in rows:
            within = row["within"]
            assert 0 <= within["worst"] <= min(within["p95"], within["mean"]) <= 1


def test_only_the_middle_of_a_run_counts():
    fleet = atom.study_fleet(atom.study_layouts()[0])
    served = measure._serve(fleet, 1.0, (64, 8), 3, 1.0)
    assert [s.request.id for s in served] == list(range(40, 160))


def test_saturation_keeps_the_best_split_below_one_pool_for_balanced_traffic():
    speeds = atom.measure_saturation(workload="writing", seed=0, concurrency=31, waves=3)
    best = atom.best_of(speeds)
    assert best["two pools"][1] < max(best["colocated"][1], best["chunked prefill"][1])


def test_a_slow_link_delays_the_first_token_and_not_the_rest():
    result = atom.measure_link(seed=0, span_s=60.0)
    waits = [row["ttft_p50_s"] for row in result["links"]]
    trips = [row["transfer_s"] for row in result["links"]]
    assert waits == sorted(waits)
    assert waits[-1] - waits[0] > 0.5 * (trips[-1] - trips[0])
    assert result["links"][-1]["gap_worst_s"] < 1.5 * result["links"][0]["gap_worst_s"]


def test_region_has_a_share_for_each_cell_and_short_prompts_are_easier():
    result = atom.measure_region(seed=0, prompts=(512, 8192), n_rates=2, span_s=3.0)
    for shares in result["shares"].values():
        for rows in shares.values():
            assert np.shape(rows) == (2, 2)
            assert np.min(rows) >= 0
            assert np.max(rows) <= 1
            assert sum(rows[0]) >= sum(rows[1])


def test_constants_of_the_table_reproduce_what_they_were_fitted_to():
    constants = atom.table_constants()
    for batch in atom.PRINTED:
        time = constants["fixed_s"] + batch * constants["sequence_s"]
        assert time == pytest.approx(atom.PRINTED[batch]["tpot_mean_s"])
    wave = 0.9 * 128 * 0.9 * 8192 / constants["prefill_tokens_per_s"]
    assert wave == pytest.approx(atom.PRINTED[128]["ttft_p99_s"])


def test_rejects_an_unknown_workload():
    with pytest.raises(ValueError, match=r"documents.*got 'poems'"):
        atom.measure_rates(workload="poems", seed=0)


# Summaries -------------------------------------------------------------------------------------

COST = StepCost(
    overhead_s=0.01, token_s=0.002, pair_s=1e-6, weights_s=0.05, kv_token_s=2e-5, sequence_s=0.01
)
LINK = Link(bandwidth=16e3, latency_s=0.03, kv_bytes_per_token=10.0)


def made_up_run(seed, system="colocated"):
    """A run as real engines report it, whose time is exactly the law's."""
    rng = np.random.default_rng(seed)
    steps, now = [], 0.0
    for _ in range(97):
        pieces = [[0, int(n)] for n in rng.integers(60, 700, int(rng.integers(0, 3)))]
        contexts = [int(c) for c in rng.integers(100, 999, int(rng.integers(0, 5)))]
        seconds = COST.seconds(prefill=pieces, decode_contexts=contexts)
        steps.append([0, now, now + seconds, pieces, contexts])
        now += seconds
    sizes = [int(n) for n in rng.integers(1, 60, 13)]
    transfers = [[0.0, LINK.seconds(16 * n), n] for n in sizes]
    return {"steps": steps, "transfers": transfers}


def test_fit_finds_the_constants_that_made_the_times():
    found = atom.fit_step_cost([made_up_run(0), made_up_run(1)])
    for name, value in vars(COST).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-6), name


def test_fit_leaves_mixed_steps_out():
    run = made_up_run(0)
    for step in run["steps"]:
        if step[3] and step[4]:
            step[2] += 17.0
    assert atom.fit_step_cost([run]).token_s == pytest.approx(COST.token_s, rel=1e-6)
    for step in run["steps"]:
        if step[3] and not step[4]:
            step[2] = step[1] + 2 * (step[2] - step[1])
    assert atom.fit_step_cost([run]).token_s == pytest.approx(2 * COST.token_s, rel=1e-6)


def test_link_is_found_from_transfers():
    found = atom.fit_link([made_up_run(2)], kv_bytes_per_token=10.0)
    assert found.bandwidth == pytest.approx(LINK.bandwidth)
    assert found.latency_s == pytest.approx(LINK.latency_s)


def test_prediction_serves_the_same_requests():
    result = {
        "requests": [
            {"arrival_s": 0.5 * i, "prompt_tokens": 31 + i, "outputs": [1] * (3 + i)}
            for i in range(5)
        ]
    }
    run = atom.predict(result, "two pools", cost=COST, link=LINK)
    assert [len(s.request.prompt) for s in run.served] == [31, 32, 33, 34, 35]
    assert [len(s.outputs) for s in run.served] == [3, 4, 5, 6, 7]
    assert atom.describe(run.served) == describe_latency(
        [s.start_s for s in run.served], [s.token_times_s for s in run.served]
    )


def test_goodput_lies_between_the_last_rate_that_is_borne_and_the_next():
    rows = [{"within": {"p95": share}} for share in (1.0, 0.95, 0.85, 0.95)]
    assert atom.goodput_rps([1, 2, 4, 8], rows, "p95") == pytest.approx(3.0)
    assert atom.goodput_rps([1, 2, 4, 8], rows, "p95", share=0.99) == pytest.approx(1.2)
    assert atom.goodput_rps([1, 2], rows[2:], "p95") == 0.0
    assert atom.goodput_rps([1, 2], rows[:2], "p95") == 2


def test_best_layout_of_each_system():
    speeds = {"colocated": 3.0, "chunks of 512": 5.0, "chunks of 64": 4.0, "1 read, 3 write": 2.0}
    assert atom.best_of(speeds) == {
        "colocated": ("colocated", 3.0),
        "chunked prefill": ("chunks of 512", 5.0),
        "two pools": ("1 read, 3 write", 2.0),
    }


def test_same_tokens_counts_answers_and_sees_one_wrong_token():
    alone = [{"setting": {"seed": 0}, "result": {"outputs": [[1, 2], [3]]}}]
    runs = [
        {"setting": {"seed": 0}, "result": {"requests": [{"outputs": [1, 2]}, {"outputs": [3]}]}},
        {"setting": {"seed": 0}, "result": {"requests": [{"outputs": [1, 9]}, {"outputs": [3]}]}},
    ]
    assert atom.same_tokens(runs[:1], alone) == (2, 2)
    assert atom.same_tokens(runs, alone) == (3, 4)


def test_longest_stall_is_the_request_with_the_longest_gap():
    result = {
        "requests": [
            {"token_times_s": [0.0, 1.0, 1.5]},
            {"token_times_s": [3.0, 3.1, 5.0]},
            {"token_times_s": [9.0, 9.1]},
        ]
    }
    assert summary.longest_stall(result) == 1
    result["requests"][0]["token_times_s"] += [9.0]
    assert summary.longest_stall(result) == 0
    assert summary.longest_stall(result, after=3) == 0
    assert summary.longest_stall({"requests": result["requests"][1:]}, after=2) == 0


def test_records_hold_real_runs_of_all_systems_on_the_same_requests():
    systems = atom.by_setting(load("atom", "processes"), "system")
    assert set(systems) == set(atom.SYSTEMS)
    for runs in zip(*systems.values(), strict=True):
        arrivals = [[r["arrival_s"] for r in run["requests"]] for run in runs]
        assert all(times == arrivals[0] for times in arrivals)
        assert all(run["transfers"] for run in (runs[2],))
        assert not runs[0]["transfers"]
