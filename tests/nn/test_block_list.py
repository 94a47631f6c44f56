"""Attention over lists of key blocks, as its definition reads."""

from __future__ import annotations

import pytest
import torch

from aiexplained.nn import block_list_mask, reference_attention, reference_block_list_attention

B, H, H_KV, D = 2, 6, 3, 10


def make_inputs(n_queries: int, n_keys: int):
    generator = torch.Generator().manual_seed(0)
    shapes = (B, H, n_queries, D), (B, H_KV, n_keys, D), (B, H_KV, n_keys, D)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def full_lists(n_queries: int, n_keys: int, lists: int = H_KV):
    n, m = -(-n_queries // 64), -(-n_keys // 64)
    return torch.full((B, lists, n), m), torch.arange(m).expand(B, lists, n, m)


@pytest.mark.parametrize("lists", [H_KV, H])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (67, 131), (130, 130)])
def test_full_lists_are_plain_attention(n_queries, n_keys, lists):
    inputs = make_inputs(n_queries, n_keys)
    out, logsumexp = reference_block_list_attention(*inputs, *full_lists(n_queries, n_keys, lists))
    torch.testing.assert_close(out, reference_attention(*inputs, is_causal=True))
    # The logsumexp is what the scores were divided by: of one query by hand.
    query, key = inputs[0][1, 5, -1], inputs[1][1, 2]
    by_hand = (key @ query * D**-0.5).exp().sum().log()
    torch.testing.assert_close(logsumexp[1, 5, -1], by_hand)


def test_the_mask_says_what_the_rules_say_for_every_pair():
    n_queries, n_keys, window, sinks = 70, 200, 50, 3
    counts = torch.tensor([[[2, 1]]])
    indices = torch.tensor([[[[2, 1, 9], [3, 0, 0]]]])  # what follows a count is ignored, 9 too
    mask = block_list_mask(
        counts, indices, n_queries, n_keys, window_size=window, sink_tokens=sinks
    )
    for i in range(n_queries):
        position, read = i + n_keys - n_queries, ({1, 2} if i < 64 else {3})
        for j in range(n_keys):
            near = position - j < window
            expected = j <= position and (j < sinks or (j // 64 in read and near))
            assert mask[0, 0, i, j] == expected, (i, j)


def test_a_window_looks_both_ways_unless_causal():
    mask = block_list_mask(*full_lists(64, 64), 64, 64, causal=False, window_size=2)
    at = torch.arange(64)
    assert mask[0, 0].equal((at[:, None] - at).abs() < 2)


def test_a_query_without_keys_gives_zero_and_minus_infinity():
    counts, indices = torch.zeros(B, H_KV, 2, dtype=torch.int32), torch.zeros(B, H_KV, 2, 1).int()
    counts[:, :, 1] = 1
    inputs = [x.requires_grad_() for x in make_inputs(70, 70)]
    out, logsumexp = reference_block_list_attention(*inputs, counts, indices)
    assert out[:, :, :64].eq(0).all()
    assert logsumexp[:, :, :64].eq(-torch.inf).all()
    assert out[:, :, 64:].ne(0).all()
    out.sum().backward()
    assert all(x.grad.isfinite().all() for x in inputs)
    assert inputs[0].grad[:, :, :64].eq(0).all()


@pytest.mark.parametrize(
    ("counts", "indices", "said"),
    [
        ([[[1]]], [[[[0]]]], "70 queries need 2 lists"),
        ([[[1, 1]]], [[[[0], [2]]]], "key blocks 0 to 1, got 2"),
        ([[[1, 1], [1, 1]]], [[[[0], [0]], [[0], [0]]]], "one list a key head"),
    ],
)
def test_lists_that_do_not_fit_are_named(counts, indices, said):
    query = torch.zeros(1, 6, 70, 4)
    key = torch.zeros(1, 1, 70, 4)
    with pytest.raises(ValueError, match=said):
        reference_block_list_attention(query, key, key, torch.tensor(counts), torch.tensor(indices))
