"""One pool or two, in simulated time: waiting, gaps, limits, links, and AMD's own table.

Time comes from a data sheet (:mod:`~aiexplained.concepts.atom.hardware`): four engines of one
MI355X each, Qwen3-32B in bfloat16, half of the arithmetic and 70 % of the bandwidth reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiexplained.concepts.atom.hardware import GPUS, MODELS
from aiexplained.concepts.atom.planner import Layout, Workload, layouts, limit_rps, make_fleet
from aiexplained.serving import (
    SLO,
    EngineConfig,
    Fleet,
    Link,
    Pace,
    Served,
    StepCost,
    attainment,
    describe_latency,
    poisson_requests,
    simulate,
)

GPU, MODEL = GPUS["MI355X"], MODELS["Qwen3-32B"]
N_ENGINES = 4
CHUNKS = (256, 512, 2048)
WORKLOADS = {"documents": (8192, 256), "chat": (1024, 256), "writing": (512, 512)}
"""Longest prompt and longest answer, in tokens."""
PACES: tuple[Pace, ...] = ("mean", "p95", "worst")
SLOS = {pace: SLO(ttft_s=2.0, gap_s=0.04, pace=pace) for pace in PACES}
"""First token within 2 s, gaps within 40 ms, by the gaps that must keep the limit."""
RATIO, N_RATES = 1.15, 16
"""Arrival rates of a study: each so many times the next, from the bound downwards."""
SPAN_S, FEWEST, MOST = 60.0, 200, 1500
"""Seconds of arrivals, within these numbers of requests."""
COUNTED = (0.2, 0.8)
"""Which requests count, by place: the first find empty engines, the last leave them."""
LINKS = (100e9, 25e9, 5e9, 1e9)


def study_layouts() -> list[Layout]:
    """All layouts of the studies."""
    return layouts(N_ENGINES, CHUNKS)


def study_fleet(layout: Layout, *, bandwidth: float = 25e9) -> Fleet:
    """Engines of the studies.

    Args:
        layout: How they are used.
        bandwidth: Bytes a second between two engines.
    """
    return make_fleet(layout, GPU, MODEL, link_bandwidth=bandwidth)


def bound_rps(prompt_tokens: int, output_tokens: int) -> float:
    """Requests a second that four engines cannot bear in any layout.

    Args:
        prompt_tokens: Longest prompt.
        output_tokens: Longest answer.
    """
    workload = Workload(
        arrival_rate_rps=1.0, prompt_tokens=prompt_tokens, output_tokens=output_tokens
    )
    return max(limit_rps(workload, study_fleet(layout)) for layout in study_layouts())


def _lengths(workload: str) -> tuple[int, int]:
    if workload not in WORKLOADS:
        raise ValueError(f"workload must be one of {list(WORKLOADS)}, got {workload!r}")
    return WORKLOADS[workload]


def _serve(
    fleet: Fleet, rate: float, lengths: tuple[int, int], seed: int, span_s: float
) -> list[Served]:
    """Serve for a while, and keep the requests of the middle."""
    n = round(min(max(rate * span_s, FEWEST), MOST))
    requests = poisson_requests(
        n, arrival_rate_rps=rate, prompt_tokens=lengths[0], output_tokens=lengths[1], seed=seed
    )
    served = simulate(requests, fleet).served
    return served[round(COUNTED[0] * n) : round(COUNTED[1] * n)]


def describe(served: Sequence[Served]) -> dict[str, float]:
    """:func:`~aiexplained.serving.describe_latency` of served requests.

    Args:
        served: Of the simulator.
    """
    return describe_latency([s.start_s for s in served], [s.token_times_s for s in served])


def measure_rates(
    *, workload: str, seed: int, n_rates: int = N_RATES, span_s: float = SPAN_S
) -> dict[str, Any]:
    """Waiting, gaps and limits kept by every layout at falling arrival rates.

    All layouts serve the same requests.

    Args:
        workload: One of :data:`WORKLOADS`.
        seed: Of the requests.
        n_rates: Arrival rates, from :func:`bound_rps` downwards.
        span_s: Seconds of arrivals, within :data:`FEWEST` and :data:`MOST` requests.

    Returns:
        ``rates_rps``, from the lowest, and by layout a row for each:
        :func:`~aiexplained.concepts.atom.describe`, and ``within``, the share of requests within
        each of :data:`SLOS`.

    Raises:
        ValueError: if the workload is unknown.
    """
    lengths = _lengths(workload)
    top = bound_rps(*lengths)
    rates = [top / RATIO**i for i in range(n_rates)][::-1]
    rows: dict[str, list[dict[str, Any]]] = {}
    for layout in study_layouts():
        fleet = study_fleet(layout)
        for rate in rates:
            served = _serve(fleet, rate, lengths, seed, span_s)
            within = {pace: attainment(served, slo) for pace, slo in SLOS.items()}
            rows.setdefault(layout.name, []).append({**describe(served), "within": within})
    return {"rates_rps": rates, "layouts": rows}


def measure_saturation(
    *, workload: str, seed: int, concurrency: int = 64, waves: int = 10
) -> dict[str, float]:
    """Tokens a second of every layout while requests never run out; nobody minds waiting.

    Args:
        workload: One of :data:`WORKLOADS`.
        seed: Of the requests.
        concurrency: Requests in flight at any time.
        waves: Requests in all, as a multiple of that. The first fifth of the time and the last
            do not count.

    Raises:
        ValueError: if the workload is unknown.
    """
    prompt, output = _lengths(workload)
    requests = poisson_requests(
        waves * concurrency, arrival_rate_rps=1.0, prompt_tokens=prompt, output_tokens=output,
        seed=seed,
    )  # fmt: skip
    speeds = {}
    for layout in study_layouts():
        run = simulate(requests, study_fleet(layout), concurrency=concurrency)
        first, last = (share * run.makespan_s for share in COUNTED)
        counted = sum(first <= t < last for s in run.served for t in s.token_times_s)
        speeds[layout.name] = counted / (last - first)
    return speeds


def measure_region(
    *,
    seed: int,
    prompts: Sequence[int] = (512, 1024, 2048, 4096, 8192, 16384),
    n_rates: int = 8,
    output_tokens: int = 256,
    span_s: float = 30.0,
) -> dict[str, Any]:
    """Where each layout keeps the limits: arrival rate against length of the prompts.

    Args:
        seed: Of the requests.
        prompts: Longest prompts.
        n_rates: Arrival rates, each half as much again as the one before; the highest is twice the
            bound at 8,192 tokens.
        output_tokens: Longest answer.
        span_s: Seconds of arrivals.

    Returns:
        ``rates_rps``, ``prompts``, and by pace and layout the share of requests within the limits,
        ``[prompts][rates]``.
    """
    top = 2 * bound_rps(8192, output_tokens)
    rates = [top / 1.5**i for i in range(n_rates)][::-1]
    shares: dict[str, dict[str, list[list[float]]]] = {pace: {} for pace in PACES}
    for layout in study_layouts():
        fleet = study_fleet(layout)
        for prompt in prompts:
            runs = [_serve(fleet, rate, (prompt, output_tokens), seed, span_s) for rate in rates]
            for pace, slo in SLOS.items():
                shares[pace].setdefault(layout.name, []).append(
                    [attainment(served, slo) for served in runs]
                )
    return {"rates_rps": rates, "prompts": list(prompts), "shares": shares}


def measure_link(
    *, seed: int, arrival_rate_rps: float = 0.5, span_s: float = 600.0
) -> dict[str, Any]:
    """What a slow link costs: documents on two pools, two engines each.

    Args:
        seed: Of the requests.
        arrival_rate_rps: Low enough for the slowest link.
        span_s: Seconds of arrivals.

    Returns:
        For each of :data:`LINKS` a row of :func:`~aiexplained.concepts.atom.describe`, with
        ``transfer_s``, the time that the longest prompt travels; and one for colocated engines.
    """
    lengths = WORKLOADS["documents"]
    rows = []
    for bandwidth in LINKS:
        fleet = study_fleet(Layout("2 read, 2 write", 0, 2, 2), bandwidth=bandwidth)
        served = _serve(fleet, arrival_rate_rps, lengths, seed, span_s)
        rows.append({**describe(served), "transfer_s": fleet.link.seconds(lengths[0])})
    colocated = _serve(study_fleet(study_layouts()[0]), arrival_rate_rps, lengths, seed, span_s)
    return {"links": rows, "colocated": describe(colocated)}


PRINTED = {
    128: {
        "tokens_per_s": 3451.0, "ttft_mean_s": 2.250, "ttft_p50_s": 1.501, "ttft_p99_s": 16.703,
        "tpot_mean_s": 0.0335, "tpot_p99_s": 0.0341,
    },
    256: {
        "tokens_per_s": 5094.0, "ttft_mean_s": 4.009, "ttft_p50_s": 2.124, "ttft_p99_s": 32.282,
        "tpot_mean_s": 0.0444, "tpot_p99_s": 0.0486,
    },
}  # fmt: skip
"""AMD's table for GLM-5.2 on one node of eight MI355X, by requests in flight (``recipes/mesh``)."""

FITTED = ((128, "ttft_p99_s"), (128, "tpot_mean_s"), (256, "tpot_mean_s"))
"""Numbers of the table that set our three constants; the others are predicted."""


def table_constants() -> dict[str, float]:
    """Three constants from three numbers of :data:`PRINTED`.

    The benchmark starts with all requests at once, so the last of the first wave waits for all
    prompts before it: one in a hundred of ten waves is the tenth part of the first from its end.
    Time per token at two batch sizes gives a line.
    """
    prompt = 0.9 * 8192
    first_wave = 0.9 * 128
    slope = (PRINTED[256]["tpot_mean_s"] - PRINTED[128]["tpot_mean_s"]) / 128
    return {
        "prefill_tokens_per_s": first_wave * prompt / PRINTED[128]["ttft_p99_s"],
        "sequence_s": slope,
        "fixed_s": PRINTED[128]["tpot_mean_s"] - 128 * slope,
    }


def measure_table(*, concurrency: int, seed: int) -> dict[str, float]:
    """AMD's benchmark in simulated time: as many requests in flight as the table says.

    Four engines read, a prompt a step, each at a quarter of the rate (the table's reading side has
    four pipeline stages); one writes. The link, 50 GB/s and 90 kB a token, hardly matters.

    Args:
        concurrency: A key of :data:`PRINTED`.
        seed: Of the lengths.

    Returns:
        The table's numbers, and ``ttft_p99_later_s``: the same without the first wave.
    """
    constants = table_constants()
    fleet = Fleet(
        n_prefill=4,
        n_decode=1,
        engine=EngineConfig(n_blocks=2_000_000, prefix_caching=False, max_num_batched_tokens=8192),
        cost=StepCost(
            overhead_s=0.0,
            token_s=4 / constants["prefill_tokens_per_s"],
            weights_s=constants["fixed_s"],
            kv_token_s=0.0,
            sequence_s=constants["sequence_s"],
        ),
        link=Link(bandwidth=50e9, kv_bytes_per_token=90e3),
    )
    requests = poisson_requests(
        10 * concurrency, arrival_rate_rps=1.0, prompt_tokens=8192, output_tokens=1024, seed=seed
    )
    run = simulate(requests, fleet, concurrency=concurrency)
    return {
        **describe(run.served),
        "tokens_per_s": sum(len(s.outputs) for s in run.served) / run.makespan_s,
        "ttft_p99_later_s": describe(run.served[concurrency:])["ttft_p99_s"],
    }
