"""Engines with their links, what can happen to them, and what became of the requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from aiexplained.serving.requests import Request
from aiexplained.serving.scheduler import EngineConfig
from aiexplained.serving.step_cost import StepCost


@dataclass(frozen=True, kw_only=True)
class Link:
    """How keys and values travel. An engine sends, or receives, one prompt at a time.

    A transfer begins when both ends are free, and transfers of an end in the order in which they
    were asked for.

    Args:
        bandwidth: Bytes a second.
        latency_s: Fixed time of a transfer.
        kv_bytes_per_token: Bytes of one token's keys and values, all layers.
    """

    bandwidth: float = 25e9
    latency_s: float = 0.001
    kv_bytes_per_token: float = 70_000.0

    def __post_init__(self) -> None:
        if not (self.bandwidth > 0 and self.latency_s >= 0 and self.kv_bytes_per_token > 0):
            raise ValueError(
                "Link needs bandwidth > 0, latency_s >= 0 and kv_bytes_per_token > 0, got "
                f"{self.bandwidth}, {self.latency_s} and {self.kv_bytes_per_token}"
            )

    def seconds(self, n_tokens: int) -> float:
        """Time to move the keys and values of ``n_tokens`` tokens."""
        return self.latency_s + n_tokens * self.kv_bytes_per_token / self.bandwidth


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Engines and what connects them: ``n_colocated`` of them, or two pools.

    Args:
        n_colocated: Engines that read and write.
        n_prefill: Engines that read only.
        n_decode: Engines that write only.
        engine: Limits and rules of each engine.
        cost: Time of a step.
        link: From the reading to the writing pool.
    """

    n_colocated: int = 0
    n_prefill: int = 0
    n_decode: int = 0
    engine: EngineConfig = field(default_factory=EngineConfig)
    cost: StepCost = field(default_factory=StepCost)
    link: Link = field(default_factory=Link)

    def __post_init__(self) -> None:
        counts = (self.n_colocated, self.n_prefill, self.n_decode)
        one_pool = self.n_colocated > 0 and counts[1:] == (0, 0)
        two_pools = self.n_colocated == 0 and min(counts[1:]) > 0
        if not (one_pool or two_pools):
            raise ValueError(
                "Fleet needs n_colocated > 0 alone, or n_prefill > 0 and n_decode > 0, got "
                f"n_colocated={counts[0]}, n_prefill={counts[1]}, n_decode={counts[2]}"
            )

    @property
    def n_engines(self) -> int:
        """Engines in all."""
        return self.n_colocated + self.n_prefill + self.n_decode

    @property
    def pools(self) -> tuple[range, ...]:
        """Numbers of the engines of each pool."""
        if self.n_colocated:
            return (range(self.n_colocated),)
        return range(self.n_prefill), range(self.n_prefill, self.n_engines)


class Failure(NamedTuple):
    """An engine that is lost with all that it holds, and comes back empty.

    Engines are counted from 0: colocated ones, or the reading pool and then the writing pool.
    """

    engine: int
    down_s: float
    up_s: float


class Span(NamedTuple):
    """A step of one engine: when, how many prompt tokens it read, how many sequences wrote."""

    engine: int
    start_s: float
    end_s: float
    prefill_tokens: int
    batch: int


class ReadPiece(NamedTuple):
    """A piece of one request's prompt that an engine read in a step."""

    engine: int
    start_s: float
    end_s: float
    tokens: int


class Transfer(NamedTuple):
    """Blocks of one request on their way from one engine to another."""

    request: int
    source: int
    target: int
    start_s: float
    end_s: float
    n_blocks: int
    skipped_blocks: int


@dataclass
class Served:
    """What became of a request.

    Args:
        request: The request.
        token_times_s: When the client got each token.
        outputs: The tokens.
        engines: Engines that worked for it, in order.
        readings: When and where its prompt was read; again after it was preempted or lost.
        cached_tokens: Prompt tokens that the reading engine found in its cache, last attempt.
        attempts: How often it was started.
        retries: How often the router tried again, refusals included.
        failed: Whether the router gave up.
        start_s: When it was sent.
    """

    request: Request
    token_times_s: list[float] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    engines: list[int] = field(default_factory=list)
    readings: list[ReadPiece] = field(default_factory=list)
    cached_tokens: int = 0
    attempts: int = 0
    retries: int = 0
    failed: bool = False
    start_s: float = 0.0

    @property
    def ttft_s(self) -> float:
        """Time to first token."""
        return self.token_times_s[0] - self.start_s

    @property
    def gaps_s(self) -> list[float]:
        """Times between neighboring tokens, as the client sees them."""
        return [b - a for a, b in zip(self.token_times_s, self.token_times_s[1:], strict=False)]

    @property
    def tpot_s(self) -> float:
        """Mean time per output token after the first; 0 for an answer of one token."""
        times = self.token_times_s
        return (times[-1] - times[0]) / max(len(times) - 1, 1)


@dataclass(frozen=True)
class Run:
    """Result of :func:`simulate`.

    Args:
        served: One a request, in the order of the requests.
        spans: Steps of all engines, by start.
        transfers: In the order of their start.
        most_in_engine: Most sequences running and parked at once, by engine.
    """

    served: list[Served]
    spans: list[Span]
    transfers: list[Transfer]
    most_in_engine: list[int]

    @property
    def makespan_s(self) -> float:
        """When the last token was written."""
        return max(s.token_times_s[-1] for s in self.served if s.token_times_s)
