"""What one engine does in its next step: prompts to read, tokens to write, blocks to fetch.

Two policies. *Prefill first*: a step that reads any prompt writes no token (ATOM's engine,
``atom/model_engine/scheduler.py``). *Mixed*: every step first serves all that are writing, then
fills what is left of its token budget with pieces of prompts (chunked prefill, Sarathi-Serve).

The same object drives the simulator and real workers: it decides, and does not know time or
tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiexplained.serving.block_pool import BlockPool
from aiexplained.serving.sequences import Piece, Plan, SequenceState

CHUNK_MULTIPLE = 64
Policy = Literal["prefill first", "mixed"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Limits and rules of one engine; the defaults are ATOM's.

    Args:
        n_blocks: Blocks of keys and values that fit into memory.
        block_size: Tokens a block.
        max_num_seqs: Most sequences in the engine at once, parked ones included.
        max_num_batched_tokens: Most tokens a step.
        policy: ``"prefill first"`` or ``"mixed"``.
        prefix_caching: Whether sequences share blocks.
        delay_factor: Prefill waits until the oldest prompt has waited this many times as long as
            the last prompt took to read, or nothing is running; 0 switches it off.
    """

    n_blocks: int = 20_000
    block_size: int = 16
    max_num_seqs: int = 512
    max_num_batched_tokens: int = 16_384
    policy: Policy = "prefill first"
    prefix_caching: bool = True
    delay_factor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_blocks", "block_size", "max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"EngineConfig.{name} must be at least 1, got {getattr(self, name)}"
                )
        if self.policy not in ("prefill first", "mixed"):
            raise ValueError(
                f"EngineConfig.policy must be 'prefill first' or 'mixed', got {self.policy!r}"
            )
        if self.delay_factor < 0:
            raise ValueError(
                f"EngineConfig.delay_factor must not be negative, got {self.delay_factor}"
            )


class Scheduler:
    """Queues and blocks of one engine.

    Args:
        config: Limits and rules.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.pool = BlockPool(config.n_blocks, block_size=config.block_size)
        self.waiting: deque[SequenceState] = deque()
        self.running: list[SequenceState] = []
        self.parked: dict[int, SequenceState] = {}
        self.pinned: dict[int, SequenceState] = {}
        self.last_prefill_s = 0.0

    @property
    def load_tokens(self) -> int:
        """Tokens of all sequences in the engine, what a router balances."""
        return sum(s.length for s in (*self.waiting, *self.running, *self.parked.values()))

    @property
    def n_sequences(self) -> int:
        """Sequences in the engine, pinned ones apart."""
        return len(self.waiting) + len(self.running) + len(self.parked)

    def add(self, sequence: SequenceState) -> None:
        """Queue a sequence.

        Raises:
            ValueError: if it could not run even alone; nothing is queued then.
        """
        # The last token that is written has no keys and values: nothing follows it.
        need = self.pool.blocks_for(len(sequence.prompt) + sequence.max_new_tokens - 1)
        if need > self.pool.n_blocks:
            raise ValueError(
                f"sequence {sequence.id} needs {need} blocks, the engine has {self.pool.n_blocks}"
            )
        self.waiting.append(sequence)

    def schedule(self, now_s: float = 0.0) -> Plan:
        """Decide the next step; reserve the blocks that it needs.

        Args:
            now_s: The time, for the delay gate.
        """
        fetch = self._park()
        if self.config.policy == "mixed":
            decode, preempted = self._decode()
            left = self.config.max_num_batched_tokens - len(decode)
            return Plan(self._prefill(left, now_s, bool(decode)), decode, fetch, preempted)
        prefill = self._prefill(self.config.max_num_batched_tokens, now_s, False)
        if prefill:
            return Plan(prefill, fetch=fetch)
        decode, preempted = self._decode()
        return Plan((), decode, fetch, preempted)

    def _has_room(self) -> bool:
        return len(self.running) + len(self.parked) < self.config.max_num_seqs

    def _park(self) -> tuple[SequenceState, ...]:
        """Reserve blocks for prompts that another engine sends, in order of arrival."""
        fetch = []
        while self.waiting and self.waiting[0].remote and self._has_room():
            sequence = self.waiting[0]
            if not self._reserve(sequence):
                break
            self.parked[sequence.id] = self.waiting.popleft()
            fetch.append(sequence)
        return tuple(fetch)

    def _prefill(self, budget: int, now_s: float, has_tokens: bool) -> tuple[Piece, ...]:
        pieces: list[Piece] = []
        unread = [s for s in self.running if s.computed < s.length - 1 or not s.outputs]
        for sequence in unread:  # begun in an earlier step, cut by its budget
            count = self._cut(
                sequence.length - sequence.computed, budget, has_tokens or bool(pieces)
            )
            if count:
                pieces.append(Piece(sequence, sequence.computed, count))
                budget -= count
        while self.waiting and not self.waiting[0].remote and self._has_room():
            sequence = self.waiting[0]
            if self._delayed(sequence, now_s) or budget < 1:
                break
            shared = self._shared(sequence)
            new = sequence.length - len(shared) * self.config.block_size
            count = self._cut(new, budget, has_tokens or bool(pieces))
            if not count or not self._reserve(sequence):
                break
            self.running.append(self.waiting.popleft())
            pieces.append(Piece(sequence, sequence.computed, count))
            budget -= count
        return tuple(pieces)

    def _cut(self, new: int, budget: int, batch_has_tokens: bool) -> int:
        """Tokens of a prompt that fit.

        Prefill first cuts to a multiple of the block size and of 64; mixed steps fill their budget.
        """
        if new <= budget or self.config.policy == "mixed":
            return max(min(new, budget), 0)
        multiple = max(self.config.block_size, CHUNK_MULTIPLE)
        whole = max(budget, 0) // multiple * multiple
        return whole if whole or batch_has_tokens else max(budget, 0)

    def _delayed(self, sequence: SequenceState, now_s: float) -> bool:
        wait = self.config.delay_factor * self.last_prefill_s
        return bool(wait and self.running and now_s - sequence.arrival_s <= wait)

    def _shared(self, sequence: SequenceState) -> list[int]:
        if not self.config.prefix_caching:
            return []
        # The last token is always computed: its output is needed.
        names = sequence.hashes(sequence.length - 1, self.config.block_size)
        return self.pool.match(names)

    def _reserve(self, sequence: SequenceState) -> bool:
        """Blocks for all its tokens, those with a known opening shared."""
        shared = self._shared(sequence)
        n_new = self.pool.blocks_for(sequence.length) - len(shared)
        if not self.pool.can_take(shared, n_new):
            return False
        sequence.blocks = self.pool.take(shared, n_new)
        sequence.computed = sequence.cached = len(shared) * self.config.block_size
        sequence.named = len(shared)
        return True

    def _decode(self) -> tuple[tuple[SequenceState, ...], tuple[SequenceState, ...]]:
        """All that write, each with room for its token; the last one yields where room is short."""
        preempted: list[SequenceState] = []
        decode: list[SequenceState] = []
        for sequence in list(self.running):
            if len(decode) == self.config.max_num_batched_tokens:
                break
            if not sequence.outputs or sequence.computed != sequence.length - 1:
                continue
            if self.pool.blocks_for(sequence.length) > len(sequence.blocks):
                while not self.pool.n_free and sequence not in preempted:
                    preempted.append(self._preempt())
                if sequence in preempted:
                    break  # it was the last one that ran
                sequence.blocks += self.pool.take((), 1)
            decode.append(sequence)
        return tuple(s for s in decode if s not in preempted), tuple(preempted)

    def _preempt(self) -> SequenceState:
        sequence = self.running.pop()
        self.pool.release(sequence.blocks)
        sequence.blocks, sequence.computed, sequence.named = [], 0, 0
        sequence.preemptions += 1
        self.waiting.appendleft(sequence)
        return sequence

    def finish_step(
        self,
        plan: Plan,
        new_tokens: Mapping[int, int],
        *,
        pin: bool = False,
        duration_s: float = 0.0,
    ) -> list[SequenceState]:
        """Book the results of a step.

        Args:
            plan: From :meth:`schedule`.
            new_tokens: Token by sequence id, for each that wrote one.
            pin: Whether sequences that end keep their blocks, for another engine to fetch.
            duration_s: How long the step took, for the delay gate.

        Returns:
            Sequences that ended.

        Raises:
            ValueError: if ``new_tokens`` are not exactly those that the plan writes.
        """
        writers = [p.sequence for p in plan.prefill if p.is_last] + list(plan.decode)
        if sorted(new_tokens) != sorted(s.id for s in writers):
            raise ValueError(
                f"the step writes tokens of sequences {sorted(s.id for s in writers)}, got "
                f"{sorted(new_tokens)}"
            )
        if plan.prefill:
            self.last_prefill_s = duration_s
        for piece in plan.prefill:
            piece.sequence.computed += piece.count
        for sequence in plan.decode:
            sequence.computed += 1
        self._name([p.sequence for p in plan.prefill] + list(plan.decode))
        for sequence in writers:
            sequence.outputs.append(new_tokens[sequence.id])
        ended = [s for s in writers if s.finished]
        for sequence in ended:
            self.running.remove(sequence)
            if pin:
                self.pinned[sequence.id] = sequence
            else:
                self.pool.release(sequence.blocks)
        return ended

    def _name(self, sequences: Sequence[SequenceState]) -> None:
        if not self.config.prefix_caching:
            return
        for sequence in sequences:
            n_full = sequence.computed // self.config.block_size
            if n_full > sequence.named:
                names = sequence.hashes(sequence.computed, self.config.block_size)
                for i in range(sequence.named, n_full):
                    self.pool.name(sequence.blocks[i], names[i])
                sequence.named = n_full

    def release(self, sequence_id: int) -> None:
        """Free the blocks of a pinned sequence: they have been fetched, or never will be."""
        self.pool.release(self.pinned.pop(sequence_id).blocks)

    def arrive(self, sequence_id: int, first_token: int) -> SequenceState:
        """The blocks of a parked sequence are filled: it runs, ahead of all that wait.

        Args:
            sequence_id: Of a sequence in ``parked``.
            first_token: Written by the engine that read the prompt.
        """
        sequence = self.parked.pop(sequence_id)
        sequence.computed = sequence.length
        self._name([sequence])
        sequence.outputs.append(first_token)
        sequence.remote = False
        if sequence.finished:
            self.pool.release(sequence.blocks)
        else:
            self.running.append(sequence)
        return sequence

    def cancel(self, sequence_id: int) -> None:
        """Drop a sequence, wherever it is, and free its blocks; unknown ids are ignored."""
        for sequence in [*self.waiting, *self.running, *self.parked.values()]:
            if sequence.id == sequence_id:
                if sequence in self.waiting:
                    self.waiting.remove(sequence)
                elif sequence in self.running:
                    self.running.remove(sequence)
                else:
                    del self.parked[sequence_id]
                self.pool.release(sequence.blocks)
        if sequence_id in self.pinned:
            self.release(sequence_id)
