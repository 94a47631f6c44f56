"""Time of a step: the slower of arithmetic and memory."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.serving import StepCost

# Powers of two: sums and products are exact.
COST = StepCost(overhead_s=1 / 8, token_s=1 / 4, pair_s=1 / 32, weights_s=2.0, kv_token_s=1 / 2)

pieces = st.lists(st.tuples(st.integers(0, 997), st.integers(1, 997)), max_size=5)
contexts = st.lists(st.integers(1, 997), max_size=7)


@pytest.mark.parametrize(
    ("prefill", "decode", "seconds"),
    [
        ([], [], 1 / 8 + 2),
        # 7 tokens, 1 + 2 + ... + 7 = 28 pairs, nothing to fetch but the weights
        ([(0, 7)], [], 1 / 8 + max(7 / 4, 2) + 28 / 32),
        # 3 tokens after 5: pairs 6 + 7 + 8 = 21, the keys and values of 5 are fetched
        ([(5, 3)], [], 1 / 8 + max(3 / 4, 2) + max(21 / 32, 5 / 2)),
        # 2 tokens, 11 + 13 pairs and as many keys and values
        ([], [11, 13], 1 / 8 + max(2 / 4, 2) + max(24 / 32, 24 / 2)),
        # a mixed step fetches the weights once; prompts and answers attend one after the other
        ([(0, 97)], [11], 1 / 8 + max(98 / 4, 2) + 97 * 49 / 32 + max(11 / 32, 11 / 2)),
    ],
)
def test_by_hand(prefill, decode, seconds):
    assert COST.seconds(prefill=prefill, decode_contexts=decode) == seconds


def test_each_sequence_that_writes_adds_its_time():
    slower = replace(COST, sequence_s=0.5)
    for decode in ([], [11], [11, 13, 17]):
        before = COST.seconds(prefill=[(5, 3)], decode_contexts=decode)
        assert slower.seconds(prefill=[(5, 3)], decode_contexts=decode) == before + len(decode) / 2


def test_pairs_are_those_of_a_causal_mask():
    start, count = 11, 7
    pairs = sum(start + i + 1 for i in range(count))
    only_pairs = StepCost(overhead_s=0, token_s=0, pair_s=1, weights_s=0, kv_token_s=0)
    assert only_pairs.seconds(prefill=[(start, count)], decode_contexts=[]) == pairs
    assert pairs != count * (start + count)  # each token with all, as without a mask


@given(st.integers(0, 997), st.integers(2, 997), st.data())
def test_a_cut_prompt_costs_as_much_arithmetic_as_a_whole_one(start, count, data):
    cut = data.draw(st.integers(1, count - 1))
    cost = StepCost(overhead_s=0, token_s=1, pair_s=1, weights_s=0, kv_token_s=0)
    parts = [(start, cut), (start + cut, count - cut)]
    assert cost.seconds(prefill=[(start, count)], decode_contexts=[]) == sum(
        cost.seconds(prefill=[part], decode_contexts=[]) for part in parts
    )


@given(pieces, contexts, st.tuples(st.integers(0, 997), st.integers(1, 997)), st.integers(1, 997))
def test_more_work_never_takes_less_time(prefill, decode, piece, context):
    before = COST.seconds(prefill=prefill, decode_contexts=decode)
    assert COST.seconds(prefill=[*prefill, piece], decode_contexts=decode) >= before
    assert COST.seconds(prefill=prefill, decode_contexts=[*decode, context]) >= before


@given(pieces, contexts, st.sampled_from(["overhead_s", "token_s", "pair_s", "kv_token_s"]))
def test_a_slower_machine_never_takes_less_time(prefill, decode, name):
    slower = replace(COST, **{name: 2 * getattr(COST, name)})
    work = {"prefill": prefill, "decode_contexts": decode}
    assert slower.seconds(**work) >= COST.seconds(**work)


def test_one_step_for_two_is_cheaper_than_two_steps():
    together = COST.seconds(prefill=[(0, 7)], decode_contexts=[11])
    apart = COST.seconds(prefill=[(0, 7)], decode_contexts=[]) + COST.seconds(
        prefill=[], decode_contexts=[11]
    )
    assert together < apart


def test_constants_of_a_machine():
    cost = StepCost.of_hardware(
        flops=2.0**40,
        bandwidth=2.0**30,
        n_params=2.0**20,
        weight_bytes=2.0**21,
        kv_bytes_per_token=2.0**10,
        attention_width=2.0**8,
        overhead_s=0.25,
    )
    assert cost == StepCost(
        overhead_s=0.25,
        token_s=2.0**-19,  # a product and a sum for each weight
        pair_s=2.0**-30,  # a product and a sum with keys, and again with values
        weights_s=2.0**-9,
        kv_token_s=2.0**-20,
    )


@pytest.mark.parametrize("name", ["overhead_s", "token_s", "pair_s", "weights_s", "kv_token_s"])
@pytest.mark.parametrize("value", [-0.5, float("nan")])
def test_rejects_times_below_zero(name, value):
    with pytest.raises(ValueError, match=rf"StepCost\.{name} must not be negative, got {value}"):
        StepCost(**{name: value})


@pytest.mark.parametrize(("flops", "bandwidth"), [(0, 1), (1, 0), (-1, 1)])
def test_rejects_a_machine_that_does_nothing(flops, bandwidth):
    with pytest.raises(ValueError, match=f"must be positive, got {flops} and {bandwidth}"):
        StepCost.of_hardware(
            flops=flops,
            bandwidth=bandwidth,
            n_params=1,
            weight_bytes=1,
            kv_bytes_per_token=1,
            attention_width=1,
        )
