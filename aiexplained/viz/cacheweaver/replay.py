"""Figures that replay a trace in the browser, and the chain of block hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import Button, ColumnDataSource, Range1d, Slider, Toggle

from aiexplained.viz.cacheweaver.style import (
    COMPUTED,
    LABELS,
    REUSED,
    RULES,
    call,
    state_legend,
)
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import bind_grid, choice, index_slider
from aiexplained.viz.parts import legend_above
from aiexplained.viz.theme import PALETTE, figure, follow_theme

TOKENS = ("total", "retrieval_cached", "woven_cached")


def trace_scrubber(
    traces: Mapping[tuple[int, int], np.ndarray],
    lengths: Sequence[int],
    engine: Mapping[str, float],
    *,
    zipf: Sequence[float],
    session: Sequence[float],
    capacities: Sequence[int],
    windows: Sequence[int],
    first: Mapping[str, Sequence[float]],
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
        first: The first state, from Python: ``total``, ``retrieval_cached`` and ``woven_cached``
            tokens of each request.
        alt: The finding in the first state.
    """
    n, width = next(iter(traces.values())).shape
    data = {f"trace {i} {j}": t.astype(np.uint16).ravel() for (i, j), t in traces.items()}
    sliders = {
        "played": Slider(title="Requests played", start=1, end=n, step=1, value=n),
        "zipf": index_slider("Topic skew (Zipf exponent)", zipf, len(zipf) - 1),
        "session": index_slider("Mean session length", session, len(session) // 2),
        "k": Slider(title="Passages a request", start=2, end=width, step=1, value=5),
        "capacity": index_slider("Cache size (blocks)", capacities, 2),
        "window": index_slider("Planner's window (requests)", windows, len(windows) - 1),
    }
    caption = alt_source(alt)
    strips = ColumnDataSource(
        {
            "request": np.arange(1, n + 1),
            **{key: np.asarray(first[key], dtype=np.float32) for key in TOKENS},
        }
    )  # fmt: skip
    data_table(
        strips, "Every request of the trace",
        {
            "request": "request", "total": "prompt tokens",
            "retrieval_cached": "from the cache, retrieval order",
            "woven_cached": "from the cache, woven",
        },
    )  # fmt: skip
    curtain = ColumnDataSource({"left": [n + 0.5], "right": [n + 1]}, name="aix-curtain")
    args = {
        "engine": dict(engine), "lengths": list(lengths), "width": width, "sliders": sliders,
        "capacities": list(capacities), "windows": list(windows), "strips": strips, "alt": caption,
        "curtain": curtain,
        "traces": ColumnDataSource(data, name="aix-traces"),
    }  # fmt: skip
    # One scale for all states: they can be compared, and no state has to be laid out anew.
    passages = max(np.asarray(lengths)[t.astype(int)].sum(axis=1).max() for t in traces.values())
    most = float(passages) + engine["instruction_tokens"] + engine["question_tokens"]
    plots = [
        _strip(strips, curtain, f"{key}_cached", title, (n, most))
        for key, title in (("retrieval", "Retrieval order"), ("woven", "Woven by CacheWeaver"))
    ]
    for key, slider in sliders.items():
        slider.js_on_change("value", call("scrub", args, f", {str(key != 'played').lower()}"))
    button = Button(label="▶ Play")
    button.js_on_event("button_click", call("play", args))
    played, *others = sliders.values()
    controls = [row(button, played), row(*others[:3]), row(*others[3:])]
    return show(column(*plots, *controls), alt=caption, rules=RULES)


def _strip(
    source: ColumnDataSource, curtain: ColumnDataSource, cached: str, title: str,
    ends: tuple[int, float],
) -> Any:  # fmt: skip
    n, most = ends
    plot = figure(
        title, height=190, x_range=Range1d(0.4, n + 0.6), y_range=Range1d(0, most),
        y_axis_label="prompt tokens",
    )  # fmt: skip
    plot.xgrid.visible = False
    bar = {"x": "request", "width": 0.86, "source": source, "line_color": None}
    plot.vbar(
        **bar, bottom=0, top=cached, fill_color=REUSED, legend_label="from the cache",
    )  # fmt: skip
    plot.vbar(
        **bar, bottom=cached, top="total", fill_color=COMPUTED, hatch_pattern="/",
        hatch_color="#ffffff", hatch_weight=0.7, legend_label="read",
    )  # fmt: skip
    # What is not played yet lies behind a curtain: far cheaper than an opacity for each bar.
    veil = plot.quad("left", "right", most, 0, source=curtain, fill_alpha=0.85, line_color=None)
    follow_theme(veil.glyph, fill_color="paper")
    legend_above(plot)
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
    strip = ColumnDataSource({"request": np.arange(1, n + 1), "share": np.zeros(n)})
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
        control.js_on_change("active", call("fail", args))
    return show(column(one_off, policy, plot), alt=caption, rules=RULES)


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
    for alpha, color, pattern in (("same", REUSED, " "), ("new", COMPUTED, "/")):
        plot.rect(
            "x", 0, width=0.86, height=0.8, source=source, fill_color=color, fill_alpha=alpha,
            line_color=None, hatch_pattern=pattern, hatch_color="#ffffff", hatch_alpha=alpha,
            hatch_weight=0.7
        )  # fmt: skip
    plot.text(
        "x", 0, "hash", source=source, text_align="center", text_baseline="middle",
        text_font_size="13px", text_color="#000000", background_fill_color="#ffffff",
        background_fill_alpha=0.85, padding=2, border_radius=3,
    )  # fmt: skip
    state_legend(plot, reused="same hash: reused", computed="new hash: read again")
    return show(column(slider, plot), alt=caption)
