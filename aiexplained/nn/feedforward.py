"""The gated feed-forward layer of Llama-like models (Shazeer, 2020)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, silu


def swiglu(
    x: Float[Tensor, "*B D"],
    gate: Float[Tensor, "d_ff D"],
    up: Float[Tensor, "d_ff D"],
    down: Float[Tensor, "D d_ff"],
) -> Float[Tensor, "*B D"]:
    """``down @ (silu(gate @ x) * (up @ x))`` for every vector of ``x``.

    Args:
        x: Activations.
        gate: Weight of the gate's projection.
        up: Weight of the gated projection.
        down: Weight of the projection back to ``D``.

    Returns:
        Activations shaped like ``x``.

    Raises:
        ValueError: if the three weights do not fit one another and ``x``.
    """
    wide = (gate.shape[0], x.shape[-1])
    if gate.shape != wide or up.shape != wide or down.shape != wide[::-1]:
        raise ValueError(
            f"swiglu needs gate and up [d_ff, {x.shape[-1]}] and down [{x.shape[-1]}, d_ff], "
            f"got {tuple(gate.shape)}, {tuple(up.shape)} and {tuple(down.shape)}"
        )
    return linear(silu(linear(x, gate)) * linear(x, up), down)
