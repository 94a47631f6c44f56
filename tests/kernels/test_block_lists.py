"""Building lists of key blocks, and saying what is wrong with one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.nn import block_list_mask
from aiexplained_kernels import (
    BLOCK_SIZE,
    block_list_from_mask,
    check_block_list,
    top_k_block_list,
    window_block_list,
)

sizes = st.integers(1, 330)


def as_sets(counts, indices):
    flat = zip(counts.flatten().tolist(), indices.flatten(0, -2).tolist(), strict=True)
    return [set(entries[:count]) for count, entries in flat]


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**20))
def test_a_mask_and_its_lists_say_the_same(n, m, seed):
    mask = torch.rand(2, 3, n, m, generator=torch.Generator().manual_seed(seed)) < 0.5
    counts, indices = block_list_from_mask(mask)
    rows = mask.flatten(0, 2)
    assert as_sets(counts, indices) == [set(row.nonzero()[:, 0].tolist()) for row in rows]
    assert counts.dtype == indices.dtype == torch.int32
    assert indices.shape[-1] == max(int(counts.max()), 1)
    check_block_list(counts, indices, n * BLOCK_SIZE, m * BLOCK_SIZE)


@given(sizes, sizes, st.integers(1, 200), st.booleans())
def test_a_window_lists_the_blocks_that_it_touches_and_no_other(n_queries, n_keys, window, causal):
    counts, indices = window_block_list(n_queries, n_keys, window, causal=causal)
    m = -(-n_keys // BLOCK_SIZE)
    everything = torch.full_like(counts, m), torch.arange(m).expand(*counts.shape, m)
    seen = block_list_mask(*everything, n_queries, n_keys, window_size=window, causal=causal)
    touched = [
        {int(j) // BLOCK_SIZE for j in rows.any(dim=0).nonzero()}
        for rows in seen[0, 0].split(BLOCK_SIZE)
    ]
    assert as_sets(counts, indices) == touched


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_top_k_takes_the_best_of_the_past(n, m, k, own_block, seed):
    scores = torch.rand(1, 2, n, m, generator=torch.Generator().manual_seed(seed))
    found = iter(as_sets(*top_k_block_list(scores, k, own_block=own_block)))
    for head in range(2):
        for i in range(n):
            own = i + m - n
            past = [j for j in range(m) if (j < own if own_block else j <= own)]
            best = set(sorted(past, key=lambda j: -scores[0, head, i, j])[:k])
            expected = best | {own} if own_block and own >= 0 else best
            assert next(found) == expected


@given(sizes, sizes, st.integers(1, 3))
def test_every_query_finds_its_own_block(n_queries, n_keys, k):
    scores = torch.zeros(1, 1, -(-n_queries // 64), -(-n_keys // 64))
    lists = as_sets(*top_k_block_list(scores, k, n_queries=n_queries, n_keys=n_keys))
    for query in range(n_queries):
        position = query + n_keys - n_queries
        if position >= 0:
            assert position // BLOCK_SIZE in lists[query // BLOCK_SIZE]
    for block, entries in enumerate(lists):
        newest = min(block * 64 + 63, n_queries - 1) + n_keys - n_queries
        assert all(64 * entry <= newest for entry in entries)


def test_a_score_of_minus_infinity_forbids_a_block():
    scores = torch.zeros(1, 1, 3, 3)
    scores[..., 0] = -torch.inf
    assert as_sets(*top_k_block_list(scores, 2)) == [{0}, {1}, {1, 2}]


GOOD = torch.tensor([[[1, 2]]]), torch.tensor([[[[1, -7], [0, 1]]]])


def test_a_good_list_passes_whatever_follows_its_count():
    check_block_list(*GOOD, 128, 128)


@pytest.mark.parametrize(
    ("counts", "indices", "said"),
    [
        ([[[1, 3]]], [[[[0, 0], [0, 1]]]], r"list \(0, 0, 1\) has a count of 3, of 0 to 2"),
        ([[[1, -1]]], [[[[0, 0], [0, 1]]]], "a count of -1"),
        ([[[1, 2]]], [[[[0, 0], [0, 2]]]], r"list \(0, 0, 1\) names key block 2.*blocks 0 to 1"),
        ([[[1, 2]]], [[[[-1, 0], [0, 1]]]], "names key block -1"),
        ([[[1, 2]]], [[[[0, 0], [1, 1]]]], "names key block 1 more than once"),
        ([[[1]]], [[[[0]]]], "128 queries need 2 lists"),
        ([[[1.0, 1.0]]], [[[[0], [0]]]], "lists must be integers, got torch.float32"),
    ],
)
def test_the_checker_says_what_is_wrong_and_where(counts, indices, said):
    with pytest.raises(ValueError, match=said):
        check_block_list(torch.tensor(counts), torch.tensor(indices), 128, 128)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: block_list_from_mask(torch.ones(1, 1, 2, 2)), "boolean"),
        (lambda: block_list_from_mask(torch.ones(2, 2).bool()), r"shape \(2, 2\)"),
        (lambda: window_block_list(64, 64, 0), "positive, got 64, 64, 0"),
        (lambda: top_k_block_list(torch.ones(2, 2), 1), r"\(2, 2\) and 1"),
        (lambda: top_k_block_list(torch.ones(1, 1, 2, 2), 0), "k positive"),
        (lambda: top_k_block_list(torch.ones(1, 1, 2, 2), 1, n_keys=64), "128 queries and 64 keys"),
    ],
)
def test_builders_reject_what_they_cannot_read(call, said):
    with pytest.raises(ValueError, match=said):
        call()
