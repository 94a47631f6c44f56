"""Requests as a server sees them, and seeded arrivals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    draws = np.random.default_rng(seed).random((n, 3))
    return drawn_requests(
        draws, arrival_rate_rps=arrival_rate_rps, prompt_tokens=prompt_tokens,
        output_tokens=output_tokens, shortest=shortest,
    )  # fmt: skip


def drawn_requests(
    draws: ArrayLike,
    *,
    arrival_rate_rps: float,
    prompt_tokens: int,
    output_tokens: int,
    shortest: float = 0.8,
) -> list[Request]:
    """Requests of :func:`poisson_requests` from their draws; more of them keep the first ones.

    Args:
        draws: Uniform in [0, 1), ``(n, 3)``: for the arrival, the prompt's and the answer's length.
        arrival_rate_rps: Mean arrivals a second.
        prompt_tokens: Longest prompt.
        output_tokens: Longest answer.
        shortest: Lengths are uniform from this share of the longest to the longest.

    Raises:
        ValueError: if an argument is out of range.
    """
    if prompt_tokens < 1 or output_tokens < 1:
        raise ValueError(
            "prompt_tokens and output_tokens must be at least 1, got "
            f"{prompt_tokens} and {output_tokens}"
        )
    if not (arrival_rate_rps > 0 and math.isfinite(arrival_rate_rps)):
        raise ValueError(f"arrival_rate_rps must be positive and finite, got {arrival_rate_rps}")
    if not 0 < shortest <= 1:
        raise ValueError(f"shortest must be in (0, 1], got {shortest}")
    waits, *lengths = unit_draws(draws).T
    times = np.cumsum(waits) / arrival_rate_rps
    prompts, answers = shortest + (1 - shortest) * np.array(lengths)
    return [
        Request(
            i,
            # A first token of its own: no two prompts share an opening.
            [i, *[0] * (max(round(prompt_tokens * prompts[i]), 1) - 1)],
            max(round(output_tokens * answers[i]), 1),
            float(times[i]),
            i,
        )
        for i in range(len(times))
    ]


def conversation_requests(
    n_sessions: int,
    turns: int,
    *,
    session_rate_rps: float,
    think_s: float,
    system_tokens: int,
    question_tokens: int,
    output_tokens: int,
    seed: int,
    n_system_prompts: int = 3,
    shortest: float = 0.8,
    vocab_size: int = 32_000,
) -> list[Request]:
    """Conversations: each prompt repeats all that was said before and adds a question.

    The answers inside later prompts are drawn, not those that an engine writes. A question comes
    at its time even where the answer before it is late.

    Args:
        n_sessions: Conversations, at least 1.
        turns: Questions of each, at least 1.
        session_rate_rps: Mean number of conversations that begin in a second; the times between
            them are exponential.
        think_s: Mean time between two questions; half of it is fixed, half exponential.
        system_tokens: Tokens of each system prompt, which opens a conversation.
        question_tokens: Longest question.
        output_tokens: Longest answer.
        seed: Of tokens, times and lengths.
        n_system_prompts: System prompts, of which a conversation draws one.
        shortest: Lengths are uniform from this share of the longest to the longest.
        vocab_size: Tokens are drawn from so many.

    Returns:
        Requests by arrival, numbered in that order; ``session`` is the conversation.

    Raises:
        ValueError: if an argument is out of range.

    >>> talk = conversation_requests(
    ...     1, 2, session_rate_rps=1, think_s=5, system_tokens=4, question_tokens=3,
    ...     output_tokens=2, seed=0, shortest=1,
    ... )
    >>> [len(request.prompt) for request in talk], talk[1].prompt[:7] == talk[0].prompt
    ([7, 12], True)
    """
    sizes = (n_sessions, turns, system_tokens, question_tokens, output_tokens, n_system_prompts)
    if min(sizes) < 1 or vocab_size < 1:
        raise ValueError(f"numbers of sessions, turns and tokens must be at least 1, got {sizes}")
    if not (session_rate_rps > 0 and math.isfinite(session_rate_rps) and think_s >= 0):
        raise ValueError(
            "session_rate_rps must be positive and finite and think_s not negative, got "
            f"{session_rate_rps} and {think_s}"
        )
    if not 0 < shortest <= 1:
        raise ValueError(f"shortest must be in (0, 1], got {shortest}")
    rng = np.random.default_rng(seed)

    def draw(longest: int) -> list[int]:
        n = max(round(longest * rng.uniform(shortest, 1)), 1)
        return [int(token) for token in rng.integers(vocab_size, size=n)]

    openings = [
        rng.integers(vocab_size, size=system_tokens).tolist() for _ in range(n_system_prompts)
    ]
    begins = np.cumsum(rng.exponential(1 / session_rate_rps, n_sessions))
    asked: list[tuple[float, int, list[int], int]] = []
    for session, begin in enumerate(begins):
        said, time_s = list(openings[rng.integers(n_system_prompts)]), float(begin)
        for _ in range(turns):
            said, answer = said + draw(question_tokens), draw(output_tokens)
            asked.append((time_s, session, said, len(answer)))
            said = said + answer
            time_s += think_s * (0.5 + 0.5 * float(rng.exponential()))
    asked.sort(key=lambda ask: ask[:2])
    return [
        Request(i, prompt, n_answer, time_s, session)
        for i, (time_s, session, prompt, n_answer) in enumerate(asked)
    ]


def unit_draws(draws: ArrayLike) -> NDArray[np.float64]:
    """The time from arrival to arrival at a mean rate of 1, beside the draws of both lengths.

    Args:
        draws: As for :func:`drawn_requests`.

    Returns:
        As many rows, the first column through the logarithm.

    Raises:
        ValueError: if the draws have another shape or leave [0, 1).
    """
    rows = np.array(draws, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] != 3:
        raise ValueError(f"draws are (n, 3) with n of at least 1, got {rows.shape}")
    if not (rows.min() >= 0 and rows.max() < 1):
        raise ValueError(f"draws lie in [0, 1), got {rows.min():g} to {rows.max():g}")
    rows[:, 0] = -np.log1p(-rows[:, 0])
    return rows
