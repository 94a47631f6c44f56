"""A choice of keys for each query, and softmax attention on what was chosen.

Nothing here depends on how the choice was made. Two ways to attend: query by query through a mask,
the definition; or by blocks of 64 through lists, the form that a fast kernel takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aiexplained.nn import (
    AttentionOperator,
    reference_block_list_attention,
    scaled_dot_product_attention,
)

BLOCK_SIZE = 64


@dataclass(frozen=True)
class Selection:
    """What each query reads: the runs of keys on its list, and the newest keys.

    Args:
        counts: Entries of each list, ``(B, H, Q)``.
        indices: The lists, ``(B, H, Q, S)``, rising and without repeats; entry ``i`` means the keys
            ``i * key_block`` to ``(i + 1) * key_block - 1``. What follows the count is ignored.
        key_block: Keys in a run: 1, or a divisor of 64.
        window_size: A query also reads the keys nearer than this many positions.
        dots: What the choice cost: products of two vectors as wide as a head, over all queries and
            heads. Sorting is not counted.
        key_dots: The part of ``dots`` that is done once for each key, whatever the queries.
    """

    counts: Int[Tensor, "B H Q"]
    indices: Int[Tensor, "B H Q S"]
    key_block: int
    window_size: int
    dots: float
    key_dots: float = 0


class Selector(Protocol):
    """Chooses keys for queries; one of :data:`SELECTORS` with its options filled in."""

    def __call__(
        self,
        query: Float[Tensor, "B H Q D"],
        key: Float[Tensor, "B H K D"],
        positions: Int[Tensor, "Q"],
    ) -> Selection:
        """Choose for the queries that stand at ``positions`` among the keys."""
        ...


def selection_mask(
    selection: Selection, positions: Int[Tensor, "Q"], n_keys: int
) -> Bool[Tensor, "B H Q K"]:
    """Which key each query reads (True = may attend), none from its future.

    Args:
        selection: Choices for ``Q`` queries.
        positions: Where the queries stand.
        n_keys: Keys ``K``.

    >>> lists = Selection(torch.tensor([[[1]]]), torch.tensor([[[[0]]]]), 1, 2, 0)
    >>> selection_mask(lists, torch.tensor([4]), 6).int()
    tensor([[[[1, 0, 0, 1, 1, 0]]]], dtype=torch.int32)
    """
    device = positions.device
    key = torch.arange(n_keys, device=device)
    n_blocks = -(-n_keys // selection.key_block)
    entry = torch.arange(selection.indices.shape[-1], device=device)
    in_use = entry < selection.counts[..., None]
    shape = (*selection.counts.shape, n_blocks + 1)
    listed = torch.zeros(shape, dtype=torch.bool, device=device)
    listed.scatter_(-1, selection.indices.where(in_use, n_blocks).long(), True)
    listed = listed[..., :-1].repeat_interleave(selection.key_block, dim=-1)[..., :n_keys]
    recent = key > positions[:, None] - selection.window_size
    return (listed | recent) & (key <= positions[:, None])


def selected_pairs(selection: Selection, positions: Int[Tensor, "Q"], n_keys: int) -> int:
    """Pairs of a query and a key that attention on ``selection`` reads, over batch and heads."""
    return int(selection_mask(selection, positions, n_keys).sum())


def attend(
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H T D"],
    value: Float[Tensor, "B H T D"],
    select: Selector,
    *,
    attention: AttentionOperator = scaled_dot_product_attention,
) -> Float[Tensor, "B H T D"]:
    """Exact softmax attention of each query on what was selected for it, causal.

    Every query has a list of its own, which depends on nothing after it. All pairs are masked and
    not skipped: this says what is computed, it saves nothing.

    Args:
        query: Queries of a whole sequence.
        key: Keys, one for each query.
        value: Values.
        select: The selector.
        attention: Operator that takes a boolean mask.
    """
    positions = torch.arange(query.shape[2], device=query.device)
    mask = selection_mask(select(query, key, positions), positions, key.shape[2])
    return attention(query, key, value, mask=mask)


def attend_in_blocks(
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H T D"],
    value: Float[Tensor, "B H T D"],
    select: Selector,
    *,
    attention: Any = reference_block_list_attention,
) -> Float[Tensor, "B H T D"]:
    """The same by blocks: 64 queries in a row share the choice of the first of them.

    That choice knows nothing of the other 63, so the result is causal still. A list chosen for all
    64 together would show the first of them what the last was looking for.

    Args:
        query: Queries of a whole sequence.
        key: Keys, one for each query.
        value: Values.
        select: The selector.
        attention: :func:`aiexplained.nn.reference_block_list_attention`, or a fast kernel with the
            same arguments, ``aiexplained_kernels.block_list_attention``.
    """
    counts, indices = select_blocks(query, key, select)
    out: Tensor = attention(query, key, value, counts, indices)[0]
    return out


def select_blocks(
    query: Float[Tensor, "B H T D"], key: Float[Tensor, "B H T D"], select: Selector
) -> tuple[Int[Tensor, "B H N"], Int[Tensor, "B H N S"]]:
    """Lists of blocks of 64 keys for runs of 64 queries, their own block among them.

    Returns:
        ``counts`` and ``indices`` as :func:`aiexplained.nn.reference_block_list_attention` takes
        them, int32.
    """
    device = query.device
    first = torch.arange(0, query.shape[2], BLOCK_SIZE, device=device)
    chosen = select(query[:, :, ::BLOCK_SIZE], key, first)
    if BLOCK_SIZE % chosen.key_block:
        raise ValueError(
            f"a run of keys must fit in a block of {BLOCK_SIZE}, got key_block={chosen.key_block}"
        )
    own = first // BLOCK_SIZE
    oldest = (first - chosen.window_size + 1).clamp(min=0) // BLOCK_SIZE
    recent = own[:, None] - torch.arange(int((own - oldest).max()) + 1, device=device)
    shape = (*chosen.counts.shape, recent.shape[1])
    entry = torch.arange(chosen.indices.shape[-1], device=device)
    in_use = entry < chosen.counts[..., None]
    return tidy(
        torch.cat((chosen.indices * chosen.key_block // BLOCK_SIZE, recent.expand(shape)), dim=-1),
        torch.cat((in_use, (recent >= oldest[:, None]).expand(shape)), dim=-1),
    )


def tidy(
    indices: Int[Tensor, "*B S"], in_use: Bool[Tensor, "*B S"]
) -> tuple[Int[Tensor, "*B"], Int[Tensor, "*B S_out"]]:
    """Sort each list, drop repeats and what is not in use; int32 ``counts`` and ``indices``.

    >>> tidy(torch.tensor([[5, 2, 5, 7]]), torch.tensor([[True, True, True, False]]))
    (tensor([2], dtype=torch.int32), tensor([[2, 5]], dtype=torch.int32))
    """
    unused = torch.iinfo(torch.int32).max
    ordered = indices.where(in_use, unused).sort(dim=-1).values
    ordered[..., 1:][ordered[..., 1:] == ordered[..., :-1]] = unused
    ordered = ordered.sort(dim=-1).values
    counts = (ordered < unused).sum(dim=-1, dtype=torch.int32)
    longest = int(counts.max()) if counts.numel() else 0
    return counts, ordered[..., :longest].where(ordered[..., :longest] < unused, 0).int()


def concatenate(parts: Sequence[Selection]) -> Selection:
    """Selections for consecutive runs of queries, as one."""
    longest = max(part.indices.shape[-1] for part in parts)
    padded = [
        torch.nn.functional.pad(part.indices, (0, longest - part.indices.shape[-1]))
        for part in parts
    ]
    return Selection(
        torch.cat([part.counts for part in parts], dim=2),
        torch.cat(padded, dim=2),
        parts[0].key_block,
        parts[0].window_size,
        sum(part.dots for part in parts),
        sum(part.key_dots for part in parts),
    )
