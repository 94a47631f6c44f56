"""AMD ATOM and ATOMesh: prompts are read in one pool of engines, answers written in another.

Reading a prompt (prefill) is limited by arithmetic, writing an answer (decode) by memory. On one
engine a long prompt stalls all answers. ATOMesh, a router, sends a request to an engine that reads
it and writes the first token; whole blocks of keys and values then move to an engine that writes
the rest. For a prompt of ``T`` tokens the client waits

    queue + prefill(T) + latency + blocks(T) * bytes / bandwidth + one decode step.

Sources: ROCm blog, "ATOM" (15 June 2026) and "ATOMesh" (16 June 2026); the code, ROCm/ATOM.

Departures: the first token travels through the router as in ATOM, but blocks are asked for through
the router's process as well, where ATOM's engines ask each other. Engines run one model whole:
no tensor or pipeline parallelism, no speculative tokens. Real engines exchange blocks by
``torch.distributed`` (gloo here) where ATOM writes into remote memory.

Modules: ``hardware`` and ``planner`` (no torch), ``worker``, ``relay`` and ``pools`` (processes),
``measure``, ``routing_study``, ``real``, ``studies`` and ``summary``. The engine's scheduler, the
simulator and the routing policies are in :mod:`aiexplained.serving`.
"""

from aiexplained.concepts.atom.hardware import (
    GPUS,
    MODELS,
    Gpu,
    Model,
    RooflinePoint,
    gpus_needed,
    kv_blocks,
    roofline_point,
    step_cost,
)
from aiexplained.concepts.atom.measure import (
    CHUNKS,
    FITTED,
    GPU,
    LINKS,
    MODEL,
    PACES,
    PRINTED,
    SLOS,
    WORKLOADS,
    bound_rps,
    describe,
    measure_link,
    measure_rates,
    measure_region,
    measure_saturation,
    measure_table,
    study_fleet,
    study_layouts,
    table_constants,
)
from aiexplained.concepts.atom.planner import (
    Layout,
    Outcome,
    Plan,
    Workload,
    layouts,
    make_fleet,
    plan,
)
from aiexplained.concepts.atom.pools import Pools
from aiexplained.concepts.atom.real import (
    SYSTEMS,
    measure_alone,
    measure_deaths,
    measure_pools,
    measure_turns,
    text_requests,
)
from aiexplained.concepts.atom.relay import (
    Engine,
    PoolRun,
    Step,
)
from aiexplained.concepts.atom.routing_study import (
    POLICIES,
    Routed,
    Survived,
    measure_failure,
    measure_routing,
)
from aiexplained.concepts.atom.studies import STUDIES
from aiexplained.concepts.atom.summary import (
    best_of,
    by_setting,
    fit_link,
    fit_step_cost,
    goodput_rps,
    kind_of,
    longest_stall,
    measured,
    predict,
    same_tokens,
)
from aiexplained.concepts.atom.worker import WorkerSetup
from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

__all__ = [
    "CHUNKS",
    "CONCEPT",
    "FITTED",
    "GPU",
    "GPUS",
    "LINKS",
    "MODEL",
    "MODELS",
    "PACES",
    "POLICIES",
    "PRINTED",
    "SLOS",
    "STUDIES",
    "SYSTEMS",
    "WORKLOADS",
    "Engine",
    "Gpu",
    "Layout",
    "Model",
    "Outcome",
    "Plan",
    "PoolRun",
    "Pools",
    "RooflinePoint",
    "Routed",
    "Step",
    "Survived",
    "WorkerSetup",
    "Workload",
    "best_of",
    "bound_rps",
    "by_setting",
    "describe",
    "fit_link",
    "fit_step_cost",
    "goodput_rps",
    "gpus_needed",
    "kind_of",
    "kv_blocks",
    "layouts",
    "longest_stall",
    "make_fleet",
    "measure_alone",
    "measure_deaths",
    "measure_failure",
    "measure_link",
    "measure_pools",
    "measure_rates",
    "measure_region",
    "measure_routing",
    "measure_saturation",
    "measure_table",
    "measure_turns",
    "measured",
    "plan",
    "predict",
    "roofline_point",
    "same_tokens",
    "step_cost",
    "study_fleet",
    "study_layouts",
    "table_constants",
    "text_requests",
]

CONCEPT = Concept(
    name="atom",
    title="AMD ATOM + ATOMesh",
    tag="Serving",
    headline="Read prompts on some GPUs, write on others: answers hardly stall, but start later",
    summary=(
        "A GPU that reads a long prompt keeps all its answers waiting. ATOMesh reads prompts in "
        "one pool of GPUs and writes answers in another, and ships what was computed in between."
    ),
    date="2026-06-16",
    sources=(
        Source(
            key="amd2026atomesh",
            title="ATOMesh: Unlocking AMD Hardware for Scalable LLM Serving",
            authors="AMD",
            date="2026-06-16",
            url="https://www.amd.com/en/developer/resources/technical-articles/2026/atomesh-unlocking-amd-hardware-for-scalable-llm-serving.html",
            note="its opening; the mechanism through the code",
        ),
        Source(
            key="rocm2026atom",
            title="ROCm/ATOM: engine, router, recipes",
            authors="AMD",
            date="2026-08-22",
            url="https://github.com/ROCm/ATOM",
            note="code, recipes and documentation at commit ffdf3bb",
        ),
        Source(
            key="amd2026infera",
            title="Infera: serving examples",
            authors="AMD",
            date="2026-10-01",
            url="https://rocm.docs.amd.com/projects/infera/en/latest/examples/sglang_mix_dsv4.html",
            note="one page of the documentation",
        ),
        Source(
            key="learnvisually2026atom",
            title="AMD ATOM: prefill/decode disaggregation",
            authors="Learn AI Visually",
            date="2026-06-16",
            url="https://learnaivisually.com/ai-explained/amd-atom-prefill-decode-disaggregation",
            note="its opening",
        ),
        Source(
            key="zhong2024distserve",
            title="DistServe: Disaggregating Prefill and Decoding",
            authors="Zhong et al.",
            date="2024-01-18",
            url="https://arxiv.org/abs/2401.09670",
            note="through a reader's summary",
        ),
    ),
    claims=(
        Claim(
            id="no-stall",
            statement=(
                "Longest stall within an answer, two pools against one; ours: a real model in two "
                "processes"
            ),
            reported="gone; no number",
            where="the opening of the page",
            source="learnvisually2026atom",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=-100,
            reported_high=-99,
            unit="%",
            direction_zero=0,
            digits=0,
            study="processes",
            why="What is left is the pace of the writing engine, which now has all answers.",
        ),
        Claim(
            id="no-stall-rival",
            statement="The same against one pool that reads prompts in chunks",
            reported="gone; no number",
            where="the opening of the page",
            source="learnvisually2026atom",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=-100,
            reported_high=-99,
            unit="%",
            direction_zero=0,
            digits=0,
            study="processes",
            why="Chunks take most of the stall away without a second pool.",
        ),
        Claim(
            id="steady",
            statement=(
                "Time per token: that of 99 in 100 requests over the mean; ours: AMD's benchmark "
                "simulated"
            ),
            reported="1.09",
            where="GLM-5.2 recipe, 256 requests in flight; 1.02 with 128",
            source="rocm2026atom",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=1.09,
            reported_high=1.1,
            digits=3,
            study="table",
            why="Ours is steadier: a simulated step has no noise. With 128 in flight it is 1.01.",
        ),
        Claim(
            id="same-answers",
            statement="Answers equal to those of a single engine; AMD compares GSM8K scores",
            reported="equal: about 0.95 to 0.96 in both",
            where="guide to prefill/decode disaggregation",
            source="rocm2026atom",
            kind=Kind.RECORDED,
            verdict=Verdict.REPRODUCED,
            reported_low=100,
            reported_high=100,
            unit="%",
            digits=0,
            study="processes",
            why="In engines of ours, compared token by token; ATOM itself was not run.",
        ),
        Claim(
            id="delta",
            statement="Blocks sent again though the writing engine held them, at later turns",
            reported="none: only the delta moves",
            where="scheduler.py and the Mooncake connector",
            source="rocm2026atom",
            kind=Kind.RECORDED,
            verdict=Verdict.REPRODUCED,
            reported_low=0,
            reported_high=0,
            digits=0,
            study="turns",
            why="In engines of ours; ATOM itself was not run.",
        ),
        Claim(
            id="throughput",
            statement=(
                "Tokens a second when requests never run out, best split against colocated "
                "engines; ours: prompts as long as answers"
            ),
            reported="one pool is usually fastest, in other words",
            where="example with mixed workers, balanced input and output",
            source="amd2026infera",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=-100,
            reported_high=0,
            unit="%",
            digits=1,
            study="saturation",
            why="Prefill-first engines do not overlap reading and writing; two pools do.",
        ),
        Claim(
            id="throughput-rival",
            statement="The same against one pool that reads prompts in chunks",
            reported="one pool is usually fastest, in other words",
            where="example with mixed workers, balanced input and output",
            source="amd2026infera",
            kind=Kind.RECORDED,
            verdict=Verdict.REPRODUCED,
            reported_low=-100,
            reported_high=0,
            unit="%",
            digits=1,
            study="saturation",
            why="By less than a hundredth.",
        ),
        Claim(
            id="goodput",
            statement=(
                "Requests a second within limits, best split against one pool without chunks; "
                "ours: chat, for which it gains most"
            ),
            reported="up to 7.4 times as many",
            where="abstract, as quoted by a reader",
            source="zhong2024distserve",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=7.3,
            reported_high=7.5,
            unit="x",
            direction_zero=1,
            digits=2,
            study="rates",
            why="Chosen after the runs. Against chunked prefill it gains nothing here.",
        ),
        Claim(
            id="glm",
            statement="Output tokens a second, GLM-5.2 on one node of eight MI355X, 128 in flight",
            reported="3,451",
            where="GLM-5.2 recipe",
            source="rocm2026atom",
            kind=Kind.NONE,
            verdict=Verdict.NOT_TESTABLE,
            why=(
                "It needs eight MI355X and the model. AMD prints no number for one pool on these "
                "GPUs, so even with them there would be nothing to compare."
            ),
        ),
    ),
    prerequisites=(),
)
