"""The gated delta rule in torch, a chunk of tokens at a time. Any device, differentiable.

Within a chunk that starts from the state ``S``, token ``j`` writes ``w_j`` under its key. With
``G`` the running sum of the log-decays, what stands under a key is known from ``S`` and from the
writes before it, so all writes of a chunk solve one triangular system:

    (I + A) W = beta (V - e^G K S),    A_jl = beta_j e^{G_j - G_l} (k_j . k_l)  for l < j

The system is solved by substitution. An inverse made of products alone would be faster on some
devices, and is wrong by orders of magnitude where keys resemble one another.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._precision import exactly

CHUNK = 64


class Inputs(NamedTuple):
    """The tensors of :func:`.gated_delta_rule`, in the order of the operator."""

    query: Tensor
    key: Tensor
    value: Tensor
    log_decay: Tensor
    beta: Tensor | None
    initial_state: Tensor | None


@exactly
def forward(inputs: Inputs, scale: float) -> tuple[Tensor, Tensor]:
    """See :func:`.gated_delta_rule`."""
    query, key, value, log_decay, beta, initial_state = inputs
    dtype, tokens = torch.promote_types(query.dtype, torch.float32), query.shape[2]
    query, key, value = (_chunks(x.to(dtype)) for x in (query, key, value))
    decay = _chunks(log_decay.double()[..., None])[..., 0]
    fading = _fading(decay)  # from the column's token to the row's
    from_start = decay.cumsum(dim=-1).exp().to(dtype)
    fading, to_end = fading.to(dtype), fading[..., -1, :].to(dtype)
    seen = None
    if beta is not None:
        gate = _chunks(beta.to(dtype)[..., None])
        system = gate * (key @ key.transpose(-1, -2)) * fading
        right = gate * torch.cat((value, from_start[..., None] * key), dim=-1)
        # The diagonal counts as one.
        solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
        value, seen = solved.split((value.shape[-1], key.shape[-1]), dim=-1)
    reads = (query @ key.transpose(-1, -2)) * fading
    state = initial_state
    if state is None:
        state = value.new_zeros(*key.shape[:2], key.shape[-1], value.shape[-1])
    state, outputs = state.to(dtype), []
    for i in range(key.shape[2]):
        write = value[:, :, i] if seen is None else value[:, :, i] - seen[:, :, i] @ state
        start = from_start[:, :, i, :, None] * query[:, :, i]
        outputs.append(start @ state + reads[:, :, i] @ write)
        kept = (to_end[:, :, i, :, None] * key[:, :, i]).transpose(-1, -2) @ write
        state = from_start[:, :, i, -1, None, None] * state + kept
    out = scale * torch.stack(outputs, dim=2).flatten(2, 3)[:, :, :tokens]
    return out, state


def backward(
    grad_out: Tensor, grad_state: Tensor, inputs: Inputs, scale: float
) -> tuple[Tensor | None, ...]:
    """Gradients of all inputs, through the chunks; None of what is None."""
    leaves = Inputs._make(None if x is None else x.detach().requires_grad_() for x in inputs)
    with torch.enable_grad():
        out, state = forward(leaves, scale)
    given = [x for x in leaves if x is not None]
    found = iter(torch.autograd.grad((out, state), given, (grad_out.to(out.dtype), grad_state)))
    return tuple(None if x is None else next(found) for x in leaves)


def _fading(decay: Tensor) -> Tensor:
    """What is left at token ``i`` of what stood there after token ``j``; zero for later ``j``.

    Summed from ``j`` on for each ``j``: a difference of two sums from the start would be NaN after
    a decay to nothing, and lose small decays behind a large one.
    """
    rows = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=decay.device)
    steps = decay[..., None].expand(*decay.shape, CHUNK).masked_fill(~rows.tril(-1), 0.0)
    return steps.cumsum(dim=-2).masked_fill(~rows.tril(), -torch.inf).exp()


def _chunks(x: Tensor) -> Tensor:
    """``(B, H, T, D)`` as ``(B, H, chunks, CHUNK, D)``; tokens that are added do nothing."""
    missing = -x.shape[2] % CHUNK
    chunks: Tensor = pad(x, (0, 0, 0, missing)).unflatten(2, (-1, CHUNK))
    return chunks
