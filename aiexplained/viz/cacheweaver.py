"""The figures of the CacheWeaver page. They take plain numbers; the rule runs in the browser.

The scripts ``rules/cacheweaver.js`` (the algorithm) and ``rules/cacheweaver_view.js`` (what the
figures do with it) are loaded with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    ColumnDataSource,
    CustomJS,
    HoverTool,
    Model,
    Range1d,
    Select,
    Slider,
    Toggle,
)

from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.theme import PALETTE, figure, follow_theme

RULES = ("cacheweaver", "cacheweaver_view")
REUSED, COMPUTED = PALETTE["reused"], PALETTE["computed"]
NAMES = tuple("ABCDEFGHPQ")
LENGTHS = (144, 112, 176, 128, 160, 144, 112, 128, 144, 128)
SCENES: tuple[Mapping[str, Any], ...] = (
    {
        "name": "Follow the walk",
        "served": [[1, 0, 5, 6], [3, 7, 2], [1, 0, 2, 3, 4]],
        "retrieved": [0, 2, 1, 4, 3],
    },
    {
        "name": "Beat the walk",
        "served": [[2, 1, 4, 3, 6], [0, 5, 7]],
        "retrieved": [0, 1, 2, 3, 4],
    },
    {
        "name": "A one-off passage first",
        "served": [[8, 0, 1, 2, 3], [9, 1, 0, 3, 2]],
        "retrieved": [7, 0, 1, 2, 3],
    },
)
"""Small worlds for :func:`weave_it`: openings served before, oldest first, and one retrieval."""

COLORS = {
    "no cache": PALETTE["neutral"],
    "random": PALETTE["neutral"],
    "retrieval": PALETTE["retrieval"],
    "sorted": PALETTE["sorted"],
    "greedy": PALETTE["greedy"],
    "repaired": PALETTE["greedy"],
    "oracle": PALETTE["oracle"],
    "look-ahead": PALETTE["oracle"],
}
LABELS = {
    "no cache": "no cache",
    "random": "random order",
    "retrieval": "retrieval order",
    "sorted": "sorted by id",
    "greedy": "greedy walk",
    "repaired": "walk, popular tail",
    "oracle": "deepest path (oracle)",
    "look-ahead": "look-ahead oracle",
}


def _call(name: str, args: Mapping[str, Any], tail: str = "") -> CustomJS:
    """A callback that hands its arguments to one function of the view script."""
    names = ", ".join(args)
    code = f"aiexplained.rules.cacheweaver_view.{name}({{{names}}}{tail})"
    return CustomJS(args=dict(args), code=code)


def _draw_first(plot: Any, callback: CustomJS) -> None:
    """Run ``callback`` once the figure has a size, and again whenever the size changes."""
    plot.js_on_change("inner_width", callback)


def weave_it(engine: Mapping[str, float]) -> Explorable:
    """Order the passages by hand, against the tree of served openings.

    Args:
        engine: Fields of the simulated engine: cache size, window, and the two constants of the
            time to first token, in seconds.
    """
    alt = alt_source(
        "Order A C B E D, as retrieved: no served prompt opens like this, so every passage must "
        "be read. The greedy walk would reuse all five."
    )
    state = ColumnDataSource({"order": SCENES[0]["retrieved"]}, name="aix-state")
    scene = choice("Situation", [s["name"] for s in SCENES])
    pick = Select(title="Passage to move", options=["0"], value="0")
    prompt, letters, nodes, edges, bars, plots = _weave_plots()
    args: dict[str, Any] = {
        "engine": dict(engine), "lengths": LENGTHS, "names": NAMES, "scenes": SCENES,
        "scene": scene, "state": state, "pick": pick, "alt": alt, "prompt": prompt,
        "letters": letters, "nodes": nodes, "edges": edges, "bars": bars,
    }  # fmt: skip
    actions = {
        "Retrieval order": "retrieval", "Greedy walk": "greedy", "Best order (oracle)": "best",
        "← Earlier": "earlier", "Later →": "later",
    }  # fmt: skip
    buttons = []
    for label, action in actions.items():
        button = Button(label=label)
        button.js_on_event("button_click", _call("weave", args, f", '{action}'"))
        buttons.append(button)
    scene.js_on_change("active", _call("weave", args, ", 'scene'"))
    for event in ("panstart", "pan", "panend"):
        plots[0].js_on_event(event, _call("drag", args, ", cb_obj"))
    _draw_first(plots[0], _call("weave", args, ", 'first'"))
    layout = column(scene, plots[0], row(*buttons[:3]), row(pick, *buttons[3:]), plots[1], plots[2])
    return show(layout, alt=alt, rules=RULES)


def _weave_plots() -> tuple[Any, ...]:
    prompt = ColumnDataSource({k: [] for k in ("left", "right", "part", "state", "reused", "read")})
    data_table(
        prompt, "The prompt, part by part",
        {"part": "part", "left": "from token", "right": "to token", "state": "state"},
    )  # fmt: skip
    letters = ColumnDataSource({"x": [], "text": []}, name="aix-letters")
    strip = figure(
        "Your prompt: drag a passage to another place", height=150, y_axis_location=None,
        x_range=Range1d(0, 800), y_range=Range1d(0, 1), x_axis_label="tokens",
    )  # fmt: skip
    strip.grid.visible = False
    box = {"left": "left", "right": "right", "bottom": 0.1, "top": 0.95, "source": prompt}
    for alpha, color, pattern, label in (
        ("reused", REUSED, " ", "from the cache"),
        ("read", COMPUTED, "/", "must be read"),
    ):
        strip.quad(
            **box, fill_color=color, fill_alpha=alpha, line_alpha=alpha, hatch_pattern=pattern,
            hatch_alpha=alpha, hatch_color="#ffffff", hatch_weight=1, line_width=2,
            line_color="#ffffff", legend_label=label,
        )  # fmt: skip
    strip.text(
        "x", 0.52, "text", source=letters, text_align="center", text_baseline="middle",
        text_font_size="20px", text_font_style="bold", text_color="#000000",
        background_fill_color="#ffffff", background_fill_alpha=0.85, padding=3, border_radius=4,
    )  # fmt: skip
    _legend_above(strip)
    nodes = ColumnDataSource({k: [] for k in ("x", "y", "text", "path", "on", "fade")})
    nodes.name = "aix-nodes"
    edges = ColumnDataSource({k: [] for k in ("xs", "ys", "on")}, name="aix-edges")
    return prompt, letters, nodes, edges, *_tree_and_bars(nodes, edges, strip)


def _tree_and_bars(nodes: ColumnDataSource, edges: ColumnDataSource, strip: Any) -> tuple[Any, ...]:
    tree = figure(
        "Openings served lately; your order follows the green path", height=230,
        x_axis_label="passages from the start", x_range=Range1d(-0.4, 5.5), y_axis_location=None,
    )  # fmt: skip
    tree.grid.visible = False
    tree.y_range.range_padding = 0.25
    tree.multi_line("xs", "ys", source=edges, line_color=PALETTE["neutral"], line_width=1.5)
    tree.multi_line("xs", "ys", source=edges, line_color=REUSED, line_width=5, line_alpha="on")
    tree.scatter(
        "x", "y", source=nodes, size=30, fill_color=PALETTE["neutral"], fill_alpha="fade",
        line_color=None,
    )  # fmt: skip
    tree.scatter(
        "x", "y", source=nodes, size=32, fill_color=REUSED, fill_alpha="on", line_color=None
    )
    tree.text(
        "x", "y", "text", source=nodes, text_align="center", text_baseline="middle",
        text_font_size="14px", text_font_style="bold", text_color="#000000",
        background_fill_color="#ffffff", background_fill_alpha=0.85, padding=2, border_radius=4,
    )  # fmt: skip
    rows = ["best order", "greedy walk", "retrieval order", "your order"]
    bars = ColumnDataSource({"order": rows, "ttft_s": [0.0] * 4, "label": [""] * 4})
    data_table(
        bars, "Time to first token by order", {"order": "order", "ttft_s": "seconds to first token"}
    )
    plot = figure(
        "Time to first token", height=200, y_range=rows, x_axis_label="seconds",
        x_range=Range1d(0, 2.4),
    )  # fmt: skip
    plot.ygrid.visible = False
    fill = [PALETTE["oracle"], PALETTE["greedy"], PALETTE["retrieval"], PALETTE["neutral"]]
    bars.data["color"] = fill
    plot.hbar(
        y="order", right="ttft_s", height=0.6, source=bars, fill_color="color", line_color=None
    )
    plot.text(
        "ttft_s", "order", "label", source=bars, x_offset=6, text_baseline="middle",
        text_font_size="13px",
    )  # fmt: skip
    return bars, (strip, tree, plot)


def _legend_above(plot: Any) -> None:
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.update(orientation="horizontal", padding=0, margin=4, spacing=16, border_line_color=None)


def trace_scrubber(
    traces: Mapping[tuple[int, int], np.ndarray],
    lengths: Sequence[int],
    engine: Mapping[str, float],
    *,
    zipf: Sequence[float],
    session: Sequence[float],
    capacities: Sequence[int],
    windows: Sequence[int],
    alt: str,
) -> Explorable:
    """Two strips of the same requests: tokens from the cache and tokens read, by order.

    Args:
        traces: Retrieved passages ``[requests, width]`` for each position on the two trace
            sliders; the first ``k`` columns are used.
        lengths: Tokens of each passage.
        engine: Fields of the simulated engine.
        zipf: Labels of the first trace slider.
        session: Labels of the second trace slider.
        capacities: Cache sizes to choose from, in blocks.
        windows: Planner windows to choose from, in requests.
        alt: The finding in the first state.
    """
    n, width = next(iter(traces.values())).shape
    data = {f"trace {i} {j}": t.astype(np.uint16).ravel() for (i, j), t in traces.items()}
    sliders = {
        "played": Slider(title="Requests played", start=1, end=n, step=1, value=n),
        "zipf": index_slider("Topic skew (Zipf exponent)", zipf, len(zipf) - 1),
        "session": index_slider("Mean session length (requests)", session, len(session) // 2),
        "k": Slider(title="Passages a request", start=2, end=width, step=1, value=5),
        "capacity": index_slider("Cache size (blocks of 16 tokens)", capacities, 2),
        "window": index_slider("Planner's window (requests)", windows, len(windows) - 1),
    }
    caption = alt_source(alt)
    keys = ("request", "retrieval_cached", "woven_cached", "total", "shown")
    strips = ColumnDataSource({key: [] for key in keys})
    data_table(
        strips, "Every request of the trace",
        {
            "request": "request", "total": "prompt tokens",
            "retrieval_cached": "from the cache, retrieval order",
            "woven_cached": "from the cache, woven",
        },
    )  # fmt: skip
    args = {
        "engine": dict(engine), "lengths": list(lengths), "width": width, "sliders": sliders,
        "capacities": list(capacities), "windows": list(windows), "strips": strips, "alt": caption,
        "traces": ColumnDataSource(data, name="aix-traces"), "memo": {},
    }  # fmt: skip
    plots = [
        _strip(strips, f"{key}_cached", title, n)
        for key, title in (("retrieval", "Retrieval order"), ("woven", "Woven by CacheWeaver"))
    ]
    for key, slider in sliders.items():
        slider.js_on_change("value", _call("scrub", args, f", {str(key != 'played').lower()}"))
    _draw_first(plots[0], _call("scrub", args, ", false"))
    button = Button(label="▶ Play")
    button.js_on_event("button_click", _call("play", args))
    first, *others = sliders.values()
    controls = [row(button, first), row(*others[:3]), row(*others[3:])]
    return show(column(*plots, *controls), alt=caption, rules=RULES)


def _strip(source: ColumnDataSource, cached: str, title: str, n: int) -> Any:
    plot = figure(title, height=190, x_range=Range1d(0.4, n + 0.6), y_axis_label="prompt tokens")
    plot.y_range.start = 0
    plot.xgrid.visible = False
    bar = {"x": "request", "width": 0.86, "source": source, "line_color": None}
    plot.vbar(
        **bar, bottom=0, top=cached, fill_color=REUSED, fill_alpha="shown",
        legend_label="from the cache",
    )  # fmt: skip
    plot.vbar(
        **bar, bottom=cached, top="total", fill_color=COMPUTED, fill_alpha="shown",
        hatch_pattern="/", hatch_color="#ffffff", hatch_alpha="shown", hatch_weight=0.7,
        legend_label="read",
    )  # fmt: skip
    _legend_above(plot)
    return plot


def failure(
    trace: np.ndarray,
    lengths: Sequence[int],
    engine: Mapping[str, float],
    *,
    policies: Sequence[str],
    alt: str,
) -> Explorable:
    """The workload that the walk cannot enter, and what repairs it.

    Args:
        trace: Retrieved passages ``[requests, k]`` of ordinary requests.
        lengths: Tokens of each passage; the one-off passages are the last of them.
        engine: Fields of the simulated engine.
        policies: Orders to choose from, by name.
        alt: The finding in the first state.
    """
    n, k = trace.shape
    one_off = Toggle(label="Each request starts with a one-off passage", active=True)
    policy = choice("Order", [LABELS[p] for p in policies])
    caption = alt_source(alt)
    strip = ColumnDataSource({"request": [], "share": []})
    columns = {"request": "request", "share": "passage tokens from the cache (%)"}
    data_table(strip, "Reuse by request", columns)
    args = {
        "engine": dict(engine), "lengths": list(lengths), "width": k, "strip": strip,
        "policies": list(policies), "labels": [LABELS[p] for p in policies], "policy": policy,
        "oneOff": one_off, "firstOneOff": len(lengths) - n, "alt": caption,
        "trace": ColumnDataSource({"passage": trace.astype(np.uint16).ravel()}, name="aix-trace"),
    }  # fmt: skip
    plot = figure(
        "One passage at the front decides", height=240, x_range=Range1d(0.4, n + 0.6),
        y_range=Range1d(0, 105), x_axis_label="request", y_axis_label="from the cache (%)",
    )  # fmt: skip
    plot.xgrid.visible = False
    plot.vbar(
        x="request", top="share", width=0.86, source=strip, fill_color=REUSED, line_color=None
    )
    for control in (one_off, policy):
        control.js_on_change("active", _call("fail", args))
    _draw_first(plot, _call("fail", args))
    return show(column(one_off, policy, plot), alt=caption, rules=RULES)


def ttft_by_order(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    *,
    title: str,
    alts: Sequence[str],
) -> Explorable:
    """Median and 90th percentile of the time to first token, a row an order.

    Args:
        results: For each trace, for each order: ``median_s`` and ``p90_s``, an entry a seed.
        title: The finding.
        alts: The finding in each trace.
    """
    kinds = list(results)
    orders = list(next(iter(results.values())))[::-1]
    grid = {
        key: [[reduce(results[kind][o][column_]) for o in orders] for kind in kinds]
        for key, column_, reduce in (
            ("median", "median_s", np.mean), ("low", "median_s", np.min),
            ("high", "median_s", np.max), ("p90", "p90_s", np.mean),
        )
    }  # fmt: skip
    names = [LABELS[o] for o in orders]
    source = ColumnDataSource({"order": names, "color": [COLORS[o] for o in orders]})
    pick, caption = choice("Trace", kinds), alt_source(alts[0])
    bind_grid([pick], {source: grid}, alt=caption, alts=list(alts))
    data_table(
        source, "Time to first token by order",
        {
            "order": "order", "median": "median (s), mean over seeds", "low": "lowest seed (s)",
            "high": "highest seed (s)", "p90": "90th percentile (s)",
        },
    )  # fmt: skip
    plot = figure(title, height=320, y_range=names, x_axis_label="seconds to first token")
    plot.x_range.start = 0
    plot.x_range.range_padding = 0.12
    plot.segment("median", "order", "p90", "order", source=source, line_color="color", line_width=2,
                 line_dash="dotted")  # fmt: skip
    plot.segment("low", "order", "high", "order", source=source, line_color="color", line_width=8,
                 line_alpha=0.4)  # fmt: skip
    plot.scatter("median", "order", source=source, size=13, color="color", legend_label="median")
    plot.scatter(
        "p90", "order", source=source, size=11, marker="diamond", fill_color=None,
        line_color="color", line_width=2, legend_label="90th percentile",
    )  # fmt: skip
    _legend_above(plot)
    return show(column(pick, plot), alt=caption)


def share_by_order(
    results: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
    axis: str,
    alts: Sequence[str],
) -> Explorable:
    """Bars with a spread: one number for each order, a state for each workload.

    Args:
        results: For each workload, for each order: percentages, an entry a seed.
        title: The finding.
        axis: What the number is, with its unit.
        alts: The finding for each workload.
    """
    kinds = list(results)
    orders = list(next(iter(results.values())))[::-1]
    names = [LABELS[o] for o in orders]
    grid = {
        key: [[reduce(results[kind][o]) for o in orders] for kind in kinds]
        for key, reduce in (("mean", np.mean), ("low", np.min), ("high", np.max))
    }
    source = ColumnDataSource({"order": names, "color": [COLORS[o] for o in orders]})
    pick, caption = choice("Workload", kinds), alt_source(alts[0])
    bind_grid([pick], {source: grid}, alt=caption, alts=list(alts))
    data_table(
        source,
        axis,
        {"order": "order", "mean": f"{axis}, mean", "low": "lowest", "high": "highest"},
    )
    top = 1.08 * max(max(max(values) for values in grid["high"]), 1e-9)
    plot = figure(title, height=300, y_range=names, x_axis_label=axis, x_range=Range1d(0, top))
    plot.ygrid.visible = False
    plot.hbar(y="order", right="mean", height=0.62, source=source, color="color", line_color=None)
    spread = plot.segment("low", "order", "high", "order", source=source, line_width=3)
    follow_theme(spread.glyph, line_color="ink")
    return show(column(pick, plot), alt=caption)


def block_chain(labels: Sequence[str], hashes: Sequence[Sequence[str]]) -> Explorable:
    """A chain of block hashes, and which of them survive when one token changes.

    Args:
        labels: What was changed, a slider position each; the first is "nothing".
        hashes: Hex digits of each block's hash, a row a slider position.
    """
    n = len(hashes[0])
    kept = [[a == b for a, b in zip(row_, hashes[0], strict=True)] for row_ in hashes]
    alts = [
        f"Changed: {label}. {sum(k)} of {n} block hashes stay the same"
        + (", and every hash from the changed block on is new." if sum(k) < n else ".")
        for label, k in zip(labels, kept, strict=True)
    ]
    slider, caption = (
        index_slider("Token that changes", labels, len(labels) // 2),
        alt_source(alts[0]),
    )
    source = ColumnDataSource({"x": list(range(n)), "block": [f"block {i + 1}" for i in range(n)]})
    grid = {
        "hash": np.array(hashes, dtype=object), "same": np.array(kept, dtype=float),
        "new": 1 - np.array(kept, dtype=float),
    }  # fmt: skip
    bind_grid([slider], {source: grid}, alt=caption, alts=alts)
    data_table(
        source, "Block hashes",
        {"block": "block", "hash": "hash (first digits)", "same": "unchanged (1 = yes)"},
    )  # fmt: skip
    plot = figure(
        "Each hash covers all that came before it", height=150, x_range=Range1d(-0.6, n - 0.4),
        y_range=Range1d(-0.6, 0.6), y_axis_location=None, x_axis_location=None,
    )  # fmt: skip
    plot.grid.visible = False
    plot.segment(x0=list(range(n - 1)), y0=0, x1=list(range(1, n)), y1=0, line_width=3,
                 line_color=PALETTE["neutral"])  # fmt: skip
    for alpha, color, pattern, label in (
        ("same", REUSED, " ", "same hash: reused"), ("new", COMPUTED, "/", "new hash: read again"),
    ):  # fmt: skip
        plot.rect(
            "x", 0, width=0.86, height=0.8, source=source, fill_color=color, fill_alpha=alpha,
            line_color=None, hatch_pattern=pattern, hatch_color="#ffffff", hatch_alpha=alpha,
            hatch_weight=0.7, legend_label=label,
        )  # fmt: skip
    plot.text(
        "x", 0, "hash", source=source, text_align="center", text_baseline="middle",
        text_font_size="13px", text_color="#000000", background_fill_color="#ffffff",
        background_fill_alpha=0.85, padding=2, border_radius=3,
    )  # fmt: skip
    _legend_above(plot)
    return show(column(slider, plot), alt=caption)


def differences(
    labels: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    *,
    title: str,
    axis: str,
    alt: str,
) -> Explorable:
    """Means with intervals against zero, a row each.

    Args:
        labels: Row names, from the top.
        values: ``(mean, low, high)`` of each row.
        title: The finding.
        axis: What the number is, with its unit.
        alt: The finding, in a sentence.
    """
    mean, low, high = (list(column_)[::-1] for column_ in zip(*values, strict=True))
    names = list(labels)[::-1]
    data = {"row": names, "mean": mean, "low": low, "high": high}
    headers = {"row": "prompt", "mean": axis, "low": "interval, low", "high": "interval, high"}
    source = data_table(ColumnDataSource(data), title, headers)
    plot = figure(title, height=60 + 34 * len(names), y_range=names, x_axis_label=axis)
    zero = plot.ray(x=0, y=0, length=0, angle=np.pi / 2, line_width=1.5)
    follow_theme(zero.glyph, line_color="muted")
    plot.segment(
        "low", "row", "high", "row", source=source, line_width=3, line_color=PALETTE["greedy"]
    )
    plot.scatter("mean", "row", source=source, size=11, color=PALETTE["greedy"])
    plot.add_tools(HoverTool(tooltips=[("mean", "@mean{0.000}")]))
    return show(plot, alt=alt)


def sweeps(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]]],
    xs: Mapping[str, Sequence[float]],
    *,
    alts: Sequence[str],
) -> Explorable:
    """Gain in cached share against one setting at a time, a line an order.

    Args:
        results: For each swept setting, for each order: ``points``, ``(mean, low, high)`` at each
            of its values, in percentage points above retrieval order.
        xs: The values of each setting, equally many.
        alts: The finding for each setting.
    """
    settings = list(results)
    orders = list(results[settings[0]])
    pick, caption = choice("What changes", settings), alt_source(alts[0])
    plot = figure("Where weaving gains, and how much", height=320, y_axis_label="gain (points)",
                  x_axis_label="value of the setting")  # fmt: skip
    ticks = [[f"{x:g}" for x in xs[s]] for s in settings]
    sources: dict[Model, dict[str, Any]] = {}
    for i, order in enumerate(orders):
        points = np.array([results[s][order]["points"] for s in settings])
        source = ColumnDataSource({"x": list(range(points.shape[1]))})
        sources[source] = {
            "at": np.array(ticks, dtype=object), "gain": points[:, :, 0], "low": points[:, :, 1],
            "high": points[:, :, 2],
        }  # fmt: skip
        style = {"color": COLORS[order], "legend_label": LABELS[order]}
        dash = ("solid", "dashed", "dotted", "dotdash")[i % 4]
        marker = ("circle", "square", "triangle", "diamond")[i % 4]
        plot.line("x", "gain", source=source, line_width=2.5, line_dash=dash, **style)
        plot.scatter("x", "gain", source=source, size=9, marker=marker, **style)
        plot.segment("x", "low", "x", "high", source=source, line_width=2, color=COLORS[order])
        if i == 0:
            plot.text("x", 0, "at", source=source, text_align="center", y_offset=18,
                      text_font_size="13px")  # fmt: skip
    bind_grid([pick], sources, alt=caption, alts=list(alts))
    for source, order in zip(sources, orders, strict=True):
        data_table(source, LABELS[order], {"at": "value", "gain": "gain (points)"}, name=order)
    _legend_above(plot)
    return show(column(pick, plot), alt=caption)


__all__ = [
    "LENGTHS",
    "NAMES",
    "SCENES",
    "block_chain",
    "differences",
    "failure",
    "share_by_order",
    "sweeps",
    "trace_scrubber",
    "ttft_by_order",
    "weave_it",
]
