"""A router over real engines: processes that read prompts, processes that write answers.

The router passes a request to a reading engine, then with its first token to a writing one, and
collects the tokens. It is also the supervisor: an engine that dies is replaced, a new group for the
exchange of blocks is formed, and what was in the dead engine's hands is queued again, with the
tokens that the client has already. There is no wait between tries and no circuit breaker here;
the simulator has both.
"""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from aiexplained.concepts.atom.relay import Engine, PoolRun, Relay
from aiexplained.concepts.atom.worker import LoadModel, WorkerSetup, run_worker
from aiexplained.serving import (
    EngineConfig,
    Fleet,
    LeastLoaded,
    Request,
    RoutingPolicy,
    Scheduler,
    SequenceState,
)

HOST = "127.0.0.1"


class Pools:
    """Engines in processes of their own; use as a context manager.

    Args:
        load: Makes the model, in each process; importable by name.
        n_colocated: Engines that read and write; or
        n_prefill: engines that read, and
        n_decode: engines that write.
        engine: Limits and rules of each engine.
        prefill_policy: Which engine reads a prompt; default: the one with the fewest tokens.
        decode_policy: Which engine writes; same default.
        backend: Of ``torch.distributed``.
        devices: One an engine; default: the CPU.
        threads: Threads of each engine.
        max_replacements: Deaths in one call of :meth:`serve` after which it gives up.

    Raises:
        ValueError: if there is not one pool of engines or two, or not a device for each.
    """

    def __init__(
        self,
        load: LoadModel,
        *,
        n_colocated: int = 0,
        n_prefill: int = 0,
        n_decode: int = 0,
        engine: EngineConfig | None = None,
        prefill_policy: RoutingPolicy | None = None,
        decode_policy: RoutingPolicy | None = None,
        backend: str = "gloo",
        devices: Sequence[str] = (),
        threads: int = 1,
        max_replacements: int = 5,
    ) -> None:
        fleet = Fleet(n_colocated=n_colocated, n_prefill=n_prefill, n_decode=n_decode)
        n, self.pools = fleet.n_engines, fleet.pools
        if devices and len(devices) != n:
            raise ValueError(f"Pools needs a device for each of {n} engines, got {len(devices)}")
        self.max_replacements = max_replacements
        self.policies = (prefill_policy or LeastLoaded(), decode_policy or LeastLoaded())
        self.setups = [
            WorkerSetup(
                rank=rank,
                world_size=n,
                reads_only=rank < n_prefill,
                engine=engine or EngineConfig(n_blocks=512),
                load=load,
                backend=backend,
                device=devices[rank] if devices else "cpu",
                threads=threads,
            )
            for rank in range(n)
        ]
        self.engines: list[Engine] = []
        self.generation = self._attempts = 0

    def __enter__(self) -> Self:
        self.store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        self.engines = [self.start(setup) for setup in self.setups]
        try:
            for engine in self.engines:
                self._expect(engine, "ready")
            self.regroup()
            for engine in self.engines if len(self.pools) > 1 else ():
                self._expect(engine, "grouped")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for engine in self.engines:
            self.tell(engine.setup.rank, "stop")
        for engine in self.engines:
            engine.process.join(timeout=10)
            if engine.process.is_alive():
                engine.process.kill()
                engine.process.join()
            engine.pipe.close()
        self.engines = []

    def _check(self, requests: Sequence[Request], lose: Mapping[int, int]) -> None:
        if len({request.id for request in requests}) != len(requests):
            raise ValueError("requests need ids of their own")
        scheduler = Scheduler(self.setups[0].engine)
        for r in requests:
            scheduler.add(SequenceState(r.id, r.prompt, r.max_new_tokens))
        for rank in lose:
            if not 0 <= rank < len(self.engines):
                raise ValueError(f"lose names engine {rank}, there are {len(self.engines)}")

    def kill(self, rank: int) -> None:
        """End one engine's process at once, as a crash would.

        Args:
            rank: Number of the engine.
        """
        self.engines[rank].process.kill()

    def start(self, setup: WorkerSetup) -> Engine:
        """Start the process of an engine.

        Args:
            setup: What it is.
        """
        context = mp.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=run_worker, args=(setup, theirs), daemon=True)
        process.start()
        theirs.close()
        return Engine(setup, process, ours)

    def _expect(self, engine: Engine, kind: str) -> None:
        """Wait for one message; a process that dies instead is an error."""
        try:
            message = engine.pipe.recv()
        except EOFError:
            engine.process.join()
            raise RuntimeError(
                f"engine {engine.setup.rank} ended with code {engine.process.exitcode} before it "
                f"was {kind}"
            ) from None
        if message[0] != kind:
            raise RuntimeError(f"engine {engine.setup.rank}: expected {kind!r}, got {message[0]!r}")

    def next_attempt(self) -> int:
        """A number that no sequence had before."""
        self._attempts += 1
        return self._attempts

    def regroup(self) -> None:
        """Let all engines form a new group; engines that share nothing need none."""
        if len(self.pools) == 1:
            return
        self.generation += 1
        self.store.set("generation", str(self.generation))
        for engine in self.engines:
            self.tell(engine.setup.rank, "group", self.generation, HOST, self.store.port)

    def tell(self, rank: int, *message: Any) -> None:
        """Send to an engine; one that has just died is found out when its pipe is read.

        Args:
            rank: Number of the engine.
            message: Kind and arguments.
        """
        with suppress(BrokenPipeError, ConnectionResetError, OSError):
            self.engines[rank].pipe.send(message)

    def serve(
        self,
        requests: Sequence[Request],
        *,
        lose: Mapping[int, int] | None = None,
    ) -> PoolRun:
        """Answer requests as they arrive, by the clock.

        Args:
            requests: In order of arrival; answers have exactly ``max_new_tokens`` tokens.
            lose: Engine to tokens: its process is killed once so many tokens were delivered, to
                see what becomes of the requests.

        Returns:
            Tokens with the times at which the router got them.

        Raises:
            ValueError: if two requests have one id, one could not run alone on an engine, or
                ``lose`` names no engine; nothing is sent then.
            RuntimeError: outside of a ``with`` block, or if engines die again and again.
        """
        if not self.engines:
            raise RuntimeError("Pools serves inside of a with block, where its engines run")
        self._check(requests, lose or {})
        return Relay(self, requests, dict(lose or {})).run()
