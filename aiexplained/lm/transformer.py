"""A decoder-only transformer of the Llama family: RMSNorm, RoPE, grouped queries, SwiGLU.

One class serves the real weights (:mod:`aiexplained.hub`) and the small models that pages train
from scratch. Each layer attends through an operator that can be exchanged
(:class:`~aiexplained.nn.AttentionOperator`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aiexplained.lm.kv_cache import KVCache
from aiexplained.nn import (
    AttentionOperator,
    apply_rotary,
    causal_mask,
    rms_norm,
    rotary_cos_sin,
    scaled_dot_product_attention,
    swiglu,
)

_INIT_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and constants of a :class:`Transformer`.

    Args:
        d_model: Width of the residual stream.
        d_ff: Width of the feed-forward layers.
        n_layers: Number of layers.
        n_heads: Query heads.
        n_kv_heads: Key and value heads; divides ``n_heads``.
        head_dim: Width of a head, even.
        vocab_size: Tokens in the vocabulary.
        rope_base: Base of the rotary wavelengths.
        norm_eps: Added to mean squares in the norms.
        max_seq_len: Longest sequence, cached tokens included.
        tie_embedding: Whether the output projection is the embedding's matrix.
    """

    d_model: int
    d_ff: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    max_seq_len: int = 2048
    tie_embedding: bool = True

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if name not in ("tie_embedding", "rope_base", "norm_eps") and size < 1:
                raise ValueError(f"TransformerConfig.{name} must be positive, got {size}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_kv_heads must divide n_heads, got {self.n_kv_heads} and {self.n_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for RoPE, got {self.head_dim}")


@dataclass(frozen=True)
class _Step:
    """What every layer of one forward pass shares."""

    cos: Tensor
    sin: Tensor
    mask: Bool[Tensor, "T S"] | None
    is_causal: bool
    cache: KVCache | None


class _Linear(nn.Linear):
    """Projection without bias; :class:`Transformer` draws its weight, from its own seed."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__(d_in, d_out, bias=False)

    def reset_parameters(self) -> None:
        """Leave the weight to the model."""


class _Embedding(nn.Embedding):
    """Embedding whose weight :class:`Transformer` draws, from its own seed."""

    def reset_parameters(self) -> None:
        """Leave the weight to the model."""


class RMSNorm(nn.Module):
    """:func:`aiexplained.nn.rms_norm` with a learned gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Normalize the last axis."""
        return rms_norm(x, self.weight, eps=self.eps)


class SelfAttention(nn.Module):
    """Causal grouped-query self-attention with rotary positions.

    ``operator`` may be exchanged at any time, e.g. for one layer only.
    """

    def __init__(self, config: TransformerConfig, layer: int, operator: AttentionOperator) -> None:
        super().__init__()
        self.layer, self.head_dim, self.operator = layer, config.head_dim, operator
        d_query, d_kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        self.query = _Linear(config.d_model, d_query)
        self.key = _Linear(config.d_model, d_kv)
        self.value = _Linear(config.d_model, d_kv)
        self.output = _Linear(d_query, config.d_model)

    def forward(self, x: Float[Tensor, "B T d_model"], step: _Step) -> Float[Tensor, "B T d_model"]:
        """Attend from the new tokens to them and to what ``step.cache`` holds."""
        batch, length, _ = x.shape
        query, key, value = (
            projection(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        query = apply_rotary(query, step.cos, step.sin)
        key = apply_rotary(key, step.cos, step.sin)
        if step.cache is not None:
            key, value = step.cache.append(self.layer, key, value)
        mixed = self.operator(query, key, value, mask=step.mask, is_causal=step.is_causal)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """:func:`aiexplained.nn.swiglu` with learned projections."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate = _Linear(config.d_model, config.d_ff)
        self.up = _Linear(config.d_model, config.d_ff)
        self.down = _Linear(config.d_ff, config.d_model)

    def forward(self, x: Float[Tensor, "B T d_model"]) -> Float[Tensor, "B T d_model"]:
        """Apply the layer to every token."""
        return swiglu(x, self.gate.weight, self.up.weight, self.down.weight)


class Block(nn.Module):
    """One layer: attention and feed-forward, each on a normalized residual stream."""

    def __init__(self, config: TransformerConfig, layer: int, operator: AttentionOperator) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = SelfAttention(config, layer, operator)
        self.feed_forward_norm = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Float[Tensor, "B T d_model"], step: _Step) -> Float[Tensor, "B T d_model"]:
        """Add both sublayers to the stream."""
        x = x + self.attention(self.attention_norm(x), step)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


class Transformer(nn.Module):
    """Decoder-only language model; see the module's docstring.

    Args:
        config: Sizes.
        attention: Operator of every layer.
        seed: Seed of the initial weights: normal with standard deviation 0.02, and
            ``0.02 / sqrt(2 n_layers)`` where a sublayer writes into the residual stream (GPT-2).

    >>> config = TransformerConfig(d_model=8, d_ff=16, n_layers=2, n_heads=2, n_kv_heads=1,
    ...                            head_dim=4, vocab_size=11)
    >>> Transformer(config)(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 11])
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        attention: AttentionOperator = scaled_dot_product_attention,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = _Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config, i, attention) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = None if config.tie_embedding else _Linear(config.d_model, config.vocab_size)
        if not self.embedding.weight.is_meta:
            self._init_weights(torch.Generator(self.device).manual_seed(seed))

    def _init_weights(self, generator: torch.Generator) -> None:
        into_stream = _INIT_STD / (2 * self.config.n_layers) ** 0.5
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                std = into_stream if residual else _INIT_STD
                nn.init.normal_(weight, std=std, generator=generator)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    @property
    def attention_layers(self) -> list[SelfAttention]:
        """The attention of every layer, first to last."""
        return [cast("Block", block).attention for block in self.blocks]

    def make_cache(self, *, capacity: int = 0) -> KVCache:
        """Empty cache for this model, with room for ``capacity`` tokens at once."""
        return KVCache(self.config.n_layers, capacity=capacity)

    def forward(
        self,
        token_ids: Int[Tensor, "B T"],
        *,
        cache: KVCache | None = None,
        last_only: bool = False,
        positions: Int[Tensor, "T"] | None = None,
    ) -> Float[Tensor, "B T_out V"]:
        """Logits of the next token after each of ``token_ids``.

        Args:
            token_ids: New tokens.
            cache: What came before them; the new tokens are appended to it.
            last_only: Whether to return the logits after the last token only.
            positions: Position of each new token; default: they follow the cached ones. Needed
                only where the cache no longer holds every earlier token (after an eviction).

        Returns:
            Logits, with time axis ``T``, or 1 with ``last_only``.

        Raises:
            ValueError: if there is no token, an id is outside the vocabulary, the sequence outgrows
                ``max_seq_len``, or the cache was made for another depth.
        """
        x = self.hidden_states(token_ids, cache=cache, positions=positions)
        return self.logits(x[:, -1:] if last_only else x)

    def logits(self, hidden: Float[Tensor, "*B d_model"]) -> Float[Tensor, "*B V"]:
        """Logits from :meth:`hidden_states`."""
        head = self.embedding if self.lm_head is None else self.lm_head
        return nn.functional.linear(hidden, head.weight)

    def hidden_states(
        self,
        token_ids: Int[Tensor, "B T"],
        *,
        cache: KVCache | None = None,
        positions: Int[Tensor, "T"] | None = None,
    ) -> Float[Tensor, "B T d_model"]:
        """The normalized residual stream after the last layer; see :meth:`forward`."""
        step = self._step(token_ids, cache, positions)
        x = self.embedding(token_ids)
        for block in self.blocks:
            x = block(x, step)
        normed: Tensor = self.norm(x)
        return normed

    def _step(self, token_ids: Tensor, cache: KVCache | None, positions: Tensor | None) -> _Step:
        self._check(token_ids, cache)
        n_new, n_past = token_ids.shape[1], cache.length if cache is not None else 0
        if positions is None:
            positions = torch.arange(n_past, n_past + n_new, device=token_ids.device)
        elif positions.shape != (n_new,):
            raise ValueError(f"positions must be [{n_new}], got {tuple(positions.shape)}")
        cos, sin = rotary_cos_sin(positions, self.config.head_dim, base=self.config.rope_base)
        partial = n_past > 0 and n_new > 1
        mask = causal_mask(n_new, n_past + n_new, device=token_ids.device) if partial else None
        dtype = self.embedding.weight.dtype
        return _Step(cos.to(dtype), sin.to(dtype), mask, n_past == 0 and n_new > 1, cache)

    def _check(self, token_ids: Tensor, cache: KVCache | None) -> None:
        if token_ids.ndim != 2 or token_ids.shape[1] < 1:
            raise ValueError(f"token_ids must be [B, T] with T >= 1, got {tuple(token_ids.shape)}")
        if cache is not None and cache.n_layers != self.config.n_layers:
            raise ValueError(
                f"the cache has {cache.n_layers} layers, the model {self.config.n_layers}"
            )
        length = token_ids.shape[1] + (cache.length if cache is not None else 0)
        if length > self.config.max_seq_len:
            raise ValueError(
                f"sequence of {length} tokens exceeds max_seq_len {self.config.max_seq_len}"
            )
        if token_ids.device.type == "cpu":
            low, high = token_ids.aminmax()
            if low < 0 or high >= self.config.vocab_size:
                raise ValueError(
                    f"token ids must be in [0, {self.config.vocab_size}), "
                    f"got {int(low)} to {int(high)}"
                )

    @contextmanager
    def attending_with(
        self, operators: AttentionOperator | Sequence[AttentionOperator]
    ) -> Iterator[None]:
        """Exchange the attention operator inside a ``with`` block; one for all layers, or one each.

        Raises:
            ValueError: if the number of operators is not that of the layers.
        """
        if not isinstance(operators, Sequence):
            operators = [operators] * self.config.n_layers
        if len(operators) != self.config.n_layers:
            raise ValueError(f"need {self.config.n_layers} operators, got {len(operators)}")
        layers = self.attention_layers
        before = [layer.operator for layer in layers]
        try:
            for layer, operator in zip(layers, operators, strict=True):
                layer.operator = operator
            yield
        finally:
            for layer, operator in zip(layers, before, strict=True):
                layer.operator = operator
