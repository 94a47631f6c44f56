"""A small transformer that answers questions of associative recall in texts of any length.

Two things make training short and long texts readable. *Late keys*: every key is that of the token
before, so a head that finds a token reads what followed it (an induction head in one layer; compare
the smeared keys of Olsson et al., 2022, arXiv:2209.11895). *Skipped positions*: texts are cut into
parts whose positions jump (PoSE, Zhu et al., 2023, arXiv:2309.10400), so that short texts show the
distances of long ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aiexplained.concepts.subq.selection import Selector, attend
from aiexplained.data.recall import RecallBatch, RecallVocabulary, sample_recall
from aiexplained.lm import Transformer, TransformerConfig, fit
from aiexplained.nn import AttentionOperator, scaled_dot_product_attention

BATCH_TOKENS = 2048
N_PARTS = 4
MOST_QUESTIONS = 64
INIT_FACTOR = 4.0
"""On the usual initial weights, which are meant for wider models; with 1 nothing was learned."""


def read_what_followed(select: Selector | None = None) -> AttentionOperator:
    """Causal attention with late keys: each value goes with the key of the token before it.

    Args:
        select: Chooses what each query reads; by default all that came before, and itself.

    Returns:
        An operator for whole sequences; it raises ``ValueError`` for a mask or cached keys.
    """

    def operator(
        query: Float[Tensor, "B H T D"],
        key: Float[Tensor, "B H T D"],
        value: Float[Tensor, "B H T D"],
        *,
        mask: Bool[Tensor, "*#lead T T"] | None = None,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Float[Tensor, "B H T D"]:
        if mask is not None or scale is not None or query.shape != key.shape:
            raise ValueError("late keys need a whole sequence, without a mask, cache or scale")
        late = late_keys(key)
        if select is None:
            return scaled_dot_product_attention(query, late, value, is_causal=True)
        return attend(query, late, value, select)

    return operator


def late_keys(key: Float[Tensor, "B H T D"]) -> Float[Tensor, "B H T D"]:
    """Keys moved on by one token; the first stays where it is, too."""
    return torch.cat((key[:, :, :1], key[:, :, :-1]), dim=2)


def skip_positions(
    seq_len: int, *, span: int, n_parts: int, rng: np.random.Generator
) -> Int[Tensor, "T"]:
    """Rising positions below ``span``: consecutive within ``n_parts`` parts, jumps between them.

    Raises:
        ValueError: unless ``1 <= n_parts <= seq_len <= span``.
    """
    if not 1 <= n_parts <= seq_len <= span:
        raise ValueError(
            f"need 1 <= n_parts <= seq_len <= span, got {n_parts}, {seq_len} and {span}"
        )
    starts = np.sort(rng.choice(np.arange(1, seq_len), n_parts - 1, replace=False))
    offsets = np.sort(rng.integers(span - seq_len + 1, size=n_parts))
    places = np.arange(seq_len)
    return torch.from_numpy(places + offsets[np.searchsorted(starts, places, side="right")])


def recall_batches(
    vocabulary: RecallVocabulary, lengths: Sequence[int], *, span: int, first: int, seed: int
) -> Iterator[Int[Tensor, "3 B T"]]:
    """Endless batches of about :data:`BATCH_TOKENS` tokens: ids, targets, positions.

    Args:
        vocabulary: See :mod:`aiexplained.data.recall`.
        lengths: Tokens of a sequence; one is drawn for each batch.
        span: Positions are below this.
        first: So many batches have the first length.
        seed: Seed of all draws.
    """
    rng = np.random.default_rng(seed)
    n_made = 0
    while True:
        seq_len = lengths[0] if n_made < first else int(rng.choice(lengths))
        batch = sample_questions(max(BATCH_TOKENS // seq_len, 1), seq_len, vocabulary, rng)
        places = skip_positions(seq_len, span=span, n_parts=N_PARTS, rng=rng)
        ids, targets = torch.from_numpy(batch.token_ids), torch.from_numpy(batch.targets)
        yield torch.stack((ids, targets, places.expand_as(ids)))
        n_made += 1


def sample_questions(
    batch_size: int, seq_len: int, vocabulary: RecallVocabulary, seed: int | np.random.Generator
) -> RecallBatch:
    """Sequences with a pair for every five tokens while there are keys, and up to 64 questions."""
    n_pairs = min(seq_len // 5, vocabulary.n_keys)
    return sample_recall(
        batch_size,
        seq_len=seq_len,
        n_pairs=n_pairs,
        n_questions=min(n_pairs, MOST_QUESTIONS),
        seed=seed,
        vocabulary=vocabulary,
    )


def train_reader(
    vocabulary: RecallVocabulary,
    lengths: Sequence[int],
    *,
    select: Selector | None = None,
    span: int,
    steps: int,
    d_model: int = 64,
    seed: int,
) -> tuple[Transformer, list[float]]:
    """Train two layers of two heads to answer, with :func:`read_what_followed`.

    Args:
        vocabulary: See :mod:`aiexplained.data.recall`.
        lengths: Lengths of the training texts; the first half of the steps has the first only.
        select: What attention reads, in training and after.
        span: Longest text that will be read.
        steps: Optimizer steps.
        d_model: Width.
        seed: Of weights and texts.

    Returns:
        The model, and the loss of each step in nats a question.
    """
    config = TransformerConfig(
        d_model=d_model, d_ff=2 * d_model, n_layers=2, n_heads=2, n_kv_heads=2,
        head_dim=d_model // 2, vocab_size=vocabulary.size, max_seq_len=span, rope_base=1e6,
    )  # fmt: skip
    model = Transformer(config, attention=read_what_followed(select), seed=seed)
    with torch.no_grad():
        for weight in model.blocks.parameters():
            weight.mul_(INIT_FACTOR if weight.ndim == 2 else 1)
    batches = recall_batches(vocabulary, lengths, span=span, first=steps // 2, seed=seed)
    return model, fit(model, batches, steps=steps, loss=answer_loss)


def answer_loss(model: nn.Module, batch: Int[Tensor, "3 B T"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answers, in nats; nothing else is predicted."""
    assert isinstance(model, Transformer)
    ids, targets, positions = batch
    asked = targets >= 0
    hidden = model.hidden_states(ids, positions=positions[0])
    return cross_entropy(model.logits(hidden[asked]), targets[asked])


@torch.no_grad()
def queries_and_keys(
    model: Transformer, ids: Int[Tensor, "B T"], positions: Int[Tensor, "T"] | None = None
) -> list[tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H T D"]]]:
    """Queries and late keys, rotated, of each layer while the model reads with all keys."""
    seen = []

    def operator(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        seen.append((query, late_keys(key)))
        return read_what_followed()(query, key, value, **options)

    with model.attending_with(operator):
        model.hidden_states(ids, positions=positions)
    return seen
