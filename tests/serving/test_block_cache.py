"""The prefix cache keeps the rules of a paged engine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.serving import BlockCache, block_hashes

prompts = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=40), min_size=1, max_size=30
)  # few token values, so that prompts share openings


def longest_common_prefix(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def test_one_changed_token_changes_its_block_and_all_that_follow():
    tokens = list(range(7 * 16))
    changed = [*tokens[:40], -1, *tokens[41:]]
    before, after = block_hashes(tokens), block_hashes(changed)
    assert before[:2] == after[:2]
    assert all(a != b for a, b in zip(before[2:], after[2:], strict=True))


def test_a_hash_without_its_parent_would_not_notice():
    tokens = list(range(7 * 16))
    changed = [-1, *tokens[1:]]
    alone = [block_hashes(t[16:32]) for t in (tokens, changed)]  # the second block by itself
    assert alone[0] == alone[1]
    assert block_hashes(tokens)[1] != block_hashes(changed)[1]


def test_only_full_blocks_are_hashed():
    assert [len(block_hashes(range(n), block_size=5)) for n in (0, 4, 5, 9, 10)] == [0, 0, 1, 1, 2]


@given(prompts, st.integers(1, 5))
def test_an_unbounded_cache_returns_the_longest_opening_served_before(served, block_size):
    cache = BlockCache(10_000, block_size=block_size)
    for i, prompt in enumerate(served):
        shared = max((longest_common_prefix(prompt, other) for other in served[:i]), default=0)
        expected = min(shared, len(prompt) - 1) // block_size
        assert len(cache.match(prompt)) == expected
        cache.insert(prompt)


@given(prompts, st.integers(1, 5), st.integers(1, 12))
def test_a_bounded_cache_keeps_its_limit_and_never_invents_a_hit(served, block_size, capacity):
    small, large = BlockCache(capacity, block_size=block_size), BlockCache(10_000)
    large = BlockCache(10_000, block_size=block_size)
    for prompt in served:
        assert len(small.match(prompt)) <= len(large.match(prompt))
        small.insert(prompt)
        large.insert(prompt)
        assert len(small) <= capacity


@given(prompts, st.integers(1, 12))
def test_slots_are_distinct_and_a_hit_leads_to_the_block_written_there(served, capacity):
    cache, memory = BlockCache(capacity, block_size=2), {}
    for prompt in served:
        for index, slot in enumerate(cache.match(prompt)):
            assert memory[slot] == tuple(prompt[: 2 * index + 2])
        for index, slot in cache.insert(prompt):
            memory[slot] = tuple(prompt[: 2 * index + 2])
    assert set(memory) <= set(range(capacity))


def test_the_least_recently_used_prompt_goes_first_and_its_deepest_block_before_its_first():
    cache = BlockCache(4, block_size=1)
    cache.insert([1, 2])
    cache.insert([3, 4])
    cache.match([1, 2, 9])
    cache.insert([1, 2])  # refreshed: 3, 4 are now older
    cache.insert([5])
    assert len(cache.match([3, 4, 9])) == 1
    assert len(cache.match([1, 2, 9])) == 2
    assert cache.evicted == 1


def test_the_last_token_is_always_computed():
    cache = BlockCache(9, block_size=3)
    cache.insert(range(9))
    assert len(cache.match(range(9))) == 2
    assert len(cache.match(range(10))) == 3


def test_a_prompt_longer_than_the_cache_keeps_its_opening():
    cache = BlockCache(2, block_size=3)
    assert cache.insert(np.arange(13)) == [(0, 1), (1, 0)] or len(cache) == 2
    assert len(cache.match(np.arange(13))) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BlockCache(0), "capacity_blocks must be at least 1, got 0"),
        (lambda: BlockCache(1, block_size=0), "block_size must be at least 1, got 0"),
        (lambda: block_hashes([1], block_size=-1), "block_size must be at least 1, got -1"),
    ],
)
def test_rejects_sizes_below_one(call, message):
    with pytest.raises(ValueError, match=message):
        call()
