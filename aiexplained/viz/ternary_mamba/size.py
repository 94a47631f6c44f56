"""What a model weighs in 16 bits and with ternary projections, term by term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, NumeralTickFormatter, Range1d

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.parts import HATCH, follow_title, legend_above, title_source
from aiexplained.viz.theme import PALETTE, figure

Row = Mapping[str, Any]
TERMS: dict[str, tuple[str, dict[str, Any]]] = {
    "projections": (PALETTE["computed"], {}),
    "scales": (PALETTE["warning"], HATCH | {"hatch_pattern": "x"}),
    "embedding": (PALETTE["greedy"], HATCH),
    "output": (PALETTE["reused"], HATCH | {"hatch_pattern": "\\"}),
    "the rest": (PALETTE["neutral"], {}),
}
"""Parts of a bar from the left: color and stripes."""
KEYS = {"projections": ("projections", "codes"), "output": ("head",),
        "the rest": ("other",)}  # fmt: skip
"""Terms of an account that a part adds up, where its name is another."""
OUTPUTS = {"stored apart": False, "shared with the embedding": True}
MEGABYTE = 1e6


def size_account(
    rows: Sequence[Row],
    *,
    sizes: Sequence[str],
    groups: Sequence[int],
    first: tuple[int, int, int] = (0, 0, 0),
    printed: Mapping[str, float] | None = None,
) -> Explorable:
    """Two bars, 16 bits and ternary, each made of its terms; the reader chooses what is counted.

    Args:
        rows: For every model, group size and head ``size``, ``group_size``, ``tied_head``, ``bits``
            of a projection's weight, and bytes by term in ``full`` (``projections``,
            ``embedding``, ``head``, ``other``) and ``ternary`` (``codes`` and ``scales`` instead
            of ``projections``).
        sizes: Models, by name.
        groups: Weights that share a scale.
        first: Positions of the controls at the start: model, group size, head (0: of its own).
        printed: Megabytes of the ternary model as the source prints them, by model.

    Raises:
        ValueError: if an account is missing.
    """
    by = {(r["size"], r["group_size"], r["tied_head"]): r for r in rows}
    shape = len(sizes), len(groups), len(OUTPUTS)
    keys = [(s, g, tied) for s in sizes for g in groups for tied in OUTPUTS.values()]
    missing = [key for key in keys if key not in by]
    if missing:
        raise ValueError(f"size_account: no account of {missing[0]} (model, group size, tied head)")
    cells = [by[key] for key in keys]
    parts = np.array([[_parts(r["full"]), _parts(r["ternary"])] for r in cells])
    ends = np.cumsum(parts, axis=2)
    controls = [
        choice("Model", sizes, first[0]),
        index_slider("Weights that share a scale", groups, first[1]),
        choice("Output layer of the ternary model", list(OUTPUTS), first[2]),
    ]
    bars = ColumnDataSource({"bar": ["16 bits", "ternary"], "y": [1, 0], "above": [1.3, 0.3]})
    paper = [(printed or {}).get(r["size"]) for r in cells]
    told = [_tell(*known) for known in zip(cells, parts, paper, strict=True)]
    titles, alts = (np.array([t[i] for t in told], dtype=object).reshape(shape) for i in (0, 2))
    labels = np.array([label for _, label, _ in told], dtype=object).reshape(*shape, 2)
    title, caption = title_source(str(titles[first])), alt_source(str(alts[first]))
    grid: dict[str, Any] = {"label": labels}
    for i, name in enumerate(TERMS):
        grid[name] = parts[:, :, i].reshape(*shape, 2)
        grid[f"{name} to"] = ends[:, :, i].reshape(*shape, 2)
    bind_grid(controls, {bars: grid, title: {"title": titles[..., None]}}, alt=caption, alts=alts)
    heads = {name: f"{name} (MB)" for name in TERMS} | {"the rest to": "total (MB)"}
    data_table(bars, "Megabytes by part", {"bar": "stored in", **heads})
    plot = _bars(bars)
    follow_title(plot, title)
    return show(column(*controls, plot), alt=caption)


def _parts(terms: Mapping[str, float]) -> list[float]:
    return [
        sum(terms.get(key, 0.0) for key in KEYS.get(name, (name,))) / MEGABYTE for name in TERMS
    ]


def _tell(row: Row, parts: Any, printed: float | None) -> tuple[str, list[str], str]:
    """Title, a label for each bar, and the alternative of one account."""
    full, small = parts.sum(axis=1)
    group, own = (
        row["group_size"],
        "output shared" if row["tied_head"] else "output apart",
    )
    beside, says = "", ""
    if printed is not None:
        beside = f" (paper: {printed:,.0f})"
        fits = "as this account does" if round(small) == printed else "which this is not"
        says = f" The paper prints {printed:,.0f} MB, {fits}."
    title = (
        f"{row['size']}: {full:,.1f} MB become {small:,.1f} MB, {full / small:.2f} times smaller"
    )
    labels = [f"16 bits: {full:,.1f} MB", f"ternary: {small:,.1f} MB{beside}"]
    whole, each = (
        ", ".join(f"{n} {x:,.1f}" for n, x in zip(TERMS, bar, strict=True) if x) for bar in parts
    )
    alt = (
        f"{row['size']} in 16 bits, output shared: {full:,.1f} MB ({whole}). Ternary in "
        f"groups of {group}, {own}: {small:,.1f} MB ({each}), {full / small:.2f} times less. "
        f"A ternary weight takes {round(row['bits'], 3):g} bits.{says}"
    )
    return title, labels, alt


def _bars(bars: ColumnDataSource) -> Any:
    plot = figure(
        " ", height=340, x_range=DataRange1d(start=0, range_padding=0.04),
        y_range=Range1d(-0.4, 1.7), x_axis_label="megabytes (10⁶ bytes)", y_axis_location=None,
    )  # fmt: skip
    plot.ygrid.visible = False
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.xaxis.ticker.desired_num_ticks = 5
    left: float | str = 0
    for name, (color, look) in TERMS.items():
        part = plot.hbar(
            "y", left=left, right=f"{name} to", height=0.5, source=bars, fill_color=color,
            line_color=None, legend_label=name, **look,
        )  # fmt: skip
        left = f"{name} to"
        tips = [(name, f"@{{{name}}}{{0,0.0}} MB"), ("stored in", "@bar")]
        plot.add_tools(HoverTool(renderers=[part], tooltips=tips))
    plot.text(
        0, "above", "label", source=bars, text_baseline="bottom", text_font_size="14px",
        text_font_style="bold",
    )  # fmt: skip
    legend_above(plot, columns=3)
    return plot
