"""How fast it is: recorded ratios as a figure and as a table, beside the saving in work."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FixedTicker, Model, Range1d

from aiexplained.viz.block_list.style import OURS, THEIRS
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice
from aiexplained.viz.parts import follow_title, title_source
from aiexplained.viz.theme import figure, follow_theme


@dataclass(frozen=True)
class Point:
    """One recorded comparison; times are seconds a call.

    Args:
        tokens: Length of the sequence.
        work: Pairs that dense attention computes over those on the lists.
        ours: Dense time over ours.
        low: The least such ratio of all rounds.
        high: The greatest.
        rival: Dense time over that of FlexAttention.
        share: Our rate over the highest that a large matrix product reached there, in percent.
        dense_share: The dense kernel's.
    """

    tokens: int
    work: float
    ours: float
    low: float
    high: float
    rival: float
    share: float
    dense_share: float

    @property
    def efficiency(self) -> float:
        """Speed-up over dense as a share of the saving in work, in percent."""
        return 100 * self.ours / self.work

    @classmethod
    def of(cls, tokens: int, result: Mapping[str, Any], peak: float) -> Point:
        """From a record's result, and the highest rate of a matrix product in its series."""
        low, high = result["spread"]["over_dense"]
        return cls(
            tokens=tokens, work=result["work_ratio"], ours=result["over_dense"], low=low, high=high,
            rival=result["over_dense"] / result["over_flex"],
            share=100 * result["ours_tflops"] / peak,
            dense_share=100 * result["dense_tflops"] / peak,
        )  # fmt: skip


Series = Mapping[str, Sequence[Point]]


def series_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Recorded comparisons by machine, type and width, each in order of length.

    Args:
        entries: Records with ``setting`` (``device``, ``instructions``, ``dtype``, ``head_dim``,
            ``tokens``), ``result`` and ``provenance``. GPUs come before processors, wide heads
            before narrow ones, bfloat16 before wider types.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for entry in sorted(entries, key=_place):
        groups.setdefault(_label(entry), []).append(entry)
    found = {}
    for label, group in groups.items():
        peak = max(entry["result"]["gemm_tflops"] for entry in group)
        found[label] = [Point.of(e["setting"]["tokens"], e["result"], peak) for e in group]
    return found


def _label(entry: Mapping[str, Any]) -> str:
    """Machine, type and width: ``H100, bfloat16, width 64``."""
    setting = entry["setting"]
    machine = f"CPU with {setting['instructions']}"
    if setting["device"] == "gpu":
        machine = entry["provenance"]["device"].removeprefix("NVIDIA ").split()[0]
    return f"{machine}, {setting['dtype']}, width {setting['head_dim']}"


def _place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    setting = entry["setting"]
    keys = ("instructions", "dtype", "tokens")
    on_cpu, narrow = setting["device"] == "cpu", -setting["head_dim"]
    return (on_cpu, narrow, *(setting[key] for key in keys))


def speed(series: Series) -> Explorable:
    """Speed-up over dense attention against length, beside the saving in work.

    Args:
        series: Points by label, from :func:`series_of`; where there are several, buttons choose.
    """
    labels, points = list(series), list(series.values())
    titles, alts = [_headline(each[-1]) for each in points], list(map(_told, labels, points))
    title, caption = title_source(titles[0]), alt_source(alts[0])
    most = max(map(len, points))
    grid = {
        key: np.array([[getattr(p, key) for p in each] + [nan] * (most - len(each))
                       for each in points])
        for key in ("tokens", "work", "ours", "low", "high", "rival", "efficiency")
    }  # fmt: skip
    source = ColumnDataSource({key: values[0] for key, values in grid.items()})
    controls: list[Model] = []
    if len(labels) > 1:
        controls = [choice("Where", labels)]
        titles_grid = {"title": np.array(titles, dtype=object)[:, None]}
        bind_grid(controls, {source: grid, title: titles_grid}, alt=caption, alts=alts)
    data_table(
        source, "Speed-up over dense attention",
        {
            "tokens": "tokens", "work": "saving in work (times)", "ours": "ours over dense (times)",
            "low": "lowest round", "high": "highest round", "rival": "FlexAttention over dense",
            "efficiency": "ours, of the saving (%)",
        },
    )  # fmt: skip
    plot = _speed_plot(source, [p for each in points for p in each])
    follow_title(plot, title)
    return show(column(*controls, plot), alt=caption)


def _headline(last: Point) -> str:
    return (
        f"At {last.tokens:,} tokens: {last.work:.0f} times less work, "
        f"{last.ours:.0f} times as fast as dense"
    )


def _told(label: str, points: Sequence[Point]) -> str:
    rows = "; ".join(
        f"at {p.tokens:,} tokens {p.ours:.1f} times ({p.work:.1f} times fewer pairs, FlexAttention "
        f"{p.rival:.1f} times)"
        for p in points
    )
    return f"{label}. How much faster than dense attention: {rows}."


def _speed_plot(source: ColumnDataSource, points: Sequence[Point]) -> Any:
    every = [1.0, *(x for p in points for x in (p.work, p.low, p.high, p.rival))]
    low, high = min(every) / 1.3, max(every) * 1.3
    ticks = sorted({p.tokens for p in points})
    plot = figure(
        " ", height=390, x_axis_type="log", y_axis_type="log",
        x_range=Range1d(ticks[0] / 1.5, ticks[-1] * 1.5), y_range=Range1d(low, high),
        x_axis_label="tokens (log scale)", y_axis_label="times as fast as dense (log scale)",
    )  # fmt: skip
    plot.xaxis.ticker = FixedTicker(ticks=list(ticks))
    plot.xaxis.major_label_overrides = {t: f"{t:,}" for t in ticks}
    steps = [s * 10**e for e in range(-1, 4) for s in (1, 2, 5) if low <= s * 10**e <= high]
    plot.yaxis.ticker = FixedTicker(ticks=steps)
    plot.yaxis.major_label_overrides = {s: f"{s:g}" for s in steps}
    plot.grid.ticker = None
    saving = plot.line(
        "tokens", "work", source=source, line_width=2, line_dash="dashed",
        legend_label="saving in work",
    )  # fmt: skip
    follow_theme(saving.glyph, line_color="ink")
    for key, color, marker, label in (
        ("ours", OURS, "circle", "block_list_attention"),
        ("rival", THEIRS, "square", "FlexAttention, same lists"),
    ):
        plot.line("tokens", key, source=source, line_width=2, color=color, legend_label=label)
        plot.scatter(
            "tokens", key, source=source, size=11, marker=marker, color=color, legend_label=label
        )
    plot.segment("tokens", "low", "tokens", "high", source=source, line_width=4, color=OURS)
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.update(padding=0, margin=4, spacing=2, border_line_color=None)
    return plot


@dataclass(frozen=True)
class SpeedTable:
    """Every recorded comparison as a row; a cell displays it.

    Args:
        series: Points by label, from :func:`series_of`.
    """

    series: Series

    def __repr__(self) -> str:
        lines = [" | ".join(HEADS)]
        for label, points in self.series.items():
            lines += [label, *(" | ".join(_texts(point)) for point in points)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
        bodies = "".join(_body(label, points) for label, points in self.series.items())
        # On a dark page the site's theme gives a light ground to all output but a "dataframe".
        return (
            '<div class="pst-scrollable-table-container" tabindex="0">'
            '<table class="table dataframe">'
            f"<thead><tr>{heads}</tr></thead>{bodies}</table></div>"
        )


HEADS = (
    "Tokens", "Saving in work", "Ours over dense", "Ours, of the saving",
    "FlexAttention over dense", "Ours, of the peak", "Dense, of the peak",
)  # fmt: skip


def _texts(p: Point) -> tuple[str, ...]:
    """A row of the table under :data:`HEADS`; no line breaks before a unit."""
    times = [f"{x:.1f}\u00a0×" for x in (p.work, p.ours, p.rival)]
    shares = [f"{x:.0f}\u00a0%" for x in (p.efficiency, p.share, p.dense_share)]
    return f"{p.tokens:,}", times[0], times[1], shares[0], times[2], shares[1], shares[2]


def _body(label: str, points: Sequence[Point]) -> str:
    """The rows of one series below its name."""
    name = f'<th scope="rowgroup" colspan="{len(HEADS)}">{html.escape(label)}</th>'
    rows = [f"<tr>{name}</tr>"]
    for first, *rest in map(_texts, points):
        cells = "".join(f"<td>{text}</td>" for text in rest)
        rows.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return f"<tbody>{''.join(rows)}</tbody>"
