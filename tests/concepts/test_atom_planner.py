"""ATOM's planner: what a data sheet gives, and when splitting helps."""

from dataclasses import replace

import pytest

from aiexplained.concepts.atom import planner
from aiexplained.concepts.atom.hardware import (
    GPUS,
    MODELS,
    Gpu,
    Model,
    gpus_needed,
    kv_blocks,
    roofline_point,
    step_cost,
)
from aiexplained.concepts.atom.planner import Outcome, Workload, advice, layouts, plan
from aiexplained.serving import SLO, EngineConfig, Fleet, Link

GPU, MODEL = GPUS["MI300X"], MODELS["Llama-3.1-8B"]
WORKLOAD = Workload(arrival_rate_rps=11.0, prompt_tokens=6007, output_tokens=53)
LOOSE = SLO(ttft_s=0.9, gap_s=0.5, pace="mean")
TIGHT = SLO(ttft_s=20.0, gap_s=0.012, pace="worst")


def make_plan(slo, **options):
    settings = {"n_engines": 3, "link_bandwidth": 25e9, "chunks": (509,), "n_requests": 37}
    return plan(WORKLOAD, GPU, MODEL, slo=slo, **(settings | options))


@pytest.fixture(scope="module")
def tight():
    return make_plan(TIGHT)


def best_goodput(found, *, split):
    return max(o.goodput_rps for o in found.outcomes if (o.layout.n_prefill > 0) == split)


def test_memory_is_a_data_sheets_less_the_weights():
    tiny = Gpu("tiny", 1e12, 1e11, 1e6)
    model = Model("m", 1e5, 3, 5, 1, 7)
    left = 0.9 * 1e6 - 2e5
    assert kv_blocks(tiny, model) == left // (16 * 2 * 3 * 1 * 7 * 2)
    assert kv_blocks(tiny, model, gpus_per_engine=2) == (left + 0.9e6) // (16 * 84)
    # All heads, not those with keys and values, would take five times the room.
    assert kv_blocks(tiny, replace(model, n_kv_heads=5)) < kv_blocks(tiny, model) / 4.9


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"Llama-3\.1-70B needs 141\.2 GB .* L40S have 43\.2 GB"):
        kv_blocks(GPUS["L40S"], MODELS["Llama-3.1-70B"])
    for gpu in GPUS.values():
        for model in MODELS.values():
            n = gpus_needed(gpu, model)
            assert kv_blocks(gpu, model, gpus_per_engine=n) > 0
            assert n == 1 or model.bytes > 0.8 * gpu.memory * n / 2


def test_a_step_takes_what_the_data_sheet_says():
    cost = step_cost(GPU, MODEL, gpus_per_engine=2, flops_share=0.25, bandwidth_share=0.75)
    assert cost.token_s == pytest.approx(2 * 8.03e9 / (0.5 * 1307.4e12))
    assert cost.weights_s == pytest.approx(16.06e9 / (1.5 * 5.3e12))
    assert cost.kv_token_s == pytest.approx(131072 / (1.5 * 5.3e12))


def test_one_token_does_an_operation_a_byte_and_a_prompt_reaches_the_roof():
    one = roofline_point(GPU, MODEL, tokens=1, context=1)
    assert one.intensity == pytest.approx(1, rel=1e-4)  # two operations for two bytes
    assert one.idle_share == pytest.approx(1 - 1 / one.ridge, rel=1e-4)
    prompt = roofline_point(GPU, MODEL, tokens=8191, context=0)
    assert prompt.flops == GPU.flops
    assert prompt.idle_share == 0
    assert prompt.intensity > prompt.ridge


def test_long_contexts_keep_large_batches_below_the_ridge():
    short, long = (roofline_point(GPU, MODEL, tokens=509, context=c) for c in (1, 8191))
    assert short.intensity > short.ridge
    assert long.intensity < long.ridge
    # Without the bytes of keys and values it would be beyond the ridge too.
    bare = roofline_point(GPU, replace(MODEL, kv_bytes=0.0), tokens=509, context=8191)
    assert bare.intensity > bare.ridge


def test_the_roofline_and_the_time_of_a_step_agree():
    cost = step_cost(GPU, MODEL, flops_share=1.0, bandwidth_share=1.0)
    for tokens, context in ((7, 1009), (401, 13), (3001, 0)):
        point = roofline_point(GPU, MODEL, tokens=tokens, context=context)
        prefill = [] if context else [(0, tokens)]
        contexts = [context] * tokens if context else []
        seconds = cost.seconds(prefill=prefill, decode_contexts=contexts) - cost.overhead_s
        pairs = tokens * context or tokens * (tokens + 1) // 2
        operations = 2 * MODEL.n_params * tokens + 4 * MODEL.attention_width * pairs
        # A step does its products first and attends then, each at its own roof.
        assert 0.9 * point.flops < operations / seconds <= (1 + 1e-9) * point.flops
        if not context:
            assert operations / seconds == pytest.approx(point.flops, rel=1e-9)


def test_every_split_is_tried_and_uses_all_engines():
    found = layouts(5, (509, 1021))
    assert [o.n_colocated + o.n_prefill + o.n_decode for o in found] == [5] * 7
    assert {(o.n_prefill, o.n_decode) for o in found[3:]} == {(1, 4), (2, 3), (3, 2), (4, 1)}
    assert [o.chunk for o in found[:3]] == [0, 509, 1021]


def test_the_best_layout_is_the_best_of_the_list(tight):
    assert tight.best in tight.outcomes
    assert tight.best.goodput_rps == max(o.goodput_rps for o in tight.outcomes)
    assert [o.layout for o in tight.outcomes] == layouts(3, (509,))
    for outcome in tight.outcomes:
        assert outcome.ttft_p50_s <= outcome.ttft_p99_s
        assert outcome.gap_p99_s <= outcome.worst_gap_s
        assert 0 <= outcome.attainment <= 1


def test_two_pools_win_where_only_the_worst_gap_counts(tight):
    assert best_goodput(tight, split=True) > 2 * best_goodput(tight, split=False)
    assert tight.best.layout.n_prefill > 0
    assert tight.advice.startswith("Split: ")
    assert tight.best.layout.name in tight.advice


def test_one_pool_wins_where_only_the_wait_counts():
    found = make_plan(LOOSE)
    assert best_goodput(found, split=False) > 1.05 * best_goodput(found, split=True)
    assert found.advice.startswith("Do not split: ")


def test_a_link_without_end_makes_two_pools_lose(tight):
    found = make_plan(TIGHT, link_bandwidth=1e3)
    assert best_goodput(found, split=True) == 0
    same = [o.layout.n_prefill == 0 for o in found.outcomes]
    pairs = zip(found.outcomes, tight.outcomes, strict=True)
    assert [a == b for a, b in pairs] == same  # the link matters to two pools only


def test_limits_that_nothing_keeps_are_said_to_be_so():
    found = make_plan(SLO(ttft_s=1e-3, gap_s=1e-3))
    assert {o.goodput_rps for o in found.outcomes} == {0.0}
    assert found.advice.startswith("No layout keeps 90 % of the requests within the limits")


@pytest.mark.parametrize(
    ("two", "verdict"),
    [(2.2, "Split"), (2.05, "Splitting changes little"), (1.95, "Splitting changes little"),
     (1.8, "Do not split")],
)  # fmt: skip
def test_small_differences_are_called_small(two, verdict):
    rates = {"colocated": 2.0, "1 read, 1 write": two}
    outcomes = [
        Outcome(layout, 0.0, 0.0, 0.0, 0.0, 1.0, rates[layout.name]) for layout in layouts(2, ())
    ]
    assert advice(outcomes, share=0.9).startswith(f"{verdict}: with 90 %")
    assert f"{two:.2f} requests/s (1 read, 1 write)" in advice(outcomes, share=0.9)


def test_no_layout_bears_more_than_its_engines_could_do():
    link = Link(kv_bytes_per_token=MODEL.kv_bytes_per_token)
    options = {"engine": EngineConfig(n_blocks=kv_blocks(GPU, MODEL)),
               "cost": step_cost(GPU, MODEL), "link": link}  # fmt: skip
    one, two = (
        planner.limit_rps(WORKLOAD, Fleet(**pools, **options))
        for pools in ({"n_colocated": 3}, {"n_prefill": 1, "n_decode": 2})
    )
    mean = 0.9 * WORKLOAD.prompt_tokens
    assert two == pytest.approx(1 / (mean * options["cost"].token_s
                                     + mean**2 / 2 * options["cost"].pair_s))  # fmt: skip
    assert two < one < 3 * two
    slow = replace(link, bandwidth=1e8)
    jam = planner.limit_rps(WORKLOAD, Fleet(n_prefill=1, n_decode=2, **options | {"link": slow}))
    assert jam == pytest.approx(1e8 / (mean * MODEL.kv_bytes_per_token), rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_engines": 1}, "at least 2 engines"),
     ({"n_engines": 2, "gpu": GPUS["L40S"], "model": MODELS["Qwen3-32B"]}, "needs 65.6 GB"),
     ({"n_engines": 2, "workload": Workload(arrival_rate_rps=1, prompt_tokens=10**7,
                                            output_tokens=7)}, "10000007 tokens do not fit")],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(options, message):
    settings = {"workload": WORKLOAD, "gpu": GPU, "model": MODEL, "slo": LOOSE,
                "link_bandwidth": 25e9}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        plan(**(settings | options))


@pytest.mark.parametrize("wrong", [{"arrival_rate_rps": 0.0}, {"prompt_tokens": 0}])
def test_workloads_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="positive rate and lengths of at least 1"):
        replace(WORKLOAD, **wrong)


@pytest.mark.parametrize(("tokens", "context"), [(0, 1), (1, -1)])
def test_steps_without_tokens_are_refused(tokens, context):
    with pytest.raises(ValueError, match=f"got {tokens} and {context}"):
        roofline_point(GPU, MODEL, tokens=tokens, context=context)
