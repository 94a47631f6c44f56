"""Mamba-2, small enough to train on a laptop, with projections whose product can be exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv1d, embedding, linear, silu, softplus

from aiexplained.concepts.ternary_mamba.account import Mamba2Shape
from aiexplained.lm.transformer import RMSNorm
from aiexplained.nn import Projection, SSDOperator, chunk_ssd, recurrent_ssd, rms_norm

NORM_EPS = 1e-5


@dataclass
class LayerState:
    """What a layer keeps between tokens: of constant size, however long the text.

    Args:
        conv: The last inputs of the convolution, ``[B, d_conv - 1, channels]``.
        ssm: The state of the recurrence, ``[B, H, N, P]``.
    """

    conv: Tensor
    ssm: Tensor


class Mamba2Block(nn.Module):
    """One layer: project, convolve, recur, gate, normalize, project back.

    Args:
        shape: Sizes.
    """

    def __init__(self, shape: Mamba2Shape) -> None:
        super().__init__()
        self.shape = shape
        channels = shape.d_inner + 2 * shape.d_state
        self.norm = RMSNorm(shape.d_model, NORM_EPS)
        self.in_proj = Projection(shape.d_model, sum(shape.in_rows.values()))
        self.conv_weight = nn.Parameter(torch.zeros(channels, 1, shape.d_conv))
        self.conv_bias = nn.Parameter(torch.zeros(channels))
        self.dt_bias = nn.Parameter(torch.zeros(shape.n_heads))
        self.A_log = nn.Parameter(torch.zeros(shape.n_heads))
        self.D = nn.Parameter(torch.ones(shape.n_heads))
        self.gated_norm = RMSNorm(shape.d_inner, NORM_EPS)
        self.out_proj = Projection(shape.d_inner, shape.d_model)

    def forward(
        self, stream: Float[Tensor, "B T C"], state: LayerState, ssd: SSDOperator
    ) -> Float[Tensor, "B T C"]:
        """Add the layer's output to the stream, and carry ``state`` on to the last token."""
        z, x, dt, A, B, C = self.recurrence(self.norm(stream), state)
        y, state.ssm = ssd(x, dt, A, B, C, initial_state=state.ssm)
        y = (y + self.D[:, None, None] * x).transpose(1, 2).flatten(2)
        gated = rms_norm(y * silu(z), self.gated_norm.weight, eps=NORM_EPS)
        added: Tensor = self.out_proj(gated)
        return stream + added

    def recurrence(self, stream: Float[Tensor, "B T C"], state: LayerState) -> tuple[Tensor, ...]:
        """The gate ``z``, and what the recurrence is made of: ``x, dt, A, B, C``.

        Args:
            stream: Normalized input of the layer.
            state: Its ``conv`` is carried on.

        Returns:
            ``z`` ``[B, T, d_inner]``, and the arguments of :func:`aiexplained.nn.recurrent_ssd`.
        """
        shape = self.shape
        parts = self.in_proj(stream).split(list(shape.in_rows.values()), dim=-1)
        z, inputs, dt = parts[0], torch.cat(parts[1:4], dim=-1), parts[4]
        seen = torch.cat([state.conv, inputs], dim=1)
        state.conv = seen[:, seen.shape[1] - shape.d_conv + 1 :]
        inputs = conv1d(seen.mT, self.conv_weight, self.conv_bias, groups=inputs.shape[-1]).mT
        x, B, C = silu(inputs).split(list(shape.in_rows.values())[1:4], dim=-1)
        x = x.unflatten(-1, (shape.n_heads, shape.head_dim)).transpose(1, 2)
        return z, x, softplus(dt + self.dt_bias).mT, -self.A_log.exp(), B, C


class Mamba2(nn.Module):
    """A language model of Mamba-2 layers; the output projection is the embedding.

    Args:
        shape: Sizes; all heads share ``B`` and ``C``.
        chunk_size: Tokens that are compared with one another, see
            :func:`aiexplained.nn.chunk_ssd`.
        seed: Of the initial weights: normal with a variance of one third over a matrix's inputs,
            less where a layer writes into the stream (``/ n_layers``); time steps from 0.001 to
            0.1 and rates of decay from 1 to 16, as in the authors' code.

    Raises:
        ValueError: if ``n_groups`` is not 1.

    >>> model = Mamba2(Mamba2Shape(d_model=16, n_layers=2, head_dim=8, vocab_size=11))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 11])
    """

    def __init__(self, shape: Mamba2Shape, *, chunk_size: int = 32, seed: int = 0) -> None:
        if shape.n_groups != 1:
            raise ValueError(f"n_groups must be 1 here, got {shape.n_groups}")
        super().__init__()
        self.chunk_size = chunk_size
        self.shape = shape
        self.embedding = nn.Parameter(torch.zeros(shape.vocab_size, shape.d_model))
        self.blocks = nn.ModuleList(Mamba2Block(shape) for _ in range(shape.n_layers))
        self.norm = RMSNorm(shape.d_model, NORM_EPS)
        self._draw(torch.Generator().manual_seed(seed))

    @property
    def layers(self) -> list[Mamba2Block]:
        """The layers, from the first to the last."""
        return [cast("Mamba2Block", block) for block in self.blocks]

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        shape = self.shape
        self.embedding.normal_(std=0.02, generator=generator)
        for block in self.layers:
            block.in_proj.weight.normal_(std=(3 * shape.d_model) ** -0.5, generator=generator)
            width = 3 * shape.d_inner * shape.n_layers
            block.out_proj.weight.normal_(std=width**-0.5, generator=generator)
            block.conv_weight.uniform_(-1, 1, generator=generator).mul_(shape.d_conv**-0.5)
            steps = torch.empty_like(block.dt_bias).uniform_(generator=generator)
            steps = (0.001 * 100**steps).clamp_min(1e-4)
            block.dt_bias.copy_(steps + (-torch.expm1(-steps)).log())  # inverse of softplus
            block.A_log.uniform_(1, 16, generator=generator).log_()

    def make_state(self, batch_size: int) -> list[LayerState]:
        """The state before the first token, for each layer.

        Args:
            batch_size: Texts that are read at once.
        """
        shape, like = self.shape, self.embedding
        channels = shape.d_inner + 2 * shape.d_state
        return [
            LayerState(
                like.new_zeros(batch_size, shape.d_conv - 1, channels),
                like.new_zeros(batch_size, shape.n_heads, shape.d_state, shape.head_dim),
            )
            for _ in self.blocks
        ]

    def forward(
        self, tokens: Int[Tensor, "B T"], state: list[LayerState] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits of every next token.

        Args:
            tokens: Token ids.
            state: Of :meth:`make_state`, or as an earlier part of the text left it; it is carried
                on, so that a text may come in parts of any length.

        Raises:
            ValueError: if there is not one state a layer.
        """
        state = self.make_state(len(tokens)) if state is None else state
        if len(state) != len(self.blocks):
            raise ValueError(f"state must have {len(self.blocks)} layers, got {len(state)}")
        chunks: SSDOperator = partial(chunk_ssd, chunk_size=self.chunk_size)
        ssd = recurrent_ssd if tokens.shape[1] == 1 else chunks
        stream = embedding(tokens, self.embedding)
        for block, kept in zip(self.layers, state, strict=True):
            stream = block(stream, kept, ssd)
        return linear(self.norm(stream), self.embedding)
