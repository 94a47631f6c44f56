"""The router's loop over real engines, and what it does when one of them dies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from aiexplained.concepts.atom.worker import WorkerSetup
from aiexplained.serving import (
    Request,
    RoutingPolicy,
    SequenceState,
    Served,
    Span,
    Transfer,
    WorkerLoad,
)

if TYPE_CHECKING:
    from aiexplained.concepts.atom.pools import Pools


class Step(NamedTuple):
    """What one step of an engine did, and how long it took.

    ``prefill`` holds a pair for each piece of a prompt: tokens before it, tokens of it.
    """

    engine: int
    start_s: float
    end_s: float
    prefill: tuple[tuple[int, int], ...]
    decode_contexts: tuple[int, ...]

    @property
    def span(self) -> Span:
        """The same, without the lengths."""
        read = sum(count for _, count in self.prefill)
        return Span(self.engine, self.start_s, self.end_s, read, len(self.decode_contexts))


@dataclass(frozen=True)
class PoolRun:
    """Result of :meth:`Pools.serve`; all times in seconds since its start.

    Args:
        served: One a request, in the order of the requests.
        steps: Of all engines, in the order of their reports.
        transfers: In the order of their ends.
        replaced: Engines that died and were replaced.
    """

    served: list[Served]
    steps: list[Step] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)


@dataclass
class Engine:
    """A process, the pipe to it, and the attempts in its hands with their tokens."""

    setup: WorkerSetup
    process: Any
    pipe: Connection
    assigned: dict[int, int] = field(default_factory=dict)


@dataclass
class _Attempt:
    """A request in the hands of an engine or two; its number is the sequence's in the engines."""

    served: Served
    engines: tuple[int, ...]
    moved: tuple[int, int] = (0, 0)

    @property
    def prompt(self) -> list[int]:
        """What there is to read: the prompt, and the tokens of earlier attempts."""
        return [*self.served.request.prompt, *self.served.outputs]

    @property
    def left(self) -> int:
        """Tokens to write."""
        return self.served.request.max_new_tokens - len(self.served.outputs)


class Relay:
    """One call of :meth:`Pools.serve`.

    Args:
        pools: The engines.
        requests: What to answer.
        lose: Engines to kill, each once so many tokens were delivered.
    """

    def __init__(self, pools: Pools, requests: Sequence[Request], lose: dict[int, int]) -> None:
        self.pools, self.lose = pools, lose
        self.out = PoolRun([Served(r, start_s=r.arrival_s) for r in requests])
        self.arriving = deque(sorted(self.out.served, key=lambda s: s.start_s))
        self.attempts: dict[int, _Attempt] = {}
        self.wants: deque[tuple[int, int, int]] = deque()
        self.joining: set[int] = set()
        self.booting: set[int] = set()
        self.n_done = self.n_tokens = 0

    def run(self) -> PoolRun:
        """Until every request is answered and every engine is back."""
        self.start = time.perf_counter()
        while self.n_done < len(self.out.served) or self.joining:
            while self.arriving and self.arriving[0].start_s <= self.now():
                self.dispatch(self.arriving.popleft())
            self.listen(max(self.arriving[0].start_s - self.now(), 0) if self.arriving else None)
            for rank in [r for r, after in self.lose.items() if self.n_tokens >= after]:
                del self.lose[rank]
                self.pools.kill(rank)
        return self.out

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def listen(self, timeout: float | None) -> None:
        """Handle what engines send, and their deaths."""
        engines = list(self.pools.engines)
        ready = wait([engine.pipe for engine in engines], timeout)
        for engine in engines:
            if engine.pipe not in ready:
                continue
            try:
                kind, *args = engine.pipe.recv()
            except (EOFError, ConnectionResetError):
                self.replace(engine)
            else:
                getattr(self, f"on_{kind}")(engine.setup.rank, *args)

    def tell(self, rank: int, *message: Any) -> None:
        """Send to an engine."""
        self.pools.tell(rank, *message)

    # Requests -----------------------------------------------------------------------------------

    def choose(self, request: Request, pool: range, policy: RoutingPolicy) -> int:
        """Rank of the engine that a policy picks from a pool."""
        up = [rank for rank in pool if rank not in self.booting] or pool
        engines = self.pools.engines
        loads = [
            WorkerLoad(len(engines[rank].assigned), sum(engines[rank].assigned.values()))
            if rank in up
            else None
            for rank in pool
        ]
        return pool[policy.choose(request, loads, self.now())]

    def dispatch(self, served: Served) -> None:
        """Give a request to an engine, or to a pair of them."""
        chosen = tuple(
            self.choose(served.request, *pair)
            for pair in zip(self.pools.pools, self.pools.policies, strict=False)
        )
        number = self.pools.next_attempt()
        attempt = self.attempts[number] = _Attempt(served, chosen)
        served.attempts += 1
        served.engines += chosen
        prompt = attempt.prompt
        for rank in chosen:
            self.pools.engines[rank].assigned[number] = len(prompt) + attempt.left
        n_here = attempt.left if len(chosen) == 1 else 1
        self.tell(chosen[0], "add", SequenceState(number, prompt, n_here), None)

    def deliver(self, served: Served, tokens: Sequence[int]) -> None:
        """Pass tokens on to the client."""
        served.outputs += tokens
        served.token_times_s += [self.now()] * len(tokens)
        self.n_tokens += len(tokens)

    def finish(self, number: int) -> None:
        """A request has its last token."""
        self.n_done += 1
        self.forget(number)

    def forget(self, number: int) -> _Attempt:
        """Take an attempt out of the books."""
        attempt = self.attempts.pop(number)
        for rank in attempt.engines:
            self.pools.engines[rank].assigned.pop(number, None)
        return attempt

    # Messages; those of an attempt that is over are ignored -------------------------------------

    def on_step(
        self,
        rank: int,
        start_s: float,
        end_s: float,
        prefill: list[tuple[int, int]],
        contexts: list[int],
    ) -> None:
        """An engine ran a step."""
        self.out.steps.append(
            Step(rank, start_s - self.start, end_s - self.start, tuple(prefill), tuple(contexts))
        )

    def on_tokens(
        self,
        rank: int,
        tokens: Mapping[int, list[int]],
        ended: Sequence[int],
        cached: Sequence[tuple[int, int]],
    ) -> None:
        """An engine wrote tokens."""
        for number, n_cached in cached:
            if number in self.attempts and len(self.attempts[number].engines) == 1:
                self.attempts[number].served.cached_tokens = n_cached
        for number, new in tokens.items():
            if number in self.attempts:
                self.deliver(self.attempts[number].served, new)
        for number in ended:
            if number in self.attempts:
                self.finish(number)

    def on_read(self, rank: int, number: int, token: int, cached: int) -> None:
        """A prompt is read: pass the request on, with its first token."""
        attempt = self.attempts.get(number)
        if attempt is None:
            return
        attempt.served.cached_tokens = cached
        if attempt.left == 1:
            self.tell(rank, "cancel", number)
            self.deliver(attempt.served, [token])
            self.finish(number)
            return
        sequence = SequenceState(number, attempt.prompt, attempt.left, remote=True)
        self.tell(attempt.engines[1], "add", sequence, token)

    def on_wants(self, rank: int, number: int, n_blocks: int, skipped: int) -> None:
        """A writing engine has reserved blocks."""
        self.wants.append((number, n_blocks, skipped))
        self.connect()

    def connect(self) -> None:
        """Let both sides of each wanted transfer begin, once all engines are in one group."""
        while self.wants and not self.joining:
            number, n_blocks, skipped = self.wants.popleft()
            if number in self.attempts:
                self.attempts[number].moved = (n_blocks, skipped)
                source, target = self.attempts[number].engines
                self.tell(source, "send", number, target, skipped)
                self.tell(target, "receive", number, source)

    def on_received(self, rank: int, number: int, start_s: float, end_s: float) -> None:
        """Blocks have arrived."""
        if number not in self.attempts:
            return
        attempt = self.attempts[number]
        source, target = attempt.engines
        self.pools.engines[source].assigned.pop(number, None)
        times = (start_s - self.start, end_s - self.start)
        self.out.transfers.append(
            Transfer(attempt.served.request.id, source, target, *times, *attempt.moved)
        )

    # Deaths -------------------------------------------------------------------------------------

    def replace(self, dead: Engine) -> None:
        """Start a new process for a dead one, and queue again what it held."""
        rank = dead.setup.rank
        dead.process.join(timeout=5)
        if dead.process.is_alive():
            dead.process.kill()
            dead.process.join()
        dead.pipe.close()
        self.out.replaced.append(rank)
        if len(self.out.replaced) > self.pools.max_replacements:
            raise RuntimeError(
                f"engines died {len(self.out.replaced)} times, the last was engine {rank}, with "
                f"code {dead.process.exitcode}; max_replacements is {self.pools.max_replacements}"
            )
        lost = sorted(dead.assigned)
        self.pools.engines[rank] = self.pools.start(dead.setup)
        self.booting.add(rank)
        if len(self.pools.pools) > 1:
            self.joining = {engine.setup.rank for engine in self.pools.engines}
        for number in lost:
            attempt = self.forget(number)
            for other in attempt.engines:
                if other != rank:
                    self.tell(other, "cancel", number)
            self.dispatch(attempt.served)

    def on_ready(self, rank: int) -> None:
        """A replacement has loaded its model."""
        self.booting.discard(rank)
        if not self.booting:
            self.pools.regroup()

    def on_grouped(self, rank: int, generation: int) -> None:
        """An engine is in the new group."""
        if generation == self.pools.generation:
            self.joining.discard(rank)
            self.connect()
