"""How fast the ternary product is, from recorded runs: by rows, and beside the bytes it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FixedTicker, Range1d

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice
from aiexplained.viz.parts import follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

Entry = Mapping[str, Any]
RIVALS = {
    "float32": ("float32", PALETTE["computed"], "circle"),
    "bfloat16": ("bfloat16", PALETTE["greedy"], "diamond"),
    "int8": ("int8 weights", PALETTE["sorted"], "square"),
    "int4": ("int4 weights", PALETTE["retrieval"], "triangle"),
}
"""Products of torch, how they are named, and how they are drawn."""
WIDEST_FIRST = ("AVX-512",)


def by_processor(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Records by the vector instructions of their processor, those of the widest ones first.

    Args:
        entries: Records with ``instructions`` in their ``setting``.
    """
    names = {e["setting"]["instructions"] for e in entries}
    order = sorted(names, key=lambda name: (name not in WIDEST_FIRST, name))
    return {name: [e for e in entries if e["setting"]["instructions"] == name] for name in order}


def rows_at_once(entries: Sequence[Entry]) -> Explorable:
    """How many times as fast as torch's products, against the rows of a call.

    Args:
        entries: Records with ``setting`` (``instructions``, ``activations``, ``rows``, ``n_out``,
            ``n_in``) and ``result`` (``over`` by form); processors are a choice if there are more.
    """
    kinds = list(by_processor(entries))
    modes = sorted({e["setting"]["activations"] for e in entries})
    shapes = sorted({(e["setting"]["n_out"], e["setting"]["n_in"]) for e in entries})
    rows = sorted({e["setting"]["rows"] for e in entries})
    by = {_key(e): e["result"]["over"] for e in entries}
    grids = {
        name: np.array(
            [[[[by.get((i, m, s, r), {}).get(name, np.nan) for r in rows] for s in shapes]
              for m in modes] for i in kinds]
        )
        for name in RIVALS
    }  # fmt: skip
    controls = [
        *([choice("Processor with", kinds)] if len(kinds) > 1 else []),
        choice("Activations", modes),
        choice("Outputs x inputs of the layer", [f"{n:,} x {k:,}" for n, k in shapes]),
    ]
    titles, alts = (np.empty(grids["float32"].shape[:3], dtype=object) for _ in range(2))
    for at in np.ndindex(titles.shape):
        kind, mode, (n_out, n_in) = kinds[at[0]], modes[at[1]], shapes[at[2]]
        titles[at] = f"One row: {grids['float32'][at][0]:.1f} times as fast as float32"
        told = (
            f"{label} " + ", ".join(f"{x:.1f}" for x in grids[name][at] if np.isfinite(x))
            for name, (label, *_) in RIVALS.items()
        )
        alts[at] = (
            f"{kind}, {mode} activations, {n_out:,} outputs of {n_in:,} inputs; for "
            f"{', '.join(map(str, rows))} rows, as far as measured, times as fast as torch's "
            f"product with {'; '.join(told)}."
        )
    if len(kinds) == 1:
        titles, alts = titles[0], alts[0]
        grids = {name: grid[0] for name, grid in grids.items()}
    source = ColumnDataSource({"rows": rows})
    title, caption = title_source(titles.flat[0]), alt_source(alts.flat[0])
    shown = {source: grids, title: {"title": titles[..., None]}}
    bind_grid(controls, shown, alt=caption, alts=alts)
    heads = {"rows": "rows", **{name: label for name, (label, *_) in RIVALS.items()}}
    data_table(source, "Times as fast as products of torch", heads)
    plot = _plot(rows, grids)
    for name, (label, color, marker) in RIVALS.items():
        plot.line("rows", name, source=source, line_width=2, color=color, legend_label=label)
        plot.scatter("rows", name, source=source, size=10, color=color, marker=marker,
                     legend_label=label)  # fmt: skip
    legend_above(plot)
    follow_title(plot, title)
    return show(column(*controls, plot), alt=caption)


def _key(entry: Entry) -> tuple[str, str, tuple[int, int], int]:
    setting = entry["setting"]
    size = setting["n_out"], setting["n_in"]
    return setting["instructions"], setting["activations"], size, setting["rows"]


def _plot(rows: Sequence[int], grids: Mapping[str, np.ndarray]) -> Any:
    every = np.concatenate([grid[np.isfinite(grid)] for grid in grids.values()])
    low, high = min(0.7, every.min() / 1.3), every.max() * 1.4
    plot = figure(
        " ", height=360, x_axis_type="log", y_axis_type="log",
        x_range=Range1d(rows[0] / 1.4, rows[-1] * 1.4), y_range=Range1d(low, high),
        x_axis_label="rows of x (log scale)", y_axis_label="times as fast (log scale)",
    )  # fmt: skip
    plot.xaxis.ticker = FixedTicker(ticks=list(rows))
    plot.xaxis.major_label_overrides = {r: f"{r}" for r in rows}
    steps = [s * 10**e for e in range(-1, 4) for s in (1, 2, 5) if low <= s * 10**e <= high]
    plot.yaxis.ticker = FixedTicker(ticks=steps)
    plot.yaxis.major_label_overrides = {s: f"{s:g}" for s in steps}
    plot.grid.ticker = None
    one = plot.line([rows[0] / 2, rows[-1] * 2], [1, 1], line_width=2, line_dash="dashed")
    follow_theme(one.glyph, line_color="muted")
    return plot


def bytes_and_time(entry: Entry, bytes_of: Mapping[str, float]) -> Explorable:
    """One row's product in each form: the bytes of its weights against the time it takes.

    Args:
        entry: The record of a product of one row.
        bytes_of: Bytes of all weights in each form that is to be drawn; ``"ours"`` among them.
    """
    result = entry["result"]
    names = [name for name in bytes_of if name in result["seconds"]]
    label = {"ours": "ternary", **{name: text for name, (text, *_) in RIVALS.items()}}
    moved = np.array([bytes_of[name] / 1e6 for name in names])
    time = np.array([1e3 * result["seconds"][name] for name in names])
    limit = result["bandwidth_gb_a_s"]
    source = ColumnDataSource(
        {
            "form": [label.get(name, name) for name in names], "moved": moved, "time": time,
            "least": moved / limit,
            "color": [PALETTE["reused" if name == "ours" else "computed"] for name in names],
        }
    )  # fmt: skip
    data_table(source, "Bytes and time of one row",
               {"form": "weights", "moved": "megabytes", "time": "time (ms)",
                "least": "least time (ms)"})  # fmt: skip
    rate = (moved / time)[names.index("ours")]
    low, high = moved.min() / 2.2, moved.max() * 2.6
    plot = figure(
        f"Ternary weights come at {rate:.0f} GB/s; memory gives {limit:.0f}", height=360,
        x_axis_type="log", y_axis_type="log", x_range=Range1d(low, high),
        y_range=Range1d(min(time.min(), moved.min() / limit) / 2, time.max() * 2.5),
        x_axis_label="megabytes of weights (log scale)", y_axis_label="milliseconds (log scale)",
    )  # fmt: skip
    for axis, values in ((plot.xaxis, moved), (plot.yaxis, time)):
        ticks = [s * 10**e for e in range(-3, 5) for s in (1, 2, 5)
                 if values.min() / 2.2 <= s * 10**e <= values.max() * 2.6]  # fmt: skip
        axis.ticker = FixedTicker(ticks=ticks)
        axis.major_label_overrides = {t: f"{t:g}" for t in ticks}
    plot.grid.ticker = None
    line = plot.line([low, high], [low / limit, high / limit], line_width=2, line_dash="dashed",
                     legend_label="as fast as memory is read")  # fmt: skip
    follow_theme(line.glyph, line_color="ink")
    plot.scatter("moved", "time", source=source, size=12, color="color")
    plot.text("moved", "time", "form", source=source, x_offset=9, y_offset=-4,
              text_font_size="13px")  # fmt: skip
    legend_above(plot)
    told = "; ".join(
        f"{n} {m:.1f} MB in {t:.2f} ms"
        for n, m, t in zip(source.data["form"], moved, time, strict=True)
    )
    alt = (
        f"The weights of one layer, read for one row: {told}. Memory gives {limit:.0f} GB/s; "
        f"ternary weights come at {rate:.1f} GB/s."
    )
    return show(plot, alt=alt)
