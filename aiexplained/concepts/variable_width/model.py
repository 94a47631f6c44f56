"""A decoder-only transformer whose layers differ in width, and ways to change the width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aiexplained.lm import KVCache, Transformer, TransformerConfig
from aiexplained.lm.transformer import Block, RMSNorm
from aiexplained.nn import AttentionOperator, rotary_cos_sin, scaled_dot_product_attention

FEED_FORWARD_RATIO = 4
RESIZES = ("carry", "zero", "learned", "learned from zero")
"""Ways to change the width: :func:`carry_forward`, :func:`zero_pad`, and a learned matrix, which
starts at random or as zero padding."""

Resize = Callable[[Tensor, int, Sequence[Tensor]], Tensor]
"""Takes hidden states, the new width and the hidden states before them, oldest first."""


def carry_forward(
    state: Float[Tensor, "*B C"], width: int, earlier: Sequence[Float[Tensor, "*B _"]]
) -> Float[Tensor, "*B width"]:
    """Give ``state`` another width without parameters: what is cut off waits until it is wanted.

    Coordinate ``j`` of every state is the same coordinate of one wide stream. Narrowing keeps the
    first ``width``. Widening takes each missing coordinate from the latest of ``earlier`` that has
    it, and zero where none has.

    Args:
        state: Hidden states of width ``C``.
        width: The new width, ``>= 1``.
        earlier: Hidden states before ``state``, oldest first; they differ in the last axis only.

    Raises:
        ValueError: if ``width`` is not positive, or an earlier state has other leading axes.

    >>> wide, narrow = torch.tensor([1, 2, 3, 4]), torch.tensor([10, 20])
    >>> carry_forward(narrow, 5, [wide])
    tensor([10, 20,  3,  4,  0])
    """
    _check_width(width)
    pieces, reached = [state[..., :width]], min(width, state.shape[-1])
    for donor in reversed(earlier):
        if donor.shape[:-1] != state.shape[:-1]:
            raise ValueError(
                f"an earlier state has shape {tuple(donor.shape)}, not {(*state.shape[:-1], 'C')}"
            )
        if donor.shape[-1] > reached:
            pieces.append(donor[..., reached:width])
            reached = min(width, donor.shape[-1])
        if reached == width:
            break
    known = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)
    return zero_pad(known, width)


def zero_pad(
    state: Float[Tensor, "*B C"], width: int, earlier: Sequence[Float[Tensor, "*B _"]] = ()
) -> Float[Tensor, "*B width"]:
    """Give ``state`` another width: keep the first coordinates, fill with zeros.

    Args:
        state: Hidden states of width ``C``.
        width: The new width, ``>= 1``.
        earlier: Not used; so that the function can stand in for :func:`carry_forward`.

    Raises:
        ValueError: if ``width`` is not positive.
    """
    _check_width(width)
    missing = width - state.shape[-1]
    return nn.functional.pad(state, (0, missing)) if missing > 0 else state[..., :width]


def _check_width(width: int) -> None:
    if width < 1:
        raise ValueError(f"width must be positive, got {width}")


class LearnedResize(nn.Module):
    """A learned matrix from one width to the next; by itself it starts as :func:`zero_pad`.

    Args:
        before: Width that comes in.
        after: Width that goes out.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(after, before))

    def forward(
        self, state: Float[Tensor, "*B before"], width: int, earlier: Sequence[Tensor] = ()
    ) -> Float[Tensor, "*B after"]:
        """Apply the matrix; the other arguments are those of :func:`carry_forward`."""
        return nn.functional.linear(state, self.weight)


class VariableWidthTransformer(Transformer):
    """A :class:`~aiexplained.lm.Transformer` with a width for each layer.

    Every layer has the same number of heads, so the head's width follows the layer's, and rotary
    positions are made for each. Embedding and output projection are not tied.

    Args:
        widths: Width of each layer, multiples of ``2 * n_heads``.
        n_heads: Heads of every layer.
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the embedding and the output projection, as in
            :func:`~aiexplained.concepts.variable_width.solve_widths` without ``own_ends``; default:
            each as wide as the layer next to it.
        resize: One of :data:`RESIZES`.
        max_seq_len: Longest sequence.
        attention: Operator of every layer.
        seed: Seed of the initial weights: normal, with a variance of one over the number of a
            matrix's inputs, less where a sublayer writes into the stream (``/ 2 L``); the embedding
            has unit variance; the output projection starts at 0.1 of that rule's deviation.

    Raises:
        ValueError: if a width does not fit the heads, or ``resize`` is not known.

    >>> model = VariableWidthTransformer((24, 8, 24), n_heads=2, vocab_size=11)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 11])
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        n_heads: int,
        vocab_size: int,
        d_model: int | None = None,
        resize: str = "carry",
        max_seq_len: int = 2048,
        attention: AttentionOperator = scaled_dot_product_attention,
        seed: int = 0,
    ) -> None:
        nn.Module.__init__(self)  # the parent's layers are all of one width; none of them is built
        _check_model(widths, n_heads, resize)
        self.widths = tuple(widths)
        configs = [_layer_config(w, n_heads, len(widths), vocab_size, max_seq_len) for w in widths]
        self.config = configs[0]
        self.d_out = widths[-1] if d_model is None else d_model
        self.embedding = nn.utils.skip_init(
            nn.Embedding, vocab_size, widths[0] if d_model is None else d_model
        )
        self.blocks = nn.ModuleList(Block(c, i, attention) for i, c in enumerate(configs))
        self.norm = RMSNorm(widths[-1], self.config.norm_eps)
        self.lm_head = nn.utils.skip_init(nn.Linear, self.d_out, vocab_size, bias=False)
        self.resizes = self._make_resizes(resize)
        self._init_weights(torch.Generator().manual_seed(seed), resize)

    def _make_resizes(self, resize: str) -> list[Callable[..., Tensor]] | nn.ModuleList:
        before = (self.embedding.embedding_dim, *self.widths)
        after = (*self.widths, self.d_out)
        pairs = list(zip(before, after, strict=True))
        if resize in ("carry", "zero"):
            return [carry_forward if resize == "carry" else zero_pad] * len(pairs)
        return nn.ModuleList(LearnedResize(a, b) if a != b else _Keep() for a, b in pairs)

    def _init_weights(self, generator: torch.Generator, resize: str = "carry") -> None:
        depth = (2 * len(self.widths)) ** -0.5
        for name, weight in self.named_parameters():
            if weight.ndim < 2 or (name.startswith("resizes") and resize == "learned from zero"):
                continue
            std = 1.0 if name.startswith("embedding") else weight.shape[1] ** -0.5
            if name.endswith(("attention.output.weight", "feed_forward.down.weight")):
                std *= depth
            elif name.startswith("lm_head"):
                std *= 0.1
            nn.init.normal_(weight, std=std, generator=generator)

    def hidden_states(
        self,
        token_ids: Int[Tensor, "B T"],
        *,
        cache: KVCache | None = None,
        positions: Int[Tensor, "T"] | None = None,
    ) -> Float[Tensor, "B T d_out"]:
        """The normalized stream after the last layer, as wide as the output projection reads."""
        return self.stream(token_ids, cache=cache, positions=positions)[-1]

    def stream(
        self,
        token_ids: Int[Tensor, "B T"],
        *,
        cache: KVCache | None = None,
        positions: Int[Tensor, "T"] | None = None,
    ) -> list[Float[Tensor, "B T _"]]:
        """The embedding, the output of each layer, and what the output projection reads."""
        step = self._step(token_ids, cache, positions)
        n_past = 0 if cache is None else cache.length
        if positions is None:
            positions = torch.arange(n_past, n_past + token_ids.shape[1], device=token_ids.device)
        *between, last = cast("list[Callable[..., Tensor]]", self.resizes)
        states = [self.embedding(token_ids)]
        for block, resize, width in zip(self.blocks, between, self.widths, strict=True):
            x = resize(states[-1], width, states[:-1])
            cos, sin = rotary_cos_sin(positions, width // self.config.n_heads)
            states.append(block(x, replace(step, cos=cos.to(x.dtype), sin=sin.to(x.dtype))))
        states.append(last(self.norm(states[-1]), self.d_out, states[:-1]))
        return states


class _Keep(nn.Module):
    """Where the width does not change."""

    def forward(self, state: Tensor, width: int, earlier: Sequence[Tensor] = ()) -> Tensor:
        return state


def _layer_config(
    width: int, n_heads: int, n_layers: int, vocab_size: int, max_seq_len: int
) -> TransformerConfig:
    return TransformerConfig(
        d_model=width, d_ff=FEED_FORWARD_RATIO * width, n_layers=n_layers, n_heads=n_heads,
        n_kv_heads=n_heads, head_dim=width // n_heads, vocab_size=vocab_size,
        max_seq_len=max_seq_len, tie_embedding=False,
    )  # fmt: skip


def _check_model(widths: Sequence[int], n_heads: int, resize: str) -> None:
    if not widths or n_heads < 1:
        raise ValueError(f"need at least one layer and one head, got {widths} and {n_heads}")
    wrong = [w for w in widths if w < 1 or w % (2 * n_heads)]
    if wrong:
        raise ValueError(
            f"a width must be a positive multiple of 2 * n_heads = {2 * n_heads}, got {wrong[0]}"
        )
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(RESIZES)}; got {resize!r}")
