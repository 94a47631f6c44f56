"""How fast the forms of the gated delta rule are, from recorded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FixedTicker, Model, Range1d

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice
from aiexplained.viz.parts import follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure, follow_theme

FORMS = {
    "ours": ("C++ loop", "our loop in C++"),
    "chunks": ("our chunks", "our chunks in torch"),
    "transformers": ("HF chunks", "the chunks of transformers"),
    "loop": ("torch loop", "the loop in torch"),
}
"""The forms of a whole sequence: on an axis, and in a sentence."""

Entry = Mapping[str, Any]


def forms(entries: Sequence[Entry]) -> Explorable:
    """Time for a token and head in each form, a bar each.

    Args:
        entries: Records of whole sequences with ``setting`` (``instructions``, ``width``,
            ``tokens``) and ``result`` (``heads``, ``seconds`` and ``over`` by form); buttons choose
            among machines and widths.
    """
    ordered = sorted(entries, key=_place)
    labels = [_label(entry) for entry in ordered]
    times = np.array([[_nanoseconds(e, name) for name in FORMS] for e in ordered])
    titles = [
        f"The C++ loop: {e['result']['over']['transformers']:.1f} times as fast as HF chunks"
        for e in ordered
    ]
    alts = [
        f"{label}, nanoseconds for a token and head: "
        + "; ".join(f"{name} {t:,.0f}" for (_, name), t in zip(FORMS.values(), row, strict=True))
        + "."
        for label, row in zip(labels, times, strict=True)
    ]  # fmt: skip
    names = [name for name, _ in FORMS.values()]
    source = ColumnDataSource({"form": names, "time": times[0]})
    texts = [[f"{t:,.0f}" for t in row] for row in times]
    source.data["text"] = texts[0]
    title, caption = title_source(titles[0]), alt_source(alts[0])
    controls: list[Model] = []
    if len(labels) > 1:
        controls = [choice("Where, and how wide a head", labels)]
        grids = {
            source: {"time": times, "text": np.array(texts, dtype=object)},
            title: {"title": np.array(titles, dtype=object)[:, None]},
        }
        bind_grid(controls, grids, alt=caption, alts=alts)
    data_table(source, "Time for a token and head", {"form": "form", "time": "time (ns)"})
    plot = figure(
        " ", height=230, y_range=names[::-1], x_axis_type="log",
        x_range=Range1d(times.min() / 2, times.max() * 8),
        x_axis_label="ns for a token and head (log scale)",
    )  # fmt: skip
    plot.ygrid.visible = False
    low = times.min() / 2
    colors = [PALETTE["reused"], PALETTE["greedy"], PALETTE["computed"], PALETTE["neutral"]]
    source.data["color"] = colors
    plot.hbar(
        y="form", left=low, right="time", height=0.6, source=source, fill_color="color",
        line_color=None,
    )  # fmt: skip
    plot.text(
        "time", "form", "text", source=source, x_offset=6, text_baseline="middle",
        text_font_size="13px",
    )  # fmt: skip
    follow_title(plot, title)
    return show(column(*controls, plot), alt=caption)


def chunk_sizes(entries: Sequence[Entry], work: Mapping[int, Sequence[float]]) -> Explorable:
    """Time and arithmetic of chunks of several lengths, beside the loop.

    Args:
        entries: Records with ``setting`` (``instructions``, ``width``, ``tokens``, ``chunk``) and
            ``result`` (``heads``, ``seconds``); all on one kind of machine.
        work: For each width, the multiply-adds for a token in chunks of each length, in the order
            of length, over those of the loop.
    """
    widths = sorted({e["setting"]["width"] for e in entries})
    lengths = sorted({e["setting"]["chunk"] for e in entries})
    by = {(e["setting"]["width"], e["setting"]["chunk"]): e for e in entries}
    grids = {
        "time": np.array([[_nanoseconds(by[w, c], "chunks") for c in lengths] for w in widths]),
        "loop": np.array([[_nanoseconds(by[w, c], "ours") for c in lengths] for w in widths]),
        "work": np.array([work[w] for w in widths], dtype=float),
    }
    grids["loop"] = np.broadcast_to(
        np.median(grids["loop"], axis=1, keepdims=True), grids["time"].shape
    )
    tokens = entries[0]["setting"]["tokens"]
    steps = [-(-tokens // c) for c in lengths]
    titles, alts = [], []
    for w, time, loop, more in zip(widths, *grids.values(), strict=True):
        best = int(np.argmin(time))
        titles.append(
            f"Even chunks of {lengths[best]} take {time[best] / loop[0]:.1f} times as long as "
            "the loop"
        )
        alts.append(
            f"Heads of {w} numbers. In torch, chunks of {lengths[best]} tokens are fastest, with "
            f"{time[best]:,.0f} nanoseconds for a token and head; the loop in C++ takes "
            f"{loop[0]:,.0f}. Chunks of {lengths[0]} do {more[0]:.1f} times the arithmetic of the "
            f"loop in {steps[0]:,} steps, chunks of {lengths[-1]} {more[-1]:.1f} times in "
            f"{steps[-1]}."
        )
    source = ColumnDataSource(
        {"chunk": lengths, "steps": steps, **{key: grid[0] for key, grid in grids.items()}}
    )
    title, caption = title_source(titles[0]), alt_source(alts[0])
    controls: list[Model] = []
    if len(widths) > 1:
        controls = [choice("Numbers of a head", widths)]
        titles_grid = {"title": np.array(titles, dtype=object)[:, None]}
        bind_grid(controls, {source: grids, title: titles_grid}, alt=caption, alts=alts)
    data_table(
        source, "Chunks of several lengths",
        {
            "chunk": "tokens in a chunk", "steps": "steps one after another",
            "work": "arithmetic (loop = 1)", "time": "chunks in torch (ns)",
            "loop": "loop in C++ (ns)",
        },
    )  # fmt: skip
    time_plot = _against_chunk(lengths, source, grids["time"], grids["loop"])
    work_plot = _work(lengths, source, grids["work"])
    follow_title(time_plot, title)
    return show(column(*controls, time_plot, work_plot), alt=caption)


def _against_chunk(
    lengths: Sequence[int], source: ColumnDataSource, time: np.ndarray, loop: np.ndarray
) -> Any:
    high, low = max(time.max(), loop.max()) * 1.4, min(time.min(), loop.min()) / 1.4
    plot = _axes(lengths, 270, "nanoseconds (log scale)", low, high)
    steps = [s * 10**e for e in range(1, 6) for s in (1, 2, 5) if low <= s * 10**e <= high]
    plot.yaxis.ticker = FixedTicker(ticks=steps)
    plot.yaxis.major_label_overrides = {s: f"{s:,}" for s in steps}
    plot.line("chunk", "time", source=source, line_width=2, color=PALETTE["computed"],
              legend_label="chunks, torch")  # fmt: skip
    plot.scatter("chunk", "time", source=source, size=9, color=PALETTE["computed"],
                 marker="square", legend_label="chunks, torch")  # fmt: skip
    plot.line("chunk", "loop", source=source, line_width=3, line_dash="dashed",
              color=PALETTE["reused"], legend_label="loop, C++")  # fmt: skip
    legend_above(plot)
    return plot


def _work(lengths: Sequence[int], source: ColumnDataSource, work: np.ndarray) -> Any:
    plot = _axes(lengths, 210, "arithmetic (loop = 1)", 0, work.max() * 1.1, log=False)
    plot.title.text = "What a chunk costs in arithmetic, at least"
    plot.xaxis.axis_label = "tokens in a chunk (log scale)"
    plot.line("chunk", "work", source=source, line_width=2, color=PALETTE["greedy"])
    plot.scatter("chunk", "work", source=source, size=9, color=PALETTE["greedy"])
    one = plot.line([lengths[0], lengths[-1]], [1, 1], line_width=2, line_dash="dashed")
    follow_theme(one.glyph, line_color="muted")
    return plot


def _axes(
    lengths: Sequence[int], height: int, label: str, low: float, high: float, log: bool = True
) -> Any:
    plot = figure(
        " ", height=height, x_axis_type="log", y_axis_type="log" if log else "linear",
        x_range=Range1d(lengths[0] / 1.3, lengths[-1] * 1.3), y_range=Range1d(low, high),
        y_axis_label=label,
    )  # fmt: skip
    plot.xaxis.ticker = FixedTicker(ticks=list(lengths))
    plot.xaxis.major_label_overrides = {c: f"{c}" for c in lengths}
    plot.grid.ticker = None
    return plot


def _nanoseconds(entry: Entry, form: str) -> float:
    """Time for a token and head."""
    each = entry["setting"]["tokens"] * entry["result"]["heads"]
    return float(1e9 * entry["result"]["seconds"][form] / each)


def _label(entry: Entry) -> str:
    setting = entry["setting"]
    return f"{setting['instructions']}, width {setting['width']}"


def _place(entry: Entry) -> tuple[Any, ...]:
    return entry["setting"]["instructions"], entry["setting"]["width"]
