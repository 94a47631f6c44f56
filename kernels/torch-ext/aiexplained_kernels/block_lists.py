"""Lists of key blocks: what they are, how to build them, what is wrong with one.

``counts`` ``(B, G, N)`` and ``indices`` ``(B, G, N, S)``, int32: query block ``n`` (queries
``64 n`` to ``64 n + 63``) may read the key blocks ``indices[b, g, n, :counts[b, g, n]]`` (keys
``64 i`` to ``64 i + 63``); entries past the count are ignored. ``G`` is the number of key heads
(the query heads of a group share a list) or of query heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_SIZE = 64
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def n_blocks(n_tokens: int) -> int:
    """Blocks that ``n_tokens`` fill, the last one perhaps in part."""
    return -(-n_tokens // BLOCK_SIZE)


def block_list_from_mask(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The lists that read the blocks where ``mask`` is True, in rising order.

    Args:
        mask: Boolean ``(B, G, N, M)``: may query block ``n`` read key block ``m``?

    Returns:
        ``counts`` ``(B, G, N)`` and ``indices`` ``(B, G, N, S)``, with ``S`` the longest list.

    Raises:
        ValueError: unless ``mask`` is boolean with four axes.

    >>> counts, indices = block_list_from_mask(torch.tensor([[[[True, False], [True, True]]]]))
    >>> counts.tolist(), indices.tolist()
    ([[[1, 2]]], [[[[0, 1], [0, 1]]]])
    """
    if mask.dtype is not torch.bool or mask.ndim != 4:
        raise ValueError(
            f"mask must be boolean (B, G, N, M), got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    counts = mask.sum(dim=-1, dtype=torch.int32)
    longest = max(int(counts.max()), 1) if counts.numel() else 1
    order = mask.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return counts, order[..., :longest].to(torch.int32)


def window_block_list(
    n_queries: int,
    n_keys: int,
    window_size: int,
    *,
    causal: bool = True,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """The lists ``(1, 1, N[, S])`` of every block that a sliding window touches.

    Pass the same ``window_size`` to the attention as well: the list names whole blocks, the window
    is exact. Expand the result over batch and heads.

    Args:
        n_queries: The last query stands at the position of the last key.
        n_keys: Keys.
        window_size: A query sees keys nearer than this many positions.
        causal: Only keys up to the query's own position.
        device: Where to build the lists.

    Raises:
        ValueError: if a size is not positive.

    >>> counts, indices = window_block_list(192, 192, window_size=65)
    >>> [indices[0, 0, n, : counts[0, 0, n]].tolist() for n in range(3)]
    [[0], [0, 1], [1, 2]]
    """
    if min(n_queries, n_keys, window_size) < 1:
        raise ValueError(
            "queries, keys and window_size must be positive, got "
            f"{n_queries}, {n_keys}, {window_size}"
        )
    start = torch.arange(n_blocks(n_queries), device=device) * BLOCK_SIZE + n_keys - n_queries
    end = (start + BLOCK_SIZE - 1).clamp(max=n_keys - 1)
    last = end if causal else (end + window_size - 1).clamp(max=n_keys - 1)
    first = (start - window_size + 1).clamp(min=0)
    block = torch.arange(n_blocks(n_keys), device=device)
    touched = (block >= first[:, None] // BLOCK_SIZE) & (block <= last[:, None] // BLOCK_SIZE)
    touched = touched & (last >= 0)[:, None]
    return block_list_from_mask(touched[None, None])


def top_k_block_list(
    scores: Tensor,
    k: int,
    *,
    own_block: bool = True,
    n_queries: int | None = None,
    n_keys: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` best-scored key blocks of each query block, never one from its future.

    Args:
        scores: ``(B, G, N, M)``, higher is better. ``-inf`` forbids a block.
        k: Blocks to take besides the own block, at most.
        own_block: Also read the block in which the queries themselves stand, or both if they stand
            in two.
        n_queries: Queries, the last at the position of the last key; default ``64 N``.
        n_keys: Keys; default ``64 M``.

    Returns:
        ``counts`` ``(B, G, N)`` and ``indices`` ``(B, G, N, S)``, in rising order, with ``S`` the
        longest list.

    Raises:
        ValueError: if ``scores`` has not four axes, ``k`` is not positive, or the numbers of
            queries and keys do not fill the blocks.

    >>> scores = torch.tensor([[[[9.0, 0, 0], [1, 9, 9], [2, 1, 9]]]])
    >>> counts, indices = top_k_block_list(scores, k=1)
    >>> [indices[0, 0, n, : counts[0, 0, n]].tolist() for n in range(3)]
    [[0], [0, 1], [0, 2]]
    """
    if scores.ndim != 4 or k < 1:
        raise ValueError(
            f"scores must be (B, G, N, M) and k positive, got {tuple(scores.shape)} and {k}"
        )
    n, m = scores.shape[2:]
    n_queries = n * BLOCK_SIZE if n_queries is None else n_queries
    n_keys = m * BLOCK_SIZE if n_keys is None else n_keys
    if (n_blocks(n_queries), n_blocks(n_keys)) != (n, m):
        raise ValueError(
            f"{n_queries} queries and {n_keys} keys have {n_blocks(n_queries)} by "
            f"{n_blocks(n_keys)} blocks, got scores of {n} by {m}"
        )
    start = torch.arange(n, device=scores.device)[:, None] * BLOCK_SIZE + n_keys - n_queries
    end = (start + BLOCK_SIZE - 1).clamp(max=n_keys - 1)
    block = torch.arange(m, device=scores.device)
    own = (block >= start // BLOCK_SIZE) & (block <= end // BLOCK_SIZE)
    past = block * BLOCK_SIZE < start if own_block else block * BLOCK_SIZE <= end
    scores = scores.masked_fill(~past | own if own_block else ~past, -torch.inf)
    best = scores.topk(min(k, m), dim=-1)
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen.scatter_(-1, best.indices, best.values > -torch.inf)
    return block_list_from_mask(chosen | own if own_block else chosen)


def check_block_list(counts: Tensor, indices: Tensor, n_queries: int, n_keys: int) -> None:
    """Raise ``ValueError`` that says what is wrong with a list, and where; else return None.

    It reads every entry and, on a GPU, waits for the answer: call it on lists that you do not
    trust. On a CPU the operator itself rejects such lists.

    >>> check_block_list(torch.tensor([[[2]]]), torch.tensor([[[[1, 1]]]]), 64, 128)
    Traceback (most recent call last):
    ...
    ValueError: list (0, 0, 0) names key block 1 more than once
    """
    check_list_shapes(counts, indices, n_queries)
    width = indices.shape[-1]
    bad = (counts < 0) | (counts > width)
    if bad.any():
        where = _first(bad)
        raise ValueError(f"list {where} has a count of {int(counts[where])}, of 0 to {width}")
    in_use = torch.arange(width, device=indices.device) < counts[..., None]
    bad = in_use & ((indices < 0) | (indices >= n_blocks(n_keys)))
    if bad.any():
        where = _first(bad)
        raise ValueError(
            f"list {where[:3]} names key block {int(indices[where])}, but {n_keys} keys have "
            f"blocks 0 to {n_blocks(n_keys) - 1}"
        )
    unused = n_blocks(n_keys) + torch.arange(width, device=indices.device)
    ordered = indices.where(in_use, unused).sort(dim=-1).values
    bad = ordered[..., 1:] == ordered[..., :-1]
    if bad.any():
        where = _first(bad)
        raise ValueError(f"list {where[:3]} names key block {int(ordered[where])} more than once")


def check_list_shapes(counts: Tensor, indices: Tensor, n_queries: int) -> None:
    """Raise ``ValueError`` unless the lists are integers of the shape that the queries need."""
    n = n_blocks(n_queries)
    if counts.ndim != 3 or counts.shape[2] != n or indices.shape[:-1] != counts.shape:
        raise ValueError(
            f"{n_queries} queries need {n} lists: counts (B, G, {n}) and indices (B, G, {n}, S), "
            f"got {tuple(counts.shape)} and {tuple(indices.shape)}"
        )
    if counts.dtype not in INTEGERS or indices.dtype not in INTEGERS:
        raise ValueError(f"lists must be integers, got {counts.dtype} and {indices.dtype}")


def as_int32(x: Tensor) -> Tensor:
    """``x`` as the kernels take it; what does not fit stays out of range."""
    if x.dtype is torch.int64:
        x = x.clamp(-1, torch.iinfo(torch.int32).max)
    return x.to(torch.int32)


def _first(bad: Tensor) -> tuple[int, ...]:
    """Index of the first True."""
    return tuple(bad.nonzero()[0].tolist())
