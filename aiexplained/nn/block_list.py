"""Attention over a list of key blocks: the definition, which the fast kernels are held to.

Each run of 64 queries comes with a list of key blocks (64 keys each) that it may read; everything
else is as in :mod:`aiexplained.nn.attention`. A list is ``counts`` ``(B, G, N)`` and ``indices``
``(B, G, N, S)``, with ``N = ceil(T / 64)`` query blocks: query block ``n`` reads the key blocks
``indices[b, g, n, :counts[b, g, n]]``; what follows the count is ignored. ``G`` is ``H_kv`` (the
query heads of a group share a list) or ``H`` (each has its own).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aiexplained.nn.attention import check_attention

BLOCK_SIZE = 64


def block_list_mask(
    counts: Int[Tensor, "B G N"],
    indices: Int[Tensor, "B G N S"],
    n_queries: int,
    n_keys: int,
    *,
    causal: bool = True,
    window_size: int | None = None,
    sink_tokens: int = 0,
) -> Bool[Tensor, "B G T K"]:
    """Which key each query sees, as a boolean mask (True = may attend).

    Args:
        counts: Key blocks in each list.
        indices: The lists; entries past the count are ignored.
        n_queries: ``T``. The last query stands at the position of the last key.
        n_keys: ``K``.
        causal: Hide keys after the query's own position.
        window_size: Show only keys nearer than this many positions, the query's own among them.
        sink_tokens: This many first keys are seen whatever the list and the window say.

    Raises:
        ValueError: if the lists do not fit the number of queries or name a block out of range.

    >>> counts, indices = torch.tensor([[[1]]]), torch.tensor([[[[1, 0]]]])
    >>> block_list_mask(counts, indices, 2, 66, sink_tokens=1)[0, 0, :, [0, 1, 63, 64, 65]].int()
    tensor([[1, 0, 0, 1, 0],
            [1, 0, 0, 1, 1]], dtype=torch.int32)
    """
    n_query_blocks, n_key_blocks = -(-n_queries // BLOCK_SIZE), -(-n_keys // BLOCK_SIZE)
    if indices.shape[:3] != counts.shape or counts.shape[2] != n_query_blocks:
        raise ValueError(
            f"{n_queries} queries need {n_query_blocks} lists: counts (B, G, {n_query_blocks}) and "
            f"indices (B, G, {n_query_blocks}, S), got {tuple(counts.shape)} and "
            f"{tuple(indices.shape)}"
        )
    in_use = torch.arange(indices.shape[3], device=indices.device) < counts[..., None]
    wrong = in_use & ((indices < 0) | (indices >= n_key_blocks))
    if wrong.any():
        raise ValueError(
            f"a list may name key blocks 0 to {n_key_blocks - 1}, got {int(indices[wrong][0])}"
        )
    read = torch.zeros(*counts.shape, n_key_blocks + 1, dtype=torch.bool, device=indices.device)
    read.scatter_(3, indices.where(in_use, n_key_blocks).long(), True)
    position = torch.arange(n_queries, device=indices.device)[:, None] + n_keys - n_queries
    key = torch.arange(n_keys, device=indices.device)
    per_query = read.repeat_interleave(BLOCK_SIZE, dim=2)[:, :, :n_queries]
    seen = per_query[..., key // BLOCK_SIZE]
    if window_size is not None:
        seen = seen & ((position - key).abs() < window_size)
    seen = seen | (key < sink_tokens)
    return seen & (key <= position) if causal else seen


def reference_block_list_attention(
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H_kv K D"],
    value: Float[Tensor, "B H_kv K D"],
    counts: Int[Tensor, "B G N"],
    indices: Int[Tensor, "B G N S"],
    *,
    causal: bool = True,
    window_size: int | None = None,
    sink_tokens: int = 0,
    scale: float | None = None,
) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H T"]]:
    """Softmax attention in which each run of 64 queries reads only its listed key blocks.

    It fills in the whole mask, so it costs ``T * K`` whatever the lists say: this is what a
    kernel must compute, not a way to save work.

    Args:
        query: Queries of ``H`` heads; the last one stands at the position of the last key.
        key: Keys of ``H_kv`` heads; ``H_kv`` divides ``H``.
        value: Values, shaped like ``key``.
        counts: Key blocks in each list; ``G`` is ``H_kv`` or ``H``.
        indices: The lists, see :func:`block_list_mask`.
        causal: Hide keys after the query's own position.
        window_size: Show only keys nearer than this many positions.
        sink_tokens: This many first keys are seen whatever the list and the window say.
        scale: Factor on the scores; default ``1 / sqrt(D)``.

    Returns:
        One vector per query and the logarithm of its softmax's denominator; 0 and ``-inf`` for a
        query that sees no key.

    Raises:
        ValueError: if shapes do not fit or a list names a block out of range.
    """
    check_attention(query, key, value, mask=None, is_causal=False)
    n_heads, n_kv_heads = query.shape[1], key.shape[1]
    if counts.ndim != 3 or counts.shape[1] not in (n_heads, n_kv_heads):
        raise ValueError(
            f"counts needs one list a key head ({n_kv_heads}) or a query head ({n_heads}), got "
            f"shape {tuple(counts.shape)}"
        )
    mask = block_list_mask(
        counts, indices, query.shape[2], key.shape[2],
        causal=causal, window_size=window_size, sink_tokens=sink_tokens,
    ).repeat_interleave(n_heads // counts.shape[1], dim=1)  # fmt: skip
    key, value = (x.repeat_interleave(n_heads // n_kv_heads, dim=1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    return weights @ value, scores.logsumexp(dim=-1)
