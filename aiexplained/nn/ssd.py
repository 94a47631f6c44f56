"""The recurrence of Mamba-2 (Dao and Gu, 2024), token by token and in chunks.

Each head keeps a state of ``N`` rows and ``P`` columns. A token lets it fade, by a time step that
the token itself chooses, writes into it, and reads from it:

    h_t = e^{dt_t A} h_{t-1} + dt_t B_t x_tᵀ,    y_t = C_tᵀ h_t

``A`` is one negative number a head; ``B`` and ``C`` are shared by all heads. The chunked form
compares the tokens of a chunk with one another, as attention does, and carries a state from chunk
to chunk: the same numbers, in products of matrices.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


class SSDOperator(Protocol):
    """What :func:`recurrent_ssd` and :func:`chunk_ssd` are: the recurrence in some form."""

    def __call__(
        self,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        *,
        initial_state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Outputs and the last state; arguments as of :func:`recurrent_ssd`."""
        ...


def recurrent_ssd(
    x: Float[Tensor, "B H T P"],
    dt: Float[Tensor, "B H T"],
    A: Float[Tensor, "H"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    *,
    initial_state: Float[Tensor, "B H N P"] | None = None,
) -> tuple[Float[Tensor, "B H T P"], Float[Tensor, "B H N P"]]:
    """Outputs and the last state of the recurrence above, a token at a time.

    Args:
        x: What each token writes.
        dt: Its time step, ``>= 0``; the share of the state that it keeps is ``e^{dt A}``.
        A: Rate of decay of each head, usually negative.
        B: Where a token writes, the same for all heads.
        C: What it reads with, the same for all heads.
        initial_state: The state before the first token; default zero.

    Returns:
        An output for each token, and the state after the last.

    Raises:
        ValueError: if the shapes do not fit.

    >>> one = torch.ones(1, 2, 1)
    >>> y, state = recurrent_ssd(one[None], torch.ones(1, 1, 2), -torch.ones(1), one, one)
    >>> y.flatten()  # the second token finds e^-1 of the first
    tensor([1.0000, 1.3679])
    """
    state = _first_state(x, dt, A, B, C, initial_state)
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(
        x.unbind(2), dt.unbind(2), B.unbind(1), C.unbind(1), strict=True
    ):
        write = B_t[:, None, :, None] * x_t[:, :, None, :]
        state = (dt_t * A).exp()[..., None, None] * state + dt_t[..., None, None] * write
        outputs.append((C_t[:, None, None, :] @ state)[:, :, 0])
    return torch.stack(outputs, dim=2), state


def chunk_ssd(
    x: Float[Tensor, "B H T P"],
    dt: Float[Tensor, "B H T"],
    A: Float[Tensor, "H"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    *,
    initial_state: Float[Tensor, "B H N P"] | None = None,
    chunk_size: int = 64,
) -> tuple[Float[Tensor, "B H T P"], Float[Tensor, "B H N P"]]:
    """As :func:`recurrent_ssd`, in chunks.

    Args:
        x: As there.
        dt: As there.
        A: As there; not positive.
        B: As there.
        C: As there.
        initial_state: As there.
        chunk_size: Tokens that are compared with one another.

    Raises:
        ValueError: if the shapes do not fit, or ``chunk_size`` is not positive.
    """
    state = _first_state(x, dt, A, B, C, initial_state)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    n_tokens = x.shape[2]
    missing = -n_tokens % chunk_size  # a token with dt = 0 neither fades nor writes
    x, B, C = (pad(v, (0, 0, 0, missing)).unflatten(-2, (-1, chunk_size)) for v in (x, B, C))
    dt = pad(dt, (0, missing)).unflatten(-1, (-1, chunk_size))
    log_kept = (dt * A[:, None, None]).cumsum(-1)  # from the start of the chunk, (B, H, c, Q)
    between = log_kept[..., :, None] - log_kept[..., None, :]
    past = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=x.device).tril()
    kept = between.masked_fill(~past, -torch.inf).exp()
    scaled = dt[..., None] * x
    alike = (C @ B.mT)[:, None]
    y = (alike * kept) @ scaled
    to_end = (log_kept[..., -1:] - log_kept).exp()
    writes = B[:, None].mT @ (to_end[..., None] * scaled)  # (B, H, c, N, P)
    states = []
    for write, whole in zip(writes.unbind(2), log_kept[..., -1].exp().unbind(2), strict=True):
        states.append(state)
        state = whole[..., None, None] * state + write
    y = y + log_kept.exp()[..., None] * (C[:, None] @ torch.stack(states, dim=2))
    return y.flatten(2, 3)[:, :, :n_tokens], state


def _first_state(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial_state: Tensor | None
) -> Tensor:
    """The state before the first token; raise ``ValueError`` where shapes do not fit."""
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"x must be (B, H, T, P) with no size 0, got {tuple(x.shape)}")
    batch, heads, tokens, width = x.shape
    if B.ndim != 3 or B.shape != C.shape or B.shape[:2] != (batch, tokens) or not B.shape[2]:
        raise ValueError(
            f"B and C must be alike, ({batch}, {tokens}, N), got {tuple(B.shape)} and "
            f"{tuple(C.shape)}"
        )
    if dt.shape != (batch, heads, tokens) or A.shape != (heads,):
        raise ValueError(
            f"dt must be ({batch}, {heads}, {tokens}) and A ({heads},), got {tuple(dt.shape)} and "
            f"{tuple(A.shape)}"
        )
    wanted = (batch, heads, B.shape[2], width)
    if initial_state is None:
        return x.new_zeros(wanted)
    if initial_state.shape != wanted:
        raise ValueError(f"initial_state must be {wanted}, got {tuple(initial_state.shape)}")
    return initial_state
