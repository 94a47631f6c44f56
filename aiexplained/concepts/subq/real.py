"""Selectors in a real language model: what the model loses when each query reads only a few keys.

Needs torch, and the packaged weights of :mod:`aiexplained.hub`. The model was trained with dense
attention; nothing is trained here. Its attention is replaced in every layer, query by query.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aiexplained import hub
from aiexplained.concepts.subq.selection import Selection, Selector, selection_mask
from aiexplained.concepts.subq.selectors import make_selector
from aiexplained.data.python_reference import load_passages
from aiexplained.lm import Transformer, log_likelihood
from aiexplained.nn import scaled_dot_product_attention

QUERIES_AT_ONCE = 256
MASS_EVERY = 4
"""The attention weight on what is read is added up for every fourth run of queries."""
COPIED = 512
"""Tokens of the passage that comes twice."""
DISTANCE = 2048
"""Tokens from a token of the passage to the same one when it comes again."""
CALIBRATION = 1024
"""Tokens of other text, on which the centers of the keys are found."""
SINK_TOKENS = 4


@dataclass
class SelectiveAttention:
    """An attention operator that reads what ``select`` chooses, and keeps account.

    Args:
        select: The selector; it sees keys less ``center``.
        center: Subtracted from all keys of a head before choosing, ``(H_kv, D)``. Taking the same
            vector from all keys changes no attention weight, but it spreads the keys over the
            buckets of a hash.
        sink_tokens: So many first tokens are read besides, whatever is chosen.
        pairs: Pairs of query and key read so far.
        all_pairs: Pairs that dense attention would have read.
        mass: Sum, over ``queries``, of the dense attention weight on what was read.
        dots: Vector products spent on choosing.
        queries: Queries of which the weights were added up, over heads.
    """

    select: Selector
    center: Float[Tensor, "H_kv D"] | None = None
    sink_tokens: int = SINK_TOKENS
    pairs: int = 0
    all_pairs: int = 0
    mass: float = 0.0
    dots: float = 0.0
    queries: int = 0

    def __call__(
        self,
        query: Float[Tensor, "B H T D"],
        key: Float[Tensor, "B H_kv T D"],
        value: Float[Tensor, "B H_kv T D"],
        *,
        mask: Bool[Tensor, "*#lead T S"] | None = None,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Float[Tensor, "B H T D"]:
        """Attend, a few queries at a time.

        Raises:
            ValueError: unless a whole sequence attends to itself, causally.
        """
        n_tokens = query.shape[2]
        if mask is not None or not is_causal or key.shape[2] != n_tokens:
            raise ValueError(
                "SelectiveAttention reads a whole sequence at once: is_causal and no mask, got "
                f"{n_tokens} queries, {key.shape[2]} keys and is_causal={is_causal}"
            )
        group = query.shape[1] // key.shape[1]
        sought = key if self.center is None else key - self.center[:, None]
        key, value, sought = (x.repeat_interleave(group, dim=1) for x in (key, value, sought))
        positions = torch.arange(n_tokens)
        chosen = self.select(query, sought, positions)
        self.dots += chosen.dots
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        out = [
            self._attend(query, key, value, chosen, part, scale)
            for part in torch.split(positions, QUERIES_AT_ONCE)
        ]
        return torch.cat(out, dim=2)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        chosen: Selection,
        part: Int[Tensor, "P"],
        scale: float,
    ) -> Tensor:
        n_keys = int(part[-1]) + 1
        query, key, value = query[:, :, part], key[:, :, :n_keys], value[:, :, :n_keys]
        lists = replace(
            chosen, counts=chosen.counts[:, :, part], indices=chosen.indices[:, :, part]
        )
        read = selection_mask(lists, part, n_keys)
        past = torch.arange(n_keys) <= part[:, None]
        read |= past & (torch.arange(n_keys) < self.sink_tokens)
        self.pairs += int(read.sum())
        self.all_pairs += int(past.sum()) * read[..., 0, 0].numel()
        if int(part[0]) // QUERIES_AT_ONCE % MASS_EVERY == MASS_EVERY - 1:
            scores = (query @ key.transpose(-1, -2) * scale).masked_fill_(~past, -torch.inf)
            self.mass += float((scores.softmax(dim=-1) * read).sum())
            self.queries += read[..., 0].numel()
        return scaled_dot_product_attention(query, key, value, mask=read, scale=scale)


@lru_cache(maxsize=1)
def load_language_model() -> hub.Pretrained:
    """The packaged model in float32."""
    return hub.load_pretrained("smollm2-135m", dtype=torch.float32)


@lru_cache(maxsize=1)
def load_tokens() -> Int[Tensor, "N"]:
    """All of the Python reference, in order, as the model's tokens."""
    tokenizer = load_language_model().tokenizer
    texts = "\n\n".join(passage.text for passage in load_passages())
    return torch.tensor(tokenizer.encode(texts))


def make_copy_text(n_tokens: int, part: int) -> Int[Tensor, "T"]:
    """Text in which a passage of 512 tokens comes again after 2,048, at the very end.

    Args:
        n_tokens: Tokens in all; at least 2,560.
        part: Which part of the Python reference, from 0; the passage comes from its end.

    Raises:
        ValueError: if there is no room for both, or the reference has no such part.
    """
    tokens = load_tokens()
    start, passage = CALIBRATION + part * n_tokens, len(tokens) - (part + 1) * COPIED
    head, between = n_tokens - DISTANCE - COPIED, DISTANCE - COPIED
    if head < 0 or part < 0 or start + head + between > passage:
        raise ValueError(
            f"a copy text needs {DISTANCE + COPIED} tokens and a part that the reference holds "
            f"({len(tokens)} tokens), got {n_tokens} and part {part}"
        )
    other = tokens[start : start + head + between]
    copied = tokens[passage : passage + COPIED]
    return torch.cat((other[:head], copied, other[head:], copied))


@torch.inference_mode()
def key_centers(model: Transformer, token_ids: Int[Tensor, "T"]) -> list[Float[Tensor, "H_kv D"]]:
    """Mean key of each layer and key head over a text, rotary positions applied."""
    cache = model.make_cache()
    model.hidden_states(token_ids[None], cache=cache)
    return [cache.layer(i)[0][0].mean(dim=1) for i in range(model.config.n_layers)]


def measure_real(
    *, selector: str, budget: int, n_tokens: int, part: int, options: dict[str, Any] | None = None
) -> dict[str, float]:
    """Read a text in which a passage comes twice, every head through one selector.

    Args:
        selector: Name of a selector, or ``"dense"``.
        budget: Keys that a query reads at most.
        n_tokens: Tokens in the text.
        part: Which text.
        options: More options of the selector.

    Returns:
        ``copy_nll``, nats a token of the passage when it comes again, and ``first_nll`` when it
        comes first; ``perplexity`` of the text between; and, over all layers, heads and queries,
        ``read``: share of pairs read, ``mass``: mean share of the dense attention weight on them,
        and ``dots``: vector products spent on choosing over the pairs of dense attention.
    """
    model = load_language_model().model
    text = make_copy_text(n_tokens, part)
    accounts = {"read": 1.0, "mass": 1.0, "dots": 0.0}
    if selector == "dense":
        scores = log_likelihood(model, text[:1], text[1:])
    else:
        select = make_selector(selector, budget=budget, **(options or {}))
        centers = key_centers(model, load_tokens()[:CALIBRATION])
        operators = [SelectiveAttention(select, center) for center in centers]
        with model.attending_with(operators):
            scores = log_likelihood(model, text[:1], text[1:])
        all_pairs = sum(op.all_pairs for op in operators)
        accounts = {
            "read": sum(op.pairs for op in operators) / all_pairs,
            "mass": sum(op.mass for op in operators) / sum(op.queries for op in operators),
            "dots": sum(op.dots for op in operators) / all_pairs,
        }
    first = scores[-DISTANCE - COPIED : -DISTANCE]
    return {
        "copy_nll": float(-scores[-COPIED:].mean()),
        "first_nll": float(-first.mean()),
        "perplexity": float((-scores[-DISTANCE:-COPIED].mean()).exp()),
        **accounts,
    }
