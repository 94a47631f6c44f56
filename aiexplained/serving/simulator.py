"""Discrete-event simulation of language-model servers: one pool of engines, or two.

Every engine runs the real :class:`~aiexplained.serving.Scheduler`; only time is modeled, by
:class:`~aiexplained.serving.StepCost` and :class:`Link`. *Colocated* engines read prompts and write
answers. With *two pools*, one engine reads a prompt and writes the first token; then whole blocks
of keys and values move to an engine of the other pool, which writes the rest. As in ATOM's relay,
the first token travels along and reaches the client together with the second.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from aiexplained.serving.requests import Request
from aiexplained.serving.routing import LeastLoaded, Retries, RoutingPolicy, WorkerLoad
from aiexplained.serving.scheduler import EngineConfig, Plan, Scheduler, SequenceState
from aiexplained.serving.step_cost import StepCost


@dataclass(frozen=True, kw_only=True)
class Link:
    """How keys and values travel. An engine sends, or receives, one prompt at a time.

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


class Reading(NamedTuple):
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
    """

    request: Request
    token_times_s: list[float] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    engines: list[int] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
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


class _Engine:
    def __init__(self, config: EngineConfig) -> None:
        self.config, self.epoch, self.up = config, 0, True
        self.reset()

    def reset(self) -> None:
        self.scheduler = Scheduler(self.config)
        self.plan: Plan | None = None
        self.link_free_s = 0.0
        self.epoch += 1


def made_up_token(sequence: SequenceState) -> int:
    """A next token that depends on the last one and the place: a lost or doubled one shows."""
    last = sequence.outputs[-1] if sequence.outputs else int(sequence.prompt[-1])
    return (31 * last + 7 * sequence.length + 3) % 997


def simulate(
    requests: Sequence[Request],
    fleet: Fleet,
    *,
    prefill_policy: RoutingPolicy | None = None,
    decode_policy: RoutingPolicy | None = None,
    failures: Sequence[Failure] = (),
    retries: Retries | None = None,
    concurrency: int | None = None,
    next_token: Callable[[SequenceState], int] = made_up_token,
) -> Run:
    """Serve ``requests``.

    Args:
        requests: In order of arrival.
        fleet: The engines.
        prefill_policy: Which engine reads a prompt (or does all, if colocated); default: the one
            with the fewest tokens.
        decode_policy: Which engine of the second pool writes; same default.
        failures: When engines are lost.
        retries: How the router tries again, and when it avoids an engine.
        concurrency: So many requests are in flight at any time, whatever their arrival times: the
            next one starts when one ends.
        next_token: The language model: the token that follows a sequence.

    Raises:
        ValueError: if there is no request, two have one id, ``concurrency`` is below 1, a request
            could not run alone on an engine, or a failure names no engine.
    """
    if not requests:
        raise ValueError("simulate needs at least one request")
    request_id, times = Counter(request.id for request in requests).most_common(1)[0]
    if times > 1:
        raise ValueError(f"requests need ids of their own, got {request_id} {times} times")
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, got {concurrency}")
    for failure in failures:
        if not 0 <= failure.engine < fleet.n_engines or failure.up_s <= failure.down_s:
            raise ValueError(
                f"a failure needs an engine below {fleet.n_engines} and down_s < up_s, "
                f"got {failure}"
            )
    policies = (prefill_policy or LeastLoaded(), decode_policy or LeastLoaded())
    loop = _Loop(requests, fleet, policies, retries or Retries(), next_token)
    return loop.run(failures, concurrency)


class _Loop:
    """The event loop: what happens, in order of time."""

    def __init__(
        self,
        requests: Sequence[Request],
        fleet: Fleet,
        policies: tuple[RoutingPolicy, RoutingPolicy],
        retries: Retries,
        next_token: Callable[[SequenceState], int],
    ) -> None:
        self.fleet, self.policies, self.retries, self.next_token = (
            fleet, policies, retries, next_token,
        )  # fmt: skip
        self.engines = [_Engine(fleet.engine) for _ in range(fleet.n_engines)]
        self.breakers = [retries.breaker() for _ in self.engines]
        self.served = {r.id: Served(r) for r in requests}
        self.queue: list[Request] = []
        self.first_tokens: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.pair: dict[int, tuple[int, int]] = {}
        self.meant: list[dict[int, int]] = [{} for _ in self.engines]
        self.failed_tries: dict[int, int] = {}
        self.spans: list[Span] = []
        self.transfers: list[Transfer] = []
        self.most = [0] * fleet.n_engines
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.order = count()
        self.now = 0.0

    def at(self, time_s: float, action: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self.events, (time_s, next(self.order), action, args))

    def run(self, failures: Sequence[Failure], concurrency: int | None) -> Run:
        requests = [s.request for s in self.served.values()]
        if concurrency is None:
            for request in requests:
                self.at(request.arrival_s, self.start, request, request.arrival_s)
        else:
            self.queue = requests[concurrency:][::-1]
            for request in requests[:concurrency]:
                self.at(0.0, self.start, request, 0.0)
        for failure in failures:
            self.at(failure.down_s, self.lose, failure.engine)
            self.at(failure.up_s, self.recover, failure.engine)
        while self.events:
            self.now, _, action, args = heapq.heappop(self.events)
            action(*args)
        self.spans.sort(key=lambda span: (span.start_s, span.engine))
        self.transfers.sort(key=lambda transfer: transfer.start_s)
        return Run(list(self.served.values()), self.spans, self.transfers, self.most)

    def start(self, request: Request, start_s: float) -> None:
        self.served[request.id].start_s = start_s
        self.dispatch(request.id)

    # The router ---------------------------------------------------------------------------------

    def choose(self, request: Request, pool: range, policy: RoutingPolicy) -> int | None:
        loads = [self.load(i) if self.breakers[i].allows(self.now) else None for i in pool]
        if all(load is None for load in loads):
            return None
        return pool[policy.choose(request, loads, self.now)]

    def load(self, index: int) -> WorkerLoad:
        """What is in an engine, and what the router has already meant for it."""
        scheduler, meant = self.engines[index].scheduler, self.meant[index]
        return WorkerLoad(
            scheduler.n_sequences + len(meant), scheduler.load_tokens + sum(meant.values())
        )

    def dispatch(self, request_id: int) -> None:
        served = self.served[request_id]
        chosen = [
            i
            for pool, policy in zip(self.fleet.pools, self.policies, strict=False)
            if (i := self.choose(served.request, pool, policy)) is not None
        ]
        refused = [i for i in chosen if not self.engines[i].up]
        for i in refused:
            self.breakers[i].failed(self.now)
        if refused or len(chosen) < len(self.fleet.pools):
            self.try_again(request_id)
            return
        first, last = chosen[0], chosen[-1]
        self.pair[request_id] = (first, last)
        served.attempts += 1
        served.engines += [first] if first == last else [first, last]
        n_left = served.request.max_new_tokens - len(served.outputs)
        sequence = SequenceState(
            request_id,
            [*served.request.prompt, *served.outputs] if served.outputs else served.request.prompt,
            n_left if first == last else 1,
            arrival_s=self.now,
        )
        self.engines[first].scheduler.add(sequence)
        if first != last:
            self.meant[last][request_id] = sequence.length
        self.wake(first)

    def try_again(self, request_id: int) -> None:
        tries = self.failed_tries[request_id] = self.failed_tries.get(request_id, 0) + 1
        if tries > self.retries.max_retries:
            self.served[request_id].failed = True
            self.next_in_queue()
        else:
            self.served[request_id].retries = tries
            self.at(self.now + self.retries.wait_s(tries, request_id), self.dispatch, request_id)

    def next_in_queue(self) -> None:
        if self.queue:
            self.at(self.now, self.start, self.queue.pop(), self.now)

    # An engine's step ---------------------------------------------------------------------------

    def wake(self, index: int) -> None:
        engine = self.engines[index]
        if engine.plan is not None or not engine.up:
            return
        scheduler = engine.scheduler
        plan = scheduler.schedule(self.now)
        self.most[index] = max(self.most[index], len(scheduler.running) + len(scheduler.parked))
        for sequence in plan.fetch:
            self.send(sequence, index)
        if plan.is_empty:
            return
        seconds = self.fleet.cost.seconds(
            prefill=[(p.start, p.count) for p in plan.prefill],
            decode_contexts=[s.length for s in plan.decode],
        )
        for p in plan.prefill:
            reading = Reading(index, self.now, self.now + seconds, p.count)
            self.served[p.sequence.id].readings.append(reading)
        engine.plan = plan
        read = sum(p.count for p in plan.prefill)
        self.spans.append(Span(index, self.now, self.now + seconds, read, len(plan.decode)))
        self.at(self.now + seconds, self.step_ends, index, engine.epoch, seconds)

    def step_ends(self, index: int, epoch: int, seconds: float) -> None:
        engine = self.engines[index]
        if epoch != engine.epoch or engine.plan is None:
            return
        plan, engine.plan = engine.plan, None
        writers = [p.sequence for p in plan.prefill if p.is_last] + list(plan.decode)
        tokens = {s.id: self.next_token(s) for s in writers}
        reads_only = index < self.fleet.n_prefill
        ended = engine.scheduler.finish_step(plan, tokens, pin=reads_only, duration_s=seconds)
        self.breakers[index].succeeded()
        if index in self.fleet.pools[0]:
            for piece in plan.prefill:
                if piece.start == piece.sequence.cached and not piece.sequence.preemptions:
                    self.served[piece.sequence.id].cached_tokens = piece.start
        if not reads_only:
            for sequence in writers:
                self.emit(sequence.id, tokens[sequence.id])
        for sequence in ended:
            if reads_only:
                self.hand_over(sequence)
            else:
                self.next_in_queue()
        self.wake(index)

    def emit(self, request_id: int, token: int) -> None:
        served = self.served[request_id]
        for each in ([self.held.pop(request_id)] if request_id in self.held else []) + [token]:
            served.outputs.append(each)
            served.token_times_s.append(self.now)

    # From pool to pool --------------------------------------------------------------------------

    def hand_over(self, sequence: SequenceState) -> None:
        """The prompt is read: the router passes the request and its first token on."""
        request_id = sequence.id
        source, target = self.pair[request_id]
        self.meant[target].pop(request_id)
        served = self.served[request_id]
        n_left = served.request.max_new_tokens - len(served.outputs)
        if n_left == 1:
            self.engines[source].scheduler.release(request_id)
            self.emit(request_id, sequence.outputs[0])
            self.next_in_queue()
            return
        if not self.engines[target].up:
            self.engines[source].scheduler.release(request_id)
            self.breakers[target].failed(self.now)
            self.try_again(request_id)
            return
        self.first_tokens[request_id] = sequence.outputs[0]
        waiting = SequenceState(
            request_id, sequence.prompt, n_left, arrival_s=self.now, remote=True
        )
        self.engines[target].scheduler.add(waiting)
        self.wake(target)

    def send(self, sequence: SequenceState, target: int) -> None:
        source = self.pair[sequence.id][0]
        sender, receiver = self.engines[source], self.engines[target]
        size = self.fleet.engine.block_size
        skipped = sequence.cached // size
        n_blocks = len(sequence.blocks) - skipped
        start = max(self.now, sender.link_free_s, receiver.link_free_s)
        end = start + self.fleet.link.seconds(n_blocks * size)
        sender.link_free_s = receiver.link_free_s = end
        self.transfers.append(Transfer(sequence.id, source, target, start, end, n_blocks, skipped))
        self.at(end, self.arrives, sequence.id, source, target, sender.epoch, receiver.epoch)

    def arrives(self, request_id: int, source: int, target: int, sent: int, received: int) -> None:
        if (sent, received) != (self.engines[source].epoch, self.engines[target].epoch):
            return  # one of them was lost on the way; the router has begun anew
        self.engines[source].scheduler.release(request_id)
        token = self.held[request_id] = self.first_tokens.pop(request_id)
        self.engines[target].scheduler.arrive(request_id, token)
        self.wake(source)
        self.wake(target)

    # Failures -----------------------------------------------------------------------------------

    def lose(self, index: int) -> None:
        engine = self.engines[index]
        scheduler = engine.scheduler
        lost = {
            s.id
            for group in (scheduler.waiting, scheduler.running, scheduler.parked.values(),
                          scheduler.pinned.values())
            for s in group
        }  # fmt: skip
        engine.up = False
        engine.reset()
        self.cut_short(index)
        for request_id in sorted(lost):
            for other in self.pair[request_id]:
                if other != index:
                    self.engines[other].scheduler.cancel(request_id)
            self.meant[self.pair[request_id][1]].pop(request_id, None)
            self.first_tokens.pop(request_id, None)
            self.held.pop(request_id, None)
            self.breakers[index].failed(self.now)
            self.try_again(request_id)
        for other in sorted({i for request_id in lost for i in self.pair[request_id]} - {index}):
            self.wake(other)  # it may have waited for the blocks that are free now

    def cut_short(self, index: int) -> None:
        """Nothing that an engine does outlasts its loss."""
        self.spans = [
            span._replace(end_s=min(span.end_s, self.now)) if span.engine == index else span
            for span in self.spans
            if span.engine != index or span.start_s < self.now
        ]
        self.transfers = [
            t._replace(end_s=min(t.end_s, self.now)) if index in (t.source, t.target) else t
            for t in self.transfers
            if index not in (t.source, t.target) or t.start_s < self.now
        ]

    def recover(self, index: int) -> None:
        self.engines[index].up = True
