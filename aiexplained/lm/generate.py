"""Decoding: greedy, or sampled from the nucleus (Holtzman et al., 2019)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aiexplained.lm.kv_cache import KVCache
from aiexplained.lm.transformer import Transformer


@torch.inference_mode()
def generate(
    model: Transformer,
    token_ids: Int[Tensor, "B T"],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    stop_tokens: Collection[int] = (),
    cache: KVCache | None = None,
) -> Int[Tensor, "B N"]:
    """Continue ``token_ids``, one token at a time.

    Args:
        model: The language model.
        token_ids: Prompt, one a row; with a ``cache``, the part of it that is not cached.
        max_new_tokens: Most tokens to add, ``>= 1``.
        temperature: Divides the logits, ``>= 0``; at 0 the likeliest token is taken.
        top_p: Sample from the fewest tokens whose probability reaches this, ``0 < top_p <= 1``.
        generator: Source of randomness; required when sampling.
        stop_tokens: A row ends with the first of these; it is part of the result.
        cache: What the model has read before; grows by all that is read here.

    Returns:
        The new tokens, ``N <= max_new_tokens``; a row that ended repeats its stop token.

    Raises:
        ValueError: if an argument is outside its range, or sampling lacks a generator.
    """
    _check_sampling(max_new_tokens, temperature, top_p, generator)
    if cache is None:
        capacity = min(token_ids.shape[-1] + max_new_tokens, model.config.max_seq_len)
        cache = model.make_cache(capacity=capacity)
    stops = torch.tensor(sorted(stop_tokens), dtype=torch.long, device=token_ids.device)
    ended = torch.zeros(token_ids.shape[0], dtype=torch.bool, device=token_ids.device)
    step, new = token_ids, [token_ids[:, :0]]
    while len(new) <= max_new_tokens and not ended.all():
        logits = model(step, cache=cache, last_only=True)[:, -1]
        chosen = next_token(logits, temperature=temperature, top_p=top_p, generator=generator)
        step = torch.where(ended[:, None], new[-1], chosen) if ended.any() else chosen
        ended = ended | torch.isin(step[:, 0], stops)
        new.append(step)
    return torch.cat(new, dim=1)


def next_token(
    logits: Float[Tensor, "B V"],
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "B 1"]:
    """Pick a token per row; arguments as in :func:`generate`."""
    _check_sampling(1, temperature, top_p, generator)
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    probabilities = nucleus_probabilities(logits, temperature=temperature, top_p=top_p)
    return torch.multinomial(probabilities, 1, generator=generator)


def nucleus_probabilities(
    logits: Float[Tensor, "*B V"], *, temperature: float = 1.0, top_p: float = 1.0
) -> Float[Tensor, "*B V"]:
    """Token probabilities at a temperature, outside the nucleus set to 0, summing to 1.

    Args:
        logits: Scores of the next token.
        temperature: Divides the logits, ``> 0``.
        top_p: Probability that the kept tokens reach together, ``0 < top_p <= 1``.

    Raises:
        ValueError: if an argument is outside its range.

    >>> nucleus_probabilities(torch.tensor([0.5, 0.3, 0.2]).log(), top_p=0.6).round(decimals=3)
    tensor([0.6250, 0.3750, 0.0000])
    """
    if temperature <= 0 or not 0 < top_p <= 1:
        raise ValueError(f"need temperature > 0 and 0 < top_p <= 1, got {temperature} and {top_p}")
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    if top_p == 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # the token that crosses top_p is kept
    kept = ordered.masked_fill(before >= top_p, 0.0)
    kept = kept / kept.sum(dim=-1, keepdim=True)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def _check_sampling(
    max_new_tokens: int, temperature: float, top_p: float, generator: torch.Generator | None
) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")
    if temperature > 0 and generator is None:
        raise ValueError("sampling (temperature > 0) needs a torch.Generator")
