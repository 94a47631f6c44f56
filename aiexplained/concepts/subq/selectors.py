"""Seven ways to choose what a query reads, from a plain window to the best possible choice.

Each is a function ``(query, key, positions, *, budget, window_size=64, ...) -> Selection``:

- ``query`` ``(B, H, Q, D)``, which stand at ``positions`` ``(Q,)`` among ``key`` ``(B, H, K, D)``;
- ``budget``: keys that a query reads at most, the ``window_size`` newest ones among them;
- nothing after a query changes its choice;
- ``dots`` of the result says what the choice cost.

A random draw (planes of a hash, directions of clusters) comes from ``seed`` and not from the data,
as trained ones would be fixed when a text arrives. Their default number follows the number of keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aiexplained.concepts.subq.selection import (
    BLOCK_SIZE,
    Selection,
    Selector,
    concatenate,
    tidy,
)

WINDOW_SIZE = 64
MOST_SCORES = 1 << 25
"""Scores held at once; more queries are taken in parts."""


def select_window(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"],
    *,
    budget: int,
) -> Selection:
    """The newest ``budget`` keys: a sliding window, which looks at nothing."""
    _check(query, key, positions, budget, 0)
    counts = torch.zeros(query.shape[:3], dtype=torch.int32, device=query.device)
    return Selection(counts, counts[..., None][..., :0], 1, budget, 0)


def select_by_hash(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"],
    *,
    budget: int,
    window_size: int = WINDOW_SIZE,
    bits: int | None = None,
    members: int = 4,
    successor: bool = False,
    planes: Float[Tensor, "H_or_1 tables bits D"] | None = None,
    seed: int = 0,
) -> Selection:
    """Tables of random hyperplanes (SimHash): the newest earlier members of the query's bucket.

    A vector's bucket in a table is the pattern of its signs along ``bits`` directions; similar
    vectors often share it. As many tables as the budget allows, each with planes of its own.

    Args:
        query: See the module.
        key: See the module.
        positions: See the module.
        budget: See the module.
        window_size: See the module.
        bits: Directions of a table; default: so many that a bucket holds eight keys on average.
        members: Keys taken from a bucket.
        successor: Whether to read the key after each member too: what followed a similar token.
        planes: Directions to use in place of random ones; their number of tables counts.
        seed: Seed of the random directions.
    """
    _check(query, key, positions, budget, window_size)
    taken = members * (2 if successor else 1)
    if planes is None:
        tables = max((budget - window_size) // taken, 1)
        bits = max(round(math.log2(key.shape[2])) - 3, 1) if bits is None else bits
        generator = torch.Generator().manual_seed(seed)
        planes = torch.randn(1, tables, bits, key.shape[3], generator=generator).to(key)
    n_bits, tables = planes.shape[2], planes.shape[1]
    found, in_use = _recent_members(
        _hash(key, planes), _hash(query, planes)[..., None], positions - window_size, members
    )
    if successor:
        found, in_use = torch.cat((found, found + 1), dim=-1), torch.cat((in_use, in_use), dim=-1)
    counts, indices = tidy(found.movedim(2, 3).flatten(3), in_use.movedim(2, 3).flatten(3))
    of_queries, of_keys = (math.prod(x.shape[:3]) * tables * n_bits for x in (query, key))
    return Selection(counts, indices, 1, window_size, of_queries + of_keys, of_keys)


def select_by_centroid(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"],
    *,
    budget: int,
    window_size: int = WINDOW_SIZE,
    probes: int | None = None,
    centroids: Float[Tensor, "H_or_1 C D"] | None = None,
    seed: int = 0,
) -> Selection:
    """Routing: each key joins its nearest centroid, a query reads the newest of its nearest few.

    Args:
        query: See the module.
        key: See the module.
        positions: See the module.
        budget: See the module.
        window_size: See the module.
        probes: Centroids that a query asks; default: so many that their keys fill the budget, at
            least four.
        centroids: Directions; default: random ones, about the square root of the number of keys.
        seed: Seed of the random directions.
    """
    _check(query, key, positions, budget, window_size)
    if centroids is None:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(1, math.isqrt(key.shape[2] - 1) + 1, key.shape[3], generator=generator)
        centroids = torch.nn.functional.normalize(drawn, dim=-1).to(key)
    across, n = centroids.transpose(-1, -2), centroids.shape[1]
    if probes is None:
        probes = max(math.ceil((budget - window_size) * n / key.shape[2]), 4)
    home = (key @ across).argmax(dim=-1)
    asked = (query @ across).topk(min(probes, n), dim=-1).indices
    members = max((budget - window_size) // asked.shape[-1], 1)
    found, in_use = _recent_members(
        home[:, :, None], asked[:, :, None], positions - window_size, members
    )
    counts, indices = tidy(found[:, :, 0], in_use[:, :, 0])
    of_queries, of_keys = (math.prod(x.shape[:3]) * n for x in (query, key))
    return Selection(counts, indices, 1, window_size, of_queries + of_keys, of_keys)


def select_by_block_mean(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"],
    *,
    budget: int,
    window_size: int = WINDOW_SIZE,
    block_size: int = BLOCK_SIZE,
) -> Selection:
    """The blocks of keys whose mean fits best, among all complete ones (as MoBA scores them)."""
    _check(query, key, positions, budget, window_size)
    means, k = block_means(key, block_size), max((budget - window_size) // block_size, 1)
    parts = []
    for part in _parts(query, means.shape[2]):
        limit = _complete_blocks(positions[part], window_size, block_size)
        scores = query[:, :, part] @ means.transpose(-1, -2)
        counts, indices = _best(scores, limit, k)
        compared = math.prod(query.shape[:2]) * int(limit.sum())
        parts.append(Selection(counts, indices, block_size, window_size, compared))
    return concatenate(parts)


def select_in_two_levels(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"],
    *,
    budget: int,
    window_size: int = WINDOW_SIZE,
    block_size: int = BLOCK_SIZE,
    n_groups: int | None = None,
) -> Selection:
    """Block means again, but looked at in groups first: only blocks of the best groups are scored.

    A group is scored by its mean once it is complete; the blocks after the last complete group are
    always scored. With groups of about the square root of the number of blocks, the cost grows with
    the length to the power of 1.5.

    Args:
        query: See the module.
        key: See the module.
        positions: See the module.
        budget: See the module.
        window_size: See the module.
        block_size: Keys in a block.
        n_groups: Groups that are opened; default: eight, or so many that they hold twice the blocks
            that the budget allows.
    """
    _check(query, key, positions, budget, window_size)
    means, k = block_means(key, block_size), max((budget - window_size) // block_size, 1)
    n_blocks = means.shape[2]
    size = max(round(math.sqrt(n_blocks / ((n_groups or 8) + 1))), 1)
    n_groups = max(8, math.ceil(2 * k / size)) if n_groups is None else n_groups
    whole = n_blocks // size
    group_means = means[:, :, : whole * size].unflatten(2, (whole, size)).mean(dim=3)
    member = torch.arange(size, device=key.device)
    parts = []
    for part in _parts(query, (n_groups + 1) * size * key.shape[3]):
        limit = _complete_blocks(positions[part], window_size, block_size)
        complete = limit // size
        scores = query[:, :, part] @ group_means.transpose(-1, -2)
        opened_counts, opened = _best(scores, complete, n_groups)
        tail = complete.expand(opened_counts.shape)[..., None]
        opened = torch.cat((opened, tail), dim=-1).long()
        entry = torch.arange(opened.shape[-1] - 1, device=key.device)
        in_use = entry < opened_counts[..., None]
        in_use = torch.cat((in_use, torch.ones_like(tail, dtype=torch.bool)), dim=-1)
        block = (opened[..., None] * size + member).flatten(3)
        in_use = in_use.repeat_interleave(size, dim=-1) & (block < limit[:, None])
        found = _score_listed(query[:, :, part], means, block).masked_fill(~in_use, -torch.inf)
        best = found.topk(min(k, found.shape[-1]), dim=-1)
        counts, indices = tidy(block.gather(-1, best.indices), best.values > -torch.inf)
        compared = math.prod(query.shape[:2]) * int(complete.sum()) + int(in_use.sum())
        parts.append(Selection(counts, indices, block_size, window_size, compared))
    return concatenate(parts)


def select_by_indexer(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"],
    *,
    budget: int,
    window_size: int = WINDOW_SIZE,
    index_dim: int | None = None,
    narrow: Float[Tensor, "D index_dim"] | None = None,
    seed: int = 0,
) -> Selection:
    """A small copy of attention that scores *all* pairs, in the manner of DeepSeek's indexer.

    Index score of query ``t`` and key ``s``: ``sum_h w_h relu(q_th . k_s)``, with narrow queries
    for each head and one narrow key for all; every head reads the same keys. Narrow vectors are
    random projections here and all ``w_h`` are equal; in a trained model both are learned.

    Args:
        query: See the module.
        key: See the module.
        positions: See the module.
        budget: See the module.
        window_size: See the module.
        index_dim: Width of the narrow vectors; default a quarter of a head.
        narrow: Projection to use in place of a random one; its width counts.
        seed: Seed of the projection.
    """
    _check(query, key, positions, budget, window_size)
    width = key.shape[3]
    if narrow is None:
        index_dim = max(width // 4, 1) if index_dim is None else index_dim
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(width, index_dim, generator=generator) / math.sqrt(index_dim)
        narrow = drawn.to(key)
    index_dim = narrow.shape[1]
    index_query, index_key = query @ narrow, (key @ narrow).mean(dim=1)
    parts = []
    for part in _parts(query, key.shape[2]):
        limit = (positions[part] - window_size + 1).clamp(min=0)
        pairs = (index_query[:, :, part] @ index_key[:, None].transpose(-1, -2)).relu_()
        counts, indices = _best(pairs.mean(dim=1, keepdim=True), limit, budget - window_size)
        counts, indices = (x.expand(-1, query.shape[1], *x.shape[2:]) for x in (counts, indices))
        compared = math.prod(query.shape[:2]) * int(limit.sum()) * index_dim / width
        parts.append(Selection(counts, indices, 1, window_size, compared))
    return concatenate(parts)


def select_best(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"],
    *,
    budget: int,
    window_size: int = WINDOW_SIZE,
) -> Selection:
    """The oracle: the keys with the highest scores, found by looking at every pair."""
    _check(query, key, positions, budget, window_size)
    parts = []
    for part in _parts(query, key.shape[2]):
        limit = (positions[part] - window_size + 1).clamp(min=0)
        scores = query[:, :, part] @ key.transpose(-1, -2)
        counts, indices = _best(scores, limit, budget - window_size)
        compared = math.prod(query.shape[:2]) * int(limit.sum())
        parts.append(Selection(counts, indices, 1, window_size, compared))
    return concatenate(parts)


SELECTORS: dict[str, Callable[..., Selection]] = {
    "window": select_window,
    "hash": select_by_hash,
    "centroids": select_by_centroid,
    "block means": select_by_block_mean,
    "two levels": select_in_two_levels,
    "indexer": select_by_indexer,
    "oracle": select_best,
}
"""By the names that the page uses."""


def make_selector(name: str, **options: object) -> Selector:
    """A selector with its options filled in; ``ValueError`` if there is none of this name."""
    if name not in SELECTORS:
        raise ValueError(f"a selector is one of {list(SELECTORS)}, got {name!r}")
    return partial(SELECTORS[name], **options)


def block_means(
    key: Float[Tensor, "B H K D"], block_size: int = BLOCK_SIZE
) -> Float[Tensor, "B H N D"]:
    """Mean of each complete block of keys."""
    n = key.shape[2] // block_size
    means: Tensor = key[:, :, : n * block_size].unflatten(2, (n, block_size)).mean(dim=3)
    return means


def _check(query: Tensor, key: Tensor, positions: Tensor, budget: int, window_size: int) -> None:
    if query.ndim != 4 or key.ndim != 4 or query.shape[:2] != key.shape[:2]:
        raise ValueError(
            "a selector needs query (B, H, Q, D) and key (B, H, K, D) with a key head for each "
            f"query head, got {tuple(query.shape)} and {tuple(key.shape)}"
        )
    if query.shape[3] != key.shape[3] or positions.shape != query.shape[2:3]:
        raise ValueError(
            f"query and key must be equally wide and positions ({query.shape[2]},), got "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(positions.shape)}"
        )
    if not 0 <= window_size < budget:
        raise ValueError(
            f"the budget covers the window and more, got {budget} and a window of {window_size}"
        )
    if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < key.shape[2]:
        raise ValueError(
            f"positions must lie among the {key.shape[2]} keys, got {int(positions.min())} to "
            f"{int(positions.max())}"
        )


def _parts(query: Tensor, n_scores: int) -> Iterator[slice]:
    """Runs of queries with at most ``MOST_SCORES`` scores in all heads."""
    each = max(math.prod(query.shape[:2]) * n_scores, 1)
    step = max(MOST_SCORES // each, 1)
    for start in range(0, max(query.shape[2], 1), step):
        yield slice(start, start + step)


def _complete_blocks(
    positions: Int[Tensor, "Q"], window_size: int, block_size: int
) -> Int[Tensor, "Q"]:
    """Blocks, from the first, that are complete and do not lie in the window entirely."""
    reach = torch.minimum(positions + 1, positions - window_size + block_size)
    return reach.clamp(min=0) // block_size


def _best(
    scores: Float[Tensor, "B H Q N"], limit: Int[Tensor, "Q"], k: int
) -> tuple[Int[Tensor, "B H Q"], Int[Tensor, "B H Q S"]]:
    """The ``k`` highest scores of each query among its first ``limit``."""
    allowed = torch.arange(scores.shape[-1], device=scores.device) < limit[:, None]
    best = scores.masked_fill(~allowed, -torch.inf).topk(min(k, scores.shape[-1]), dim=-1)
    return tidy(best.indices, best.values > -torch.inf)


def _score_listed(
    query: Float[Tensor, "B H Q D"], means: Float[Tensor, "B H N D"], block: Int[Tensor, "B H Q S"]
) -> Float[Tensor, "B H Q S"]:
    block = block.clamp(max=means.shape[2] - 1)
    head = torch.arange(math.prod(means.shape[:2]), device=means.device)[:, None, None]
    rows = means.flatten(0, 1)[head, block.flatten(0, 1)]
    return (rows @ query.flatten(0, 1)[..., None])[..., 0].view(block.shape)


def _hash(x: Float[Tensor, "B H T D"], planes: Tensor) -> Int[Tensor, "B H tables T"]:
    place_values = 2 ** torch.arange(planes.shape[2], device=x.device)
    return torch.stack(
        [
            ((x @ table.transpose(-1, -2) > 0) * place_values).sum(dim=-1)
            for table in planes.unbind(1)
        ],
        dim=2,
    )


def _recent_members(
    key_code: Int[Tensor, "B H L K"],
    query_code: Int[Tensor, "B H L Q P"],
    last: Int[Tensor, "Q"],
    members: int,
) -> tuple[Tensor, Tensor]:
    """Newest keys up to ``last`` in the query's buckets ``(B, H, L, Q, P * members)``; which exist.

    Keys are sorted by code, then place; those wanted stand just before the code and ``last``.
    """
    n = key_code.shape[-1]
    ordered = (key_code * n + torch.arange(n, device=last.device)).sort(dim=-1).values
    bound = query_code * n + last.clamp(min=-1)[:, None]
    after = torch.searchsorted(ordered, bound.flatten(-2), right=True)
    place = after[..., None] - 1 - torch.arange(members, device=last.device)
    found = ordered.gather(-1, place.clamp(min=0).flatten(-2)).view(place.shape)
    in_use = (place >= 0) & (found // n == query_code.flatten(-2)[..., None])
    in_use &= (last >= 0).repeat_interleave(query_code.shape[-1])[:, None]
    keys, shape = found % n, (*query_code.shape[:-1], -1)
    return keys.view(shape), in_use.view(shape)
