"""The part of the gated delta rule in Triton that does not depend on values and states.

It is done for all chunks at once: a triangular matrix is inverted, and multiplied with what the
state and the outputs make of the writes. The inverse is found by substitution in blocks of 16, and
blocks are put together by products; products alone would be wrong by orders of magnitude where keys
resemble one another.
"""

from __future__ import annotations

import triton
import triton.language as tl

SUBSTITUTED = tl.constexpr(16)
# e^-1e4 is zero in float32, and the sum of 64 such decays keeps a share of 1e-10 in float64.
NOTHING_LEFT = tl.constexpr(-1e4)


@triton.jit
def locate(index, heads, strides):
    """Where in memory a sequence begins: the head ``index % heads`` of its batch."""
    index = index.to(tl.int64)
    return index // heads * strides[0] + index % heads * strides[1]


@triton.jit
def load_rows(rows, stride, first, n_rows, column, n_columns, chunk: tl.constexpr):
    """A chunk of rows from ``first`` on; zeros past the last row or column."""
    row = first + tl.arange(0, chunk)
    at = rows + row.to(tl.int64)[:, None] * stride + column[None, :]
    inside = (row < n_rows)[:, None] & (column < n_columns)[None, :]
    return tl.load(at, mask=inside, other=0.0)


@triton.jit
def _load_decays(log_decay, stride, first, tokens, chunk: tl.constexpr):
    """Log-decays of a chunk in float64; for minus infinity, a number that leaves nothing either."""
    lane = tl.arange(0, chunk)
    at = log_decay + (first + lane).to(tl.int64) * stride
    decay = tl.load(at, mask=first + lane < tokens, other=0.0).to(tl.float64)
    return tl.where(decay < NOTHING_LEFT, NOTHING_LEFT, decay)


@triton.jit
def _fading(total, chunk: tl.constexpr):
    """What is left at the row's token of what stood there after the column's; zero for later ones.

    A difference of two sums from the start, which in float32 would lose small decays behind a large
    one. The sums are therefore taken in float64, and split in two numbers of float32 each: the
    difference of the larger parts is exact where little is left of it, so all that is done for a
    pair of tokens is plain float32, which every GPU has plenty of.
    """
    lane = tl.arange(0, chunk)
    high = total.to(tl.float32)
    low = (total - high.to(tl.float64)).to(tl.float32)
    between = (high[:, None] - high[None, :]) + (low[:, None] - low[None, :])
    return tl.exp(tl.where(lane[:, None] >= lane[None, :], between, -float("inf")))


@triton.jit
def _split(x, dtype: tl.constexpr):
    """A tile of float32 as a sum of two of ``dtype``."""
    high = x.to(dtype)
    return high, (x - high.to(tl.float32)).to(dtype)


@triton.jit
def _exact_dot(a, high, low):
    """``a`` in float32 times ``high + low``, by units that take their type.

    Two numbers of 16 bits hold a factor; the product of the two small ones is left out.
    """
    if high.dtype == tl.float32:
        return tl.dot(a, high, input_precision="ieee")
    a_high, a_low = _split(a, high.dtype)
    acc = tl.dot(a_low, high)
    if low is not None:
        acc = tl.dot(a_high, low, acc)
    return tl.dot(a_high, high, acc)


@triton.jit
def _cut(blocks):
    """Square blocks (n, 2s, 2s), as diagonal blocks (2n, s, s) and lower left corners (n, s, s)."""
    n: tl.constexpr = blocks.shape[0]
    half: tl.constexpr = blocks.shape[1] // 2
    upper, lower = blocks.reshape(n, 2, half, 2 * half).permute(0, 2, 3, 1).split()
    first, _ = upper.reshape(n, half, 2, half).permute(0, 1, 3, 2).split()
    corner, last = lower.reshape(n, half, 2, half).permute(0, 1, 3, 2).split()
    diagonal = tl.join(first, last).permute(0, 3, 1, 2).reshape(2 * n, half, half)
    return diagonal, corner


@triton.jit
def _merge(inverses, corners, dtype: tl.constexpr):
    """Inverses (n, 2s, 2s) from those of diagonal blocks: [P 0; R Q]^-1 = [P' 0; -Q'RP' Q']."""
    n: tl.constexpr = corners.shape[0]
    half: tl.constexpr = corners.shape[1]
    first, last = inverses.reshape(n, 2, half, half).permute(0, 2, 3, 1).split()
    high, low = _split(corners, dtype)
    corner = _exact_dot(last, high, low)
    high, low = _split(first, dtype)
    corner = -_exact_dot(corner, high, low)
    upper = tl.join(first, tl.zeros_like(first)).permute(0, 1, 3, 2).reshape(n, half, 2 * half)
    lower = tl.join(corner, last).permute(0, 1, 3, 2).reshape(n, half, 2 * half)
    return tl.join(upper, lower).permute(0, 3, 1, 2).reshape(n, 2 * half, 2 * half)


@triton.jit
def _substitute(blocks):
    """Inverses of unit triangular blocks (n, s, s) of which the part below the diagonal is given.

    Forward substitution, a column of the blocks at a time, for all right-hand sides at once.
    """
    size: tl.constexpr = blocks.shape[1]
    lane = tl.arange(0, size)
    row = lane[None, :, None]
    column = lane[None, None, :]
    inverses = tl.zeros_like(blocks) + tl.where(row == column, 1.0, 0.0)
    for i in range(size - 1):
        known = tl.sum(tl.where(row == i, inverses, 0.0), 1)
        factor = tl.sum(tl.where(column == i, blocks, 0.0), 2)
        inverses -= factor[:, :, None] * known[:, None, :]
    return inverses


@triton.jit
def _invert(system, chunk: tl.constexpr, dtype: tl.constexpr):
    """Inverse of a unit triangular matrix of which the part below the diagonal is given."""
    blocks = system.reshape(1, chunk, chunk)
    if chunk == SUBSTITUTED:
        inverses = _substitute(blocks)
    else:
        tl.static_assert(chunk == 4 * SUBSTITUTED)
        halves, corner = _cut(blocks)
        quarters, corners = _cut(halves)
        inverses = _merge(_substitute(quarters), corners, dtype)
        inverses = _merge(inverses, corner, dtype)
    return inverses.reshape(chunk, chunk)


@triton.jit
def invert_kernel(
    key, log_decay, beta, inverses, key_strides, decay_strides, beta_strides, shape,
    chunk: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """(I + A)^-1 diag(beta) of one chunk, as a sum of two matrices in the type of the keys."""
    heads, tokens, key_dim, _ = shape
    n_chunks = tl.cdiv(tokens, chunk)
    sequence = tl.program_id(0) // n_chunks
    first = tl.program_id(0) % n_chunks * chunk
    lane = tl.arange(0, chunk)
    keys = key + locate(sequence, heads, key_strides)
    k = load_rows(keys, key_strides[2], first, tokens, tl.arange(0, width), key_dim, chunk)
    decays = log_decay + locate(sequence, heads, decay_strides)
    decay = _load_decays(decays, decay_strides[2], first, tokens, chunk)
    at = beta + locate(sequence, heads, beta_strides)
    at += (first + lane).to(tl.int64) * beta_strides[2]
    share = tl.load(at, mask=first + lane < tokens, other=0.0).to(tl.float32)
    system = tl.dot(k, tl.trans(k), input_precision="ieee") * share[:, None]
    system *= _fading(tl.cumsum(decay, 0), chunk)
    system = tl.where(lane[:, None] > lane[None, :], system, 0.0)
    inverse = _invert(system, chunk, k.dtype) * share[None, :]
    at = inverses + tl.program_id(0).to(tl.int64) * 2 * chunk * chunk
    at += lane[:, None] * chunk + lane[None, :]
    high, low = _split(inverse, k.dtype)
    tl.store(at, high)
    tl.store(at + chunk * chunk, low)


@triton.jit
def prepare_kernel(
    query, key, log_decay, inverses, from_start, to_state, to_outputs,
    query_strides, key_strides, decay_strides, shape,
    chunk: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """What the last state and the outputs of one chunk make of what is missing.

    What a chunk writes may add up to much less than its parts, so factors rounded to 16 bits would
    not do: the products are exact, and only their results are rounded.
    """
    heads, tokens, key_dim, _ = shape
    n_chunks = tl.cdiv(tokens, chunk)
    sequence = (tl.program_id(0) // n_chunks).to(tl.int64)
    first = tl.program_id(0) % n_chunks * chunk
    lane = tl.arange(0, chunk)
    column = tl.arange(0, width)
    inside = first + lane < tokens
    token = sequence * tokens + first + lane
    decays = log_decay + locate(sequence, heads, decay_strides)
    decay = _load_decays(decays, decay_strides[2], first, tokens, chunk)
    total = tl.cumsum(decay, 0)
    tl.store(from_start + token, tl.exp(total.to(tl.float32)), mask=inside)
    queries = query + locate(sequence, heads, query_strides)
    q = load_rows(queries, query_strides[2], first, tokens, column, key_dim, chunk)
    keys = key + locate(sequence, heads, key_strides)
    k = load_rows(keys, key_strides[2], first, tokens, column, key_dim, chunk)
    reads = tl.dot(q, tl.trans(k), input_precision="ieee") * _fading(total, chunk)
    left = tl.exp((tl.sum(decay, 0) - total).to(tl.float32))
    if inverses is not None:
        at = inverses + tl.program_id(0).to(tl.int64) * 2 * chunk * chunk
        at += lane[:, None] * chunk + lane[None, :]
        high = tl.load(at)
        low = tl.load(at + chunk * chunk)
        reads = _exact_dot(reads, high, low)
        inverse = (high.to(tl.float32) + low.to(tl.float32)) * left[:, None]
        effect = _exact_dot(tl.trans(inverse), k, None)
    else:
        effect = left[:, None] * k
    at = to_outputs + token[:, None] * chunk + lane[None, :]
    tl.store(at, reads, mask=inside[:, None])
    at = to_state + token[:, None] * key_dim + column[None, :]
    tl.store(at, effect, mask=inside[:, None] & (column < key_dim)[None, :])
