"""What a step of an engine costs, by the roofline: the slower of arithmetic and memory.

A step that reads prompts is limited by arithmetic, one that writes tokens by fetching weights and
keys and values. One law covers both, and a mixed step too: all its tokens share one pass over the
weights, then those of prompts and those of answers attend, each for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Seconds of one step of an engine.

    The sum of ``overhead``, ``sequence`` for each sequence that writes, and three times the longer
    of arithmetic and memory: products with the weights, ``max(tokens * token, weights)``, attention
    of prompts, and attention of answers, ``max(pairs * pair, kv_tokens * kv_token)`` each. A pair
    is a token and one that it attends to.

    Args:
        overhead_s: Paid by every step.
        token_s: Arithmetic of one token, attention apart.
        pair_s: Arithmetic of attention, for one pair.
        weights_s: Fetching all weights once.
        kv_token_s: Fetching the keys and values of one token.
        sequence_s: Paid for each sequence that writes, on top.

    >>> cost = StepCost(overhead_s=0.0, token_s=0.001, pair_s=0.0, weights_s=0.02, kv_token_s=1e-5)
    >>> cost.seconds(prefill=[(0, 100)], decode_contexts=[])
    0.1
    >>> cost.seconds(prefill=[], decode_contexts=[500, 500])
    0.03
    """

    overhead_s: float = 0.002
    token_s: float = 1 / 40_000
    pair_s: float = 0.0
    weights_s: float = 0.006
    kv_token_s: float = 14e-9
    sequence_s: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise ValueError(
                    f"StepCost.{field.name} must not be negative, got {getattr(self, field.name)}"
                )

    def seconds(
        self, *, prefill: Iterable[tuple[int, int]], decode_contexts: Iterable[int]
    ) -> float:
        """Time of a step.

        Args:
            prefill: Tokens that a piece of a prompt follows, and tokens of the piece.
            decode_contexts: For each sequence that writes, the tokens that it attends to.
        """
        tokens = pairs = before = writing = contexts = 0
        for start, count in prefill:
            tokens += count
            pairs += count * start + count * (count + 1) // 2
            before += start
        for context in decode_contexts:
            writing += 1
            contexts += context
        products = max((tokens + writing) * self.token_s, self.weights_s)
        reading = max(pairs * self.pair_s, before * self.kv_token_s)
        answers = max(contexts * self.pair_s, contexts * self.kv_token_s)
        return self.overhead_s + writing * self.sequence_s + products + reading + answers

    @classmethod
    def of_hardware(
        cls,
        *,
        flops: float,
        bandwidth: float,
        n_params: float,
        weight_bytes: float,
        kv_bytes_per_token: float,
        attention_width: float,
        overhead_s: float = 0.002,
    ) -> Self:
        """Constants from a data sheet, or from what a machine was seen to reach.

        Args:
            flops: Floating-point operations a second that matrix products reach.
            bandwidth: Bytes a second that reads from memory reach.
            n_params: Weights that a token uses.
            weight_bytes: Bytes of the weights that a step fetches.
            kv_bytes_per_token: Bytes of one token's keys and values, all layers.
            attention_width: Layers times query heads times head width.
            overhead_s: Fixed time of a step.

        Raises:
            ValueError: if ``flops`` or ``bandwidth`` is not positive.
        """
        if not (flops > 0 and bandwidth > 0):
            raise ValueError(f"flops and bandwidth must be positive, got {flops} and {bandwidth}")
        if not n_params > 0:
            raise ValueError(f"n_params must be positive, got {n_params}")
        return cls(
            overhead_s=overhead_s,
            token_s=2 * n_params / flops,
            pair_s=4 * attention_width / flops,
            weights_s=weight_bytes / bandwidth,
            kv_token_s=kv_bytes_per_token / bandwidth,
        )
