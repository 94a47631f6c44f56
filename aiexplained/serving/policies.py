"""Routing policies: by chance, in turn, by load, by what an engine has seen, by session.

Rules and default thresholds are those of ATOMesh (ROCm/ATOM, ``atom/mesh/src/policies``). A load
is a number of requests unless it says tokens. Where ATOMesh breaks a tie between loads at random,
ours goes on in turn, so that a replay makes the same choices.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from aiexplained.serving.radix_tree import RadixTree
from aiexplained.serving.requests import Request
from aiexplained.serving.routing import Decision, ExplainedPolicy, Loads, available, load_of

_MASK = 0xFFFFFFFF


class RandomChoice(ExplainedPolicy):
    """Any engine that can be used.

    Args:
        seed: Of the draws.
    """

    def __init__(self, seed: int | tuple[int, ...]) -> None:
        self._rng = np.random.default_rng(seed)

    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """A draw."""
        return Decision(int(self._rng.choice(available(loads))), "drawn at random")


class RoundRobin(ExplainedPolicy):
    """One engine after the other."""

    def __init__(self) -> None:
        self._after = -1

    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """The next engine that can be used."""
        n = len(loads)
        self._after = min(available(loads), key=lambda i: (i - self._after - 1) % n)
        return Decision(self._after, "next in turn")


class PowerOfTwo(ExplainedPolicy):
    """The one of two random engines that has fewer tokens.

    Args:
        seed: Of the draws.
    """

    def __init__(self, seed: int | tuple[int, ...]) -> None:
        self._rng = np.random.default_rng(seed)

    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """Two draws without repetition; of equal loads the first one."""
        engines = available(loads)
        drawn = self._rng.choice(engines, size=min(2, len(engines)), replace=False)
        return Decision(
            min(map(int, drawn), key=lambda i: load_of(loads, i).tokens), "fewer tokens of two"
        )


class FewestRequests:
    """The engine with the fewest requests; of several, the next one in turn."""

    def __init__(self) -> None:
        self._after = -1

    def choose(self, loads: Loads) -> int:
        """Position of the engine."""
        n = len(loads)
        self._after = min(
            available(loads),
            key=lambda i: (load_of(loads, i).requests, (i - self._after - 1) % n),
        )
        return self._after


class CacheAware(ExplainedPolicy):
    """The engine that saw most of the prompt, unless that is little or the loads differ much.

    A radix tree knows what was sent where; what an engine has dropped from its cache since, it
    does not know. Of engines that saw equally much, the one that was last sent such a text is
    chosen. Use one policy for each pool. An engine that cannot be used is forgotten: it may come
    back empty.

    Args:
        match_threshold: Share of the prompt that an engine must have seen more than.
        balance_abs: Loads differ much if the highest exceeds the lowest by more than this
        balance_rel: and by more than this factor.
        max_nodes: Of the tree, after each eviction.
        evict_every_s: Time between evictions.
    """

    def __init__(
        self,
        *,
        match_threshold: float = 0.5,
        balance_abs: int = 32,
        balance_rel: float = 1.1,
        max_nodes: int = 10_000,
        evict_every_s: float = 30.0,
    ) -> None:
        if not 0 <= match_threshold <= 1:
            raise ValueError(f"CacheAware.match_threshold must be in [0, 1], got {match_threshold}")
        if balance_abs < 0 or not balance_rel >= 1:
            raise ValueError(
                "CacheAware needs balance_abs >= 0 and balance_rel >= 1, got "
                f"{balance_abs} and {balance_rel}"
            )
        if max_nodes < 1 or not evict_every_s > 0:
            raise ValueError(
                "CacheAware needs max_nodes >= 1 and evict_every_s > 0, got "
                f"{max_nodes} and {evict_every_s}"
            )
        self.match_threshold, self.balance_abs, self.balance_rel = (
            match_threshold, balance_abs, balance_rel,
        )  # fmt: skip
        self.max_nodes, self.evict_every_s = max_nodes, evict_every_s
        self.tree = RadixTree()
        self._fewest = FewestRequests()
        self._evict_at_s = evict_every_s
        self._known: set[int] = set()

    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """Loads first, then the match; the tree learns where the prompt goes."""
        self._keep_tree(loads, now_s)
        seen = self.tree.match(request.prompt)
        engine = next(iter(seen), None)
        share = seen[engine] / len(request.prompt) if engine is not None else 0.0
        if self._differ(loads):
            engine, reason = self._fewest.choose(loads), "loads differ: fewest requests"
        elif engine is not None and share > self.match_threshold:
            reason = "saw most of the prompt"
        else:
            engine, reason = self._fewest.choose(loads), "low match: fewest requests"
        self.tree.insert(request.prompt, engine)
        self._known.add(engine)
        return Decision(engine, reason, seen.get(engine, 0) / len(request.prompt))

    def _keep_tree(self, loads: Loads, now_s: float) -> None:
        for engine in [i for i in self._known if loads[i] is None]:
            self.tree.forget(engine)
            self._known.remove(engine)
        if now_s >= self._evict_at_s:
            self.tree.evict(self.max_nodes)
            self._evict_at_s = now_s + self.evict_every_s

    def _differ(self, loads: Loads) -> bool:
        requests = [load_of(loads, i).requests for i in available(loads)]
        high, low = max(requests), min(requests)
        return high - low > self.balance_abs and high > self.balance_rel * low


class PrefixHash(ExplainedPolicy):
    """Prompts that open alike go to the same place on a ring, which an engine owns.

    Args:
        prefix_tokens: So many tokens of the opening are hashed.
        load_factor: The owner is passed over if it has more than this times the average load,
            the new request counted in; then the engine with the fewest requests is chosen.
        n_points: Places of each engine on the ring.
    """

    def __init__(
        self, *, prefix_tokens: int = 256, load_factor: float = 1.25, n_points: int = 160
    ) -> None:
        if prefix_tokens < 1 or n_points < 1 or not load_factor >= 1:
            raise ValueError(
                "PrefixHash needs prefix_tokens and n_points of at least 1 and load_factor >= 1, "
                f"got {prefix_tokens}, {n_points} and {load_factor}"
            )
        self.prefix_tokens, self.load_factor, self.n_points = prefix_tokens, load_factor, n_points
        self._fewest = FewestRequests()
        self._ring: list[tuple[int, int]] = []

    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """The owner, or the engine with the fewest requests where that is too busy."""
        engine = self.owner(request.prompt, loads)
        usable = available(loads)
        total = sum(load_of(loads, i).requests for i in usable)
        limit = self.load_factor * (total + 1) / len(usable)
        if total and load_of(loads, engine).requests > limit:
            return Decision(self._fewest.choose(loads), "owner is busy: fewest requests")
        return Decision(engine, "owns the opening")

    def owner(self, prompt: Sequence[int], loads: Loads) -> int:
        """Usable engine whose point follows the prompt's place on the ring."""
        if len(self._ring) != len(loads) * self.n_points:
            engines, points = range(len(loads)), range(self.n_points)
            self._ring = sorted((token_hash((i, k)), i) for i in engines for k in points)
        place = token_hash(prompt[: self.prefix_tokens])
        start = bisect_left(self._ring, (place, 0))
        for _, engine in (*self._ring[start:], *self._ring[:start]):
            if loads[engine] is not None:
                return engine
        raise ValueError("a routing policy needs at least one engine that can be used")


class Sticky(ExplainedPolicy):
    """A session stays with its engine; a new one goes where the fewest requests are.

    Args:
        idle_timeout_s: A session without a request for longer than this is forgotten.
    """

    def __init__(self, *, idle_timeout_s: float = 7200.0) -> None:
        if not idle_timeout_s > 0:
            raise ValueError(f"Sticky.idle_timeout_s must be positive, got {idle_timeout_s}")
        self.idle_timeout_s = idle_timeout_s
        self._fewest = FewestRequests()
        self._sessions: dict[int, tuple[int, float]] = {}

    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """The session's engine, if it is remembered and that engine can be used."""
        engine, used_s = self._sessions.get(request.session, (-1, 0.0))
        if engine >= 0 and now_s - used_s <= self.idle_timeout_s and loads[engine] is not None:
            reason = "the session's engine"
        else:
            engine, reason = self._fewest.choose(loads), "new session: fewest requests"
        if request.session >= 0:
            self._sessions[request.session] = engine, now_s
        return Decision(engine, reason)


def token_hash(tokens: Sequence[int]) -> int:
    """A 32-bit hash: FNV-1a over tokens as 32-bit words, with the mixing steps of MurmurHash3.

    Without mixing, neighboring numbers would fall near one another on a ring.

    Args:
        tokens: Of each, the lowest 32 bits count.

    >>> token_hash([1, 2, 3]), token_hash([1, 2, 4])
    (1315153499, 2787967380)
    """
    value = 0x811C9DC5
    for token in tokens:
        value = ((value ^ (int(token) & _MASK)) * 0x01000193) & _MASK
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & _MASK
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & _MASK
    return value ^ (value >> 16)
