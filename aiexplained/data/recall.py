"""Associative recall with many questions: seeded sequences that ask for what they said before.

A sequence holds pairs of a key and a value, scattered among filler, and ends in questions: some of
the keys again, each followed by its value. Whoever reads up to such a key can give the value by
looking it up (multi-query associative recall, Arora et al., 2023, arXiv:2312.04927).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from numpy.typing import NDArray

Seed = int | np.random.Generator
IGNORE = -100
"""Target of a token that nothing is asked of; torch's ``cross_entropy`` skips it."""


@dataclass(frozen=True)
class RecallVocabulary:
    """How many tokens of each kind there are; their ids follow one another in this order.

    Args:
        n_keys: Keys, ids from 0.
        n_values: Values.
        n_fillers: Tokens that mean nothing.
    """

    n_keys: int = 256
    n_values: int = 64
    n_fillers: int = 64

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            _check_at_least(f"RecallVocabulary.{name}", size, 1)

    @property
    def size(self) -> int:
        """Tokens in all."""
        return self.n_keys + self.n_values + self.n_fillers


@dataclass(frozen=True)
class RecallBatch:
    """Sequences and their questions.

    Args:
        token_ids: The sequences.
        targets: The value asked for, at the key that asks (the second of its kind): what a model
            must predict from the tokens up to and with this one. :data:`IGNORE` elsewhere.
        sources: Where that value stood the first time, right behind its key; -1 elsewhere. The
            distance of a question is its place less this.
    """

    token_ids: Int[ndarray, "B T"]
    targets: Int[ndarray, "B T"]
    sources: Int[ndarray, "B T"]


def sample_recall(
    batch_size: int,
    *,
    seq_len: int,
    n_pairs: int,
    n_questions: int,
    seed: Seed,
    vocabulary: RecallVocabulary | None = None,
) -> RecallBatch:
    """Draw sequences of ``n_pairs`` pairs and filler in random order, then the questions.

    The keys of a sequence differ; values may repeat. Which pairs are asked for is drawn evenly, so
    distances reach from a few tokens to nearly ``seq_len``.

    Args:
        batch_size: Sequences ``B``.
        seq_len: Tokens ``T`` of each; what pairs and questions leave free is filler.
        n_pairs: Pairs, at most as many as keys.
        n_questions: Questions, at most as many as pairs; they are the last ``2 * n_questions``
            tokens.
        seed: Seed or generator.
        vocabulary: Tokens of each kind; default: :class:`RecallVocabulary`.

    Raises:
        ValueError: if a number is out of range, or pairs and questions do not fit.

    >>> tiny = RecallVocabulary(n_keys=3, n_values=2, n_fillers=1)
    >>> batch = sample_recall(1, seq_len=7, n_pairs=2, n_questions=1, seed=0, vocabulary=tiny)
    >>> batch.token_ids.tolist(), batch.targets[0, 5].item() == batch.token_ids[0, 6].item()
    ([[5, 2, 3, 0, 3, 2, 3]], True)
    """
    vocabulary = vocabulary or RecallVocabulary()
    _check_at_least("batch_size", batch_size, 1)
    _check_at_least("n_questions", n_questions, 1)
    if not n_questions <= n_pairs <= vocabulary.n_keys:
        raise ValueError(
            f"need n_questions <= n_pairs <= n_keys, got {n_questions}, {n_pairs} and "
            f"{vocabulary.n_keys}"
        )
    n_filler = seq_len - 2 * (n_pairs + n_questions)
    if n_filler < 0:
        raise ValueError(
            f"{n_pairs} pairs and {n_questions} questions take {2 * (n_pairs + n_questions)} "
            f"tokens, got seq_len={seq_len}"
        )
    rng = np.random.default_rng(seed)
    first_value, first_filler = vocabulary.n_keys, vocabulary.n_keys + vocabulary.n_values
    keys = rng.permuted(np.tile(np.arange(first_value), (batch_size, 1)), axis=1)[:, :n_pairs]
    values = rng.integers(first_value, first_filler, size=keys.shape)
    places = _place_pairs(rng, batch_size, n_pairs, n_filler)
    row = np.arange(batch_size)[:, None]
    token_ids = rng.integers(first_filler, vocabulary.size, size=(batch_size, seq_len))
    token_ids[row, places], token_ids[row, places + 1] = keys, values
    asking = seq_len - 2 * n_questions + 2 * np.arange(n_questions)
    asked = rng.permuted(np.tile(np.arange(n_pairs), (batch_size, 1)), axis=1)[:, :n_questions]
    token_ids[:, asking], token_ids[:, asking + 1] = keys[row, asked], values[row, asked]
    targets, sources = np.full_like(token_ids, IGNORE), np.full_like(token_ids, -1)
    targets[:, asking], sources[:, asking] = values[row, asked], places[row, asked] + 1
    return RecallBatch(token_ids, targets, sources)


def _place_pairs(
    rng: np.random.Generator, batch_size: int, n_pairs: int, n_filler: int
) -> Int[ndarray, "B N"]:
    """Where each pair starts when pairs and filler tokens are shuffled together."""
    items = np.tile(np.arange(n_pairs + n_filler) < n_pairs, (batch_size, 1))
    is_pair = rng.permuted(items, axis=1)
    start = np.cumsum(1 + is_pair, axis=1) - 1 - is_pair
    places: NDArray[np.int64] = start[is_pair].reshape(batch_size, n_pairs)
    return places


def _check_at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
