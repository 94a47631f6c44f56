"""Attention as a matrix: a selector chooses the keys of every query while a needle is dragged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    FixedTicker,
    LinearColorMapper,
    NumeralTickFormatter,
    Range1d,
    Slider,
)
from bokeh.models.widgets import RadioButtonGroup
from numpy.typing import ArrayLike, NDArray

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice
from aiexplained.viz.parts import call_rule, draw_first
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULES = ("subq", "subq_view")
NAMES = ("window", "hash", "centroids", "block means", "two levels", "indexer", "oracle")
"""The selectors, in the order of the buttons."""

STEP = 2.0**-12
"""The page carries numbers as whole multiples of this, in two bytes each."""

CHOSEN, NEW, UNREAD = PALETTE["greedy"], PALETTE["neutral"], "#7d859029"
STATES = ("#00000000", UNREAD, NEW, CHOSEN)
"""Fills of the states in ``rules/subq.js``: not to be seen yet, not read, new, chosen."""

ROW, LOWEST = (1.05, 1.15), 1.28
"""Where the last query's own row stands, and where the plot ends, in heights of the matrix."""

MARGIN = 0.2
"""Least distance of the needle's label from either side, in widths of the matrix."""

COSTS = ("to read", "to choose", "dense")


def selector_matrix(
    query: ArrayLike,
    key: ArrayLike,
    *,
    needle: ArrayLike,
    planes: ArrayLike,
    centroids: ArrayLike,
    narrow: ArrayLike,
    settings: Mapping[str, int],
    first: Mapping[str, Any],
    budgets: Sequence[int] = tuple(range(32, 129, 16)),
) -> Explorable:
    """What each query of a head reads, by a selector of the reader's choice, and at what cost.

    The selectors run in the page. All numbers are rounded to multiples of 2⁻¹².

    Args:
        query: Queries ``(T, D)``.
        key: Keys ``(T, D)``.
        needle: The key ``(D,)`` that the last query is after; it takes the place of another.
        planes: Directions of the hash, ``(tables, bits, D)``, enough for the largest budget.
        centroids: Directions ``(C, D)`` that keys are routed by.
        narrow: Projection ``(D, I)`` to the vectors of the indexer.
        settings: ``window_size``, ``members`` (of a bucket), ``probes`` (of centroids),
            ``block_size`` and ``n_groups`` (of two levels), as the selectors in Python take them.
        first: The first state: ``selector``, one of :data:`NAMES`; ``budget``; ``position`` of the
            needle; and from Python ``mask`` ``(T, T)``, true where a key is read, and ``dots``, the
            products of two vectors that the choice took.
        budgets: Keys that a query may read at most, in equal steps.

    Raises:
        ValueError: if a shape does not fit, a number is 8 or more, a selector is unknown, or the
            hash lacks directions.
    """
    given = {
        name: np.asarray(values, dtype=float)
        for name, values in (
            ("query", query), ("key", key), ("needle", needle), ("planes", planes),
            ("centroids", centroids), ("narrow", narrow),
        )
    }  # fmt: skip
    _check(given, settings, first, budgets)
    n, known = len(given["key"]), _first_state(given, settings, first)
    selector, budget, place = controls = _controls(n, settings, first, budgets)
    caption, sources = alt_source(known["alt"]), _sources(known)
    plot = _matrix(sources, n, known["title"])
    options = {_camel(name): value for name, value in settings.items()}
    args = {
        "selector": selector, "budget": budget, "needle": place, "names": list(NAMES),
        "labels": list(selector.labels), "step": STEP, "margin": MARGIN,
        "options": {**options, "bits": given["planes"].shape[1]},
        "given": {name: _packed(values) for name, values in given.items()}, **sources,
        "title": plot.title, "alt": caption,
    }  # fmt: skip
    # One callback for all: each would carry the numbers again.
    draw = call_rule(RULES[1], "draw", args)
    for control, event in zip(controls, ("active", "value", "value"), strict=True):
        control.js_on_change(event, draw)
    for gesture in ("panstart", "pan", "tap"):
        plot.js_on_event(gesture, call_rule(RULES[1], "drag", {"needle": place}, ", cb_obj"))
    draw_first(plot, draw)
    bars = _bars(sources["costs"], _most(given, settings, budgets))
    return show(column(selector, row(budget, place), plot, bars), alt=caption, rules=RULES)


def _controls(
    n: int, settings: Mapping[str, int], first: Mapping[str, Any], budgets: Sequence[int]
) -> tuple[RadioButtonGroup, Slider, Slider]:
    selector = choice("Selector", [_label(name) for name in NAMES], NAMES.index(first["selector"]))
    budget = Slider(title="Budget (keys that a query reads at most)", start=budgets[0],
                    end=budgets[-1], step=budgets[1] - budgets[0],
                    value=first["budget"])  # fmt: skip
    place = Slider(title="Needle (position of the key)", start=0,
                   end=n - settings["window_size"] - 1, step=1,
                   value=first["position"])  # fmt: skip
    return selector, budget, place


def _sources(known: Mapping[str, Any]) -> dict[str, ColumnDataSource]:
    """Sources of the images, the marks, the last query's keys and the costs, by their names."""
    sources = {
        "matrix": ColumnDataSource({"image": [np.zeros((1, 1), np.uint8)]}, name="aix-matrix"),
        "row": ColumnDataSource({"image": [np.zeros((1, 1), np.uint8)]}, name="aix-row"),
        "mark": ColumnDataSource(known["mark"], name="aix-mark"),
        "keys": ColumnDataSource(known["keys"]),
        "costs": ColumnDataSource(known["costs"]),
    }
    data_table(sources["keys"], "What the last query reads",
               {"key": "key", "why": "why it is read", "score": "score"})  # fmt: skip
    data_table(sources["costs"], "What that costs", {"cost": "what", "label": "number"})
    return sources


def _check(
    given: Mapping[str, NDArray[np.float64]],
    settings: Mapping[str, int],
    first: Mapping[str, Any],
    budgets: Sequence[int],
) -> None:
    if given["key"].ndim != 2 or given["planes"].ndim != 3:
        raise ValueError(
            "selector_matrix: keys are (T, D) and planes (tables, bits, D), got "
            f"{given['key'].shape} and {given['planes'].shape}"
        )
    n, dim = given["key"].shape
    if given["query"].shape != (n, dim) or given["needle"].shape != (dim,):
        raise ValueError(
            f"selector_matrix: query must be {(n, dim)} and needle {(dim,)} as the keys are, got "
            f"{given['query'].shape} and {given['needle'].shape}"
        )
    if np.shape(first["mask"]) != (n, n):
        raise ValueError(f"selector_matrix: mask must be {(n, n)}, got {np.shape(first['mask'])}")
    if first["selector"] not in NAMES:
        raise ValueError(f"selector_matrix: {first['selector']!r} is not one of {NAMES}")
    if len(set(np.diff(budgets))) != 1 or first["budget"] not in budgets:
        raise ValueError(
            f"selector_matrix: budgets rise in equal steps and the first one, {first['budget']}, "
            f"is among them; got {list(budgets)}"
        )
    if not 0 <= first["position"] < n - settings["window_size"]:
        raise ValueError(
            f"selector_matrix: the needle lies before the last query's window, at 0 to "
            f"{n - settings['window_size'] - 1}, got {first['position']}"
        )
    tables = _tables(settings, budgets[-1])
    if len(given["planes"]) < tables:
        raise ValueError(
            f"selector_matrix: a budget of {budgets[-1]} asks for {tables} tables, got directions "
            f"for {len(given['planes'])}"
        )


def _tables(settings: Mapping[str, int], budget: int) -> int:
    return max((budget - settings["window_size"]) // settings["members"], 1)


def _packed(values: NDArray[np.float64]) -> NDArray[np.int16]:
    steps = np.round(values / STEP)
    if np.abs(steps).max() >= 1 << 15:
        raise ValueError(f"selector_matrix: numbers are less than 8, got {np.abs(values).max()}")
    return steps.astype(np.int16).ravel()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _label(name: str) -> str:
    return name[0].upper() + name[1:]


def _most(
    given: Mapping[str, NDArray[np.float64]], settings: Mapping[str, int], budgets: Sequence[int]
) -> float:
    """The highest count that a bar can show: two for each pair, or all signs of the hash."""
    n, bits = len(given["key"]), given["planes"].shape[1]
    hashed = 2 * n * bits * _tables(settings, budgets[-1])
    return float(max(n * (n + 1), hashed))


def _first_state(
    given: Mapping[str, NDArray[np.float64]], settings: Mapping[str, int], first: Mapping[str, Any]
) -> dict[str, Any]:
    """Data and texts as ``rules/subq_view.js`` makes them."""
    mask, at, n = np.asarray(first["mask"], bool), first["position"], len(given["key"])
    how, keys = _label(first["selector"]), np.flatnonzero(mask[-1]).tolist()
    newest = n - (first["budget"] if how == "Window" else settings["window_size"])
    read, every = bool(mask[-1, at]), n * (n + 1) // 2
    pairs = int(mask.sum())
    counts = [2 * pairs, first["dots"], 2 * every]
    labels = [f"{count:,.0f}" for count in counts]
    placed = given["key"].copy()
    placed[at] = given["needle"]
    scores = (placed[keys] @ given["query"][-1]).round(3).tolist()
    why = [("new" if k >= newest else "chosen") + (", the needle" if k == at else "") for k in keys]
    return {
        "title": f"{how}: the last query reads {len(keys)} of {n} keys"
        + (", the needle among them" if read else " and misses the needle"),
        "alt": f"{how}, at most {first['budget']} keys a query: the last query reads {len(keys)} "
        f"of {n} keys, and the needle, key {at}, is {'' if read else 'not '}among them. All "
        f"queries together read {pairs:,} of {every:,} pairs; reading took {labels[0]} and "
        f"choosing {labels[1]} products of two vectors.",
        "keys": {"key": keys, "why": why, "score": scores},
        "costs": {"cost": list(COSTS), "count": counts, "label": labels},
        "mark": {
            "x": [at + 0.5], "top": [at], "bottom": [n], "y": [n * (ROW[1] + 0.035)],
            "label_x": [min(max(at, MARGIN * n), (1 - MARGIN) * n)],
            "label_y": [n * (ROW[1] + 0.06)],
            "text": ["✓ needle read" if read else "✗ needle missed"],
        },
    }  # fmt: skip


def _matrix(sources: Mapping[str, ColumnDataSource], n: int, title: str) -> Any:
    plot = figure(
        title, height=460, x_range=Range1d(0, n), y_range=Range1d(n * LOWEST, 0),
        x_axis_label="key", y_axis_label="query", frame_align=False,
    )  # fmt: skip
    plot.grid.visible = False
    quarters = [i * n // 4 for i in range(5)]
    plot.xaxis.ticker = FixedTicker(ticks=quarters)
    middle = n * (ROW[0] + ROW[1]) / 2
    plot.yaxis.update(
        ticker=FixedTicker(ticks=[*quarters, middle]),
        major_label_overrides={middle: "last"},
        axis_line_color=None,
    )
    colors = LinearColorMapper(palette=STATES, low=-0.5, high=3.5)
    for name, y, height in (("matrix", 0, n), ("row", n * ROW[0], n * (ROW[1] - ROW[0]))):
        plot.image("image", x=0, y=y, dw=n, dh=height, source=sources[name], color_mapper=colors)
    rim = plot.quad(left=0, right=n, bottom=n * ROW[0], top=n * ROW[1], fill_color=None)
    follow_theme(rim.glyph, line_color="muted")
    _needle(plot, sources["mark"])
    away = {"left": [-9], "right": [-8], "bottom": [0], "top": [1]}
    for label, color in (("chosen", CHOSEN), ("newest", NEW), ("not read", UNREAD)):
        # A legend shows the first row of its glyph: these stand outside the plot's ranges.
        drawn = plot.quad(**away, legend_label=label, fill_color=color)
        follow_theme(drawn.glyph, line_color="line")
    # Nobody reads the future: the corner is free.
    plot.legend[0].update(location="top_right", padding=0, margin=0, border_line_color=None)
    return plot


def _needle(plot: Any, mark: ColumnDataSource) -> None:
    line = plot.segment("x", "top", "x", "bottom", source=mark, line_dash="dotted", line_width=1.5)
    follow_theme(line.glyph, line_color="ink")
    for y, marker in (("top", "inverted_triangle"), ("y", "triangle")):
        point = plot.scatter("x", y, marker=marker, size=11, source=mark)
        follow_theme(point.glyph, fill_color="ink", line_color="paper")
    plot.text(
        "label_x", "label_y", "text", source=mark, text_align="center", text_baseline="top",
        text_font_size="13px",
    )  # fmt: skip


def _bars(costs: ColumnDataSource, most: float) -> Any:
    plot = figure(
        "What that costs", height=160, y_range=list(COSTS)[::-1],
        x_range=Range1d(0, 1.3 * most), x_axis_label="products of two vectors",
        frame_align=False,
    )  # fmt: skip
    plot.ygrid.visible = False
    plot.xaxis.update(
        formatter=NumeralTickFormatter(format="0,0"), ticker=BasicTicker(desired_num_ticks=4)
    )
    plot.hbar(
        y="cost", right="count", height=0.6, source=costs, fill_color=PALETTE["greedy"],
        line_color=None,
    )  # fmt: skip
    plot.text("count", "cost", "label", source=costs, x_offset=6, text_baseline="middle",
              text_font_size="13px")  # fmt: skip
    return plot
