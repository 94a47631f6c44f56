"""Engines as processes: the answers are those of one engine, whoever reads, writes or dies."""

import time

import numpy as np
import pytest
import tiny_engine
import torch

from aiexplained.concepts.atom import Pools
from aiexplained.lm import PagedCache, Segment, generate, paged_logits
from aiexplained.serving import EngineConfig, Request, SequenceState

BLOCK = 8
ENGINE = EngineConfig(n_blocks=211, block_size=BLOCK)
LAYOUTS = [
    {"n_colocated": 2},
    {"n_prefill": 1, "n_decode": 1},
    {"n_prefill": 2, "n_decode": 1},
]


def make_requests(n, seed=0, every_s=0.01):
    rng = np.random.default_rng(seed)
    return [
        Request(
            i,
            rng.integers(0, 97, int(rng.integers(17, 71))).tolist(),
            int(rng.integers(1, 23)),
            every_s * i,
        )
        for i in range(n)
    ]


def alone(request):
    prompt = torch.tensor([list(request.prompt)])
    answer = generate(tiny_engine.load_tiny(), prompt, max_new_tokens=request.max_new_tokens)
    return answer[0].tolist()


def check_answers(run, requests):
    assert [s.request.id for s in run.served] == [r.id for r in requests]
    for served in run.served:
        assert served.outputs == alone(served.request)
        assert len(served.token_times_s) == len(served.outputs)
        assert served.token_times_s == sorted(served.token_times_s)
        assert served.token_times_s[0] >= served.start_s


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "-".join(map(str, layout.values())))
def test_answers_are_those_of_one_engine(layout):
    requests = make_requests(11)
    with Pools(tiny_engine.load_tiny, engine=ENGINE, **layout) as pools:
        check_answers(pools.serve(requests), requests)
        run = pools.serve(requests)
    check_answers(run, requests)
    long = [r for r in requests if r.max_new_tokens > 1]
    if "n_colocated" in layout:
        assert not run.transfers
        return
    blocks = {r.id: -(-len(r.prompt) // BLOCK) for r in requests}
    assert sorted(t.request for t in run.transfers) == [r.id for r in long]
    for transfer in run.transfers:
        assert transfer.n_blocks + transfer.skipped_blocks == blocks[transfer.request]
        assert transfer.end_s > transfer.start_s
    if layout["n_decode"] == 1:  # the same prompts again: all full blocks but the last are there
        skipped = {t.request: t.skipped_blocks for t in run.transfers}
        assert skipped == {r.id: (len(r.prompt) - 1) // BLOCK for r in long}


def test_chunks_and_answers_in_one_pass_give_the_same_answers():
    requests = make_requests(7, every_s=0.0)
    mixed = EngineConfig(n_blocks=211, block_size=BLOCK, policy="mixed", max_num_batched_tokens=13)
    with Pools(tiny_engine.load_tiny, engine=mixed, n_colocated=1) as pools:
        run = pools.serve(requests)
    check_answers(run, requests)
    assert any(step.prefill and step.decode_contexts for step in run.steps)
    assert max(sum(n for _, n in s.prefill) + len(s.decode_contexts) for s in run.steps) == 13


def test_few_blocks_force_preemption_and_change_no_answer():
    requests = [Request(i, [7 * i + 1] * 31, 29, 0.0) for i in range(5)]
    few = EngineConfig(n_blocks=17, block_size=BLOCK, prefix_caching=False)
    with Pools(tiny_engine.load_tiny, engine=few, n_colocated=1) as pools:
        run = pools.serve(requests)
    check_answers(run, requests)
    read = sum(count for step in run.steps for _, count in step.prefill)
    assert read > sum(len(r.prompt) for r in requests)  # something was read twice


@pytest.mark.parametrize(
    ("layout", "lose"),
    [
        (LAYOUTS[0], {0: 20}),
        (LAYOUTS[1], {0: 20}),
        (LAYOUTS[1], {1: 20}),
        (LAYOUTS[1], {0: 15, 1: 45}),
    ],
    ids=["one of two", "the reader", "the writer", "both"],
)
def test_no_request_is_lost_or_answered_twice_when_engines_die(layout, lose):
    requests = make_requests(13, seed=5)
    with Pools(tiny_engine.load_tiny, engine=ENGINE, **layout) as pools:
        before = [engine.process.pid for engine in pools.engines]
        run = pools.serve(requests, lose=lose)
        after = [engine.process.pid for engine in pools.engines]
        check_answers(pools.serve(requests), requests)
    check_answers(run, requests)
    assert run.replaced == list(lose)
    assert [rank for rank in (0, 1) if before[rank] != after[rank]] == sorted(lose)


def test_an_engine_that_dies_while_a_group_forms_does_not_stop_the_others():
    requests = make_requests(7, seed=7)
    with Pools(tiny_engine.load_tiny, engine=ENGINE, n_prefill=1, n_decode=1) as pools:
        pools.regroup()
        pools.kill(0)
        start = time.monotonic()
        run = pools.serve(requests)
        assert time.monotonic() - start < pools.setups[0].timeout_s
    check_answers(run, requests)
    assert run.replaced == [0]


def test_an_engine_that_cannot_load_is_an_error_and_leaves_no_process():
    pools = Pools(tiny_engine.fail_to_load, n_colocated=1)
    with pytest.raises(RuntimeError, match="engine 0 ended with code 1 before it was ready"):
        pools.__enter__()
    assert pools.engines == []


def test_engines_that_die_again_and_again_are_given_up():
    bad = Request(0, [10**6], 3, 0.0)  # outside the vocabulary: every engine dies of it
    with (
        Pools(tiny_engine.load_tiny, engine=ENGINE, n_colocated=1, max_replacements=1) as pools,
        pytest.raises(RuntimeError, match=r"engines died 2 times.*max_replacements is 1"),
    ):
        pools.serve([bad])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "n_colocated=0, n_prefill=0, n_decode=0"),
        ({"n_prefill": 2}, "n_prefill=2, n_decode=0"),
        ({"n_colocated": 1, "n_decode": 3}, "n_colocated=1, n_prefill=0, n_decode=3"),
        ({"n_colocated": 2, "devices": ["cpu"]}, "a device for each of 2 engines, got 1"),
    ],
)
def test_rejects_pools(options, message):
    with pytest.raises(ValueError, match=message):
        Pools(tiny_engine.load_tiny, **options)


def test_rejects_requests_before_any_is_sent():
    pools = Pools(tiny_engine.load_tiny, engine=ENGINE, n_colocated=1)
    with pytest.raises(RuntimeError, match="inside of a with block"):
        pools.serve(make_requests(1))
    with pools:
        with pytest.raises(ValueError, match="ids of their own"):
            pools.serve([*make_requests(2), *make_requests(1)])
        with pytest.raises(ValueError, match="needs 214 blocks, the engine has 211"):
            pools.serve([Request(3, [1] * 1700, 7, 0.0)])
        with pytest.raises(ValueError, match="engine 5, there are 1"):
            pools.serve(make_requests(1), lose={5: 1})
        requests = make_requests(2)
        check_answers(pools.serve(requests), requests)


def test_the_comparison_would_catch_a_block_in_the_wrong_place():
    """One block in the place of another: the logits are others."""
    model = tiny_engine.load_tiny()
    cache = PagedCache(model.config, 5, block_size=BLOCK)
    prompt = list(range(3, 26))
    blocks = [4, 0, 2]
    paged_logits(model, cache, [Segment(prompt[:-1], 0, blocks)])
    last = Segment(prompt[-1:], len(prompt) - 1, blocks)
    right = paged_logits(model, cache, [last])
    cache.write([4], cache.read([0]))
    assert not torch.allclose(paged_logits(model, cache, [last]), right, atol=1e-3)
    assert SequenceState(0, prompt, 1).tokens(21, 23) == [24, 25]
