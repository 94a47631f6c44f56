"""What the page measures while it is built: simulated traces, in a few seconds of one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiexplained.concepts.cacheweaver.simulate import POLICIES, Engine, compare_policies, simulate
from aiexplained.data import traces

TRACES: Mapping[str, Mapping[str, float]] = {
    "bursty": {"zipf": 1.1, "mean_session_length": 4.0, "noise": 0.15},
    "low locality": {"zipf": 0.5, "mean_session_length": 1.2, "noise": 0.15},
    "noisy ranking": {"zipf": 1.1, "mean_session_length": 4.0, "noise": 0.6},
    "uniform": {"zipf": 0.0, "mean_session_length": 1.0, "noise": 0.15},
}
"""Simulated workloads: skew of the topics, length of sessions, noise of the ranking."""

N_TOPICS = 120
PASSAGES_PER_TOPIC = 16


def measure_traces(
    kind: str,
    *,
    k: int = 5,
    n_requests: int = 400,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    policies: Sequence[str] = tuple(POLICIES),
    engine: Engine | None = None,
    **overrides: float,
) -> dict[str, dict[str, list[float]]]:
    """All orders on one kind of simulated trace.

    Args:
        kind: A name in :data:`TRACES`.
        k: Passages a request.
        n_requests: Requests a trace.
        seeds: One trace a seed.
        policies: Names in :data:`POLICIES`.
        engine: Cache and timing.
        **overrides: Other values for the trace's settings, e.g. ``mean_session_length=8``.

    Returns:
        As :func:`compare_policies`.
    """
    if kind not in TRACES:
        raise ValueError(f"kind must be one of {', '.join(TRACES)}; got {kind!r}")
    settings: dict[str, Any] = {**TRACES[kind], **overrides}
    lengths = _lengths(N_TOPICS * PASSAGES_PER_TOPIC)
    drawn = [
        traces.synthetic_trace(
            n_requests, n_topics=N_TOPICS, passages_per_topic=PASSAGES_PER_TOPIC, k=k,
            seed=seed, **settings,
        )
        for seed in seeds
    ]  # fmt: skip
    return compare_policies(drawn, lengths, policies=policies, engine=engine)


def make_scrubber_traces(
    *, zipf: Sequence[float], session: Sequence[float], n_requests: int = 100, width: int = 8
) -> dict[tuple[int, int], np.ndarray]:
    """Small traces for replay in a page: ``[n_requests, width]`` passages a pair of settings."""
    return {
        (i, j): np.array(
            traces.synthetic_trace(
                n_requests, n_topics=20, passages_per_topic=12, k=width, zipf=z,
                mean_session_length=s, noise=0.15, seed=0,
            )
        )
        for i, z in enumerate(zipf)
        for j, s in enumerate(session)
    }  # fmt: skip


def make_passage_lengths(n_passages: int = 240) -> list[int]:
    """Tokens of each passage of the simulated corpora: 150 on average, seeded."""
    return _lengths(n_passages)


def measure_one_off(
    *,
    n_requests: int = 120,
    seeds: Sequence[int] = (0, 1, 2),
    policies: Sequence[str] = ("retrieval", "greedy", "oracle", "repaired", "look-ahead"),
) -> dict[str, dict[str, list[float]]]:
    """The workload that locks the walk out: each request starts with a passage never seen again.

    Returns:
        For each policy ``passage_share``: cached passage tokens over all passage tokens (the
        constant instructions left out), an entry a seed.
    """
    out: dict[str, dict[str, list[float]]] = {p: {"passage_share": []} for p in policies}
    for seed in seeds:
        trace = traces.one_off_first_trace(n_requests, seed=seed)
        lengths = _lengths(max(map(max, trace)) + 1)
        for policy in policies:
            out[policy]["passage_share"].append(_passage_share(trace, lengths, policy))
    return out


def measure_tools(
    *,
    n_requests: int = 100,
    seeds: Sequence[int] = (0, 1, 2),
    policies: Sequence[str] = ("retrieval", "sorted", "greedy", "repaired"),
) -> dict[str, dict[str, list[float]]]:
    """Tool schemas instead of passages: nearly the same 63 tools in every request."""
    out: dict[str, dict[str, list[float]]] = {p: {"passage_share": []} for p in policies}
    for seed in seeds:
        trace = traces.tool_schema_trace(n_requests, seed=seed)
        lengths = _lengths(max(map(max, trace)) + 1)
        for policy in policies:
            out[policy]["passage_share"].append(
                _passage_share(trace, lengths, policy, capacity_blocks=20_000)
            )
    return out


def measure_sweep(
    *, kind: str, k: int, session: float, capacity_blocks: int, seed: int, n_requests: int = 800
) -> dict[str, dict[str, float]]:
    """One point of the recorded sweeps: every order, one seed, plain numbers."""
    engine = Engine(capacity_blocks=capacity_blocks)
    result = measure_traces(
        kind, k=k, n_requests=n_requests, seeds=(seed,), engine=engine, mean_session_length=session
    )
    return {policy: {key: v[0] for key, v in row.items()} for policy, row in result.items()}


def _passage_share(
    trace: Sequence[Sequence[int]], lengths: Sequence[int], policy: str, **engine: Any
) -> float:
    setup = Engine(**engine)
    run = simulate(trace, lengths, policy, engine=setup)
    passages = run.total - setup.instruction_tokens - setup.question_tokens
    return float(np.maximum(run.cached - setup.instruction_tokens, 0).sum() / passages.sum())


def _lengths(n: int) -> list[int]:
    return [int(x) for x in traces.passage_lengths(n, mean_tokens=150, spread=0.25, seed=0)]
