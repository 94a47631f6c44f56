"""What the page measures: accounts while it is built, training runs and times recorded before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from aiexplained.concepts.variable_width.model import Resize, VariableWidthTransformer
from aiexplained.concepts.variable_width.schedule import (
    count_cache_bytes,
    count_flops,
    count_idle,
    count_parameters,
    match_widths,
    solve_widths,
)
from aiexplained.data.corpora import load_corpus
from aiexplained.lm import fit, mean_loss, sample_windows
from aiexplained.nn import scaled_dot_product_attention

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
        resize: A name in ``RESIZES``.
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


VARIATIONS = ("kept-ends", "mup-scale")
"""Departures from the source that :func:`measure_variation` takes back, one at a time."""


def measure_variation(
    *, variation: str, arm: str, width: int, layers: int, steps: int, lr: float, seed: int
) -> dict[str, Any]:
    """As :func:`measure_training`, nearer to the source in one respect.

    Args:
        variation: ``"kept-ends"``: embedding and output projection keep the uniform width, and the
            weights *in use* are matched, not those stored. ``"mup-scale"``: attention scores are
            multiplied by ``1 / head_dim`` instead of ``1 / sqrt(head_dim)``.
        arm: ``"uniform"`` or ``"paper"``.
        width: As there.
        layers: As there.
        steps: As there.
        lr: As there.
        seed: As there.

    Returns:
        As there.
    """
    if variation not in VARIATIONS or arm not in ("uniform", "paper"):
        raise ValueError(
            f"need a variation of {', '.join(VARIATIONS)} and arm uniform or paper, got "
            f"{variation!r} and {arm!r}"
        )
    train, held_out, vocab_size = _characters()
    widths = arm_widths(arm, layers, width, vocab_size=vocab_size)
    options: dict[str, Any] = {"attention": _scaled_by_width}
    if variation == "kept-ends":
        options = {"d_model": width}
        if arm == "paper":
            multiple = 2 * N_HEADS
            widths = solve_widths(layers, width, vocab_size=vocab_size, multiple=multiple).widths
    model = VariableWidthTransformer(
        widths, n_heads=N_HEADS, vocab_size=vocab_size, seed=seed, **options
    )
    windows = sample_windows(train, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, seed=seed)
    fit(model, windows, steps=steps, lr=lr)
    return {
        "loss": mean_loss(model, held_out, seq_len=SEQ_LEN),
        "widths": list(widths),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": vocab_size,
    }


def _scaled_by_width(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    options["scale"] = 1 / query.shape[-1]
    return scaled_dot_product_attention(query, key, value, **options)


def _characters() -> tuple[Int[Tensor, "N"], Int[Tensor, "M"], int]:
    """Training and held-out text as ids, and the number of different characters."""
    corpus = load_corpus("kjv")
    texts = ["\n\n".join(part) for part in (corpus.train, corpus.validation)]
    ids = {character: i for i, character in enumerate(sorted(set("".join(texts))))}
    train, held_out = (torch.tensor([ids[c] for c in text]) for text in texts)
    return train, held_out, len(ids)


SCALES: Mapping[str, tuple[int, int]] = {
    "200M": (16, 640),
    "500M": (24, 960),
    "1B": (32, 1280),
    "2B": (40, 1600),
}
"""Layers and reference width of the source's four dense models."""

SOURCE_VOCAB_SIZE = 100_263
SOURCE_SEQ_LEN = 4096


def measure_accounts(seq_len: int = SOURCE_SEQ_LEN) -> dict[str, dict[str, Any]]:
    """The source's four schedules against uniform models: exact arithmetic, no training.

    Args:
        seq_len: Tokens in the sequence.

    Returns:
        For each scale ``widths``, and in percent: the changes ``weights`` (those in use),
        ``stored`` (idle ones too), ``flops`` and ``cache``, and ``attention``, the part of the
        uniform model's operations in which tokens are compared and mixed.
    """
    out = {}
    for name, (n_layers, d_model) in SCALES.items():
        widths = solve_widths(n_layers, d_model, vocab_size=SOURCE_VOCAB_SIZE).widths
        ours, theirs = (_costs(w, d_model, seq_len) for w in (widths, (d_model,) * n_layers))
        out[name] = {
            **{kind: 100 * (ours[kind] / theirs[kind] - 1) for kind in ours},
            "widths": widths,
            "attention": 100 * 4 * seq_len**2 * n_layers * d_model / theirs["flops"],
        }
    return out


def _costs(widths: Sequence[int], d_model: int, seq_len: int) -> dict[str, float]:
    in_use = count_parameters(widths, d_model, SOURCE_VOCAB_SIZE)
    return {
        "weights": in_use,
        "stored": in_use + count_idle(widths, d_model),
        "flops": count_flops(widths, d_model, SOURCE_VOCAB_SIZE, seq_len),
        "cache": count_cache_bytes(widths, seq_len),
    }


def measure_contributions(
    widths: Sequence[int], *, d_model: int, resize: Resize
) -> list[list[int]]:
    """How many writers' work each layer finds in each coordinate that it reads.

    The embedding is the first writer; every layer adds to all coordinates that it reads.

    Args:
        widths: Width of each layer.
        d_model: Width of the embedding.
        resize: :func:`carry_forward`, :func:`zero_pad`, or another function of their kind.

    Returns:
        A list for each layer, an entry for each coordinate that it reads.

    >>> from aiexplained.concepts.variable_width import carry_forward, zero_pad
    >>> measure_contributions([3, 1, 3], d_model=2, resize=carry_forward)
    [[1, 1, 0], [2], [3, 2, 1]]
    >>> measure_contributions([3, 1, 3], d_model=2, resize=zero_pad)
    [[1, 1, 0], [2], [3, 0, 0]]
    """
    states, found = [torch.ones(d_model, dtype=torch.long)], []
    for width in widths:
        read = resize(states[-1], width, states[:-1])
        found.append(read.tolist())
        states.append(read + 1)
    return found


def measure_speed(
    *, model: str, n_tokens: int, repeats: int, repetition: int = 0
) -> dict[str, Any]:
    """Seconds to read a prompt and to write a token: the source's shape against the uniform model.

    Both have 16 heads in each layer and random weights; the two take turns. Wall clock, so the
    machine must be quiet.

    Args:
        model: A name in :data:`SCALES`.
        n_tokens: Tokens of the prompt; the next ones are written behind it.
        repeats: Turns of each model.
        repetition: Number of this run; a seed of the tokens.

    Returns:
        For ``"uniform"`` and ``"paper"``: ``prefill_s`` and ``decode_s`` (an entry a turn),
        ``layer_s`` (median seconds of each layer in prefill), ``layer_flops`` and ``widths``.
    """
    n_layers, d_model = SCALES[model]
    shapes = {
        "uniform": (d_model,) * n_layers,
        "paper": solve_widths(n_layers, d_model, vocab_size=SOURCE_VOCAB_SIZE).widths,
    }
    models = {
        name: VariableWidthTransformer(
            w, n_heads=16, vocab_size=64, d_model=d_model, max_seq_len=n_tokens + 1
        )
        for name, w in shapes.items()
    }
    generator = torch.Generator().manual_seed(repetition)
    tokens = torch.randint(64, (1, n_tokens + 1), generator=generator)
    runs: dict[str, list[tuple[float, float, list[float]]]] = {name: [] for name in models}
    for _ in range(repeats + 1):
        for name, each in models.items():
            runs[name].append(_timed(each, tokens))
    return {
        name: {
            "widths": list(shapes[name]),
            "prefill_s": [prefill for prefill, _, _ in turns[1:]],  # the first turn warms up
            "decode_s": [decode for _, decode, _ in turns[1:]],
            "layer_s": [median(times) for times in zip(*(t for *_, t in turns[1:]), strict=True)],
            "layer_flops": [n_tokens * (32 * w * w + 4 * n_tokens * w) for w in shapes[name]],
        }
        for name, turns in runs.items()
    }


@torch.inference_mode()
def _timed(model: VariableWidthTransformer, tokens: Tensor) -> tuple[float, float, list[float]]:
    """Seconds of one prefill, of one step of decoding, and of each layer in prefill."""
    cache, marks = model.make_cache(capacity=tokens.shape[1]), [0.0]
    hooks = [
        block.register_forward_pre_hook(lambda *_: marks.append(time.perf_counter()))
        for block in model.blocks
    ]
    start = time.perf_counter()
    model(tokens[:, :-1], cache=cache, last_only=True)
    end = time.perf_counter()
    for hook in hooks:
        hook.remove()
    model(tokens[:, -1:], cache=cache)
    layers = [b - a for a, b in pairwise([*marks[1:], end])]
    return end - start, time.perf_counter() - end, layers
