"""Requests inside an engine, and what it plans to do with them in a step.

A *sequence* is a request inside an engine. Its tokens are the prompt and what was written so far;
``computed`` of them have keys and values in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiexplained.serving.block_cache import extend_hashes


@dataclass(eq=False)
class SequenceState:
    """One request inside one engine.

    Args:
        id: Number of the request, unique within the engine.
        prompt: Token ids, at least one.
        max_new_tokens: Tokens to write, at least 1.
        outputs: Tokens written so far; those of an earlier attempt may be passed in.
        arrival_s: When the request arrived.
        remote: Whether another engine reads the prompt and sends its keys and values; its first
            token comes with them.
    """

    id: int
    prompt: Sequence[int]
    max_new_tokens: int
    outputs: list[int] = field(default_factory=list)
    arrival_s: float = 0.0
    remote: bool = False
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    cached: int = 0
    preemptions: int = 0
    named: int = 0
    _hashes: list[bytes] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if len(self.prompt) < 1 or self.max_new_tokens < 1:
            raise ValueError(
                f"sequence {self.id} needs a prompt and max_new_tokens of at least 1, got "
                f"{len(self.prompt)} tokens and {self.max_new_tokens}"
            )

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the answer so far."""
        return len(self.prompt) + len(self.outputs)

    @property
    def finished(self) -> bool:
        """Whether all tokens are written."""
        return len(self.outputs) >= self.max_new_tokens

    def tokens(self, start: int, stop: int) -> list[int]:
        """Token ids from ``start`` to before ``stop``, prompt and answer joined."""
        n = len(self.prompt)
        head = self.prompt[start : min(stop, n)] if start < n else []
        return [*map(int, head), *self.outputs[max(start - n, 0) : max(stop - n, 0)]]

    def hashes(self, n_tokens: int, block_size: int) -> list[bytes]:
        """Chained hashes of the full blocks among the first ``n_tokens`` tokens."""
        n_full, done = n_tokens // block_size, len(self._hashes)
        if n_full > done:
            fresh = self.tokens(done * block_size, n_full * block_size)
            extend_hashes(self._hashes, fresh, block_size=block_size)
        return self._hashes[:n_full]


@dataclass(frozen=True)
class Piece:
    """Part of a prompt to read in a step.

    Args:
        sequence: Whose.
        start: Tokens that already have keys and values.
        count: Tokens to read.
    """

    sequence: SequenceState
    start: int
    count: int

    @property
    def is_last(self) -> bool:
        """Whether a token comes out at its end."""
        return self.start + self.count == self.sequence.length


@dataclass(frozen=True)
class Plan:
    """What an engine does in a step.

    Args:
        prefill: Pieces of prompts to read.
        decode: Sequences that write a token each.
        fetch: Sequences whose blocks were just reserved, to be filled by another engine.
        preempted: Sequences that lost their blocks and will be read again.
    """

    prefill: tuple[Piece, ...] = ()
    decode: tuple[SequenceState, ...] = ()
    fetch: tuple[SequenceState, ...] = ()
    preempted: tuple[SequenceState, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compute."""
        return not (self.prefill or self.decode)

    @property
    def n_tokens(self) -> int:
        """Tokens that pass through the model."""
        return sum(piece.count for piece in self.prefill) + len(self.decode)
