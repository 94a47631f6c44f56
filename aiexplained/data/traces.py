"""Seeded traces of requests, for studies of prefix caching.

A trace is a list of requests in order of arrival; a request is a tuple of passage ids in the order
of retrieval, without repeats. Sessions make neighboring requests share a subject, Zipf's law makes
some subjects popular, and noise in the relevance scores makes both the set and the order of the
passages of one subject vary from request to request.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from numpy.typing import NDArray

Seed = int | np.random.Generator
Request = tuple[int, ...]


def sample_sessions(
    n_requests: int,
    *,
    n_subjects: int,
    zipf: float,
    mean_session_length: float,
    seed: Seed,
    concurrency: int = 1,
) -> list[tuple[int, int]]:
    """Which subject each request is about, and which session it belongs to.

    A session draws its subject once, with probability proportional to ``1 / (rank + 1) ** zipf``,
    and its number of requests from the geometric law with the given mean. ``concurrency`` sessions
    are open at any time; the next request comes from one of them, all equally likely, and a session
    that ends is followed by a new one.

    Args:
        n_requests: Length of the trace, ``>= 0``.
        n_subjects: Number of subjects; subject 0 is the most popular.
        zipf: Exponent of Zipf's law, ``>= 0``; at 0 all subjects are equally likely.
        mean_session_length: Mean number of requests of a session, ``>= 1``.
        seed: Seed or generator.
        concurrency: Sessions open at once, ``>= 1``.

    Returns:
        A pair ``(subject, session)`` for each request; sessions are numbered from 0 in the order
        of their first request.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_at_least("n_requests", n_requests, 0)
    _check_at_least("concurrency", concurrency, 1)
    _check_at_least("mean_session_length", mean_session_length, 1)
    rng = np.random.default_rng(seed)
    popularity = zipf_probabilities(n_subjects, zipf)
    subject_of = np.zeros(concurrency, dtype=int)
    session_of = np.full(concurrency, -1)
    left = np.zeros(concurrency, dtype=int)
    n_sessions = 0
    requests: list[tuple[int, int]] = []
    for _ in range(n_requests):
        slot = int(rng.integers(concurrency))
        if left[slot] == 0:
            subject_of[slot] = rng.choice(n_subjects, p=popularity)
            left[slot] = rng.geometric(1 / mean_session_length)
            session_of[slot] = n_sessions
            n_sessions += 1
        left[slot] -= 1
        requests.append((int(subject_of[slot]), int(session_of[slot])))
    return requests


def zipf_probabilities(n: int, exponent: float) -> NDArray[np.float64]:
    """Zipf's law over ``n`` ranks: ``p[r]`` proportional to ``1 / (r + 1) ** exponent``.

    Raises:
        ValueError: if ``n`` is below 1 or ``exponent`` is negative or not finite.

    >>> zipf_probabilities(2, 1.0).round(3).tolist()
    [0.667, 0.333]
    """
    _check_at_least("number of subjects", n, 1)
    _check_at_least("zipf", exponent, 0)
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities


def synthetic_trace(
    n_requests: int,
    *,
    n_topics: int,
    passages_per_topic: int,
    k: int,
    zipf: float,
    mean_session_length: float,
    noise: float,
    seed: Seed,
    concurrency: int = 1,
) -> list[Request]:
    """Retrieved passage ids, best first, as a retriever with noisy scores would return them.

    Each passage of a topic has a fixed relevance, uniform in [0, 1]. A request wants the ``k``
    passages of its topic that are best by relevance plus ``noise`` times a standard normal draw.

    Args:
        n_requests: Length of the trace.
        n_topics: Number of topics.
        passages_per_topic: Passages of a topic; topic ``t`` owns the ids from
            ``t * passages_per_topic`` on.
        k: Passages of a request, ``1 <= k <= passages_per_topic``.
        zipf: Exponent of the popularity of topics, see :func:`sample_sessions`.
        mean_session_length: Mean requests of a session; a session stays on its topic.
        noise: Standard deviation of the scores around the relevance, ``>= 0``; at 0 all requests
            of a topic are the same.
        seed: Seed or generator.
        concurrency: Sessions open at once.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_at_least("n_topics", n_topics, 1)
    _check_at_least("passages_per_topic", passages_per_topic, 1)
    _check_at_least("noise", noise, 0)
    if not 1 <= k <= passages_per_topic:
        raise ValueError(f"k must be from 1 to passages_per_topic={passages_per_topic}, got {k}")
    rng = np.random.default_rng(seed)
    relevance = rng.uniform(size=(n_topics, passages_per_topic))
    sessions = sample_sessions(
        n_requests,
        n_subjects=n_topics,
        zipf=zipf,
        mean_session_length=mean_session_length,
        seed=rng,
        concurrency=concurrency,
    )
    trace: list[Request] = []
    for topic, _ in sessions:
        scores = relevance[topic] + noise * rng.standard_normal(passages_per_topic)
        best = np.argsort(-scores, kind="stable")[:k]
        trace.append(tuple((topic * passages_per_topic + best).tolist()))
    return trace


def one_off_first_trace(
    n_requests: int,
    *,
    n_topics: int = 120,
    passages_per_topic: int = 8,
    k: int = 5,
    zipf: float = 1.1,
    mean_session_length: float = 4.0,
    noise: float = 0.15,
    seed: Seed,
) -> list[Request]:
    """Like :func:`synthetic_trace`, but each request starts with an item that never returns.

    A walk down a tree of served openings cannot start: each path begins with a one-off item, such
    as the user's own document, that no later request holds.

    Args:
        n_requests: Length of the trace.
        n_topics: Number of topics.
        passages_per_topic: Passages of a topic.
        k: Items of a request, the one-off item included, ``2 <= k <= passages_per_topic + 1``.
        zipf: Exponent of the popularity of topics.
        mean_session_length: Mean requests of a session.
        noise: Standard deviation of the scores around the relevance.
        seed: Seed or generator.

    Returns:
        Requests of ``k`` ids; request ``i`` starts with ``n_topics * passages_per_topic + i``.

    Raises:
        ValueError: if an argument is out of range.
    """
    if not 2 <= k <= passages_per_topic + 1:
        raise ValueError(
            f"k must be from 2 to passages_per_topic + 1 = {passages_per_topic + 1}, got {k}"
        )
    shared = synthetic_trace(
        n_requests,
        n_topics=n_topics,
        passages_per_topic=passages_per_topic,
        k=k - 1,
        zipf=zipf,
        mean_session_length=mean_session_length,
        noise=noise,
        seed=seed,
    )
    first = n_topics * passages_per_topic
    return [(first + i, *ids) for i, ids in enumerate(shared)]


def tool_schema_trace(n_requests: int, *, seed: Seed, n_tools: int = 63) -> list[Request]:
    """Requests of an agent that lists the same tools each time, after one that it needs just once.

    Each request is a one-off tool, then all common tools in a fresh random order. Ids are drawn at
    random, as alphabetical names are: sorted by id, the one-off tool may stand anywhere.

    Args:
        n_requests: Length of the trace.
        seed: Seed or generator.
        n_tools: Tools that every request lists.

    Returns:
        Requests of ``n_tools + 1`` ids from ``0 ... n_tools + n_requests - 1``.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_at_least("n_requests", n_requests, 0)
    _check_at_least("n_tools", n_tools, 1)
    rng = np.random.default_rng(seed)
    ids = rng.permutation(n_tools + n_requests)
    common, one_off = ids[:n_tools], ids[n_tools:]
    return [(int(first), *rng.permutation(common).tolist()) for first in one_off]


def passage_lengths(n: int, *, mean_tokens: float, spread: float, seed: Seed) -> Int[ndarray, " n"]:
    """Lengths of ``n`` passages in tokens, drawn from a gamma law and rounded.

    Args:
        n: Number of passages, ``>= 0``.
        mean_tokens: Mean length in tokens, ``>= 1``.
        spread: Standard deviation divided by the mean, ``>= 0``; at 0 all lengths are the same.
        seed: Seed or generator.

    Returns:
        Whole numbers, at least 1.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_at_least("n", n, 0)
    _check_at_least("mean_tokens", mean_tokens, 1)
    _check_at_least("spread", spread, 0)
    if spread == 0:
        return np.full(n, round(mean_tokens), dtype=np.int64)
    rng = np.random.default_rng(seed)
    lengths = rng.gamma(spread**-2, mean_tokens * spread**2, size=n)
    return np.maximum(np.rint(lengths), 1).astype(np.int64)


def _check_at_least(name: str, value: float, low: float) -> None:
    if not (math.isfinite(value) and value >= low):
        raise ValueError(f"{name} must be finite and at least {low}, got {value}")
