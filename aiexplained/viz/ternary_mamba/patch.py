"""A patch of weights in training: groups share a scale, and each weight takes one of three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    FixedTicker,
    LinearColorMapper,
    Range1d,
    Span,
)
from numpy.typing import ArrayLike, NDArray

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice, index_slider
from aiexplained.viz.parts import call_rule, draw_first, legend_above
from aiexplained.viz.ternary_linear.row import LOOKS
from aiexplained.viz.ternary_mamba.steps import in_steps, packed
from aiexplained.viz.theme import FONT, PALETTE, figure, follow_theme

RULES = ("ternary_mamba", "ternary_mamba_view")
ZERO = "#c6cbd2"
"""A weight of zero on the map of colors, light enough in both themes."""

PER_UNIT, FARTHEST = 8, 4
"""Bars of the histogram in one scale, so that the cuts lie between two; and how far they go."""


def weight_patch(
    snapshots: ArrayLike,
    *,
    steps: Sequence[int],
    group_sizes: Sequence[int] = (4, 8, 16, 32, 64),
    first: Mapping[str, Any],
) -> Explorable:
    """A patch of weights, what the model multiplies with in its place, and where weights are cut.

    The weights are rounded in the page, which sees them as :func:`in_steps` gives them.

    Args:
        snapshots: The patch at each step, ``(S, R, C)``; ``C`` is a multiple of every group size.
        steps: The training step of each snapshot.
        group_sizes: Weights of a row that may share a scale.
        first: The first state: ``step``, one of ``steps``; ``group_size``; and from Python the
            ``ternary`` weight ``(R, C)`` and the ``scale`` ``(R, C / group_size)`` of the
            snapshot as the page sees it, and ``flips``, the codes that differ from those of the
            first snapshot.

    Raises:
        ValueError: if a shape does not fit, a snapshot is all zeros, or the first state is not
            among the choices.
    """
    given = np.asarray(snapshots, dtype=float)
    _check(given, steps, group_sizes, first)
    weights, known = in_steps(given), _first_state(in_steps(given), steps, first)
    _, n_rows, n_columns = weights.shape
    size = choice("Weights that share a scale", group_sizes,
                  list(group_sizes).index(first["group_size"]))  # fmt: skip
    at = index_slider("Training step", steps, list(steps).index(first["step"]))
    caption, sources = alt_source(known["alt"]), _sources(known)
    colors = _colors(2 * float(np.abs(weights[0]).mean()))
    top = _image(sources, "weights", known["title"], (n_rows, n_columns), colors)
    middle = _image(sources, "rounded", "Rounded in groups of your choice", (n_rows, n_columns),
                    colors)  # fmt: skip
    bar = ColorBar(color_mapper=colors, height=8, ticker=BasicTicker(desired_num_ticks=5),
                   padding=4, background_fill_color=None, major_label_text_font=FONT,
                   major_label_text_font_size="13px")  # fmt: skip
    follow_theme(bar, major_label_text_color="ink")
    middle.add_layout(bar, "below")
    bottom = _histogram(sources["bars"], known["flips"], _tallest(weights, group_sizes))
    values, step = packed(given)
    args = {
        "snapshots": {"values": values, "step": step}, "rows": n_rows, "columns": n_columns,
        "sizes": list(group_sizes), "labels": [str(s) for s in steps], "size": size, "at": at,
        **sources, "title": top.title, "flips": bottom.title, "alt": caption,
    }  # fmt: skip
    draw = call_rule(RULES[1], "drawPatch", args)
    size.js_on_change("active", draw)
    at.js_on_change("value", draw)
    draw_first(top, draw)
    return show(column(size, at, top, middle, bottom), alt=caption, rules=RULES)


def _check(
    snapshots: NDArray[np.float64],
    steps: Sequence[int],
    group_sizes: Sequence[int],
    first: Mapping[str, Any],
) -> None:
    if snapshots.ndim != 3 or len(snapshots) != len(steps):
        raise ValueError(
            f"weight_patch: snapshots are (S, R, C) for {len(steps)} steps, got {snapshots.shape}"
        )
    _, n_rows, n_columns = snapshots.shape
    odd = [size for size in group_sizes if n_columns % size]
    if odd:
        raise ValueError(
            f"weight_patch: {n_columns} columns must be a multiple of each group size, got {odd}"
        )
    if not np.abs(in_steps(snapshots)).max(axis=(1, 2)).all():
        raise ValueError("weight_patch: a snapshot is all zeros, and its error has no unit")
    if first["step"] not in steps or first["group_size"] not in group_sizes:
        raise ValueError(
            f"weight_patch: the first state is among the steps {list(steps)} and group sizes "
            f"{list(group_sizes)}, got {first['step']} and {first['group_size']}"
        )
    wanted = (n_rows, n_columns), (n_rows, n_columns // first["group_size"])
    got = np.shape(first["ternary"]), np.shape(first["scale"])
    if got != wanted:
        raise ValueError(f"weight_patch: ternary and scale must be {wanted}, got {got}")


def _first_state(
    weights: NDArray[np.float64], steps: Sequence[int], first: Mapping[str, Any]
) -> dict[str, Any]:
    """Data and texts as ``rules/ternary_mamba_view.js`` makes them."""
    step, size, flips = first["step"], first["group_size"], first["flips"]
    weight = weights[list(steps).index(step)]
    ternary, scale = (np.asarray(first[name], dtype=float) for name in ("ternary", "scale"))
    n, wide = ternary.size, np.repeat(scale, size, axis=1)
    share = {sign: _percent((ternary == sign).mean()) for sign in LOOKS}
    error = _percent(float(np.linalg.norm(weight - wide * ternary) / np.linalg.norm(weight)))
    bits = f"{round(2 + 16 / size, 2):g}"
    begins = step == steps[0]
    since = f" Since step {steps[0]}, {flips:,} codes ({_percent(flips / n)} %) changed."
    return {
        "title": f"Groups of {size}: {share[0]} % zeros, {bits} bits a weight, error {error} %",
        "flips": f"{n:,} weights, cut at half their group's scale"
        if begins
        else f"{flips:,} of {n:,} {'code differs' if flips == 1 else 'codes differ'} from step "
        f"{steps[0]}",
        "alt": f"Step {step}, groups of {size}: of {n:,} weights {share[0]} % become 0, "
        f"{share[1]} % +1 and {share[-1]} % −1. A weight takes {bits} bits, scales included, and "
        f"the rounded matrix is off by {error} % of the weights' norm." + ("" if begins else since),
        "bars": _bars(_ratio(weight, wide), ternary),
        "groups": _groups(ternary.reshape(-1, size), scale, size),
        "cuts": {
            "x": list(range(size, weight.shape[1], size)),
            "top": [0] * (scale.shape[1] - 1),
            "bottom": [len(weight)] * (scale.shape[1] - 1),
        },
    }


def _percent(share: float) -> int:
    return int(100 * share + 0.5)


def _ratio(weight: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0)


def _counts(ratio: NDArray[np.float64]) -> NDArray[np.int64]:
    """Weights in each bar; a bar includes its end away from zero."""
    half = PER_UNIT * FARTHEST
    away = np.minimum(np.ceil(PER_UNIT * np.abs(ratio)) - 1, half - 1).astype(int)
    place = np.where(ratio > 0, half + away, half - 1 - away)
    return np.bincount(np.where(ratio == 0, half, place).ravel(), minlength=2 * half)


def _bars(ratio: NDArray[np.float64], ternary: NDArray[np.float64]) -> dict[str, list[float]]:
    ends = np.linspace(-FARTHEST, FARTHEST, 2 * PER_UNIT * FARTHEST + 1)
    counts = {f"is {sign}": _counts(ratio[ternary == sign]).tolist() for sign in LOOKS}
    return {"left": ends[:-1].tolist(), "right": ends[1:].tolist(), **counts}


def _tallest(weights: NDArray[np.float64], group_sizes: Sequence[int]) -> int:
    """The highest bar of any state."""
    highest = 0
    for size in group_sizes:
        groups = weights.reshape(*weights.shape[:2], -1, size)
        scale = np.abs(groups).mean(axis=3, keepdims=True)
        ratio = _ratio(groups, np.broadcast_to(scale, groups.shape))
        highest = max(highest, *(int(_counts(snapshot).max()) for snapshot in ratio))
    return highest


def _groups(
    ternary: NDArray[np.float64], scale: NDArray[np.float64], size: int
) -> dict[str, list[Any]]:
    rows, groups = scale.shape
    count = {sign: (ternary == sign).sum(axis=1).tolist() for sign in LOOKS}
    return {
        "row": np.repeat(np.arange(rows) + 1, groups).tolist(),
        "places": [f"{g * size + 1}–{(g + 1) * size}" for g in range(groups)] * rows,
        "scale": (np.floor(1e5 * scale.ravel() + 0.5) / 1e5).tolist(),
        "minus": count[-1], "zero": count[0], "plus": count[1],
    }  # fmt: skip


def _sources(known: Mapping[str, Any]) -> dict[str, ColumnDataSource]:
    """Sources of the images, the lines between groups, the bars and the groups, by their names."""
    sources = {
        name: ColumnDataSource({"image": [np.zeros((1, 1), np.float32)]}, name=f"aix-{name}")
        for name in ("weights", "rounded")
    }
    sources["cuts"] = ColumnDataSource(known["cuts"], name="aix-cuts")
    sources |= {name: ColumnDataSource(known[name]) for name in ("groups", "bars")}
    data_table(sources["groups"], "The groups",
               {"row": "row", "places": "places", "scale": "scale", "minus": "become −1",
                "zero": "become 0", "plus": "become +1"})  # fmt: skip
    data_table(sources["bars"], "Weights by their multiple of the scale",
               {"left": "from", "right": "to", "is -1": "become −1", "is 0": "become 0",
                "is 1": "become +1"})  # fmt: skip
    return sources


def _colors(end: float) -> LinearColorMapper:
    """Negative to positive, in the colors of what weights become; gray in between."""
    low, mid, high = (_channels(c) for c in (PALETTE["computed"], ZERO, PALETTE["greedy"]))
    shades = [a + (b - a) * t for a, b in ((low, mid), (mid, high)) for t in np.linspace(0, 1, 64)]
    palette = ["#" + "".join(f"{round(c):02x}" for c in shade) for shade in shades]
    return LinearColorMapper(palette=palette, low=-end, high=end)


def _channels(color: str) -> NDArray[np.float64]:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)


def _image(
    sources: Mapping[str, ColumnDataSource],
    name: str,
    title: str,
    shape: tuple[int, int],
    colors: LinearColorMapper,
) -> Any:
    n_rows, n_columns = shape
    plot = figure(
        title, height=150 if name == "weights" else 186, x_range=Range1d(0, n_columns),
        y_range=Range1d(n_rows, 0), y_axis_label=name, x_axis_location=None,
    )  # fmt: skip
    plot.grid.visible = False
    plot.yaxis.update(ticker=[], axis_line_color=None)
    plot.image("image", x=0, y=0, dw=n_columns, dh=n_rows, source=sources[name],
               color_mapper=colors)  # fmt: skip
    edges = list(range(1, n_rows))
    between = [
        plot.segment(0, edges, n_columns, edges, line_width=1),
        plot.segment("x", "top", "x", "bottom", source=sources["cuts"], line_width=2),
    ]
    for line in between:
        follow_theme(line.glyph, line_color="paper")
    return plot


def _histogram(bars: ColumnDataSource, title: str, tallest: int) -> Any:
    plot = figure(
        title, height=280, x_range=Range1d(-FARTHEST, FARTHEST),
        y_range=Range1d(0, 1.05 * tallest), x_axis_label="weight / scale of its group",
        y_axis_label="weights",
    )  # fmt: skip
    plot.xgrid.visible = False
    plot.xaxis.update(
        ticker=FixedTicker(ticks=[-4, -3, -2, -0.5, 0.5, 2, 3, 4]),
        major_label_overrides={-4: "≤ −4", -3: "−3", -2: "−2", -0.5: "−½", 0.5: "½", 4: "≥ 4"},
    )
    for sign in (-1, 0, 1):
        label, color, look = LOOKS[sign]
        plot.quad(left="left", right="right", bottom=0, top=f"is {sign}", source=bars,
                  fill_color=color, line_color=None, legend_label=label,
                  **look)  # fmt: skip
    for cut in (-0.5, 0.5):
        line = Span(location=cut, dimension="height", line_width=1.5, line_dash="dashed")
        plot.add_layout(follow_theme(line, line_color="ink"))
    legend_above(plot)
    return plot
