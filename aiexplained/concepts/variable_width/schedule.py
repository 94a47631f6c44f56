"""Widths over depth at a fixed number of parameters, and what they cost. Standard library only.

A layer of width ``w`` holds ``16 w²`` weights: four matrices ``w × w`` in its attention and three
``w × 4w`` in its SwiGLU. Biases and the gains of norms are not counted, as in the source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WEIGHTS_PER_SQUARE = 16
"""Weights of a layer over the square of its width."""


@dataclass(frozen=True)
class Schedule:
    """A width for each layer, and the numbers that it was made from.

    Args:
        widths: Width of each layer, first to last.
        end: Solved width of the first and the last layer, before any rounding.
        shrink: Factor from one layer to the next, down to the turning layer.
        flare: Factor from one layer to the next after it.
        turn: The turning layer, counted from 1.
        waist: Width of the turning layer over the reference width, before any rounding.
    """

    widths: tuple[int, ...]
    end: float
    shrink: float
    flare: float
    turn: int
    waist: float


def solve_widths(
    n_layers: int,
    d_model: int,
    *,
    waist: float = 0.3,
    turn: int | None = None,
    vocab_size: int = 0,
    multiple: int = 32,
    own_ends: bool = False,
) -> Schedule:
    """Geometric widths, wide at both ends, with as many weights as a uniform model.

    The width of layer ``turn`` is ``waist * d_model``; the first and the last layer are as wide as
    the number of weights allows, found by bisection. As in the authors' solver, the end is rounded
    to an integer and then multiplied by the two factors, layer by layer; each product is rounded
    to ``multiple``.

    Args:
        n_layers: Layers, at least 3.
        d_model: Width of every layer of the uniform model, ``>= 1``.
        waist: Width of the turning layer over ``d_model``, ``> 0``; above 1 it is a bulge.
        turn: The turning layer, counted from 1; default ``int(0.75 * n_layers)``.
        vocab_size: Tokens in the vocabulary; the embedding and the output projection are counted.
        multiple: Widths are rounded to a multiple of it, ``>= 1``; where it is large against the
            waist, count what comes out.
        own_ends: Whether the embedding is as wide as the first layer and the output projection as
            the last; otherwise both keep ``d_model``, and :func:`count_idle` is not zero.

    Raises:
        ValueError: if an argument is outside its range, or no end width can meet the number of
            weights (a bulge that alone has more).

    Source: Wu et al., 2026 (arXiv 2606.18246), released code, ``scripts/solve_hparams.py``.

    >>> solve_widths(16, 640, vocab_size=100_263).widths
    (1152, 960, 832, 704, 608, 512, 448, 352, 320, 256, 224, 192, 288, 480, 736, 1152)
    """
    turn = int(0.75 * n_layers) if turn is None else turn
    _check(n_layers, d_model, waist, turn, vocab_size, multiple)
    target = count_parameters([d_model] * n_layers, d_model, vocab_size)

    def excess(end: float) -> float:
        widths = _geometric(end, *_factors(end, waist * d_model, turn, n_layers), turn, n_layers)
        return count_parameters(widths, d_model, vocab_size, own_ends=own_ends) - target

    low, high = 1e-6 * d_model, float(d_model)
    while excess(high) < 0:
        high *= 2
    if excess(low) > 0:
        raise ValueError(
            f"no end width has as few weights as {n_layers} layers of width {d_model}: "
            f"waist {waist:g} at layer {turn} alone has more"
        )
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    shrink, flare = _factors(high, waist * d_model, turn, n_layers)
    exact = _geometric(math.floor(high + 0.5), shrink, flare, turn, n_layers)
    return Schedule(
        widths=_round(exact, multiple),
        end=high, shrink=shrink, flare=flare, turn=turn, waist=waist,
    )  # fmt: skip


def match_widths(
    n_layers: int,
    d_model: int,
    *,
    waist: float,
    turn: int,
    vocab_size: int,
    multiple: int,
    learned_resize: bool = False,
) -> tuple[int, ...]:
    """Rounded widths whose *rounded* model is nearest in size to the uniform one.

    For small models, where a step of ``multiple`` is a large part of a width: the end is varied
    around the solution of :func:`solve_widths`, all else kept. The embedding and the output
    projection are as wide as the ends.

    Args:
        n_layers: Layers, at least 3.
        d_model: Width of every layer of the uniform model.
        waist: Width of the turning layer over ``d_model``.
        turn: The turning layer, counted from 1.
        vocab_size: Tokens in the vocabulary.
        multiple: Widths are rounded to a multiple of it.
        learned_resize: Whether a matrix at each change of width is counted too.

    Raises:
        ValueError: as :func:`solve_widths`.

    >>> match_widths(8, 96, waist=0.3, turn=6, vocab_size=63, multiple=8)
    (152, 104, 80, 56, 40, 32, 64, 152)
    """
    solved = solve_widths(
        n_layers, d_model, waist=waist, turn=turn, vocab_size=vocab_size, multiple=multiple,
        own_ends=True,
    )  # fmt: skip
    target = count_parameters([d_model] * n_layers, d_model, vocab_size)

    def rounded(end: float) -> tuple[int, ...]:
        factors = _factors(end, waist * d_model, turn, n_layers)
        return _round(_geometric(end, *factors, turn, n_layers), multiple)

    def distance(widths: tuple[int, ...]) -> float:
        size = count_parameters(
            widths, d_model, vocab_size, own_ends=True, learned_resize=learned_resize
        )
        return abs(size - target)

    candidates = [rounded(solved.end * (0.8 + 0.001 * i)) for i in range(401)]
    return min(candidates, key=distance)


def _factors(end: float, waist_width: float, turn: int, n_layers: int) -> tuple[float, float]:
    ratio = waist_width / end
    return ratio ** (1 / (turn - 1)), ratio ** (-1 / (n_layers - turn))


def _geometric(end: float, shrink: float, flare: float, turn: int, n_layers: int) -> list[float]:
    widths = [float(end)]
    for layer in range(1, n_layers):
        widths.append(widths[-1] * (shrink if layer < turn else flare))
    return widths


def _round(widths: Sequence[float], multiple: int) -> tuple[int, ...]:
    return tuple(max(1, math.floor(w / multiple + 0.5)) * multiple for w in widths)


def count_idle(widths: Sequence[float], d_model: int) -> float:
    """Weights that do nothing where embedding and output projection are narrower than the ends.

    The first layer's query, key and value matrices read ``widths[0] - d_model`` zeros; the last
    down-projection writes ``widths[-1] - d_model`` coordinates that nobody reads.

    Args:
        widths: Width of each layer.
        d_model: Width of the embedding and the output projection.
    """
    first, last = widths[0], widths[-1]
    return 3 * max(0.0, first - d_model) * first + 4 * max(0.0, last - d_model) * last


def count_parameters(
    widths: Sequence[float],
    d_model: int,
    vocab_size: int,
    *,
    own_ends: bool = False,
    learned_resize: bool = False,
) -> float:
    """Weights in use: layers, embedding, and an output projection of its own.

    Args:
        widths: Width of each layer; need not be whole.
        d_model: Width of the embedding and the output projection, unless ``own_ends``.
        vocab_size: Tokens in the vocabulary.
        own_ends: Whether these two are as wide as the first and the last layer. Otherwise, where an
            end layer is narrower than ``d_model``, only the part that it sees is counted.
        learned_resize: Whether a matrix stands at each change of width between layers; meant for
            ``own_ends``, since those between the ends and ``d_model`` are not counted.
    """
    ends = vocab_size * _end_widths(widths, d_model, own_ends)
    idle = 0.0 if own_ends else count_idle(widths, d_model)
    layers = WEIGHTS_PER_SQUARE * sum(w * w for w in widths)
    return ends + layers - idle + (_resize_weights(widths) if learned_resize else 0.0)


def _end_widths(widths: Sequence[float], d_model: int, own_ends: bool) -> float:
    if own_ends:
        return widths[0] + widths[-1]
    return min(widths[0], d_model) + min(widths[-1], d_model)


def _resize_weights(widths: Sequence[float]) -> float:
    return sum(a * b for a, b in pairwise(widths) if a != b)


def count_flops(
    widths: Sequence[float],
    d_model: int,
    vocab_size: int,
    seq_len: int,
    *,
    own_ends: bool = False,
    learned_resize: bool = False,
) -> float:
    """Floating-point operations of one forward pass, a multiply-add counted as two.

    Each weight in use takes two a token (the embedding is a look-up and takes none), and attention
    ``4 * seq_len * width``: all pairs of tokens, the causal half not taken off, as in the source.

    Args:
        widths: Width of each layer.
        d_model: Width of the output projection, unless ``own_ends``.
        vocab_size: Tokens in the vocabulary.
        seq_len: Tokens in the sequence.
        own_ends: As in :func:`count_parameters`.
        learned_resize: As in :func:`count_parameters`.
    """
    weights = count_parameters(
        widths, d_model, vocab_size, own_ends=own_ends, learned_resize=learned_resize
    )
    embedding = vocab_size * (widths[0] if own_ends else min(widths[0], d_model))
    return seq_len * (2 * (weights - embedding) + 4 * seq_len * sum(widths))


def count_cache_bytes(
    widths: Sequence[float], n_tokens: int, *, bytes_per_value: float = 2
) -> float:
    """Bytes of keys and values: one of each, as wide as its layer, a token and a layer.

    Args:
        widths: Width of each layer; as many key heads as query heads.
        n_tokens: Tokens in the cache.
        bytes_per_value: 2 for bfloat16.

    >>> count_cache_bytes([640] * 16, 4096) / 2**20
    160.0
    """
    return 2 * n_tokens * bytes_per_value * sum(widths)


def mean_and_rms(widths: Sequence[float]) -> tuple[float, float]:
    """Mean of the widths, which the cache follows, and root mean square, which weights follow.

    >>> mean_and_rms([1, 7])
    (4.0, 5.0)
    """
    n = len(widths)
    return sum(widths) / n, math.sqrt(sum(w * w for w in widths) / n)


def _check(
    n_layers: int, d_model: int, waist: float, turn: int, vocab_size: int, multiple: int
) -> None:
    if n_layers < 3:
        raise ValueError(f"solve_widths needs at least 3 layers, got {n_layers}")
    if not 2 <= turn <= n_layers - 1:
        raise ValueError(f"turn must leave a layer on each side, 2 to {n_layers - 1}, got {turn}")
    if d_model < 1 or vocab_size < 0 or multiple < 1:
        raise ValueError(
            "solve_widths needs d_model >= 1, vocab_size >= 0 and multiple >= 1, got "
            f"{d_model}, {vocab_size} and {multiple}"
        )
    if not (math.isfinite(waist) and waist > 0):
        raise ValueError(f"waist must be positive and finite, got {waist}")
