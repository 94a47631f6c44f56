"""Should I split? One workload on one set of engines, laid out in every way.

A data sheet gives the time of a step (:mod:`~aiexplained.concepts.atom.hardware`), the simulator
serves the same requests on every layout: engines that read and write, the same with chunked
prefill, and every split into two pools. :func:`plan` says which one bears the most traffic within
the limits, and whether splitting is what does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aiexplained.concepts.atom.hardware import BLOCK, Gpu, Model, kv_blocks, step_cost
from aiexplained.serving import (
    SLO,
    EngineConfig,
    Fleet,
    Link,
    Run,
    SequenceState,
    attainment,
    describe_latency,
    goodput_rps,
    poisson_requests,
    simulate,
)

SHORTEST = 0.8
"""Shortest prompt and answer, as a share of the longest."""
STEPS = 6
"""Halvings of the search for goodput: it is known to a 64th of what the engines could do."""
READ_TOKENS = 2048
"""Tokens a step where an engine reads only: prompts are then done one after the other."""
MARGIN = 0.05
"""Two layouts that differ by less are called equal: 100 requests tell no more."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What arrives.

    Args:
        arrival_rate_rps: Requests a second.
        prompt_tokens: Longest prompt; the shortest has 80 % of it.
        output_tokens: Longest answer; the shortest has 80 % of it.
    """

    arrival_rate_rps: float
    prompt_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if not self.arrival_rate_rps > 0 or min(self.prompt_tokens, self.output_tokens) < 1:
            raise ValueError(
                f"Workload needs a positive rate and lengths of at least 1, got {self}"
            )


class Layout(NamedTuple):
    """A way to use the engines: all do all, or ``n_prefill`` read and ``n_decode`` write.

    Args:
        name: For figures.
        n_colocated: Engines that read and write.
        n_prefill: Engines that read only.
        n_decode: Engines that write only.
        chunk: Tokens a step of chunked prefill; 0 where prompts are read whole.
    """

    name: str
    n_colocated: int = 0
    n_prefill: int = 0
    n_decode: int = 0
    chunk: int = 0


def layouts(n_engines: int, chunks: Sequence[int] = (512, 2048)) -> list[Layout]:
    """All layouts that :func:`plan` tries, those without a split first."""
    return [
        Layout("colocated", n_engines),
        *(Layout(f"chunks of {chunk:,}", n_engines, chunk=chunk) for chunk in chunks),
        *(Layout(f"{p} read, {n_engines - p} write", 0, p, n_engines - p)
          for p in range(1, n_engines)),
    ]  # fmt: skip


class Outcome(NamedTuple):
    """What a layout does with a workload.

    Args:
        layout: The layout.
        ttft_p50_s: Median time to first token.
        ttft_p99_s: That of 99 of 100 requests.
        gap_p99_s: Of all gaps, the one that 99 of 100 do not exceed; 0 where there is none.
        worst_gap_s: The longest.
        attainment: Share of requests that keep the limits.
        goodput_rps: Most requests a second of which enough keep the limits.
    """

    layout: Layout
    ttft_p50_s: float
    ttft_p99_s: float
    gap_p99_s: float
    worst_gap_s: float
    attainment: float
    goodput_rps: float


@dataclass(frozen=True)
class Plan:
    """Answer of :func:`plan`.

    Args:
        outcomes: One a layout.
        best: The one with the highest goodput; of equals, the first.
        verdict: Whether to split, in a word or two, and the best layout's name.
        advice: The same in a sentence with the numbers.
    """

    outcomes: tuple[Outcome, ...]
    best: Outcome
    verdict: str
    advice: str

    def rows(self) -> list[dict[str, Any]]:
        """Of each outcome, its layout's fields and its own, for figures."""
        return [outcome.layout._asdict() | outcome._asdict() for outcome in self.outcomes]


def plan(
    workload: Workload,
    gpu: Gpu,
    model: Model,
    *,
    n_engines: int,
    slo: SLO,
    link_bandwidth: float,
    gpus_per_engine: int = 1,
    chunks: Sequence[int] = (128, 256, 512),
    n_requests: int = 80,
    seed: int = 0,
    share: float = 0.9,
) -> Plan:
    """Serve a workload on every layout of the engines.

    Args:
        workload: What arrives.
        gpu: The hardware.
        model: The model.
        n_engines: Engines, at least 2.
        slo: The limits.
        link_bandwidth: Bytes a second between two engines.
        gpus_per_engine: GPUs that work as one engine.
        chunks: Tokens a step, for the layouts with chunked prefill.
        n_requests: Simulated requests.
        seed: Of their times and lengths.
        share: Of the requests, how many must keep the limits.

    Raises:
        ValueError: if there are fewer than two engines, or weights, or one prompt with its answer,
            do not fit into an engine.
    """
    if min(chunks, default=1) < 1:
        raise ValueError(f"chunks must be at least 1 token, got {tuple(chunks)}")
    if n_engines < 2:
        raise ValueError(
            f"plan needs at least 2 engines, else nothing can be split; got {n_engines}"
        )
    n_blocks = kv_blocks(gpu, model, gpus_per_engine=gpus_per_engine)
    longest = workload.prompt_tokens + workload.output_tokens
    if -(-longest // BLOCK) > n_blocks:
        raise ValueError(
            f"a prompt and answer of {longest} tokens do not fit: {gpus_per_engine} {gpu.name} "
            f"have room for {n_blocks * BLOCK} beside the weights of {model.name}"
        )
    fleets = {
        layout: make_fleet(
            layout, gpu, model, link_bandwidth=link_bandwidth, gpus_per_engine=gpus_per_engine
        )
        for layout in layouts(n_engines, chunks)
    }
    bounds = {layout: limit_rps(workload, fleet) for layout, fleet in fleets.items()}
    high = max(bounds.values())
    outcomes = []
    for layout, fleet in fleets.items():

        def serve(rate: float, fleet: Fleet = fleet) -> Run:
            requests = poisson_requests(
                n_requests, arrival_rate_rps=rate, prompt_tokens=workload.prompt_tokens,
                output_tokens=workload.output_tokens, seed=seed, shortest=SHORTEST,
            )  # fmt: skip
            return simulate(requests, fleet, next_token=_any_token)

        # A few requests can come faster than a fleet bears for long.
        most = min(goodput_rps(serve, slo, share=share, high=high, steps=STEPS), bounds[layout])
        outcomes.append(_outcome(layout, serve(workload.arrival_rate_rps), slo, most))
    best = max(outcomes, key=_goodput)
    word = verdict(outcomes)
    title = f"{word}: {best.layout.name}" if best.goodput_rps else word
    return Plan(tuple(outcomes), best, title, advice(outcomes, share=share))


def _any_token(sequence: SequenceState) -> int:
    return 0


def make_fleet(
    layout: Layout, gpu: Gpu, model: Model, *, link_bandwidth: float, gpus_per_engine: int = 1
) -> Fleet:
    """Engines of some hardware, used in one way.

    Args:
        layout: The way.
        gpu: The hardware.
        model: The model.
        link_bandwidth: Bytes a second between two engines.
        gpus_per_engine: GPUs that work as one engine.

    Raises:
        ValueError: if the weights do not fit into an engine.
    """
    n_blocks = kv_blocks(gpu, model, gpus_per_engine=gpus_per_engine)
    engine = EngineConfig(n_blocks=n_blocks, block_size=BLOCK, prefix_caching=False)
    if layout.n_prefill:
        engine = replace(engine, max_num_batched_tokens=READ_TOKENS)
    elif layout.chunk:
        engine = replace(engine, policy="mixed", max_num_batched_tokens=layout.chunk)
    return Fleet(
        n_colocated=layout.n_colocated,
        n_prefill=layout.n_prefill,
        n_decode=layout.n_decode,
        engine=engine,
        cost=step_cost(gpu, model, gpus_per_engine=gpus_per_engine),
        link=Link(bandwidth=link_bandwidth, kv_bytes_per_token=model.kv_bytes_per_token),
    )


def limit_rps(workload: Workload, fleet: Fleet) -> float:
    """More requests a second than a fleet can bear: full batches, and only what each must do.

    One pool: arithmetic and the fetching of weights overlap throughout.

    Args:
        workload: Lengths; its rate does not matter.
        fleet: The engines.
    """
    cost, engine = fleet.cost, fleet.engine
    prompt = workload.prompt_tokens * (1 + SHORTEST) / 2
    answer = workload.output_tokens * (1 + SHORTEST) / 2
    context = prompt + answer / 2
    batch = min(engine.max_num_seqs, engine.n_blocks * engine.block_size / (prompt + answer))
    read, learn = prompt * cost.token_s, prompt * prompt / 2 * cost.pair_s
    compute, fetch = answer * cost.token_s, answer * cost.weights_s / batch
    attend = answer * context * max(cost.pair_s, cost.kv_token_s) + answer * cost.sequence_s
    if fleet.n_colocated:
        return fleet.n_colocated / (max(read + compute, fetch) + learn + attend)
    link = fleet.link
    travel = link.latency_s + prompt * link.kv_bytes_per_token / link.bandwidth
    reads = fleet.n_prefill / max(read + learn, travel)
    return min(reads, fleet.n_decode / max(max(compute, fetch) + attend, travel))


def _outcome(layout: Layout, run: Run, slo: SLO, most: float) -> Outcome:
    found = describe_latency([s.start_s for s in run.served], [s.token_times_s for s in run.served])
    return Outcome(
        layout,
        found["ttft_p50_s"],
        found["ttft_p99_s"],
        found["gap_p99_s"],
        found["gap_worst_s"],
        attainment(run.served, slo),
        most,
    )


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Whether to split, in a word or two.

    Args:
        outcomes: With at least one layout in one pool and one in two.
    """
    one, two = _best_of_each(outcomes)
    if max(one.goodput_rps, two.goodput_rps) == 0:
        return "No layout keeps the limits"
    if two.goodput_rps > (1 + MARGIN) * one.goodput_rps:
        return "Split"
    if two.goodput_rps >= (1 - MARGIN) * one.goodput_rps:
        return "Splitting changes little"
    return "Do not split"


def advice(outcomes: Sequence[Outcome], *, share: float) -> str:
    """Whether to split, in a sentence.

    Args:
        outcomes: With at least one layout in one pool and one in two.
        share: Of the requests that must keep the limits.
    """
    one, two = _best_of_each(outcomes)
    limits = f"{100 * share:.0f} % of the requests within the limits"
    if max(one.goodput_rps, two.goodput_rps) == 0:
        return (
            f"No layout keeps {limits} at any rate tried: splitting does not help, other limits "
            "or other hardware would."
        )
    return (
        f"{verdict(outcomes)}: with {limits}, two pools bear {_bears(two)} and one pool bears "
        f"{_bears(one)}."
    )


def _best_of_each(outcomes: Sequence[Outcome]) -> tuple[Outcome, Outcome]:
    split = [outcome for outcome in outcomes if outcome.layout.n_prefill > 0]
    whole = [outcome for outcome in outcomes if outcome.layout.n_prefill == 0]
    return max(whole, key=_goodput), max(split, key=_goodput)


def _goodput(outcome: Outcome) -> float:
    return outcome.goodput_rps


def _bears(outcome: Outcome) -> str:
    if outcome.goodput_rps == 0:
        return "no rate tried"
    return f"{outcome.goodput_rps:.2f} requests/s ({outcome.layout.name})"
