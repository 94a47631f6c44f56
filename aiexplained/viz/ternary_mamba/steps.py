"""Numbers as a page carries them: whole multiples of a power of two, in two bytes each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST = 2**15 - 1
"""Largest multiple that fits in two bytes."""


def in_steps(values: ArrayLike) -> NDArray[np.float64]:
    """The numbers rounded to what a page sees of them; doing so twice changes nothing.

    Args:
        values: Finite numbers of any shape.

    Returns:
        Multiples of the least power of two of which the largest number is at most 32767.

    Raises:
        ValueError: if there is no number, or one is not finite.

    >>> in_steps([1.0, 1 / 3]).tolist()
    [1.0, 0.33331298828125]
    """
    multiples, step = packed(values)
    rounded: NDArray[np.float64] = multiples.astype(float).reshape(np.shape(values)) * step
    return rounded


def packed(values: ArrayLike) -> tuple[NDArray[np.int16], float]:
    """The numbers of :func:`in_steps` in one row: their multiples, and the step."""
    numbers = np.asarray(values, dtype=float).ravel()
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"in_steps: numbers are finite and at least one, got {numbers}")
    largest = np.abs(numbers).max() or 1.0
    step = 2.0 ** np.ceil(np.log2(largest / MOST))
    return np.round(numbers / step).astype(np.int16), float(step)
