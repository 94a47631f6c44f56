"""Small models on real text: the checkpoint that all comparisons start from, and how they train."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from aiexplained.concepts.ternary_mamba.account import Mamba2Shape
from aiexplained.concepts.ternary_mamba.model import Mamba2
from aiexplained.data.corpora import load_corpus
from aiexplained.lm import (
    Transformer,
    TransformerConfig,
    encode_characters,
    fit,
    mean_loss,
    next_token_loss,
    sample_windows,
)
from aiexplained.lm.fit import Loss

SEQ_LEN = 128
BATCH_SIZE = 8
EVERY = 25
"""Steps between two points of a curve."""
CURVE_LEN = 200 * SEQ_LEN
"""Held-out characters behind a point of a curve; a final loss takes all."""
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Text:
    """The King James Bible by characters.

    Args:
        train: Ids to train on.
        held_out: Ids of chapters that no model sees in training.
        vocab_size: Different characters.
    """

    train: Int[Tensor, "N"]
    held_out: Int[Tensor, "M"]
    vocab_size: int


@functools.cache
def load_text() -> Text:
    """The text that the page's models learn.

    Raises:
        CorpusUnavailable: if its package is not installed.
    """
    corpus = load_corpus("kjv")
    train, held_out, alphabet = encode_characters(corpus.train, corpus.validation)
    return Text(train, held_out, len(alphabet))


def make_model(*, d_model: int = 128, seed: int) -> Mamba2:
    """A fresh Mamba-2 for the characters of :func:`load_text`, three layers deep.

    Args:
        d_model: Its width.
        seed: Of its weights.
    """
    shape = Mamba2Shape(
        d_model, n_layers=3, d_state=16, head_dim=32, vocab_size=load_text().vocab_size
    )
    return Mamba2(shape, seed=seed)


def distillation_loss(teacher: nn.Module, *, share: float = 0.5, temperature: float = 2.0) -> Loss:
    """A loss that asks for the teacher's probabilities beside the next token.

        L = (1 - a) CE + a τ² KL(softmax(t / τ) ‖ softmax(s / τ))

    Args:
        teacher: Maps ids to logits; it is not trained.
        share: ``a``, from 0 to 1.
        temperature: ``τ``, which flattens both distributions.

    Raises:
        ValueError: if ``share`` is outside its range or ``temperature`` not positive.
    """
    if not 0 <= share <= 1 or temperature <= 0:
        raise ValueError(
            f"share must be from 0 to 1 and temperature positive, got {share} and {temperature}"
        )

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = log_softmax(teacher(batch[:, :-1]).flatten(0, 1) / temperature, dim=-1)
        logits = model(batch[:, :-1]).flatten(0, 1)
        soft = log_softmax(logits / temperature, dim=-1)
        divergence = kl_div(soft, wanted, log_target=True, reduction="batchmean")
        hard = cross_entropy(logits, batch[:, 1:].flatten())
        return (1 - share) * hard + share * temperature**2 * divergence

    return loss


def train(
    model: nn.Module,
    *,
    steps: int,
    seed: int,
    lr: float = LEARNING_RATE,
    loss: Loss = next_token_loss,
    look: Callable[[int], None] | None = None,
    weight_decay: float = 0.1,
) -> None:
    """Train a model in place on windows of the text.

    Args:
        model: Maps ids to logits.
        steps: Optimizer steps, each with ``BATCH_SIZE`` windows of ``SEQ_LEN`` characters.
        seed: Of the windows.
        lr: Peak learning rate.
        loss: What is minimized.
        look: Called with the number of steps done, every ``EVERY`` of them, and before the first.
        weight_decay: Of matrices.
    """
    look = look or (lambda step: None)
    look(0)
    windows = sample_windows(load_text().train, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, seed=seed)
    fit(
        model, windows, steps=steps, lr=lr, weight_decay=weight_decay, loss=loss,
        on_step=lambda step: look(step) if step % EVERY == 0 else None,
    )  # fmt: skip


def make_transformer(*, seed: int) -> Transformer:
    """A fresh transformer for the same text, with about as many weights in its matrices.

    Args:
        seed: Of its weights.
    """
    config = TransformerConfig(
        d_model=128, d_ff=256, n_layers=2, n_heads=4, n_kv_heads=4, head_dim=32,
        vocab_size=load_text().vocab_size, tie_embedding=True,
    )  # fmt: skip
    return Transformer(config, seed=seed)


@functools.lru_cache(maxsize=1)
def _checkpoint(make: Callable[..., nn.Module], seed: int, steps: int) -> nn.Module:
    model = make(seed=seed)
    train(model, steps=steps, seed=seed)
    return model.eval().requires_grad_(False)


def load_checkpoint(
    seed: int, steps: int, make: Callable[..., nn.Module] = make_model
) -> nn.Module:
    """A copy of a model that was trained in full precision, trained now if need be.

    Args:
        seed: Of its weights and its windows.
        steps: Steps of its training.
        make: Makes the fresh model.
    """
    return copy.deepcopy(_checkpoint(make, seed, steps)).train().requires_grad_(True)


def held_out_loss(model: nn.Module, n_characters: int | None = None) -> float:
    """Loss on held-out chapters in nats a character.

    Args:
        model: Maps ids to logits.
        n_characters: The first so many characters; default: all.
    """
    return mean_loss(model, load_text().held_out[:n_characters], seq_len=SEQ_LEN, batch_size=64)
