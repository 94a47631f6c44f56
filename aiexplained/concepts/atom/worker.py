"""One engine as a process: it runs a model, and moves blocks to and from other engines.

Control goes through a pipe to the router's process; keys and values go straight from engine to
engine, by ``torch.distributed``. One thread listens to the router and one for each neighbor moves
blocks, so that a transfer need not wait for the model.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from aiexplained.lm import PagedCache, Segment, Transformer, paged_logits
from aiexplained.serving import EngineConfig, Plan, Scheduler, SequenceState

LoadModel = Callable[[], Transformer]


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a process needs to know to be an engine.

    Args:
        rank: Number of the engine.
        world_size: Engines in the group that exchanges blocks.
        reads_only: Whether it hands its sequences over after the first token.
        engine: Limits and rules.
        load: Makes the model; importable by name.
        backend: Of ``torch.distributed``: ``"gloo"``, or ``"nccl"`` (RCCL on AMD) on GPUs, which
            was not tried.
        device: Where the model runs.
        threads: Threads of the model.
        timeout_s: After which a transfer, or the forming of a group, counts as failed.
    """

    rank: int
    world_size: int
    reads_only: bool
    engine: EngineConfig
    load: LoadModel
    backend: str = "gloo"
    device: str = "cpu"
    threads: int = 1
    timeout_s: float = 30.0


def run_worker(setup: WorkerSetup, router: Connection) -> None:
    """Entry point of the process: serve until told to stop, or until the router is gone.

    After an error the process ends at once, whatever its threads do: the router replaces it.
    """
    try:
        torch.set_num_threads(setup.threads)
        worker = Worker(setup, router)
        router.send(("ready",))
        worker.serve()
        worker.close()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the router is gone: nobody is left to serve
    except BaseException:
        traceback.print_exc()
        os._exit(1)


class Worker:
    """An engine: scheduler, blocks and model.

    Args:
        setup: Sizes and roles.
        router: Pipe to the router.
    """

    def __init__(self, setup: WorkerSetup, router: Connection) -> None:
        self.setup, self.router = setup, router
        self.model = setup.load().to(setup.device)
        self.scheduler = Scheduler(setup.engine)
        self.cache = PagedCache(
            self.model.config,
            setup.engine.n_blocks,
            block_size=setup.engine.block_size,
            dtype=self.model.embedding.weight.dtype,
            device=setup.device,
        )
        self.movers: dict[int, ThreadPoolExecutor] = {}
        self.moving: list[Future[None]] = []
        self.first_tokens: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.inbox: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """In a thread: start transfers at once, leave all else to the loop."""
        kind = ""
        while kind != "stop":
            try:
                kind, *args = self.router.recv()
            except (EOFError, ConnectionResetError):
                kind, args = "stop", []  # the router is gone: nobody is left to serve
            if kind in ("send", "receive"):
                try:
                    getattr(self, f"on_{kind}")(*args)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)  # a worker that cannot hear is of no use
            else:
                self.inbox.put((kind, *args))

    def serve(self) -> None:
        """Alternate between messages and steps, until told to stop."""
        idle = True
        while True:
            while idle or not self.inbox.empty():
                kind, *args = self.inbox.get()
                if kind == "stop":
                    return
                getattr(self, f"on_{kind}")(*args)
                idle = False
            start = time.perf_counter()
            plan = self.scheduler.schedule(start)
            for sequence in plan.fetch:
                skipped = sequence.cached // self.setup.engine.block_size
                n_blocks = len(sequence.blocks) - skipped
                self.router.send(("wants", sequence.id, n_blocks, skipped))
            idle = plan.is_empty
            if not idle:
                self.step(plan, start)

    def on_add(self, sequence: SequenceState, first_token: int | None) -> None:
        """Queue a sequence; with a first token, its blocks come from another engine."""
        if first_token is not None:
            self.first_tokens[sequence.id] = first_token
        sequence.arrival_s = time.perf_counter()
        self.scheduler.add(sequence)

    def on_send(self, sequence_id: int, target: int, skipped: int) -> None:
        """Send the blocks of a pinned sequence, all but the first ``skipped``."""
        blocks = self.scheduler.pinned[sequence_id].blocks[skipped:]
        self.move(target, self.push, sequence_id, target, blocks)

    def on_receive(self, sequence_id: int, source: int) -> None:
        """Fill the reserved blocks of a parked sequence from another engine."""
        blocks = self.fetched(self.scheduler.parked[sequence_id])
        self.move(source, self.pull, sequence_id, source, blocks)

    def fetched(self, sequence: SequenceState) -> list[int]:
        """The blocks that another engine fills."""
        return sequence.blocks[sequence.cached // self.setup.engine.block_size :]

    def on_sent(self, sequence_id: int) -> None:
        """A thread is done with a pinned sequence: its blocks are free again."""
        if sequence_id in self.scheduler.pinned:
            self.scheduler.release(sequence_id)

    def on_received(self, sequence_id: int, start_s: float, end_s: float, contents: Tensor) -> None:
        """A thread has received a parked sequence's blocks: it runs."""
        if sequence_id not in self.scheduler.parked:
            return  # cancelled meanwhile: its blocks are others' now
        self.cache.write(self.fetched(self.scheduler.parked[sequence_id]), contents)
        token = self.held[sequence_id] = self.first_tokens.pop(sequence_id)
        self.scheduler.arrive(sequence_id, token)
        self.router.send(("received", sequence_id, start_s, end_s))

    def on_broken(self, sequence_id: int) -> None:
        """A transfer broke, so its other end died; the router will cancel the sequence."""

    def on_cancel(self, sequence_id: int) -> None:
        """Forget a sequence."""
        self.scheduler.cancel(sequence_id)
        self.first_tokens.pop(sequence_id, None)
        self.held.pop(sequence_id, None)

    def on_group(self, generation: int, host: str, port: int) -> None:
        """Join the group that exchanges blocks, leaving an earlier one in which a member died.

        Engines meet at the router's store first: where one dies before, the others learn there of
        the next group instead of waiting for it in vain.
        """
        for future in self.moving:
            future.exception()  # each ends or breaks: a dead neighbor closes its connections
        self.moving.clear()
        if dist.is_initialized():
            dist.destroy_process_group()
        timeout = timedelta(seconds=self.setup.timeout_s)
        store = TCPStore(host, port, is_master=False, timeout=timeout)
        store.set(f"{generation} {self.setup.rank}", "here")
        while not store.check([f"{generation} {r}" for r in range(self.setup.world_size)]):
            if int(store.get("generation")) != generation:
                return
            time.sleep(0.01)
        dist.init_process_group(
            self.setup.backend,
            store=PrefixStore(f"generation {generation}", store),
            rank=self.setup.rank,
            world_size=self.setup.world_size,
            timeout=timeout,
        )
        self.router.send(("grouped", generation))

    def move(self, peer: int, job: Callable[..., None], *args: Any) -> None:
        """Queue a transfer behind earlier ones with the same neighbor: both sides agree on it."""
        if peer not in self.movers:
            self.movers[peer] = ThreadPoolExecutor(max_workers=1)
        self.moving = [future for future in self.moving if not future.done()]
        self.moving.append(self.movers[peer].submit(job, *args))

    def push(self, sequence_id: int, target: int, blocks: Sequence[int]) -> None:
        """In a thread: send the contents of blocks."""
        try:
            dist.send(self.cache.read(blocks), target)
        except RuntimeError:
            self.inbox.put(("broken", sequence_id))
        else:
            self.inbox.put(("sent", sequence_id))

    def pull(self, sequence_id: int, source: int, blocks: Sequence[int]) -> None:
        """In a thread: receive the contents of blocks."""
        start = time.perf_counter()
        staging = torch.empty_like(self.cache.read(blocks))
        try:
            dist.recv(staging, source)
        except RuntimeError:
            self.inbox.put(("broken", sequence_id))
        else:
            self.inbox.put(("received", sequence_id, start, time.perf_counter(), staging))

    def step(self, plan: Plan, start: float) -> None:
        """Run the model over one step's tokens and report what came out."""
        segments = [
            Segment(p.sequence.tokens(p.start, p.start + p.count), p.start, p.sequence.blocks)
            for p in plan.prefill
        ] + [Segment(s.tokens(s.length - 1, s.length), s.length - 1, s.blocks) for s in plan.decode]
        chosen = paged_logits(self.model, self.cache, segments).argmax(dim=-1).tolist()
        writers = [*(p.sequence if p.is_last else None for p in plan.prefill), *plan.decode]
        tokens = {s.id: t for s, t in zip(writers, chosen, strict=True) if s is not None}
        contexts = [s.length for s in plan.decode]
        pieces = [(p.start, p.count) for p in plan.prefill]
        ended = self.scheduler.finish_step(
            plan, tokens, pin=self.setup.reads_only, duration_s=time.perf_counter() - start
        )
        end = time.perf_counter()
        self.router.send(("step", start, end, pieces, contexts))
        if self.setup.reads_only:
            for sequence in ended:
                self.router.send(("read", sequence.id, tokens[sequence.id], sequence.cached))
            return
        self.tell(
            [s.id for s in ended],
            {i: [token] for i, token in tokens.items()},
            [(p.sequence.id, p.sequence.cached) for p in plan.prefill],
        )

    def tell(
        self, ended: list[int], tokens: dict[int, list[int]], cached: list[tuple[int, int]]
    ) -> None:
        """Report new tokens; a first token that came from another engine goes ahead of them."""
        for sequence_id, new in tokens.items():
            if sequence_id in self.held:
                new.insert(0, self.held.pop(sequence_id))
        self.router.send(("tokens", tokens, ended, cached))

    def close(self) -> None:
        """End the threads and leave the group."""
        for mover in self.movers.values():
            mover.shutdown(wait=False, cancel_futures=True)
        if dist.is_initialized():
            dist.destroy_process_group()
