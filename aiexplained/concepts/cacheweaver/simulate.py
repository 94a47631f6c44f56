"""Trace-driven simulation: what an order of the passages does to prefix reuse and waiting time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aiexplained.concepts.cacheweaver.planner import (
    PrefixTree,
    cached_opening,
    deepest,
    look_ahead,
    weave,
)
from aiexplained.serving import BlockCache

UPCOMING = 20
_TOKEN_STRIDE = 1 << 20


@dataclass(frozen=True)
class Context:
    """What a policy may look at besides the retrieved passages."""

    tree: PrefixTree
    upcoming: Sequence[Sequence[int]]
    rng: np.random.Generator


Policy = Callable[[Sequence[int], Context], Sequence[int]]

POLICIES: Mapping[str, Policy] = {
    "retrieval": lambda passages, c: tuple(passages),
    "random": lambda passages, c: tuple(c.rng.permutation(passages).tolist()),
    "sorted": lambda passages, c: tuple(sorted(passages)),
    "greedy": lambda passages, c: weave(passages, c.tree),
    "repaired": lambda passages, c: weave(passages, c.tree, tail="popular"),
    "oracle": lambda passages, c: deepest(passages, c.tree),
    "look-ahead": lambda passages, c: look_ahead(passages, c.tree, c.upcoming),
}
"""Orders that can be compared, by name; ``"greedy"`` is CacheWeaver."""


@dataclass(frozen=True)
class Engine:
    """The serving side of the simulation.

    Args:
        capacity_blocks: KV blocks that the prefix cache holds; 0 switches the cache off.
        block_size: Tokens a block.
        window: Requests for which the planner takes an opening to be cached.
        instruction_tokens: Tokens before the passages, the same in every prompt.
        question_tokens: Tokens after the passages, different in every prompt.
        overhead_s: Time to first token of a prompt that needs no reading, in seconds.
        per_token_s: Time to read one token that is not cached, in seconds.
    """

    capacity_blocks: int = 3000
    block_size: int = 16
    window: int = 400
    instruction_tokens: int = 32
    question_tokens: int = 32
    overhead_s: float = 0.012
    per_token_s: float = 0.055e-3

    def __post_init__(self) -> None:
        for name in ("capacity_blocks", "instruction_tokens", "question_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"Engine.{name} must be at least 0, got {getattr(self, name)}")
        if self.overhead_s < 0 or self.per_token_s <= 0:
            raise ValueError(
                f"Engine needs overhead_s >= 0 and per_token_s > 0, "
                f"got {self.overhead_s} and {self.per_token_s}"
            )

    def ttft_s(self, read_tokens: np.ndarray) -> np.ndarray:
        """Modeled time to first token, in seconds, of prompts that read so many tokens."""
        return self.overhead_s + self.per_token_s * np.asarray(read_tokens, dtype=float)


@dataclass(frozen=True)
class Run:
    """One policy over one trace; arrays hold one entry a request.

    Args:
        cached: Prompt tokens taken from the cache.
        total: Prompt tokens.
        depth: Reusable prefix depth that the planner expected, in passages.
        lookups: Tree look-ups of the planner.
        changed: Whether the order differs from retrieval order.
        ttft_s: Modeled time to first token.
    """

    cached: np.ndarray
    total: np.ndarray
    depth: np.ndarray
    lookups: np.ndarray
    changed: np.ndarray
    ttft_s: np.ndarray

    @property
    def cached_share(self) -> float:
        """Share of all prompt tokens that came from the cache."""
        return float(self.cached.sum() / self.total.sum())


def simulate(
    trace: Sequence[Sequence[int]],
    lengths: Sequence[int],
    policy: str,
    *,
    engine: Engine | None = None,
    seed: int = 0,
) -> Run:
    """Serve a trace in order, one request at a time, under one policy.

    Args:
        trace: For each request the retrieved passages, most relevant first: indices into
            ``lengths``.
        lengths: Tokens of each passage.
        policy: A name in :data:`POLICIES`.
        engine: Cache and timing; the default holds 3,000 blocks of 16 tokens.
        seed: Seed of the ``"random"`` policy.

    Raises:
        ValueError: if the policy is unknown or the trace is empty.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}; got {policy!r}")
    if not len(trace):
        raise ValueError("trace must hold at least one request")
    engine = engine or Engine()
    tree, rng = PrefixTree(engine.window), np.random.default_rng(seed)
    cache = BlockCache(max(engine.capacity_blocks, 1), block_size=engine.block_size)
    rows = []
    for i, passages in enumerate(trace):
        before = tree.lookups
        order = POLICIES[policy](passages, Context(tree, trace[i + 1 : i + 1 + UPCOMING], rng))
        lookups, depth = tree.lookups - before, len(cached_opening(order, tree))
        tokens = _prompt(order, lengths, engine, request=i)
        cached = len(cache.match(tokens)) * engine.block_size if engine.capacity_blocks else 0
        cache.insert(tokens)
        tree.serve(order)
        rows.append((cached, len(tokens), depth, lookups, tuple(order) != tuple(passages)))
    table = [np.array(column) for column in zip(*rows, strict=True)]
    seconds = engine.ttft_s(table[1] - table[0])
    return Run(table[0], table[1], table[2], table[3], table[4], ttft_s=seconds)


def compare_policies(
    traces: Sequence[Sequence[Sequence[int]]],
    lengths: Sequence[int],
    *,
    policies: Sequence[str] = tuple(POLICIES),
    engine: Engine | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Each policy over several traces (one a seed): plain numbers, a list entry a trace.

    Returns:
        For each policy: ``cached_share``; ``median_s`` and ``p90_s`` of the time to first token;
        ``median_change``, the relative change of the median against retrieval order; and
        ``share_of_oracle``, the part of the oracle's gain in *cached share* that it reaches (NaN
        where the oracle gains nothing).
    """
    names = dict.fromkeys(("retrieval", "oracle", *policies))
    runs = {
        name: [simulate(t, lengths, name, engine=engine, seed=s) for s, t in enumerate(traces)]
        for name in names
    }
    base, best = runs["retrieval"], runs["oracle"]
    return {name: _summary(runs[name], base, best) for name in policies}


def _summary(runs: list[Run], base: list[Run], best: list[Run]) -> dict[str, list[float]]:
    median = [float(np.median(r.ttft_s)) for r in runs]
    base_median = [float(np.median(r.ttft_s)) for r in base]
    gain = [r.cached_share - b.cached_share for r, b in zip(runs, base, strict=True)]
    most = [r.cached_share - b.cached_share for r, b in zip(best, base, strict=True)]
    return {
        "cached_share": [r.cached_share for r in runs],
        "median_s": median,
        "p90_s": [float(np.percentile(r.ttft_s, 90)) for r in runs],
        "median_change": [m / b - 1 for m, b in zip(median, base_median, strict=True)],
        "share_of_oracle": [
            g / m if m > 1e-9 else float("nan") for g, m in zip(gain, most, strict=True)
        ],
    }


def _prompt(
    order: Sequence[int], lengths: Sequence[int], engine: Engine, *, request: int
) -> np.ndarray:
    """Token ids of a prompt: equal passages have equal tokens, every question has its own."""
    parts = [np.arange(engine.instruction_tokens)]
    parts += [(p + 1) * _TOKEN_STRIDE + np.arange(lengths[p]) for p in order]
    parts += [-(request + 1) * _TOKEN_STRIDE + np.arange(engine.question_tokens)]
    return np.concatenate(parts)
