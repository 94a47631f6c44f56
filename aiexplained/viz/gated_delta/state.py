"""The state of a head as a picture: written, corrected and faded as one steps through tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Range1d
from numpy.typing import ArrayLike

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.parts import HATCH, follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

SIDE = 0.92
"""Side of a mark for the number one; a mark's area is proportional to its number."""

MARGIN = 0.05
"""An answer is right if the value that was said last is the loudest, by so much at least."""


def state_steps(
    states: ArrayLike,
    answers: ArrayLike,
    said: ArrayLike,
    *,
    rules: Sequence[str],
    keys: Sequence[str],
    steps: Sequence[str],
    things: Sequence[str],
    values: Sequence[str],
    first: tuple[int, int, int] = (0, 0, 0),
) -> Explorable:
    """The state beside what it answers for each key, after each token.

    Args:
        states: The state under each rule and kind of keys, after each step:
            ``(rules, keys, steps, K, V)``.
        answers: What is read with each thing's key, ``(rules, keys, steps, things, V)``.
        said: Position of the value that was said last of each thing, or -1 where nothing holds,
            ``(steps, things)``.
        rules: Names of the rules of updating.
        keys: Names of the kinds of keys.
        steps: What was said at each step; the first one is the empty state.
        things: Names of the keys.
        values: Names of the columns.
        first: Positions of the three controls at the start: rule, keys, step.
    """
    state, answer = np.asarray(states, dtype=float), np.asarray(answers, dtype=float)
    told = np.asarray(said)
    controls = [
        choice("The rule", rules, first[0]),
        choice("The keys are", keys, first[1]),
        index_slider("Said last", steps, first[2]),
    ]
    right = _right(answer, told)
    titles, alts = _findings(answer, told, right, (rules, keys, steps, things, values))
    title, caption = title_source(titles[first]), alt_source(alts[first])
    numbers = [str(i + 1) for i in range(state.shape[3])]
    in_state, in_answers = _cells(numbers, values), _cells(things, values)
    wanted = ColumnDataSource({"name": list(things)}, name="aix-wanted")
    # Where nothing holds, the frame lies outside of the picture.
    column_of = np.broadcast_to(
        np.where(told < 0, len(values) + 9.0, told + 0.5), (*answer.shape[:2], *told.shape)
    )
    bind_grid(
        controls,
        {
            in_state: _sides(state), in_answers: _sides(answer),
            wanted: {"column": column_of},
            title: {"title": titles[..., None]},
        },
        alt=caption, alts=alts,
    )  # fmt: skip
    data_table(in_answers, "What comes back for each key",
               {"name": "key", "value": "value", "number": "answer"})  # fmt: skip
    data_table(in_state, "The state", {"name": "row", "value": "column", "number": "number"})
    left = _picture("The state", in_state, numbers, values)
    right_plot = _picture("Asked with each key, it answers", in_answers, things, values)
    frame = right_plot.rect(
        "column", "name", source=wanted, width=0.98, height=0.98, fill_color=None, line_width=2,
        legend_label="said last",
    )  # fmt: skip
    follow_theme(frame.glyph, line_color="ink")
    legend_above(right_plot)
    head = figure(" ", height=34, x_range=Range1d(0, 1), y_range=Range1d(0, 1))
    head.axis.visible = False
    head.grid.visible = False
    head.scatter([2], [2])  # a figure without a glyph is a warning
    follow_title(head, title)
    return show(column(*controls, head, row(left, right_plot)), alt=caption)


def _cells(rows: Sequence[str], values: Sequence[str]) -> ColumnDataSource:
    return ColumnDataSource(
        {"name": np.repeat(rows, len(values)).tolist(), "value": list(values) * len(rows)}
    )


def _sides(grid: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers, and sides of their marks: those of positive and of negative ones."""
    flat = grid.reshape(*grid.shape[:3], -1)
    side = SIDE * np.sqrt(np.minimum(np.abs(flat), 1))
    return {
        "number": np.round(flat, 2), "plus": np.where(flat > 0, side, 0),
        "minus": np.where(flat < 0, side, 0),
    }  # fmt: skip


def _picture(
    title: str, cells: ColumnDataSource, rows: Sequence[str], values: Sequence[str]
) -> Any:
    plot = figure(
        title, height=96 + 40 * len(rows), x_range=list(values), y_range=list(rows)[::-1],
    )  # fmt: skip
    plot.grid.visible = False
    plot.xaxis.major_label_orientation = 0.7
    ground = plot.rect("value", "name", source=cells, width=0.98, height=0.98, line_color=None)
    follow_theme(ground.glyph, fill_color="surface")
    for key, color, look in (
        ("plus", PALETTE["greedy"], {}), ("minus", PALETTE["computed"], HATCH),
    ):  # fmt: skip
        plot.rect("value", "name", source=cells, width=key, height=key, fill_color=color,
                  line_color=None, **look)  # fmt: skip
    return plot


def _right(answers: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Whether each thing that holds is answered with the value that was said last."""
    index = np.broadcast_to(np.maximum(said, 0), answers.shape[:-1])[..., None]
    wanted = np.take_along_axis(answers, index, axis=-1)[..., 0]
    others = answers.copy()
    np.put_along_axis(others, index, -np.inf, axis=-1)
    right: np.ndarray = (said >= 0) & (wanted >= others.max(axis=-1) + MARGIN)
    return right


def _findings(
    answers: np.ndarray,
    said: np.ndarray,
    right: np.ndarray,
    labels: tuple[Sequence[str], ...],
) -> tuple[np.ndarray, np.ndarray]:
    """The title and the text alternative in every state of the controls."""
    rules, keys, steps, things, values = labels
    titles, alts = (np.empty(answers.shape[:3], dtype=object) for _ in range(2))
    for at in np.ndindex(titles.shape):
        held = np.flatnonzero(said[at[2]] >= 0).tolist()
        good = int(right[at].sum())
        answered = f"{good} of {len(held)} answered right" if held else "nothing is asked"
        titles[at] = f"“{steps[at[2]]}”: {answered}"
        told = [
            f"{things[i]}: {_loudest(answers[at][i], values)} (said: {values[int(said[at[2], i])]})"
            for i in held
        ]
        right_ones = f"{good} of {len(held)} things are answered with what was said of them last. "
        alts[at] = (
            f"The rule {rules[at[0]]}; the keys are {keys[at[1]]}. After “{steps[at[2]]}”, "
            + (f"{right_ones}{'; '.join(told)}." if held else "nothing that was said holds.")
        )
    return titles, alts


def _loudest(answer: np.ndarray, values: Sequence[str]) -> str:
    """The values that are answered, loudest first."""
    order = np.argsort(-np.abs(answer), kind="stable").tolist()
    heard = [f"{values[i]} {answer[i]:.1f}" for i in order if abs(answer[i]) >= 0.15]
    return ", ".join(heard) or "nothing"
