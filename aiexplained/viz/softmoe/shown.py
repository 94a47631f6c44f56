"""How the figures of SoftMoE name experts and write numbers, as ``rules/softmoe_view.js`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RULES = ("softmoe", "softmoe_view")
NAMES = "ABCDEFGH"
"""Names of the experts; no figure holds more."""

TEMPERATURES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5)
"""Temperatures that a slider sets, in about equal ratios."""

STEP = 0.05
"""Step of scores on the sliders; a score at the start is a multiple of it."""

HALF = 1e-9
"""Added before rounding, so that a half is rounded up in both languages."""


def two(value: float) -> str:
    """A number with two decimals and a true minus.

    >>> two(0.125), two(-0.001), two(-1.5)
    ('0.13', '0.00', '−1.50')
    """
    text = f"{value + HALF:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def exact_two(value: float) -> str:
    """The same, but a number that is not quite zero is not said to be zero.

    >>> exact_two(0.0), exact_two(0.004), exact_two(-0.004), exact_two(0.2)
    ('0', '< 0.01', '> −0.01', '0.20')
    """
    if value == 0:
        return "0"
    if abs(value) >= 0.005:
        return two(value)
    return "< 0.01" if value > 0 else "> −0.01"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them.

    >>> listed("ABD"), listed("C")
    ('A, B and D', 'C')
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def check_scores(
    caller: str, scores: ArrayLike, temperature: float, *, reach: float
) -> NDArray[np.float64]:
    """The scores of at least three experts, each on a step of the sliders.

    Args:
        caller: Function that an error names.
        scores: Scores ``(E,)``.
        temperature: One of :data:`TEMPERATURES`.
        reach: Largest score on either side of zero.

    Raises:
        ValueError: if a shape, a score or the temperature does not fit.
    """
    given = np.asarray(scores, dtype=float)
    if given.ndim != 1 or not 3 <= given.size <= len(NAMES):
        raise ValueError(
            f"{caller}: scores are those of 3 to {len(NAMES)} experts, got {given.shape}"
        )
    off = np.abs(given / STEP - np.round(given / STEP))
    if not (np.abs(given).max() <= reach and off.max() < 1e-6):
        raise ValueError(
            f"{caller}: scores are multiples of {STEP} from -{reach:g} to {reach:g}, "
            f"got {given.tolist()}"
        )
    if temperature not in TEMPERATURES:
        raise ValueError(f"{caller}: temperature is one of {TEMPERATURES}, got {temperature}")
    return given


def check_first(
    caller: str, first: Mapping[str, ArrayLike], lengths: Mapping[str, int]
) -> dict[str, NDArray[np.float64]]:
    """The columns of a first state as arrays.

    Raises:
        ValueError: if a column is missing, has another length or a number that is not finite.
    """
    missing = [name for name in lengths if name not in first]
    if missing:
        raise ValueError(f"{caller}: the first state lacks {missing}")
    columns = {name: np.asarray(first[name], dtype=float) for name in lengths}
    got = {name: column.shape for name, column in columns.items()}
    if got != {name: (length,) for name, length in lengths.items()}:
        raise ValueError(f"{caller}: columns of the first state need {dict(lengths)}, got {got}")
    wrong = [name for name, column in columns.items() if not np.isfinite(column).all()]
    if wrong:
        raise ValueError(f"{caller}: the first state is finite, but {wrong} are not")
    return columns
