"""What a routing policy is, and what a router does when an engine fails.

The rules and their thresholds are those of ATOMesh (ROCm/ATOM, ``atom/mesh``). The policies are in
:mod:`aiexplained.serving.policies`; the plainest one is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from aiexplained.serving.requests import Request


class WorkerLoad(NamedTuple):
    """What a router knows of an engine.

    Args:
        requests: Requests in it.
        tokens: Their tokens, prompts and answers.
    """

    requests: int
    tokens: int


Loads = Sequence[WorkerLoad | None]
"""Of each engine of a pool; ``None`` where it cannot be used now. At least one can."""


class RoutingPolicy(Protocol):
    """How a router picks an engine of a pool."""

    def choose(self, request: Request, loads: Loads, now_s: float = 0.0) -> int:
        """Position of the engine in ``loads`` at a time; never one that is ``None``."""
        ...


class Decision(NamedTuple):
    """Which engine a policy chose, and why.

    Args:
        engine: Its position.
        reason: In a few words.
        matched_share: Share of the prompt that the engine is taken to have seen; 0 where the
            policy does not look at that.
    """

    engine: int
    reason: str
    matched_share: float = 0.0


class ExplainedPolicy(ABC):
    """A policy that says why it chose: ``last`` is its last decision."""

    last: Decision | None = None

    def choose(self, request: Request, loads: Loads, now_s: float = 0.0) -> int:
        """Position of the engine.

        Args:
            request: What is to be served.
            loads: Of each engine.
            now_s: The time; never before that of an earlier call.
        """
        self.last = self.decide(request, loads, now_s)
        return self.last.engine

    @abstractmethod
    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """The engine and the reason; what the policy remembers may change."""


class LeastLoaded(ExplainedPolicy):
    """The engine with the fewest tokens; the first of several."""

    def decide(self, request: Request, loads: Loads, now_s: float) -> Decision:
        """The engine and the reason."""
        return Decision(
            min(available(loads), key=lambda i: load_of(loads, i).tokens), "fewest tokens"
        )


def available(loads: Loads) -> list[int]:
    """Positions of the engines that can be used.

    Raises:
        ValueError: if there is none.
    """
    found = [i for i, load in enumerate(loads) if load is not None]
    if not found:
        raise ValueError("a routing policy needs at least one engine that can be used")
    return found


def load_of(loads: Loads, i: int) -> WorkerLoad:
    """Load of an engine that can be used."""
    load = loads[i]
    assert load is not None
    return load


@dataclass(frozen=True, kw_only=True)
class Retries:
    """When a router tries again, and when it leaves an engine alone.

    Args:
        max_retries: Tries after the first; then the request is answered with an error.
        first_wait_s: Wait before the first retry.
        factor: Each further wait is so many times as long.
        jitter: Waits vary at random by this share, so that retries do not come all at once.
        failure_threshold: Failures in a row that open an engine's circuit breaker.
        success_threshold: Successes in a row that close it again.
        open_s: How long it stays open before a request may try the engine.
        seed: Of the jitter.
    """

    max_retries: int = 5
    first_wait_s: float = 0.05
    factor: float = 2.0
    jitter: float = 0.2
    failure_threshold: int = 5
    success_threshold: int = 2
    open_s: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_retries < 0 or self.failure_threshold < 1 or self.success_threshold < 1:
            raise ValueError(
                "Retries needs max_retries >= 0 and thresholds of at least 1, got "
                f"{self.max_retries}, {self.failure_threshold} and {self.success_threshold}"
            )
        if not (self.first_wait_s > 0 and self.factor >= 1 and self.open_s > 0):
            raise ValueError(
                "Retries needs first_wait_s > 0, factor >= 1 and open_s > 0, got "
                f"{self.first_wait_s}, {self.factor} and {self.open_s}"
            )
        if not 0 <= self.jitter < 1:
            raise ValueError(f"Retries.jitter must be in [0, 1), got {self.jitter}")

    def wait_s(self, attempt: int, request_id: int) -> float:
        """Wait before a retry.

        Args:
            attempt: 1 for the first retry.
            request_id: Each request has its own jitter.
        """
        rng = np.random.default_rng((self.seed, attempt, request_id))
        spread = 1 + self.jitter * (2 * float(rng.random()) - 1)
        return self.first_wait_s * self.factor ** (attempt - 1) * spread

    def breaker(self) -> CircuitBreaker:
        """A closed breaker for one engine."""
        return CircuitBreaker(self)


class CircuitBreaker:
    """Keeps requests from an engine that fails: closed, open, then half open on trial.

    Args:
        rules: Thresholds and times.
    """

    def __init__(self, rules: Retries) -> None:
        self.rules = rules
        self.state = "closed"
        self._failures = self._successes = 0
        self._until_s = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether a request may go to the engine now."""
        if self.state == "open" and now_s >= self._until_s:
            self.state, self._successes = "half open", 0
        return self.state != "open"

    def failed(self, now_s: float) -> None:
        """A request to the engine failed."""
        self._failures += 1
        if self.state == "half open" or self._failures >= self.rules.failure_threshold:
            self.state, self._until_s = "open", now_s + self.rules.open_s

    def succeeded(self) -> None:
        """The engine answered."""
        self._failures = 0
        if self.state == "half open":
            self._successes += 1
            if self._successes >= self.rules.success_threshold:
                self.state = "closed"
