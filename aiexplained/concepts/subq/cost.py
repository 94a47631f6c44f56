"""The vendor's table, and the one law that reproduces it: every query reads ``budget`` keys.

Dense attention over ``n`` tokens has ``n² / 2`` pairs; with ``budget`` keys a query there are
``n · budget``. The ratio of the two is ``n / (2 budget)``. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

K = 1024
MILLION = 1024 * 1024


@dataclass(frozen=True)
class VendorRow:
    """One row of the model card's first table, one attention layer.

    Args:
        n_tokens: Context.
        dense_pflop: Operations of dense attention, in 10¹⁵.
        sparse_pflop: Operations of the vendor's attention, its choice included.
        ratio: Their ratio as printed.
        speedup: Time against FlashAttention-2 as printed, where it is.
    """

    n_tokens: int
    dense_pflop: float
    sparse_pflop: float
    ratio: float
    speedup: float | None = None


VENDOR_TABLE = (
    VendorRow(32 * K, 0.25, 0.12, 2.1),
    VendorRow(64 * K, 0.99, 0.25, 4.0),
    VendorRow(128 * K, 3.9, 0.49, 8.0, 6.88),
    VendorRow(256 * K, 15.8, 0.99, 16.0, 13.5),
    VendorRow(512 * K, 63.0, 2.0, 31.5, 27.5),
    VendorRow(MILLION, 252.0, 3.9, 64.5, 56.2),
)
"""As quoted by a digest and an audit of the card, which we could not read ourselves."""

VENDOR_TIMES_MS = (54_164.0, 966.0)
"""FlashAttention-2 and the vendor's attention at a million tokens, one layer; same sources."""

INDEXER_RATIOS = ((128 * K, 2.2), (MILLION, 16.1), (12 * MILLION, 190.4))
INDEXER_BUDGET = 2048
"""Cost of DeepSeek's indexer over that of attention on this many keys; same sources."""


def work_ratio(n_tokens: int, budget: float) -> float:
    """Pairs of dense attention over pairs with ``budget`` keys a query: ``n / (2 budget)``.

    Where a text is shorter than twice the budget the law says less than 1: it counts a full budget
    for the first queries as well.

    Raises:
        ValueError: if a number is not positive.

    >>> work_ratio(1_048_576, 8192)
    64.0
    """
    if n_tokens < 1 or budget <= 0:
        raise ValueError(f"n_tokens and budget must be positive, got {n_tokens} and {budget}")
    return n_tokens / (2 * budget)


def fit_budget(n_tokens: int, ratio: float) -> float:
    """Keys a query that give ``ratio`` at ``n_tokens``: the law, solved for the budget.

    Raises:
        ValueError: if a number is not positive.

    >>> round(fit_budget(1_048_576, 64.5))
    8128
    """
    if n_tokens < 1 or ratio <= 0:
        raise ValueError(f"n_tokens and ratio must be positive, got {n_tokens} and {ratio}")
    return n_tokens / (2 * ratio)


def exact_work_ratio(n_tokens: int, budget: int) -> float:
    """The same by counting pairs one by one: early queries have fewer keys than the budget.

    >>> exact_work_ratio(4, 2)  # 1 + 2 + 3 + 4 against 1 + 2 + 2 + 2
    1.4285714285714286
    """
    work_ratio(n_tokens, budget)
    full = min(budget, n_tokens)
    pairs = full * (full + 1) // 2 + (n_tokens - full) * full
    return n_tokens * (n_tokens + 1) / 2 / pairs


def fit_indexer() -> tuple[float, float]:
    """``(slope, offset)`` of the line through the first and last of :data:`INDEXER_RATIOS`.

    An indexer that scores all pairs costs ``slope · n`` times as much as attention with a constant
    budget, and ``offset`` is the part that is linear in itself.
    """
    (n_first, first), *_, (n_last, last) = INDEXER_RATIOS
    slope = (last - first) / (n_last - n_first)
    return slope, first - slope * n_first


def indexer_crossover() -> float:
    """Tokens at which the indexer costs as much as the attention that it chooses for."""
    slope, offset = fit_indexer()
    return (1 - offset) / slope


def efficiency(speedup: float, ratio: float) -> float:
    """Speed-up over saving in work: 1 if every operation saved also saves its time.

    Raises:
        ValueError: if a number is not positive.

    >>> round(efficiency(56.2, 64.5), 2)
    0.87
    """
    if speedup <= 0 or ratio <= 0:
        raise ValueError(f"speedup and ratio must be positive, got {speedup} and {ratio}")
    return speedup / ratio


def work_by_length(lengths: Sequence[int], budget: int) -> list[dict[str, float]]:
    """Work for a token by the law, as multiples of what a full budget takes.

    Returns:
        For each length ``n_tokens``; ``dense``; ``sparse``, one but for texts shorter than two
        budgets, of which everything is read; ``indexer``, sparse attention and an indexer as
        costly as in the vendor's table; and ``ratio``, dense over sparse.
    """
    slope, offset = fit_indexer()
    rows = []
    for n in lengths:
        dense = work_ratio(n, budget)
        sparse = min(dense, 1.0)
        choosing = (offset + slope * n) * INDEXER_BUDGET / budget
        rows.append(
            {
                "n_tokens": n, "dense": dense, "sparse": sparse, "ratio": dense / sparse,
                "indexer": sparse + choosing,
            }
        )  # fmt: skip
    return rows
