"""Block-list attention in torch: gather the listed blocks, then dense products. Any device.

The readable form that runs where no kernel can: work and memory follow the lists. Query blocks go
through in slices of bounded size. A list is read in two kinds of slots, so that no key counts
twice: first the sink blocks, which show keys below ``sink_tokens`` only, then the listed blocks,
which show the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._precision import exactly
from .block_lists import BLOCK_SIZE, check_block_list, n_blocks

SLICE_ELEMENTS = 1 << 24


class Rule(NamedTuple):
    """What besides the lists decides which keys a query sees; ``window_size`` 0 is none."""

    causal: bool
    window_size: int
    sink_tokens: int
    scale: float


@dataclass(frozen=True)
class Slice:
    """A run of query blocks with the keys that they read, ``R`` query rows and ``W`` keys each."""

    blocks: slice
    slots: tuple[Tensor, Tensor, Tensor]
    """Where the key blocks stand in ``(B, H_kv, M)``; each ``(B, G, n, slots)``."""
    query: Tensor
    key: Tensor
    value: Tensor
    visible: Tensor

    def scores(self, scale: float) -> Tensor:
        scores = self.query @ self.key.transpose(-1, -2) * scale
        return scores.masked_fill(~self.visible, -torch.inf)


@exactly
def forward(
    query: Tensor, key: Tensor, value: Tensor, counts: Tensor, indices: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    """The result ``(B, H, T, D)`` and the logsumexp ``(B, H, T)``; options as in :class:`Rule`."""
    rule = Rule(*options)
    if query.device.type == "cpu":
        check_block_list(counts, indices, query.shape[2], key.shape[2])
    exact = torch.promote_types(query.dtype, torch.float32)
    lists = counts.shape[1]
    rows = _to_rows(query, lists)
    out = torch.zeros_like(rows, dtype=exact)
    logsumexp = torch.full(rows.shape[:-1], -torch.inf, dtype=exact, device=query.device)
    for part in _slices(rows, key, value, counts, indices, query.shape[2], rule):
        scores = part.scores(rule.scale)
        weights = scores.softmax(dim=-1).masked_fill(~part.visible, 0.0)
        out[:, :, part.blocks] = weights @ part.value
        logsumexp[:, :, part.blocks] = scores.logsumexp(dim=-1)
    return (
        _from_rows(out, query).to(query.dtype),
        _from_rows(logsumexp[..., None], query)[..., 0],
    )


@exactly
def backward(
    grad_out: Tensor,
    grad_logsumexp: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    counts: Tensor,
    indices: Tensor,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value.

    With weights P, ``dV = P^T dO`` and ``dS = P (dO V^T - delta)``, where ``delta`` is the row sum
    of ``dO O`` less the gradient of the logsumexp; then ``dQ = scale dS K``, ``dK = scale dS^T Q``.
    """
    rule = Rule(*options)
    exact = logsumexp.dtype
    lists = counts.shape[1]
    delta = (grad_out.to(exact) * out.to(exact)).sum(dim=-1) - grad_logsumexp
    # An empty row has no weights: any finite logsumexp gives exp(-inf) = 0.
    finite = logsumexp.masked_fill(logsumexp == -torch.inf, 0.0)
    rows, grads = _to_rows(query, lists), _to_rows(grad_out, lists)
    finite, delta = (_to_rows(x[..., None], lists) for x in (finite, delta))
    grad_query = torch.zeros_like(rows, dtype=exact)
    shape = (*key.shape[:2], n_blocks(key.shape[2]), BLOCK_SIZE, key.shape[3])
    grad_key, grad_value = (torch.zeros(shape, dtype=exact, device=key.device) for _ in range(2))
    for part in _slices(rows, key, value, counts, indices, query.shape[2], rule):
        n = part.blocks
        weights = (part.scores(rule.scale) - finite[:, :, n]).exp()
        grad = grads[:, :, n].to(exact)
        of_scores = weights * (grad @ part.value.transpose(-1, -2) - delta[:, :, n]) * rule.scale
        grad_query[:, :, n] = of_scores @ part.key
        for total, one in (
            (grad_key, of_scores.transpose(-1, -2) @ part.query),
            (grad_value, weights.transpose(-1, -2) @ grad),
        ):
            blocks = one.unflatten(3, (-1, BLOCK_SIZE))
            total.index_put_(part.slots, blocks, accumulate=True)
    return (
        _from_rows(grad_query, query).to(query.dtype),
        grad_key.flatten(2, 3)[:, :, : key.shape[2]].to(key.dtype).contiguous(),
        grad_value.flatten(2, 3)[:, :, : key.shape[2]].to(value.dtype).contiguous(),
    )


@exactly
def paged(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    window_size: int,
    sink_tokens: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Gather each request's pages into one tensor, then attend; shorter requests are masked."""
    exact = torch.promote_types(query.dtype, torch.float32)
    page_size, tokens = key_pages.shape[2], query.shape[2]
    n_pages = -(-lengths // page_size)
    in_use = torch.arange(page_table.shape[1], device=query.device) < n_pages[:, None]
    if query.device.type == "cpu":
        check_pages(page_table, lengths, in_use, key_pages)
    in_use = in_use & (page_table >= 0) & (page_table < key_pages.shape[0])
    table = page_table.where(in_use, 0).long()
    group = query.shape[1] // key_pages.shape[1]
    key, value = (
        pages[table].transpose(1, 2).flatten(2, 3).to(exact).repeat_interleave(group, dim=1)
        for pages in (key_pages, value_pages)
    )
    at = torch.arange(key.shape[2], device=query.device)
    ends = lengths.view(-1, 1, 1, 1)
    # What is not read may hold anything, and 0 times NaN is NaN.
    read = (at < ends) & in_use.repeat_interleave(page_size, dim=1)[:, None, None]
    key, value = (x.masked_fill(~read.mT, 0.0) for x in (key, value))
    position = torch.arange(tokens, device=query.device)[:, None] + ends - tokens
    visible = (at <= position) & read
    if window_size:
        visible = visible & ((position - at < window_size) | (at < sink_tokens))
    scores = (query.to(exact) @ key.transpose(-1, -2) * scale).masked_fill(~visible, -torch.inf)
    weights = scores.softmax(dim=-1).masked_fill(~visible, 0.0)
    return (weights @ value).to(query.dtype), scores.logsumexp(dim=-1)


def check_pages(page_table: Tensor, lengths: Tensor, in_use: Tensor, key_pages: Tensor) -> None:
    """Raise ``ValueError`` if a length exceeds its table or a used entry names no page."""
    n_pages, _, page_size = key_pages.shape[:3]
    room = page_table.shape[1] * page_size
    wrong = (lengths < 0) | (lengths > room)
    if wrong.any():
        request = int(wrong.nonzero()[0])
        raise ValueError(
            f"request {request} has length {int(lengths[request])}, but its table has room for "
            f"{room} tokens"
        )
    bad = in_use & ((page_table < 0) | (page_table >= n_pages))
    if bad.any():
        request, at = bad.nonzero()[0].tolist()
        raise ValueError(
            f"request {request} names page {int(page_table[request, at])}, but the pool has pages "
            f"0 to {n_pages - 1}"
        )


def _to_rows(x: Tensor, lists: int) -> Tensor:
    """``(B, H, T, D)`` as ``(B, G, N, R, D)``: all rows that one list serves, padded with zero."""
    batch, heads, tokens, width = x.shape
    x = pad(x, (0, 0, 0, -tokens % BLOCK_SIZE))
    x = x.reshape(batch, lists, heads // lists, -1, BLOCK_SIZE, width)
    return x.transpose(2, 3).flatten(3, 4)


def _from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`_to_rows`, without the padding."""
    heads, tokens = like.shape[1:3]
    x: Tensor = rows.unflatten(3, (heads // rows.shape[1], BLOCK_SIZE)).transpose(2, 3)
    return x.reshape(rows.shape[0], heads, -1, rows.shape[-1])[:, :, :tokens].contiguous()


def _slices(
    rows: Tensor,
    key: Tensor,
    value: Tensor,
    counts: Tensor,
    indices: Tensor,
    n_queries: int,
    rule: Rule,
) -> Iterator[Slice]:
    """Cut the query blocks into slices of about ``SLICE_ELEMENTS`` scores or gathered values."""
    exact = torch.promote_types(rows.dtype, torch.float32)
    batch, lists, n, n_rows, width = rows.shape
    n_keys, n_sinks = key.shape[2], n_blocks(min(rule.sink_tokens, key.shape[2]))
    in_use = torch.arange(indices.shape[3], device=key.device) < counts[..., None]
    in_use = in_use & (indices >= 0) & (indices < n_blocks(n_keys))
    listed = indices.where(in_use, 0).long()
    sinks = torch.arange(n_sinks, device=key.device).expand(*counts.shape, n_sinks)
    slots = torch.cat([sinks, listed], dim=-1)
    in_use = pad(in_use, (n_sinks, 0), value=True)
    at = torch.arange(batch, device=key.device).view(-1, 1, 1, 1)
    head = torch.arange(lists, device=key.device).view(1, -1, 1, 1) * key.shape[1] // lists
    key, value = (
        pad(x, (0, 0, 0, -n_keys % BLOCK_SIZE)).unflatten(2, (-1, BLOCK_SIZE)) for x in (key, value)
    )
    per_block = batch * lists * slots.shape[3] * BLOCK_SIZE * (n_rows + 2 * width)
    step = max(1, SLICE_ELEMENTS // max(per_block, 1))
    for start in range(0, n, step):
        blocks = slice(start, min(start + step, n))
        where = torch.broadcast_tensors(at, head, slots[:, :, blocks])
        position = slots[:, :, blocks, :, None] * BLOCK_SIZE
        position = position + torch.arange(BLOCK_SIZE, device=key.device)
        # What is not read may hold anything, and 0 times NaN is NaN.
        unread = ~in_use[:, :, blocks, :, None].expand_as(position).flatten(3)[..., None]
        near_key, near_value = (
            x[where].flatten(3, 4).to(exact).masked_fill(unread, 0.0) for x in (key, value)
        )
        first = torch.arange(blocks.start, blocks.stop, device=key.device) * BLOCK_SIZE
        query_position = (first[:, None] + torch.arange(BLOCK_SIZE, device=key.device)).repeat(
            1, n_rows // BLOCK_SIZE
        ) + (n_keys - n_queries)
        visible = _visible(query_position, position, n_sinks, in_use[:, :, blocks], n_keys, rule)
        yield Slice(blocks, where, rows[:, :, blocks].to(exact), near_key, near_value, visible)


def _visible(
    query: Tensor, key: Tensor, n_sinks: int, in_use: Tensor, n_keys: int, rule: Rule
) -> Tensor:
    """Positions ``(n, R)`` and ``(B, G, n, slots, 64)`` to a mask ``(B, G, n, R, W)``."""
    shown = in_use[..., None] & (key < n_keys)
    is_sink = torch.arange(key.shape[3], device=key.device)[:, None] < n_sinks
    shown = shown & (is_sink == (key < rule.sink_tokens))
    shown, key = shown.flatten(3)[..., None, :], key.flatten(3)[..., None, :]
    query = query[:, :, None]
    if rule.window_size:
        near = (query - key).abs() < rule.window_size
        shown = shown & (near | (key < rule.sink_tokens))
    if rule.causal:
        return shown & (key <= query)
    return shown.expand(*shown.shape[:3], query.shape[1], -1)
