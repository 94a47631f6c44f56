"""ATOMesh's router at work: a radix tree of what each engine saw, and where a request goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    CDSView,
    ColumnDataSource,
    FixedTicker,
    IndexFilter,
    Range1d,
    Slider,
)

from aiexplained.serving import (
    CacheAware,
    ExplainedPolicy,
    LeastLoaded,
    PrefixHash,
    RadixTree,
    Request,
    RoundRobin,
    Sticky,
    WorkerLoad,
)
from aiexplained.viz.explorable import Explorable, alt_source, data_table, show
from aiexplained.viz.grid import choice
from aiexplained.viz.parts import HATCH, call_rule, draw_first, legend_above
from aiexplained.viz.theme import PALETTE, figure

RULES = ("atom_router", "atom_router_view")
N_ENGINES, STAY = 3, 6
BALANCE_ABS, PREFIX_TOKENS = 3, 4
"""Small figure, small numbers: 32 requests and 256 tokens in ATOMesh."""
ROW_HEIGHT = 44
PROMPTS: tuple[tuple[int, str], ...] = (
    (0, "cook soup"), (1, "math sum"), (2, "code loop"), (0, "cook soup salt"), (3, "cook soy"),
    (1, "math sum ten"), (4, "math prime"), (2, "code loop exit"), (0, "cook soup salt rice"),
    (5, "code log"), (6, "cook pasta"), (1, "math sum ten odd"), (3, "cook soy bean"), (7, "hello"),
    (2, "code loop exit bug"), (4, "math prime two"), (5, "code log file"), (6, "cook pasta oil"),
    (8, "code list"), (3, "cook soy bean rice"), (0, "cook soup salt rice egg"),
    (8, "code list sort"), (4, "math prime two six"), (6, "cook pasta oil herb"),
)  # fmt: skip
"""Made-up conversations, by session: a topic for a system prompt, a word for each turn."""
POLICIES: Mapping[str, str] = {
    "cache aware": "Cache", "prefix hash": "Hash", "sticky": "Sticky",
    "least loaded": "Least load", "round robin": "Round robin", "power of two": "Best of 2",
    "random": "Random",
}  # fmt: skip
"""Buttons of the policies, by their names in the rule."""
MADE: Mapping[str, Callable[[float], ExplainedPolicy]] = {
    "cache aware": lambda threshold: CacheAware(
        match_threshold=threshold, balance_abs=BALANCE_ABS
    ),
    "prefix hash": lambda threshold: PrefixHash(prefix_tokens=PREFIX_TOKENS),
    "sticky": lambda threshold: Sticky(),
    "least loaded": lambda threshold: LeastLoaded(),
    "round robin": lambda threshold: RoundRobin(),
}  # fmt: skip
"""Policies that Python and the rule agree on, from the match threshold."""
COLORS = (PALETTE["greedy"], PALETTE["computed"], PALETTE["reused"])
HATCHES: tuple[Mapping[str, Any], ...] = (
    {}, {**HATCH, "hatch_scale": 7}, {**HATCH, "hatch_scale": 5, "hatch_pattern": "."},
)  # fmt: skip
LANES, LANE_HEIGHT = (0.02, 0.19, 0.36), 0.15
"""Below the letters, how deep each engine's bars are, and how high, in rows."""


class Step(NamedTuple):
    """What happened to a request: as ``replay`` in ``rules/atom_router.js`` has it."""

    engine: int
    reason: str
    share: float
    found: int
    best: int
    loads: list[int]


def replay(
    prompts: Sequence[tuple[int, str]], policy: ExplainedPolicy, *, n_engines: int, stay: int
) -> list[Step]:
    """Send prompts one by one; each stays in its engine until ``stay`` more have come.

    Args:
        prompts: Session and text; a letter is a token.
        policy: Chooses the engine; its ``last`` says why.
        n_engines: Engines, whose caches hold all that they read.
        stay: Requests that are in an engine at once, all engines together.
    """
    cache, steps, sizes = RadixTree(), list[Step](), [len(text) for _, text in prompts]

    def loads() -> list[WorkerLoad]:
        lately = range(max(len(steps) - stay, 0), len(steps))
        held = [[sizes[i] for i in lately if steps[i].engine == e] for e in range(n_engines)]
        return [WorkerLoad(len(tokens), sum(tokens)) for tokens in held]

    for i, (session, text) in enumerate(prompts):
        request = Request(i, [ord(letter) for letter in text], 1, float(i), session)
        engine = policy.choose(request, loads(), float(i))
        seen = cache.match(request.prompt)
        cache.insert(request.prompt, engine)
        assert policy.last is not None
        _, reason, share = policy.last
        best = max(seen.values(), default=0)
        steps.append(Step(engine, reason, share, seen.get(engine, 0), best, []))
        steps[i] = steps[i]._replace(loads=[load.requests for load in loads()])
    return steps


def tell(policy: str, sent: int, threshold: float) -> tuple[str, str]:
    """Title and alternative as ``rules/atom_router_view.js`` makes them.

    Args:
        policy: One of :data:`MADE`.
        sent: Requests sent.
        threshold: Of the match.
    """
    prompts = PROMPTS[:sent]
    total = sum(len(text) for _, text in prompts)
    runs = [
        replay(prompts, make(threshold), n_engines=N_ENGINES, stay=STAY)
        for make in (MADE[policy], MADE["round robin"])
    ]
    shares = [_percent(sum(step.found for step in steps), total) for steps in runs]
    last, text = runs[0][-1], prompts[-1][1]
    rate = (
        f" The best match of any engine is {_percent(last.best, len(text))}; it must exceed "
        f"{_percent(threshold, 1)}."
        if policy == "cache aware"
        else ""
    )
    return (
        f"#{sent} → engine {last.engine + 1} ({last.reason})",
        f"{POLICIES[policy]}: request {sent} of {len(PROMPTS)}, “{text}”, goes to engine "
        f"{last.engine + 1} ({last.reason}), which has {last.found} of its {len(text)} letters in "
        f"its cache.{rate} The engines hold {', '.join(map(str, last.loads))} of the last {STAY} "
        f"requests. So far {shares[0]} of all letters were found in a cache; in turn "
        f"(round robin) it would be {shares[1]}.",
    )


def _percent(part: float, whole: float) -> str:
    return f"{int(100 * (part / whole) + 0.5)} %"


def router(*, sent: int = 9, threshold: float = 0.5) -> Explorable:
    """Send made-up chat prompts to three engines, and see which policy sends them where.

    Args:
        sent: Requests sent at first.
        threshold: Match threshold at first, in tenths.

    Raises:
        ValueError: if there are not so many prompts, or the threshold is not a tenth in [0, 1].
    """
    if not 1 <= sent <= len(PROMPTS):
        raise ValueError(f"router: sent must be from 1 to {len(PROMPTS)}, got {sent}")
    if not 0 <= threshold <= 1 or threshold != round(threshold, 1):
        raise ValueError(f"router: the threshold is a tenth from 0 to 1, got {threshold}")
    policy = choice("Policy", list(POLICIES.values()))
    slider = Slider(title="Requests sent", start=1, end=len(PROMPTS), step=1, value=sent)
    match = Slider(title="Match threshold", start=0, end=1, step=0.1, value=threshold, format="0.0")
    button = Button(label="Send next")
    title, text = tell("cache aware", sent, threshold)
    alt = alt_source(text)
    tree, drawn = _tree(title)
    loads_plot, loads = _loads()
    shares_plot, shares = _shares()
    args: dict[str, Any] = {
        "prompts": PROMPTS, "names": list(POLICIES), "policy": policy, "sent": slider,
        "threshold": match, "setup": {"engines": N_ENGINES, "stay": STAY},
        "options": {"cache aware": {"balance_abs": BALANCE_ABS},
                    "prefix hash": {"prefix_tokens": PREFIX_TOKENS}},
        "loads": loads, "shares": shares, "title": tree.title, "alt": alt, **drawn,
    }  # fmt: skip
    redraw = call_rule(RULES[1], "draw", args)
    policy.js_on_change("active", redraw)
    slider.js_on_change("value", redraw)
    match.js_on_change("value", redraw)
    button.js_on_event("button_click", call_rule(RULES[1], "send", {"sent": slider}))
    draw_first(tree, redraw)
    layout = column(policy, row(slider, match), button, tree, row(loads_plot, shares_plot))
    return show(layout, alt=alt, rules=RULES)


def _tree(title: str) -> tuple[Any, dict[str, Any]]:
    whole = RadixTree()
    for _, text in PROMPTS:
        whole.insert([ord(letter) for letter in text], 0)
    n_rows = sum(not node.children for node in whole.nodes())
    longest = max(len(text) for _, text in PROMPTS)
    plot = figure(
        title, height=ROW_HEIGHT * n_rows + 90, x_axis_label="letters from the start",
        y_axis_location=None, x_range=Range1d(-0.3, longest + 0.3),
        y_range=Range1d(-n_rows + 0.45, 0.65),
    )  # fmt: skip
    plot.grid.visible = plot.frame_align = False
    letters, branches, path = (
        ColumnDataSource({name: [] for name in names}, name=f"aix-{kind}")
        for kind, names in {
            "letters": ("x", "y", "letter"), "branches": ("x", "top", "bottom"),
            "path": ("left", "right", "top", "bottom"),
        }.items()
    )  # fmt: skip
    plot.quad(
        "left", "right", "top", "bottom", source=path, fill_color=PALETTE["neutral"],
        fill_alpha=0.25, line_color=None,
    )  # fmt: skip
    plot.segment("x", "top", "x", "bottom", source=branches, line_width=1.5,
                 line_color=PALETTE["neutral"])  # fmt: skip
    held = []
    for engine, (color, hatch) in enumerate(zip(COLORS, HATCHES, strict=True)):
        source = ColumnDataSource(
            {name: [] for name in ("left", "right", "y")}, name=f"aix-held-{engine}"
        )
        plot.hbar(
            "y", LANE_HEIGHT, "right", "left", source=source, fill_color=color, line_color=None,
            legend_label=f"engine {engine + 1}", **hatch,
        )  # fmt: skip
        held.append(source)
    plot.text(
        "x", "y", "letter", source=letters, text_align="center", text_baseline="middle",
        text_font_size="14px",
    )  # fmt: skip
    legend_above(plot)
    return plot, {
        "letters": letters, "branches": branches, "path": path, "held": held, "lanes": LANES,
    }  # fmt: skip


def _loads() -> tuple[Any, ColumnDataSource]:
    engines = list(range(1, N_ENGINES + 1))
    source = ColumnDataSource({
        "engine": engines, "chosen": [0] * N_ENGINES, "plain": [0] * N_ENGINES,
        "upper": [-engine + 0.2 for engine in engines],
        "lower": [-engine - 0.2 for engine in engines],
    })  # fmt: skip
    data_table(
        source, f"Engines of the last {STAY} requests",
        {"engine": "engine", "chosen": "by this policy", "plain": "by round robin"},
    )  # fmt: skip
    plot = figure(
        f"Where the last {STAY} requests are", height=220, x_axis_label="requests",
        x_range=Range1d(0, STAY), y_range=Range1d(-N_ENGINES - 0.6, -0.4),
    )  # fmt: skip
    plot.yaxis.ticker = FixedTicker(ticks=[-engine for engine in engines])
    plot.yaxis.major_label_overrides = {-engine: f"engine {engine}" for engine in engines}
    plot.ygrid.visible = False
    bar = {"height": 0.36, "source": source, "line_color": None}
    plot.hbar(
        y="upper", right="chosen", fill_color=PALETTE["greedy"], legend_label="this policy", **bar
    )
    plot.hbar(
        y="lower", right="plain", fill_color=PALETTE["neutral"], legend_label="round robin",
        **HATCH, **bar,
    )  # fmt: skip
    legend_above(plot)
    return plot, source


def _shares() -> tuple[Any, ColumnDataSource]:
    rows = ["this policy", "round robin"]
    source = ColumnDataSource({"policy": rows, "share": [0.0, 0.0], "label": ["", ""]})
    data_table(
        source, "Letters found in a cache", {"policy": "policy", "share": "share of letters (%)"}
    )
    plot = figure(
        "Letters found in a cache", height=220, x_axis_label="share of all letters (%)",
        x_range=Range1d(0, 100), y_range=rows[::-1],
    )  # fmt: skip
    plot.ygrid.visible = False
    bar = {"y": "policy", "right": "share", "height": 0.5, "source": source, "line_color": None}
    first, second = (CDSView(filter=IndexFilter([i])) for i in range(2))
    plot.hbar(fill_color=PALETTE["greedy"], view=first, **bar)
    plot.hbar(fill_color=PALETTE["neutral"], view=second, **HATCH, **bar)
    plot.text(
        "share", "policy", "label", source=source, x_offset=6, text_baseline="middle",
    )  # fmt: skip
    return plot, source
