"""What the page measures: accounts while it is built, training runs and times recorded before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from aiexplained.concepts.variable_width.model import VariableWidthTransformer
from aiexplained.concepts.variable_width.schedule import match_widths
from aiexplained.data.corpora import load_corpus
from aiexplained.lm import fit, mean_loss, sample_windows

N_HEADS = 2
SEQ_LEN = 128
BATCH_SIZE = 8
CURVE_POINTS = 25


@dataclass(frozen=True)
class Arm:
    """A shape over depth and a way to change the width.

    Args:
        waist: Width of the turning layer over the reference width.
        turn: The turning layer over the number of layers.
        resize: A name in :data:`~aiexplained.concepts.variable_width.RESIZES`.
    """

    waist: float
    turn: float
    resize: str = "carry"


ARMS: Mapping[str, Arm] = {
    "uniform": Arm(1.0, 0.75),
    "paper": Arm(0.3, 0.75),
    "zero": Arm(0.3, 0.75, "zero"),
    "learned": Arm(0.3, 0.75, "learned"),
    "learned-from-zero": Arm(0.3, 0.75, "learned from zero"),
    "hourglass": Arm(0.3, 0.5),
    "diamond": Arm(1.7, 0.5),
    "mild": Arm(0.6, 0.75),
}
"""What is compared: the source's shape with four ways to change the width, and other shapes."""


def arm_widths(
    arm: str, n_layers: int, d_model: int, *, vocab_size: int, n_heads: int = N_HEADS
) -> tuple[int, ...]:
    """Widths of one arm, with as many weights as ``n_layers`` layers of ``d_model``.

    Args:
        arm: A name in :data:`ARMS`.
        n_layers: Layers.
        d_model: Width of the uniform model.
        vocab_size: Tokens in the vocabulary.
        n_heads: Heads of every layer; widths are multiples of twice their number.
    """
    if arm not in ARMS:
        raise ValueError(f"arm must be one of {', '.join(ARMS)}; got {arm!r}")
    shape = ARMS[arm]
    if shape.waist == 1:
        return (d_model,) * n_layers
    return match_widths(
        n_layers, d_model, waist=shape.waist, turn=int(shape.turn * n_layers),
        vocab_size=vocab_size, multiple=2 * n_heads,
        learned_resize=shape.resize.startswith("learned"),
    )  # fmt: skip


def measure_training(
    *, arm: str, width: int, layers: int, steps: int, lr: float, seed: int
) -> dict[str, Any]:
    """Train one model on the King James Bible by characters, and read the held-out chapters.

    All arms see the same windows for a seed.

    Args:
        arm: A name in :data:`ARMS`.
        width: Width of the uniform model that the arm has as many weights as.
        layers: Layers.
        steps: Optimizer steps of ``BATCH_SIZE`` windows of ``SEQ_LEN`` characters.
        lr: Peak learning rate.
        seed: Of the weights and of the windows.

    Returns:
        ``loss`` on the held-out chapters in nats a character, ``curve`` (mean training loss over
        equal parts of the run), ``widths``, ``parameters`` (norms and all) and ``vocab_size``.
    """
    train, held_out, vocab_size = _characters()
    widths = arm_widths(arm, layers, width, vocab_size=vocab_size)
    model = VariableWidthTransformer(
        widths, n_heads=N_HEADS, vocab_size=vocab_size, resize=ARMS[arm].resize, seed=seed
    )
    windows = sample_windows(train, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, seed=seed)
    losses = torch.tensor(fit(model, windows, steps=steps, lr=lr))
    return {
        "loss": mean_loss(model, held_out, seq_len=SEQ_LEN),
        "curve": [part.mean().item() for part in losses.tensor_split(min(CURVE_POINTS, steps))],
        "widths": list(widths),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": vocab_size,
    }


def _characters() -> tuple[Int[Tensor, "N"], Int[Tensor, "M"], int]:
    """Training and held-out text as ids, and the number of different characters."""
    corpus = load_corpus("kjv")
    texts = ["\n\n".join(part) for part in (corpus.train, corpus.validation)]
    ids = {character: i for i, character in enumerate(sorted(set("".join(texts))))}
    train, held_out = (torch.tensor([ids[c] for c in text]) for text in texts)
    return train, held_out, len(ids)
