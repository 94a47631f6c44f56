"""What the lanes show of a simulated run: bars, bands, trips, gaps and words.

``rules/atom_view.js`` makes the same of the reader's state; a test compares both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aiexplained.serving import (
    EngineConfig,
    Fleet,
    Link,
    Run,
    StepCost,
    Transfer,
    drawn_requests,
    percentile,
    simulate,
)
from aiexplained.viz.parts import fixed

SYSTEMS = ("Colocated", "Chunked prefill", "Two pools")
ENGINES = 4
WINDOW_S, BEFORE_S, AFTER_S = 12, 6, 4
"""Seconds shown, at least; before the followed request's arrival, and after its first token."""
HALF = 0.4
"""Half the height of a lane."""
EDGES_S = 10 ** (np.arange(-30, 11) / 10)
"""Edges of the bins of gaps, ten a decade from 1 ms to 10 s; one bin more on either side."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the reader has chosen.

    Args:
        system: One of :data:`SYSTEMS`.
        rate: Requests a second.
        prompt: Longest prompt.
        answer: Longest answer.
        n_read: Engines that read, of two pools.
        bandwidth: Of the link, GB/s.
        chunk: Most tokens a step, of chunked prefill.
        request: The request to follow, counted from 1.
    """

    system: str = "Colocated"
    rate: float = 7
    prompt: int = 8192
    answer: int = 256
    n_read: int = 2
    bandwidth: float = 25
    chunk: int = 512
    request: int = 1


def fleet_of(
    shown: Shown, cost: Mapping[str, float], link: Mapping[str, float], engine: Mapping[str, Any]
) -> Fleet:
    """The engines that serve; prefix caching is off, for the page's rule has none."""
    config = dict(engine) | {"prefix_caching": False}
    if shown.system == "Chunked prefill":
        config |= {"policy": "mixed", "max_num_batched_tokens": shown.chunk}
    pools = {"n_colocated": ENGINES}
    if shown.system == "Two pools":
        pools = {"n_prefill": shown.n_read, "n_decode": ENGINES - shown.n_read}
    return Fleet(
        **pools, engine=EngineConfig(**config), cost=StepCost(**cost),
        link=Link(**(dict(link) | {"bandwidth": 1e9 * shown.bandwidth})),
    )  # fmt: skip


def serve(draws: ArrayLike, shown: Shown, fleet: Fleet) -> Run:
    """The run that the lanes show."""
    requests = drawn_requests(
        draws, arrival_rate_rps=shown.rate, prompt_tokens=shown.prompt, output_tokens=shown.answer
    )
    return simulate(requests, fleet)


def state_of(run: Run, shown: Shown) -> dict[str, Any]:
    """Columns of all sources, the shown seconds, titles and the text alternative."""
    followed = run.served[shown.request - 1]
    begin = max(0.0, followed.start_s - BEFORE_S)
    ends = (begin, max(begin + WINDOW_S, followed.token_times_s[0] + AFTER_S))
    trip = next((t for t in run.transfers if t.request == shown.request - 1), None)
    gaps = sorted(gap for served in run.served for gap in served.gaps_s)
    marks = {"median": percentile(gaps, 0.5), "p99": percentile(gaps, 0.99), "worst": gaps[-1]}
    return {
        "window": ends,
        "names": lane_names(shown),
        "reading": _reading(run, ends),
        "writing": _writing(run, ends),
        "trips": _trips([t for t in run.transfers if t.end_s > ends[0] and t.start_s < ends[1]]),
        "outline": _boxes(
            _merged(followed.readings, of_equal_size=False), "tokens", lambda _: 2 * HALF
        ),
        "trip": _trips([trip] if trip else []),
        "wait": {"arrival": [followed.start_s], "first": [followed.token_times_s[0]]},
        "tokens": {"time": followed.token_times_s},
        "count": np.bincount(np.searchsorted(EDGES_S, gaps, "right"), minlength=len(EDGES_S) + 1),
        "marks": {name: [1000 * gap] for name, gap in marks.items()},
    } | _words(run, shown, list(marks.values()))


def lane(engine: int) -> int:
    """Height of an engine's lane; the first is the highest."""
    return ENGINES - engine


def lane_names(shown: Shown) -> list[str]:
    """Labels of the lanes, from the first engine; the last is that of the followed request."""
    if shown.system == "Two pools":
        names = [f"{i + 1} {'reads' if i < shown.n_read else 'writes'}" for i in range(ENGINES)]
    else:
        names = [f"engine {i + 1}" for i in range(ENGINES)]
    return [*names, f"request {shown.request}"]


def _merged(steps: Iterable[Sequence[Any]], *, of_equal_size: bool) -> list[list[Any]]:
    """Steps ``(engine, start, end, size)`` that follow one another as one box.

    Args:
        steps: By start; those of size 0 are left out.
        of_equal_size: Whether only those of equal size become one; sizes are summed otherwise.
    """
    boxes: list[list[Any]] = []
    last: dict[int, list[Any]] = {}
    for engine, start, end, size in steps:
        box = last.get(engine)
        if not size:
            continue
        if box and box[2] == start and (box[3] == size or not of_equal_size):
            box[2:] = end, size if of_equal_size else box[3] + size
        else:
            last[engine] = [engine, start, end, size]
            boxes.append(last[engine])
    return boxes


def _reading(run: Run, ends: tuple[float, float]) -> dict[str, list[Any]]:
    bars = _merged(((*s[:3], s.prefill_tokens) for s in run.spans), of_equal_size=False)
    return _boxes([bar for bar in bars if _is_seen(bar, ends)], "tokens", lambda _: 2 * HALF)


def _writing(run: Run, ends: tuple[float, float]) -> dict[str, list[Any]]:
    """Bands, as high as the batch is large."""
    most = max(span.batch for span in run.spans)
    bands = _merged(((*s[:3], s.batch) for s in run.spans), of_equal_size=True)
    seen = [band for band in bands if _is_seen(band, ends)]
    return _boxes(seen, "batch", lambda batch: 2 * HALF * batch / most)


def _is_seen(box: Sequence[Any], ends: tuple[float, float]) -> bool:
    return bool(box[2] > ends[0] and box[1] < ends[1])


def _boxes(boxes: Sequence[Sequence[Any]], size: str, height: Any) -> dict[str, list[Any]]:
    return {
        "engine": [box[0] + 1 for box in boxes],
        "left": [box[1] for box in boxes],
        "right": [box[2] for box in boxes],
        "bottom": [lane(box[0]) - HALF for box in boxes],
        "top": [lane(box[0]) - HALF + height(box[3]) for box in boxes],
        size: [box[3] for box in boxes],
    }


def _trips(transfers: Sequence[Transfer]) -> dict[str, list[Any]]:
    return {
        "start": [t.start_s for t in transfers],
        "end": [t.end_s for t in transfers],
        "source": [lane(t.source) for t in transfers],
        "target": [lane(t.target) for t in transfers],
    }


def seconds(value: float) -> str:
    """Seconds with two digits."""
    return f"{fixed(value, 2)} s"


def milliseconds(value_s: float) -> str:
    """Milliseconds, with a digit after the point where there are few of them."""
    value = 1000 * value_s
    return fixed(value, 1 if value < 100 else 0)


def _words(run: Run, shown: Shown, gaps: Sequence[float]) -> dict[str, str]:
    waits = [served.ttft_s for served in run.served]
    p50, p99 = (seconds(percentile(waits, share)) for share in (0.5, 0.99))
    median, slow, worst = (milliseconds(gap) for gap in gaps)
    followed = run.served[shown.request - 1]
    how = {
        "Colocated": f"{ENGINES} engines that read and write",
        "Chunked prefill": f"{ENGINES} engines, at most {shown.chunk:,} tokens a step",
        "Two pools": f"{shown.n_read} of {ENGINES} engines read, "
        f"the link moves {shown.bandwidth:g} GB/s, the first two tokens come together",
    }[shown.system]
    return {
        "title": f"{shown.system}: TTFT median {p50}, p99 {p99}",
        "gap_title": f"Gaps: median {median}, p99 {slow}, worst {worst} ms",
        "alt": f"{shown.system} ({how}), {shown.rate:g} requests a second, prompts of up to "
        f"{shown.prompt:,} and answers of up to {shown.answer:,} tokens: the first token comes "
        f"after {p50} at the median, {p99} at p99. The gap between tokens is {median} ms at the "
        f"median, {slow} ms at p99, {worst} ms at worst. Request {shown.request} waits "
        f"{seconds(followed.ttft_s)} for its first token, and its longest gap is "
        f"{milliseconds(max(followed.gaps_s))} ms.",
    }
