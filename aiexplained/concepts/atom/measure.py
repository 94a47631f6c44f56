"""One pool or two, in simulated time: waiting, gaps, limits, links, and AMD's own table.

Time comes from a data sheet (:mod:`~aiexplained.concepts.atom.hardware`): four engines of one
MI355X each, Qwen3-32B in bfloat16, half of the arithmetic and 70 % of the bandwidth reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from aiexplained.concepts.atom.hardware import GPUS, MODELS
from aiexplained.concepts.atom.planner import Layout, Workload, layouts, limit_rps, make_fleet, plan
from aiexplained.serving import (
    SLO,
    EngineConfig,
    Fleet,
    Link,
    Run,
    StepCost,
    attainment,
    percentile,
    poisson_requests,
    simulate,
)

GPU, MODEL = GPUS["MI355X"], MODELS["Qwen3-32B"]
N_ENGINES = 4
CHUNKS = (256, 512, 2048)
WORKLOADS = {"documents": (8192, 256), "chat": (1024, 512), "writing": (256, 1024)}
"""Longest prompt and longest answer, in tokens."""
LOADS = (0.2, 0.4, 0.6, 0.8)
"""Arrivals, as a share of what colocated engines could bear without limits on latency."""
PACES = ("mean", "p95", "worst")
TTFT_S, GAP_S = 2.0, 0.04
LINKS = (100e9, 25e9, 5e9, 1e9, 0.25e9)


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


def capacity_rps(prompt_tokens: int, output_tokens: int) -> float:
    """Requests a second that colocated engines could bear if waiting did not matter.

    Args:
        prompt_tokens: Longest prompt.
        output_tokens: Longest answer.
    """
    workload = Workload(
        arrival_rate_rps=1.0, prompt_tokens=prompt_tokens, output_tokens=output_tokens
    )
    return limit_rps(workload, study_fleet(study_layouts()[0]))


def describe(run: Run) -> dict[str, float]:
    """Waiting and gaps of a run, in seconds, and its throughput.

    Args:
        run: Of the simulator.
    """
    waits = [s.ttft_s for s in run.served]
    gaps = [gap for s in run.served for gap in s.gaps_s]
    paces = [s.tpot_s for s in run.served]
    return {
        "ttft_p50_s": percentile(waits, 0.5),
        "ttft_p99_s": percentile(waits, 0.99),
        "tpot_mean_s": fmean(paces),
        "tpot_p99_s": percentile(paces, 0.99),
        "gap_p50_s": percentile(gaps, 0.5),
        "gap_p99_s": percentile(gaps, 0.99),
        "gap_worst_s": max(gaps),
        "tokens_per_s": sum(len(s.outputs) for s in run.served) / run.makespan_s,
    }


def measure_latency(
    *, workload: str, seed: int, loads: Sequence[float] = LOADS, n_requests: int = 300
) -> dict[str, Any]:
    """Waiting and gaps of every layout at several arrival rates; the same requests for all.

    Args:
        workload: One of :data:`WORKLOADS`.
        seed: Of the requests.
        loads: Arrival rates, as shares of :func:`capacity_rps`.
        n_requests: How many.

    Returns:
        ``rates_rps``, and by layout a row for each rate from :func:`describe`.

    Raises:
        ValueError: if the workload is unknown.
    """
    prompt, output = _lengths(workload)
    rates = [load * capacity_rps(prompt, output) for load in loads]
    rows: dict[str, list[dict[str, float]]] = {}
    for layout in study_layouts():
        fleet = study_fleet(layout)
        rows[layout.name] = [
            describe(simulate(_requests(n_requests, rate, prompt, output, seed), fleet))
            for rate in rates
        ]
    return {"rates_rps": rates, "layouts": rows}


def _lengths(workload: str) -> tuple[int, int]:
    if workload not in WORKLOADS:
        raise ValueError(f"workload must be one of {list(WORKLOADS)}, got {workload!r}")
    return WORKLOADS[workload]


def _requests(n: int, rate: float, prompt: int, output: int, seed: int) -> list[Any]:
    return poisson_requests(
        n, arrival_rate_rps=rate, prompt_tokens=prompt, output_tokens=output, seed=seed
    )


def measure_saturation(
    *, workload: str, seed: int, concurrency: int = 128, n_requests: int = 400
) -> dict[str, float]:
    """Tokens a second of every layout when requests never run out; nobody minds waiting.

    Args:
        workload: One of :data:`WORKLOADS`.
        seed: Of the requests.
        concurrency: Requests in flight at any time.
        n_requests: How many in all.

    Raises:
        ValueError: if the workload is unknown.
    """
    requests = _requests(n_requests, 1.0, *_lengths(workload), seed)
    return {
        layout.name: describe(simulate(requests, study_fleet(layout), concurrency=concurrency))[
            "tokens_per_s"
        ]
        for layout in study_layouts()
    }


def measure_goodput(
    *, workload: str, pace: str, seed: int, n_requests: int = 150
) -> dict[str, float]:
    """The most requests a second of which nine in ten keep both limits, by layout.

    Args:
        workload: One of :data:`WORKLOADS`.
        pace: Which gaps must be short, see :class:`~aiexplained.serving.SLO`.
        seed: Of the requests.
        n_requests: How many.

    Raises:
        ValueError: if the workload or the pace is unknown.
    """
    prompt, output = _lengths(workload)
    found = plan(
        Workload(
            arrival_rate_rps=0.5 * capacity_rps(prompt, output),
            prompt_tokens=prompt,
            output_tokens=output,
        ),
        GPU,
        MODEL,
        n_engines=N_ENGINES,
        slo=SLO(ttft_s=TTFT_S, gap_s=GAP_S, pace=pace),  # type: ignore[arg-type]
        link_bandwidth=25e9,
        chunks=CHUNKS,
        n_requests=n_requests,
        seed=seed,
    )
    return {outcome.layout.name: outcome.goodput_rps for outcome in found.outcomes}


def measure_region(
    *,
    seed: int,
    prompts: Sequence[int] = (512, 1024, 2048, 4096, 8192, 16384),
    n_rates: int = 8,
    output_tokens: int = 256,
    n_requests: int = 120,
) -> dict[str, Any]:
    """Where each layout keeps the limits: arrival rate against length of the prompts.

    Args:
        seed: Of the requests.
        prompts: Longest prompts.
        n_rates: Arrival rates; the highest is twice the capacity at 8,192 tokens, each other one
            0.7 times the next.
        output_tokens: Longest answer.
        n_requests: How many.

    Returns:
        ``rates_rps``, ``prompts``, and by pace and layout the share of requests within the limits,
        ``[prompts][rates]``.
    """
    top = 2 * capacity_rps(8192, output_tokens)
    rates = [top * 0.7**i for i in range(n_rates)][::-1]
    slos = {pace: SLO(ttft_s=TTFT_S, gap_s=GAP_S, pace=pace) for pace in PACES}  # type: ignore[arg-type]
    shares: dict[str, dict[str, list[list[float]]]] = {pace: {} for pace in PACES}
    for layout in study_layouts():
        fleet = study_fleet(layout)
        for prompt in prompts:
            runs = [
                simulate(_requests(n_requests, rate, prompt, output_tokens, seed), fleet)
                for rate in rates
            ]
            for pace, slo in slos.items():
                shares[pace].setdefault(layout.name, []).append(
                    [attainment(run.served, slo) for run in runs]
                )
    return {"rates_rps": rates, "prompts": list(prompts), "shares": shares}


def measure_link(*, seed: int, load: float = 0.4, n_requests: int = 200) -> dict[str, Any]:
    """What a slow link costs: documents on two pools, two engines each.

    Args:
        seed: Of the requests.
        load: Arrivals, as a share of :func:`capacity_rps`.
        n_requests: How many.

    Returns:
        A row of :func:`describe` for each of :data:`LINKS`, and one for colocated engines.
    """
    prompt, output = WORKLOADS["documents"]
    requests = _requests(n_requests, load * capacity_rps(prompt, output), prompt, output, seed)
    split = Layout("2 read, 2 write", 0, 2, 2)
    return {
        "links": [
            describe(simulate(requests, study_fleet(split, bandwidth=link))) for link in LINKS
        ],
        "colocated": describe(simulate(requests, study_fleet(study_layouts()[0]))),
    }


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
        "weights_s": PRINTED[128]["tpot_mean_s"] - 128 * slope,
    }


def measure_table(*, concurrency: int, seed: int) -> dict[str, float]:
    """AMD's benchmark in simulated time: as many requests in flight as the table says.

    Four engines read, each at a quarter of the rate (the table's reading side has four pipeline
    stages), one writes.

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
        engine=EngineConfig(n_blocks=2_000_000, prefix_caching=False),
        cost=StepCost(
            overhead_s=0.0,
            token_s=4 / constants["prefill_tokens_per_s"],
            weights_s=constants["weights_s"],
            kv_token_s=0.0,
            sequence_s=constants["sequence_s"],
        ),
        link=Link(bandwidth=50e9, kv_bytes_per_token=90e3),
    )
    requests = poisson_requests(
        10 * concurrency, arrival_rate_rps=1.0, prompt_tokens=8192, output_tokens=1024, seed=seed
    )
    run = simulate(requests, fleet, concurrency=concurrency)
    waits = [s.ttft_s for s in run.served]
    return {
        **describe(run),
        "ttft_mean_s": fmean(waits),
        "ttft_p99_later_s": percentile(waits[concurrency:], 0.99),
    }
