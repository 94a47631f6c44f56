"""Concept title: say the idea in one sentence.

Then say what the mechanism takes and gives, with its equation in the source's notation. This
skeleton keeps the values of largest size and drops the rest::

    y_i = x_i if i is among the k places of largest |x_i|, else 0                     (Eq. 1)

Source: name authors, title, year and where to read it.

Departures: list what differs from the source, and why.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

__all__ = ["CONCEPT", "keep_largest", "kept_energy", "make_values", "measure_kept_energy"]

CONCEPT = Concept(
    name="concept_name",
    title="Concept title",
    tag="Area",
    headline="Write the news in one line, without a number of your own",
    summary="Write one or two plain sentences for the card.",
    date="2000-01-01",
    sources=(
        Source(
            key="concept_name",
            title="Write the title as published",
            authors="Write the authors",
            date="2000-01-01",
            url="https://example.org/",
            note="say what you could read of it",
        ),
    ),
    claims=(
        Claim(
            id="headline",
            statement="State the claim in one plain sentence, without its number",
            reported="write the number as the source prints it",
            where="name the table, figure or section",
            source="concept_name",
            kind=Kind.NONE,
            verdict=Verdict.NOT_TESTABLE,
            why="Nothing has been measured yet: measure it, or say why you cannot.",
        ),
    ),
)


def keep_largest(values: Sequence[float], budget: int) -> list[float]:
    """Keep the ``budget`` values of largest size and set the others to zero (Eq. 1).

    Args:
        values: The values; of equal ones the earlier are kept.
        budget: Values to keep, from 0 to ``len(values)``.

    Raises:
        ValueError: if ``budget`` is outside its range.

    >>> keep_largest([3.0, -5.0, 1.0], budget=2)
    [3.0, -5.0, 0.0]
    """
    if not 0 <= budget <= len(values):
        raise ValueError(f"budget must lie between 0 and {len(values)}, got {budget}")
    by_size = sorted(range(len(values)), key=lambda place: -abs(values[place]))
    kept = set(by_size[:budget])
    return [value if place in kept else 0.0 for place, value in enumerate(values)]


def kept_energy(values: Sequence[float], budget: int) -> float:
    """Share of the sum of squares that :func:`keep_largest` keeps; 1 if there is none to lose."""
    total = sum(value**2 for value in values)
    kept = sum(value**2 for value in keep_largest(values, budget))
    return kept / total if total else 1.0


def make_values(n_values: int, *, seed: int) -> list[float]:
    """Normally distributed values."""
    drawn = random.Random(seed)
    return [drawn.gauss() for _ in range(n_values)]


def measure_kept_energy(
    budgets: Sequence[int], *, n_values: int = 100, seeds: Sequence[int] = (0, 1, 2)
) -> list[list[float]]:
    """Share of the energy that each budget keeps: a row a budget, an entry a seed."""
    drawn = [make_values(n_values, seed=seed) for seed in seeds]
    return [[kept_energy(values, budget) for values in drawn] for budget in budgets]
