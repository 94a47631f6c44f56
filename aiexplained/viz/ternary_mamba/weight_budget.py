"""Loss against the size of the file, a mark a model, with a name beside each that stays clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

import numpy as np
from bokeh.models import CDSView, ColumnDataSource, FixedTicker, IndexFilter, Range1d

from aiexplained.viz.document import LETTER_WIDTH
from aiexplained.viz.explorable import PAGE_WIDTH, PHONE_WIDTH, Explorable, data_table, show
from aiexplained.viz.parts import legend_above, legend_columns
from aiexplained.viz.theme import PALETTE, figure

Point = Mapping[str, Any]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels from the upper left corner of the frame."""

KINDS = {
    "full": (PALETTE["neutral"], "circle", 12),
    "rounded": (PALETTE["computed"], "square", 11),
    "trained ternary": (PALETTE["greedy"], "diamond", 18),
    "small model": (PALETTE["reused"], "triangle", 13),
}
"""Color, marker and its size by how a model came to its size."""

HEIGHT, SIZE = 400, 13
BESIDE, ABOVE = 88, 148
"""Pixels of the figure that are not frame: axis and border, and title, legend and axis."""
LETTER_HEIGHT = 16

PLACES = [
    (align, dx, dy)
    for reach in (0, 18, 36)
    for align, dx, dy in (
        ("left", 11, 0), ("right", -11, 0), ("center", 0, -18 - reach), ("center", 0, 18 + reach),
        ("left", 6, -16 - reach), ("left", 6, 16 + reach), ("right", -6, -16 - reach),
        ("right", -6, 16 + reach),
    )
]  # fmt: skip
"""Where a name may stand: its alignment, and the offset of its anchor from the mark, in pixels."""


def loss_by_bytes(points: Sequence[Point], *, title: str, alt: str) -> Explorable:
    """What each model loses and what its file weighs; the mark is the mean over seeds.

    Args:
        points: For each model: ``name``; ``kind``, one of :data:`KINDS`; ``bytes`` of its file;
            ``losses`` over a model in full precision, in nats a character, one a seed.
        title: The finding.
        alt: The finding in a sentence or two, with the numbers.

    Raises:
        ValueError: if there is no point, a kind is unknown, bytes are not positive, or losses are
            missing or not finite.
    """
    _check(points)
    losses = [np.asarray(p["losses"], dtype=float) for p in points]
    columns: dict[str, Any] = {
        "name": [p["name"] for p in points], "kind": [p["kind"] for p in points],
        "kb": [p["bytes"] / 1000 for p in points], "mean": [float(v.mean()) for v in losses],
        "low": [float(v.min()) for v in losses], "high": [float(v.max()) for v in losses],
        "seeds": [len(v) for v in losses],
    }  # fmt: skip
    x_ends, y_ends = axis_ends(columns)
    places = place_names(columns, x_ends, y_ends)
    columns |= {key: list(values) for key, values in zip(("align", "dx", "dy"),
                                                         zip(*places, strict=True),
                                                         strict=True)}  # fmt: skip
    table = ColumnDataSource(columns)
    heads = {
        "name": "model", "kind": "kind", "kb": "file (kB)",
        "mean": "loss over full precision (nats), mean",
        "low": "lowest", "high": "highest", "seeds": "seeds",
    }  # fmt: skip
    data_table(table, "Size of the file and loss", heads)
    plot = figure(
        title, height=HEIGHT, x_axis_type="log", x_range=Range1d(*x_ends), y_range=Range1d(*y_ends),
        x_axis_label="size of the file (kB, log scale)",
        y_axis_label="loss over full precision (nats)",
    )  # fmt: skip
    steps = (1, 1.5, 2, 3, 5, 7) if x_ends[1] < 30 * x_ends[0] else (1, 3)
    ticks = [m * 10.0**e for e in range(-3, 12) for m in steps]
    plot.xaxis.ticker = FixedTicker(ticks=[t for t in ticks if x_ends[0] <= t <= x_ends[1]])
    plot.xaxis.major_label_overrides = {t: f"{t:,g}" for t in plot.xaxis[0].ticker.ticks}
    plot.xgrid.ticker = None
    kinds = [kind for kind in KINDS if kind in columns["kind"]]
    for kind in kinds:
        _draw(plot, kind, table)
    plot.text("kb", "mean", "name", source=table, x_offset="dx", y_offset="dy", text_align="align",
              text_baseline="middle", text_font_size="13px")  # fmt: skip
    legend_above(plot, legend_columns(kinds))
    return show(plot, alt=alt)


def _check(points: Sequence[Point]) -> None:
    if not points:
        raise ValueError("loss_by_bytes: there is at least one point, got none")
    for point in points:
        name = point["name"]
        if point["kind"] not in KINDS:
            raise ValueError(
                f"loss_by_bytes: a kind is one of {list(KINDS)}, {name!r} has {point['kind']!r}"
            )
        if not point["bytes"] > 0:
            raise ValueError(f"loss_by_bytes: bytes are positive, {name!r} has {point['bytes']}")
        if not len(point["losses"]) or not np.isfinite(point["losses"]).all():
            raise ValueError(
                f"loss_by_bytes: losses are finite, at least one; {name!r} has "
                f"{list(point['losses'])}"
            )


def axis_ends(columns: Mapping[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends of both axes, with room for the names."""
    low, high = min(columns["kb"]), max(columns["kb"])
    room = (high / low) ** 0.14 if high > low else 2.0
    least, most = min(columns["low"]), max(columns["high"])
    margin = 0.12 * (most - least) or 0.1 * abs(most) or 1.0
    return (low / room, high * room), (least - margin, most + margin)


def place_names(
    columns: Mapping[str, Any], x_ends: tuple[float, float], y_ends: tuple[float, float]
) -> list[tuple[str, int, int]]:
    """For each mark one of :data:`PLACES`, so that names cover neither marks nor one another.

    Each name in turn takes the place with the least overlap, until none moves; what is counted is
    the sum over the width of a phone and that of a page.

    Args:
        columns: ``name``, ``kb``, ``mean``, ``low`` and ``high`` of each mark.
        x_ends: Ends of the horizontal axis, which is logarithmic.
        y_ends: Ends of the vertical axis.
    """
    views = [mark_boxes(columns, width, x_ends, y_ends) for width in (PHONE_WIDTH, PAGE_WIDTH)]
    chosen = [PLACES[0]] * len(columns["name"])
    for _ in range(len(chosen)):
        before = list(chosen)
        for i, name in enumerate(columns["name"]):
            chosen[i] = min(PLACES, key=lambda place: _cost(i, name, place, chosen, columns, views))
        if chosen == before:
            break
    return chosen


def mark_boxes(
    columns: Mapping[str, Any],
    width: float,
    x_ends: tuple[float, float],
    y_ends: tuple[float, float],
) -> tuple[Box, list[Box]]:
    """The frame of a figure of this width, and in it the box of each mark with its whisker.

    Args:
        columns: ``kb``, ``mean``, ``low`` and ``high`` of each mark.
        width: Width of the figure in pixels.
        x_ends: Ends of the horizontal axis, which is logarithmic.
        y_ends: Ends of the vertical axis.
    """
    frame = (0.0, 0.0, width - BESIDE, float(HEIGHT - ABOVE))
    across = frame[2] / log10(x_ends[1] / x_ends[0])
    down = frame[3] / (y_ends[1] - y_ends[0])
    boxes = []
    for kb, mean, low, high in zip(*(columns[k] for k in ("kb", "mean", "low", "high")),
                                   strict=True):  # fmt: skip
        x, y = across * log10(kb / x_ends[0]), down * (y_ends[1] - mean)
        top, bottom = (down * (y_ends[1] - end) for end in (high, low))
        half = SIZE / 2
        boxes.append((x - half, min(y - half, top), x + half, max(y + half, bottom)))
    return frame, boxes


def name_box(name: str, place: tuple[str, int, int], mark: Box) -> Box:
    """The box of a name.

    Args:
        name: The text.
        place: One of :data:`PLACES`.
        mark: Box of its mark.
    """
    align, dx, dy = place
    wide = LETTER_WIDTH * len(name)
    left = (mark[0] + mark[2]) / 2 + dx - {"left": 0.0, "center": wide / 2, "right": wide}[align]
    y = (mark[1] + mark[3]) / 2 + dy
    return left, y - LETTER_HEIGHT / 2, left + wide, y + LETTER_HEIGHT / 2


def overlap(one: Box, other: Box) -> float:
    """Square pixels that two boxes share.

    >>> overlap((0, 0, 3, 3), (1, 2, 5, 9))
    2
    """
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0)


def _cost(
    i: int,
    name: str,
    place: tuple[str, int, int],
    chosen: Sequence[tuple[str, int, int]],
    columns: Mapping[str, Any],
    views: Sequence[tuple[Box, list[Box]]],
) -> float:
    total = 0.0
    for frame, marks in views:
        box = name_box(name, place, marks[i])
        area = (box[2] - box[0]) * (box[3] - box[1])
        others = [
            name_box(columns["name"][j], chosen[j], mark) for j, mark in enumerate(marks) if j != i
        ]
        total += area - overlap(box, frame) + sum(overlap(box, b) for b in [*marks, *others])
    return total


def _draw(plot: Any, kind: str, table: ColumnDataSource) -> None:
    color, marker, size = KINDS[kind]
    own = [i for i, name in enumerate(table.data["kind"]) if name == kind]
    options = {"source": table, "view": CDSView(filter=IndexFilter(own)), "line_color": color}
    plot.segment("kb", "low", "kb", "high", line_width=2, **options)
    plot.scatter("kb", "mean", size=size, marker=marker, fill_color=color, legend_label=kind,
                 **options)  # fmt: skip
