"""Many sequences in one pass, their keys and values in blocks that need not be neighbors.

The new tokens of all sequences form one row, each at its own position; only attention looks at one
sequence at a time. So pieces of prompts and single tokens of answers share a pass over the weights,
as in vLLM (Kwon et al., 2023) and Sarathi-Serve (Agrawal et al., 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aiexplained.lm.kv_cache import KVCache
from aiexplained.lm.transformer import Transformer, TransformerConfig
from aiexplained.nn import AttentionOperator, causal_mask, scaled_dot_product_attention


class PagedCache:
    """Keys and values of ``n_blocks`` blocks, ``data`` ``[L, 2, H_kv, n_blocks, block_size, D]``.

    Args:
        config: Of the model.
        n_blocks: Blocks, at least 1.
        block_size: Tokens a block, at least 1.
        dtype: Of the model's weights.
        device: Where the model is.
    """

    def __init__(
        self,
        config: TransformerConfig,
        n_blocks: int,
        *,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if n_blocks < 1 or block_size < 1:
            raise ValueError(
                "PagedCache needs n_blocks and block_size of at least 1, got "
                f"{n_blocks} and {block_size}"
            )
        self.n_blocks, self.block_size = n_blocks, block_size
        shape = (config.n_layers, 2, config.n_kv_heads, n_blocks, block_size, config.head_dim)
        self.data = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, all layers."""
        return self.data.nbytes // self.n_blocks

    def read(self, blocks: Sequence[int]) -> Float[Tensor, "L two H_kv n block D"]:
        """Copy of some blocks, in the given order.

        Args:
            blocks: Block numbers.
        """
        return self.data[:, :, :, list(blocks)]

    def write(self, blocks: Sequence[int], contents: Float[Tensor, "L two H_kv n block D"]) -> None:
        """Fill blocks with what :meth:`read` gave, here or in another process.

        Args:
            blocks: Block numbers, as many as ``contents`` holds.
            contents: The contents.

        Raises:
            ValueError: if the numbers do not fit the contents.
        """
        if contents.shape[3] != len(blocks):
            raise ValueError(f"{len(blocks)} blocks cannot hold {contents.shape[3]}")
        self.data[:, :, :, list(blocks)] = contents


@dataclass(frozen=True)
class Segment:
    """New tokens of one sequence.

    Args:
        token_ids: The new tokens, at least one.
        start: Tokens of the sequence that are in its blocks already.
        blocks: The blocks of the sequence, with room for the new tokens.
    """

    token_ids: Sequence[int]
    start: int
    blocks: Sequence[int]

    @property
    def stop(self) -> int:
        """Tokens of the sequence with the new ones."""
        return self.start + len(self.token_ids)


class _PagedStep(KVCache):
    """What the layers of one pass write to and read from; holds no tensors of its own."""

    def __init__(
        self, cache: PagedCache, segments: Sequence[Segment], operator: AttentionOperator
    ) -> None:
        super().__init__(cache.data.shape[0])
        self.cache, self.segments, self.operator = cache, segments, operator
        self.current = 0
        device, size = cache.data.device, cache.block_size
        places = [
            (s.blocks[at // size], at % size) for s in segments for at in range(s.start, s.stop)
        ]
        self.blocks, self.offsets = torch.tensor(places, device=device).unbind(1)
        self.tables = [
            torch.tensor(s.blocks[: -(-s.stop // size)], device=device) for s in segments
        ]
        rows = [0]
        for s in segments:
            rows.append(rows[-1] + len(s.token_ids))
        self.rows = list(pairwise(rows))

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self.current = layer
        for part, new in enumerate((key, value)):
            self.cache.data[layer, part][:, self.blocks, self.offsets] = new[0]
        return key, value

    def attend(
        self,
        query: Float[Tensor, "B H T D"],
        key: Float[Tensor, "B H_kv S D"],
        value: Float[Tensor, "B H_kv S D_v"],
        *,
        mask: Bool[Tensor, "*#lead T S"] | None = None,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Float[Tensor, "B H T D_v"]:
        """Each sequence's queries over its own blocks; ``key`` and ``value`` are there already."""
        out = torch.empty_like(query)
        for (first, last), table, s in zip(self.rows, self.tables, self.segments, strict=True):
            keys, values = (
                self.cache.data[self.current, part].index_select(1, table).flatten(1, 2)[None]
                for part in (0, 1)
            )
            n = last - first
            out[:, :, first:last] = self.operator(
                query[:, :, first:last],
                keys[:, :, : s.stop],
                values[:, :, : s.stop],
                mask=causal_mask(n, s.stop, device=query.device) if 1 < n < s.stop else None,
                is_causal=1 < n == s.stop,
                scale=scale,
            )
        return out


@torch.inference_mode()
def paged_logits(
    model: Transformer,
    cache: PagedCache,
    segments: Sequence[Segment],
    *,
    attention: AttentionOperator = scaled_dot_product_attention,
) -> Float[Tensor, "n V"]:
    """Read the new tokens of all sequences in one pass, and keep their keys and values.

    Args:
        model: The language model; its own attention operators are not used.
        cache: The blocks.
        segments: New tokens, one entry a sequence; sequences do not share blocks that are written.
        attention: Operator for each sequence's new tokens over its blocks.

    Returns:
        Logits after the last new token of each segment.

    Raises:
        ValueError: if there is no segment, one has no token, or its blocks have no room for them.
    """
    if not segments:
        raise ValueError("paged_logits needs at least one segment")
    for s in segments:
        if not s.token_ids or s.start < 0:
            raise ValueError(
                f"a segment needs tokens and start >= 0, got {len(s.token_ids)} and {s.start}"
            )
        if s.stop > len(s.blocks) * cache.block_size:
            raise ValueError(
                f"{s.stop} tokens do not fit {len(s.blocks)} blocks of {cache.block_size}"
            )
    step = _PagedStep(cache, segments, attention)
    device = cache.data.device
    ids = torch.tensor([[t for s in segments for t in s.token_ids]], device=device)
    positions = torch.tensor([i for s in segments for i in range(s.start, s.stop)], device=device)
    with model.attending_with(step.attend):
        hidden = model.hidden_states(ids, cache=step, positions=positions)
    return model.logits(hidden[0, [last - 1 for _, last in step.rows]])
