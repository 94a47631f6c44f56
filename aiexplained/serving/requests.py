"""Requests as a server sees them, and seeded arrivals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    """A prompt to answer.

    Args:
        id: Number, unique within a trace.
        prompt: Token ids.
        max_new_tokens: Tokens of the answer.
        arrival_s: When it arrives.
        session: Which conversation it belongs to; its own where it stands alone.
    """

    id: int
    prompt: Sequence[int]
    max_new_tokens: int
    arrival_s: float
    session: int = -1


def poisson_requests(
    n: int,
    *,
    arrival_rate_rps: float,
    prompt_tokens: int,
    output_tokens: int,
    seed: int,
    shortest: float = 0.8,
) -> list[Request]:
    """Requests that arrive at random, each with a prompt of its own.

    Args:
        n: How many, at least 1.
        arrival_rate_rps: Mean arrivals a second; the times between them are exponential.
        prompt_tokens: Longest prompt.
        output_tokens: Longest answer.
        seed: Of times and lengths. The rate only stretches the times: the draws are the same.
        shortest: Lengths are uniform from this share of the longest to the longest.

    Raises:
        ValueError: if an argument is out of range.
    """
    if n < 1 or prompt_tokens < 1 or output_tokens < 1:
        raise ValueError(
            "n, prompt_tokens and output_tokens must be at least 1, got "
            f"{n}, {prompt_tokens} and {output_tokens}"
        )
    if not (arrival_rate_rps > 0 and math.isfinite(arrival_rate_rps)):
        raise ValueError(f"arrival_rate_rps must be positive and finite, got {arrival_rate_rps}")
    if not 0 < shortest <= 1:
        raise ValueError(f"shortest must be in (0, 1], got {shortest}")
    rng = np.random.default_rng(seed)
    draws = rng.random((n, 3))  # a row a request: more requests keep the first ones as they are
    times = np.cumsum(-np.log1p(-draws[:, 0])) / arrival_rate_rps
    scale = shortest + (1 - shortest) * draws[:, 1:]
    return [
        Request(
            i,
            # A first token of its own: no two prompts share an opening.
            [i, *[0] * (max(round(prompt_tokens * scale[i, 0]), 1) - 1)],
            max(round(output_tokens * scale[i, 1]), 1),
            float(times[i]),
            i,
        )
        for i in range(n)
    ]
