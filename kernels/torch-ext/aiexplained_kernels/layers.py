"""Layers that stand in for functions of transformers, where its models let kernels be put in.

The package ``kernels`` looks here for a layer by name and lends its ``forward`` to the model; so a
layer has no state, and takes exactly what the function takes that it replaces.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .gated_delta_rule import gated_delta_rule

__all__ = ["ChunkGatedDeltaRule", "RecurrentGatedDeltaRule"]


class ChunkGatedDeltaRule(nn.Module):
    """In place of ``chunk_gated_delta_rule``, for a prompt and for training."""

    can_torch_compile = True
    has_backward = True

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        g: Tensor,
        beta: Tensor,
        chunk_size: int = 64,
        initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs ``(B, T, H, V)`` and, if asked for, the last state ``(B, H, K, V)``.

        Args:
            query: ``(B, T, G, K)``; each of the G heads serves as many heads of ``value``.
            key: ``(B, T, G, K)``.
            value: ``(B, T, H, V)``.
            g: ``(B, T, H)``: log-decays.
            beta: ``(B, T, H)``.
            chunk_size: Has no effect: the result does not depend on it.
            initial_state: ``(B, H, K, V)``.
            output_final_state: Whether to return the last state.
            use_qk_l2norm_in_kernel: Whether to bring queries and keys to unit length first.
            kwargs: Whatever else the model passes on; ``cu_seqlens`` must be None.

        Raises:
            ValueError: for packed sequences (``cu_seqlens``).
        """
        return _gated_delta_rule(
            query, key, value, g, beta, initial_state, output_final_state, use_qk_l2norm_in_kernel,
            kwargs,
        )  # fmt: skip


class RecurrentGatedDeltaRule(nn.Module):
    """In place of ``fused_recurrent_gated_delta_rule``, for one token after another."""

    can_torch_compile = True
    has_backward = True

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        g: Tensor,
        beta: Tensor,
        initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`ChunkGatedDeltaRule.forward`, without ``chunk_size``."""
        return _gated_delta_rule(
            query, key, value, g, beta, initial_state, output_final_state, use_qk_l2norm_in_kernel,
            kwargs,
        )  # fmt: skip


def _gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    with_state: bool,
    normalize: bool,
    others: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    if others.get("cu_seqlens") is not None:
        raise ValueError(
            "gated_delta_rule keeps no packed sequences apart: cu_seqlens must be None; pass the "
            "sequences as a batch"
        )
    if normalize:
        query, key = (
            x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + 1e-6)
            for x in (query.float(), key.float())
        )
    group = value.shape[2] // query.shape[2]
    query, key = query.to(value.dtype), key.to(value.dtype)
    if group > 1:
        query, key = (x.repeat_interleave(group, dim=2) for x in (query, key))
    inputs = (x.transpose(1, 2) for x in (query, key, value, log_decay, beta))
    out, state = gated_delta_rule(*inputs, initial_state=initial_state)
    return out.transpose(1, 2), state if with_state else None
