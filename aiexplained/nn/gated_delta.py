"""The gated delta rule (Yang et al., 2024), token by token: the definition that kernels meet.

Each head keeps a matrix ``S`` of ``K`` rows and ``V`` columns. A token first lets it fade, then
corrects what stands under its key, then reads with its query:

    S_t = e^{g_t} (I - beta_t k_t k_tᵀ) S_{t-1} + beta_t k_t v_tᵀ,    o_t = scale · S_tᵀ q_t

Without ``beta`` the token adds ``k_t v_tᵀ`` and corrects nothing: gated linear attention, the
recurrence of Mamba-2's SSD.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def reference_gated_delta_rule(
    query: Float[Tensor, "B H T K"],
    key: Float[Tensor, "B H T K"],
    value: Float[Tensor, "B H T V"],
    log_decay: Float[Tensor, "B H T"],
    beta: Float[Tensor, "B H T"] | None,
    *,
    scale: float | None = None,
    initial_state: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B H T V"], Float[Tensor, "B H K V"]]:
    """Outputs and the last state of the recurrence above, a token at a time.

    Args:
        query: What each token reads with.
        key: Where it writes; of unit length where ``beta`` is to be the share that is corrected.
        value: What it writes.
        log_decay: Logarithm of the share of the state that is kept, usually ``<= 0``.
        beta: Share of what stands under the key that is replaced, usually from 0 to 1; ``None``
            adds instead of replacing.
        scale: Factor on the outputs; default ``K ** -0.5``.
        initial_state: The state before the first token; default zero.

    Returns:
        An output for each token, and the state after the last.

    Raises:
        ValueError: if the shapes do not fit.

    >>> one = torch.ones(1, 1, 2, 1)
    >>> value = torch.tensor([[[[3.0], [5.0]]]])
    >>> out, state = reference_gated_delta_rule(one, one, value, torch.zeros(1, 1, 2), one[..., 0])
    >>> out.flatten().tolist(), state.item()  # the second value replaces the first
    ([3.0, 5.0], 5.0)
    """
    check_gated_delta_rule(query, key, value, log_decay, beta, initial_state)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    state = value.new_zeros(*key.shape[:2], key.shape[-1], value.shape[-1])
    state = state if initial_state is None else initial_state
    outputs = []
    for t in range(query.shape[2]):
        k = key[:, :, t, :, None]
        state = state * log_decay[:, :, t, None, None].exp()
        write = value[:, :, t, None, :]
        if beta is not None:
            write = beta[:, :, t, None, None] * (write - k.transpose(-1, -2) @ state)
        state = state + k * write
        outputs.append(scale * (query[:, :, t, None, :] @ state)[:, :, 0])
    return torch.stack(outputs, dim=2), state


def check_gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    """Raise ``ValueError`` unless the arguments of a gated delta rule fit one another."""
    if query.ndim != 4 or query.shape != key.shape or 0 in query.shape:
        raise ValueError(
            "query and key must be alike, (B, H, T, K) with no size 0, got "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    if value.ndim != 4 or value.shape[:3] != key.shape[:3] or value.shape[3] < 1:
        raise ValueError(
            f"value must be (B, H, T, V) with {tuple(key.shape[:3])} in front like the keys, got "
            f"{tuple(value.shape)}"
        )
    for name, gate in (("log_decay", log_decay), ("beta", beta)):
        if gate is not None and gate.shape != key.shape[:3]:
            raise ValueError(
                f"{name} must be one number a token, {tuple(key.shape[:3])}, got "
                f"{tuple(gate.shape)}"
            )
    wanted = (*key.shape[:2], key.shape[3], value.shape[3])
    if initial_state is not None and initial_state.shape != wanted:
        raise ValueError(f"initial_state must be {wanted}, got {tuple(initial_state.shape)}")
