"""Grouped-query softmax attention: the definition, and the fast one tested against it.

Layout ``(B, H, T, D)``; ``S`` counts keys. Masks are boolean, True = may attend. With fewer key
heads than query heads, query head ``h`` reads key head ``h // (H / H_kv)``. Causal means aligned
at the end: the last query sees every key, whatever ``T`` and ``S`` are.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@runtime_checkable
class AttentionOperator(Protocol):
    """What a model calls to attend: any function with this signature can stand in."""

    def __call__(
        self,
        query: Float[Tensor, "B H T D"],
        key: Float[Tensor, "B H_kv S D"],
        value: Float[Tensor, "B H_kv S D_v"],
        *,
        mask: Bool[Tensor, "*#lead T S"] | None = None,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Float[Tensor, "B H T D_v"]:
        """See :func:`reference_attention`, the specification."""
        ...


def causal_mask(
    n_queries: int, n_keys: int, *, device: torch.device | str | None = None
) -> Bool[Tensor, "T S"]:
    """Boolean causal mask, aligned at the end: query ``i`` sees keys up to ``i + S - T``.

    Args:
        n_queries: Rows ``T``, the newest tokens.
        n_keys: Columns ``S``, at least ``T``: what is cached, then the new tokens.
        device: Where to build it.

    Raises:
        ValueError: if there are more queries than keys.

    >>> causal_mask(2, 3)
    tensor([[ True,  True, False],
            [ True,  True,  True]])
    """
    if not 0 < n_queries <= n_keys:
        raise ValueError(f"causal mask needs 0 < queries <= keys, got {n_queries} and {n_keys}")
    full = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return full.tril_(n_keys - n_queries)


def reference_attention(
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H_kv S D"],
    value: Float[Tensor, "B H_kv S D_v"],
    *,
    mask: Bool[Tensor, "*#lead T S"] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "B H T D_v"]:
    """Attention as its definition reads: ``softmax(query @ key.T * scale) @ value``.

    Args:
        query: Queries of ``H`` heads.
        key: Keys of ``H_kv`` heads; ``H_kv`` divides ``H``.
        value: Values of ``H_kv`` heads.
        mask: True where a query may attend to a key; broadcasts over batch and heads.
        is_causal: Shorthand for ``mask=causal_mask(T, S)``; not both.
        scale: Factor on the scores; default ``1 / sqrt(D)``.

    Returns:
        One vector per query; zero where the mask allows no key.

    Raises:
        ValueError: if the heads do not divide, shapes differ, or ``mask`` comes with ``is_causal``.
    """
    check_attention(query, key, value, mask, is_causal)
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    if is_causal:
        mask = causal_mask(query.shape[2], key.shape[2], device=query.device)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        return scores.softmax(dim=-1) @ value
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0) @ value


def scaled_dot_product_attention(
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H_kv S D"],
    value: Float[Tensor, "B H_kv S D_v"],
    *,
    mask: Bool[Tensor, "*#lead T S"] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "B H T D_v"]:
    """:func:`reference_attention` through torch's fused kernel; same arguments, same result."""
    check_attention(query, key, value, mask, is_causal)
    if is_causal and query.shape[2] == 1:
        is_causal = False  # one query sees everything
    elif is_causal and query.shape[2] != key.shape[2]:
        # torch aligns its causal triangle at the start
        is_causal, mask = False, causal_mask(query.shape[2], key.shape[2], device=query.device)
    return nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def check_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool
) -> None:
    """Raise ``ValueError`` unless the arguments of an attention operator fit one another."""
    if query.ndim != 4 or key.ndim != 4 or key.shape[:3] != value.shape[:3]:
        raise ValueError(
            "attention needs query, key, value (B, H, T, D) with key and value alike, got "
            f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        )
    if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"query and key must share batch and width, got {tuple(query.shape)} "
            f"and {tuple(key.shape)}"
        )
    if query.shape[1] % key.shape[1]:
        raise ValueError(
            f"key heads must divide query heads, got {key.shape[1]} and {query.shape[1]}"
        )
    if mask is not None and is_causal:
        raise ValueError("pass mask or is_causal=True, not both")
    if mask is not None and mask.dtype is not torch.bool:
        raise ValueError(f"mask must be boolean (True = may attend), got {mask.dtype}")
    if is_causal and query.shape[2] > key.shape[2]:
        raise ValueError(
            f"causal attention needs queries <= keys, got {query.shape[2]} and {key.shape[2]}"
        )
