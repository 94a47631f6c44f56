"""How an error travels through the recurrence: put into what is written, or into the time step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding

from aiexplained.concepts.ternary_mamba.model import Mamba2
from aiexplained.nn import chunk_ssd

What = Literal["B", "x", "dt"]
How = Literal["once", "at random", "always"]
WHAT: tuple[What, ...] = ("B", "x", "dt")
HOW: tuple[How, ...] = ("once", "at random", "always")
"""An error in one token, another one in each token, or the same one in all tokens."""


@dataclass(frozen=True)
class HeadInput:
    """What the recurrence of one head is made of.

    Args:
        decay: ``A``, negative.
        dt: Time step of each token.
        B: Where each token writes.
        x: What it writes, in one channel of the head.
    """

    decay: float
    dt: Float[Tensor, "T"]
    B: Float[Tensor, "T N"]
    x: Float[Tensor, "T"]

    @property
    def half_life(self) -> float:
        """Tokens until half of what was written is gone, at the mean time step."""
        return float(-torch.tensor(2.0).log() / (self.decay * self.dt.mean()))


def run_states(head: HeadInput) -> Float[Tensor, "T N"]:
    """The states ``h_t = e^{dt_t A} h_{t-1} + dt_t B_t x_t`` after each token.

    Args:
        head: The recurrence of one channel.

    >>> one = torch.ones(2)
    >>> run_states(HeadInput(-1.0, one, one[:, None], one)).flatten()
    tensor([1.0000, 1.3679])
    """
    state, states = torch.zeros_like(head.B[0]), []
    for dt, B, x in zip(head.dt, head.B, head.x, strict=True):
        state = (dt * head.decay).exp() * state + dt * B * x
        states.append(state)
    return torch.stack(states)


def make_noise(n_tokens: int, d_state: int, *, seed: int) -> Float[Tensor, "T N"]:
    """Uniform random numbers of unit variance: a step that is off by half stays positive.

    Args:
        n_tokens: Rows.
        d_state: Columns.
        seed: Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(n_tokens, d_state, generator=generator) - 1) * 3**0.5


def perturb(
    head: HeadInput,
    *,
    what: What,
    how: How,
    size: float,
    noise: Float[Tensor, "T N"],
    at: int = 0,
) -> HeadInput:
    """The same recurrence with an error of a relative ``size`` in one of its inputs.

    Args:
        head: The recurrence of one channel.
        what: ``"B"``, ``"x"`` or ``"dt"``; each of them is multiplied by one plus the error.
        how: ``"once"``: in the token ``at``, and nowhere else. ``"at random"``: times ``noise``.
            ``"always"``: the same error in all tokens.
        size: Of the error; 0.1 is a tenth.
        noise: Random numbers of unit variance; ``x`` and ``dt`` take the first column.
        at: The token of ``"once"``.

    Raises:
        ValueError: for an unknown ``what`` or ``how``, or a negative ``size``.
    """
    if what not in WHAT or how not in HOW or size < 0:
        raise ValueError(
            f"what must be of {WHAT}, how of {HOW}, and size >= 0; got {what!r}, {how!r}, {size}"
        )
    pattern = {"at random": noise, "always": torch.ones_like(noise)}.get(how)
    if pattern is None:
        pattern = torch.zeros_like(noise)
        pattern[at] = 1
    factor = 1 + size * pattern
    parts = {"dt": head.dt, "B": head.B, "x": head.x}
    if what == "B":
        parts["B"] = head.B * factor
    else:
        parts[what] = parts[what] * factor[:, 0].clamp_min(0)
    return HeadInput(decay=head.decay, **parts)


def relative_error(
    states: Float[Tensor, "T N"], perturbed: Float[Tensor, "T N"]
) -> Float[Tensor, "T"]:
    """Distance of two states after each token, over the root mean square length of the first.

    Args:
        states: As they should be.
        perturbed: As they are.
    """
    usual = states.norm(dim=1).square().mean().sqrt()
    error: Tensor = (perturbed - states).norm(dim=1) / usual.clamp_min(
        torch.finfo(states.dtype).tiny
    )
    return error


def compare_states(head: HeadInput, other: HeadInput) -> dict[str, list[float]]:
    """Length of the states of two recurrences after each token, and how far apart they are.

    Args:
        head: As it should be.
        other: As it is.

    Returns:
        ``norm``, ``perturbed``, and ``error``, see :func:`relative_error`.
    """
    states, off = run_states(head), run_states(other)
    return {
        "norm": states.norm(dim=1).tolist(),
        "perturbed": off.norm(dim=1).tolist(),
        "error": relative_error(states, off).tolist(),
    }


@torch.inference_mode()
def head_inputs(
    model: Mamba2, tokens: Int[Tensor, "T"]
) -> dict[tuple[int, int], tuple[float, Tensor, Tensor, Tensor]]:
    """What the recurrence of each head is made of, while the model reads a text.

    Args:
        model: A trained model.
        tokens: The text.

    Returns:
        For each layer and head: ``A``, ``dt`` ``[T]``, ``B`` ``[T, N]`` and ``x`` ``[T, P]``.
    """
    stream, found = embedding(tokens[None], model.embedding), {}
    for i, (block, layer) in enumerate(zip(model.layers, model.make_state(1), strict=True)):
        _, x, dt, A, B, _ = block.recurrence(block.norm(stream), layer)
        for head in range(len(A)):
            found[i, head] = (A[head].item(), dt[0, head], B[0], x[0, head])
        layer.conv.zero_()
        stream = block(stream, layer, chunk_ssd)
    return found


def measure_travel(
    model: Mamba2, tokens: Int[Tensor, "T"], *, size: float, seed: int
) -> list[dict[str, Any]]:
    """Relative error of the states of every head, for each kind of error of the same size.

    Args:
        model: A trained model.
        tokens: The text; the error of ``"once"`` stands at a quarter of it.
        size: Relative size of the error.
        seed: Of the random errors.

    Returns:
        For each head ``layer``, ``head``, ``half_life`` (tokens), and for each ``what`` and
        ``how``, joined by a blank: the error at the end of the text in percent, as a mean over
        its last quarter; for ``"once"`` the peak, in percent.
    """
    generator = torch.Generator().manual_seed(seed)
    out: list[dict[str, Any]] = []
    at, last = len(tokens) // 4, len(tokens) * 3 // 4
    for (layer, number), (decay, dt, B, x) in head_inputs(model, tokens).items():
        noise = torch.randn(B.shape, generator=generator)
        channel = int(x.square().mean(dim=0).argmax())
        head = HeadInput(decay, dt, B, x[:, channel])
        states = run_states(head)
        row: dict[str, Any] = {"layer": layer, "head": number, "half_life": head.half_life}
        for what in WHAT:
            for how in HOW:
                other = perturb(head, what=what, how=how, size=size, noise=noise, at=at)
                error = 100 * relative_error(states, run_states(other))
                row[f"{what} {how}"] = (
                    error.max() if how == "once" else error[last:].mean()
                ).item()
        out.append(row)
    return out
