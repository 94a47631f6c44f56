"""Mamba-2, small enough to train on a laptop, with projections whose product can be exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv1d, embedding, linear, silu, softplus

from aiexplained.lm.transformer import RMSNorm
from aiexplained.nn import Projection, SSDOperator, chunk_ssd, recurrent_ssd, rms_norm

NORM_EPS = 1e-5


@dataclass(frozen=True)
class Mamba2Config:
    """Sizes of a Mamba-2.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the stream between the layers.
        n_layers: Layers.
        d_state: ``N``, entries of the state for each channel.
        head_dim: ``P``, channels of a head.
        expand: Inner width over ``d_model``.
        d_conv: Tokens that the short convolution sees.
        chunk_size: Tokens that are compared with one another, see
            :func:`aiexplained.nn.chunk_ssd`.

    Raises:
        ValueError: if a size is not positive, or heads do not divide the inner width.
    """

    vocab_size: int
    d_model: int = 128
    n_layers: int = 3
    d_state: int = 16
    head_dim: int = 32
    expand: int = 2
    d_conv: int = 4
    chunk_size: int = 32

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise ValueError(f"all sizes must be positive, got {self}")
        if self.d_inner % self.head_dim:
            raise ValueError(
                f"head_dim must divide the inner width {self.d_inner}, got {self.head_dim}"
            )

    @property
    def d_inner(self) -> int:
        """Channels inside a layer."""
        return self.expand * self.d_model

    @property
    def n_heads(self) -> int:
        """Heads of a layer."""
        return self.d_inner // self.head_dim

    @property
    def rows(self) -> dict[str, int]:
        """Rows of the input projection by what they make: ``z, x, B, C, dt``, in this order."""
        inner, state = self.d_inner, self.d_state
        return {"z": inner, "x": inner, "B": state, "C": state, "dt": self.n_heads}


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
        config: Sizes.
    """

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.config = config
        channels = config.d_inner + 2 * config.d_state
        self.norm = RMSNorm(config.d_model, NORM_EPS)
        self.in_proj = Projection(config.d_model, sum(config.rows.values()))
        self.conv_weight = nn.Parameter(torch.zeros(channels, 1, config.d_conv))
        self.conv_bias = nn.Parameter(torch.zeros(channels))
        self.dt_bias = nn.Parameter(torch.zeros(config.n_heads))
        self.A_log = nn.Parameter(torch.zeros(config.n_heads))
        self.D = nn.Parameter(torch.ones(config.n_heads))
        self.gated_norm = RMSNorm(config.d_inner, NORM_EPS)
        self.out_proj = Projection(config.d_inner, config.d_model)

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
        config = self.config
        parts = self.in_proj(stream).split(list(config.rows.values()), dim=-1)
        z, inputs, dt = parts[0], torch.cat(parts[1:4], dim=-1), parts[4]
        seen = torch.cat([state.conv, inputs], dim=1)
        state.conv = seen[:, seen.shape[1] - config.d_conv + 1 :]
        inputs = conv1d(seen.mT, self.conv_weight, self.conv_bias, groups=inputs.shape[-1]).mT
        x, B, C = silu(inputs).split(list(config.rows.values())[1:4], dim=-1)
        x = x.unflatten(-1, (config.n_heads, config.head_dim)).transpose(1, 2)
        return z, x, softplus(dt + self.dt_bias).mT, -self.A_log.exp(), B, C


class Mamba2(nn.Module):
    """A language model of Mamba-2 layers; the output projection is the embedding.

    Args:
        config: Sizes.
        seed: Of the initial weights: normal with a variance of one third over a matrix's inputs,
            less where a layer writes into the stream (``/ n_layers``); time steps from 0.001 to
            0.1 and rates of decay from 1 to 16, as in the authors' code.

    >>> model = Mamba2(Mamba2Config(vocab_size=11, d_model=16, head_dim=8))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 11])
    """

    def __init__(self, config: Mamba2Config, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.zeros(config.vocab_size, config.d_model))
        self.blocks = nn.ModuleList(Mamba2Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, NORM_EPS)
        self._draw(torch.Generator().manual_seed(seed))

    @property
    def layers(self) -> list[Mamba2Block]:
        """The layers, from the first to the last."""
        return [cast("Mamba2Block", block) for block in self.blocks]

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        config = self.config
        self.embedding.normal_(std=0.02, generator=generator)
        for block in self.layers:
            block.in_proj.weight.normal_(std=(3 * config.d_model) ** -0.5, generator=generator)
            width = 3 * config.d_inner * config.n_layers
            block.out_proj.weight.normal_(std=width**-0.5, generator=generator)
            block.conv_weight.uniform_(-1, 1, generator=generator).mul_(config.d_conv**-0.5)
            steps = torch.empty_like(block.dt_bias).uniform_(generator=generator)
            steps = (0.001 * 100**steps).clamp_min(1e-4)
            block.dt_bias.copy_(steps + (-torch.expm1(-steps)).log())  # inverse of softplus
            block.A_log.uniform_(1, 16, generator=generator).log_()

    def make_state(self, batch_size: int) -> list[LayerState]:
        """The state before the first token, for each layer.

        Args:
            batch_size: Texts that are read at once.
        """
        config, like = self.config, self.embedding
        channels = config.d_inner + 2 * config.d_state
        return [
            LayerState(
                like.new_zeros(batch_size, config.d_conv - 1, channels),
                like.new_zeros(batch_size, config.n_heads, config.d_state, config.head_dim),
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
        chunks: SSDOperator = partial(chunk_ssd, chunk_size=self.config.chunk_size)
        ssd = recurrent_ssd if tokens.shape[1] == 1 else chunks
        stream = embedding(tokens, self.embedding)
        for block, kept in zip(self.layers, state, strict=True):
            stream = block(stream, kept, ssd)
        return linear(self.norm(stream), self.embedding)
