"""Weave it yourself: a prompt to reorder by hand, the tree of served openings, and the wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import Button, ColumnDataSource, Range1d, Select

from aiexplained.viz.cacheweaver.style import (
    COMPUTED,
    REUSED,
    RULES,
    call,
    state_legend,
)
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice
from aiexplained.viz.parts import draw_first
from aiexplained.viz.theme import PALETTE, figure

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
    state = ColumnDataSource({"order": list(SCENES[0]["retrieved"])}, name="aix-state")
    scene = choice("Situation", [s["name"] for s in SCENES])
    retrieved = SCENES[0]["retrieved"]
    pick = Select(
        title="Passage to move",
        options=[(str(p), f"passage {NAMES[p]}") for p in retrieved],
        value=str(retrieved[0]),
    )
    prompt, letters, nodes, edges, bars, plots = _weave_plots(engine)
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
        button.js_on_event("button_click", call("weave", args, f", '{action}'"))
        buttons.append(button)
    scene.js_on_change("active", call("weave", args, ", 'scene'"))
    for event in ("panstart", "pan", "panend"):
        plots[0].js_on_event(event, call("drag", args, ", cb_obj"))
    draw_first(plots[0], call("weave", args, ", 'first'"))
    layout = column(scene, plots[0], row(*buttons[:3]), row(pick, *buttons[3:]), plots[1], plots[2])
    return show(layout, alt=alt, rules=RULES)


def _weave_plots(engine: Mapping[str, float]) -> tuple[Any, ...]:
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
    strip.grid.visible = strip.frame_align = False
    box = {"left": "left", "right": "right", "bottom": 0.1, "top": 0.95, "source": prompt}
    for alpha, color, pattern in (("reused", REUSED, " "), ("read", COMPUTED, "/")):
        strip.quad(
            **box, fill_color=color, fill_alpha=alpha, line_alpha=alpha, hatch_pattern=pattern,
            hatch_alpha=alpha, hatch_color="#ffffff", hatch_weight=1, line_width=2,
            line_color="#ffffff"
        )  # fmt: skip
    strip.text(
        "x", 0.52, "text", source=letters, text_align="center", text_baseline="middle",
        text_font_size="20px", text_font_style="bold", text_color="#000000",
        background_fill_color="#ffffff", background_fill_alpha=0.85, padding=3, border_radius=4,
    )  # fmt: skip
    state_legend(strip, reused="from the cache", computed="must be read")
    start = {"x": [0], "y": [0], "text": ["start"], "path": ["start"], "on": [1], "fade": [1]}
    nodes = ColumnDataSource(start)
    nodes.name = "aix-nodes"
    edges = ColumnDataSource({k: [] for k in ("xs", "ys", "on")}, name="aix-edges")
    return prompt, letters, nodes, edges, *_tree_and_bars(nodes, edges, strip, engine)


def _tree_and_bars(
    nodes: ColumnDataSource, edges: ColumnDataSource, strip: Any, engine: Mapping[str, float]
) -> tuple[Any, ...]:
    tree = figure(
        "Openings served lately; your order follows the green path", height=230,
        x_axis_label="passages from the start", x_range=Range1d(-0.7, 5.5), y_axis_location=None,
    )  # fmt: skip
    tree.grid.visible = tree.frame_align = False
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
    slowest_s = 1.2 * (engine["overhead_s"] + engine["per_token_s"] * 800)
    rows = ["best order", "greedy walk", "retrieval order", "your order"]
    bars = ColumnDataSource({"order": rows, "ttft_s": [0.0] * 4, "label": [""] * 4})
    data_table(
        bars, "Time to first token by order", {"order": "order", "ttft_s": "seconds to first token"}
    )
    plot = figure(
        "Time to first token", height=200, y_range=rows, x_axis_label="seconds",
        x_range=Range1d(0, slowest_s),
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
