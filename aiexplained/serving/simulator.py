"""Discrete-event simulation of language-model servers: one pool of engines, or two.

Every engine runs the real :class:`~aiexplained.serving.Scheduler`; only time is modeled, by
:class:`~aiexplained.serving.StepCost` and :class:`~aiexplained.serving.Link`. *Colocated* engines
read prompts and write answers. With *two pools*, one engine reads a prompt and writes the first
token; then whole blocks of keys and values move to an engine of the other pool, which writes the
rest. As in ATOM's relay, the first token travels along and reaches the client with the second.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from aiexplained.serving.fleet import (
    Failure,
    Fleet,
    ReadPiece,
    Run,
    Served,
    Span,
    Transfer,
)
from aiexplained.serving.requests import Request
from aiexplained.serving.routing import LeastLoaded, Retries, RoutingPolicy, WorkerLoad
from aiexplained.serving.scheduler import EngineConfig, Scheduler
from aiexplained.serving.sequences import Plan, SequenceState


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
            reading = ReadPiece(index, self.now, self.now + seconds, p.count)
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
