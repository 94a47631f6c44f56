"""CacheWeaver: order retrieved passages so that the prompt opens like one served lately.

An engine can reuse the keys and values of an earlier prompt only as far as the two prompts start
with the same tokens. A retriever ranks passages anew for each question, so two questions that fetch
the same passages rarely share an opening. CacheWeaver permutes the passages, between retriever and
engine, so that they follow a path of a prefix tree of openings that were served lately:

    O* = argmax over O in Perm(D) of ℓ(O, T)                                          (Eq. 1)

with D the retrieved set, T the tree, and ℓ the number of leading passages of O on a cached path.
:func:`weave` is the published greedy walk, :func:`deepest` the exact argmax.

Source: Tan, Gu and Li, "CacheWeaver: Cache-Aware Evidence Ordering for Efficient Grounded RAG
Inference", 2026 (arXiv 2606.19667). No code was released.

Departures: the recency window counts requests, not seconds; ties of the argmax follow retrieval
order; ``tail="popular"`` is ours. The engine here serves one request at a time.

Modules: ``planner`` (standard library only), ``simulate`` and ``measure`` (numpy), ``real`` (torch
and the packaged language model; not imported here).
"""

from aiexplained.concepts.cacheweaver.measure import (
    TRACES,
    make_passage_lengths,
    make_scrubber_traces,
    measure_one_off,
    measure_sweep,
    measure_tools,
    measure_traces,
)
from aiexplained.concepts.cacheweaver.planner import (
    PrefixTree,
    cached_opening,
    deepest,
    look_ahead,
    weave,
)
from aiexplained.concepts.cacheweaver.simulate import (
    POLICIES,
    Engine,
    Run,
    compare_policies,
    simulate,
)
from aiexplained.concepts.cacheweaver.summary import (
    fit_ttft,
    summarize_quality,
    summarize_sweep,
    summarize_ttft,
    swept_values,
)
from aiexplained.records import Study
from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

__all__ = [
    "CONCEPT",
    "POLICIES",
    "STUDIES",
    "TRACES",
    "Engine",
    "PrefixTree",
    "Run",
    "cached_opening",
    "compare_policies",
    "deepest",
    "fit_ttft",
    "look_ahead",
    "make_passage_lengths",
    "make_scrubber_traces",
    "measure_one_off",
    "measure_sweep",
    "measure_tools",
    "measure_traces",
    "simulate",
    "summarize_quality",
    "summarize_sweep",
    "summarize_ttft",
    "swept_values",
    "weave",
]

CONCEPT = Concept(
    name="cacheweaver",
    title="CacheWeaver",
    tag="Serving",
    headline="Reorder what you retrieved, and the first word comes sooner",
    summary=(
        "A prompt can reuse cached work only from its very start. CacheWeaver puts retrieved "
        "passages in an order that was served before, and leaves model and engine alone."
    ),
    date="2026-06-18",
    sources=(
        Source(
            key="tan2026cacheweaver",
            title="CacheWeaver: Cache-Aware Evidence Ordering for Efficient Grounded RAG Inference",
            authors="Tan, Gu and Li",
            date="2026-06-18",
            url="https://arxiv.org/abs/2606.19667",
            note="the abstract and the start of section 1; no code was released",
        ),
        Source(
            key="ubbx2026router",
            title="cache-aware-llm-router: work report",
            authors="ubbx05",
            date="2026-08-16",
            url="https://github.com/ubbx05/cache-aware-llm-router",
            note="the report of an independent replication on vLLM with two GPUs",
        ),
        Source(
            key="taggyhan2026tooltrie",
            title="ToolTrie: project status",
            authors="taggyhan123",
            date="2026-08-03",
            url="https://github.com/taggyhan123/FYP",
            note="the report of a study that orders tool schemas instead of passages",
        ),
    ),
    claims=(
        Claim(
            id="ttft",
            statement=(
                "Median time to first token falls against prefix caching in retrieval order; ours: "
                "conversations, where the retriever sees what was asked before"
            ),
            reported="−20 to −33 %",
            where="abstract, three vLLM configurations",
            source="tan2026cacheweaver",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=-33,
            reported_high=-20,
            unit="%",
            direction_zero=0,
            study="ttft",
            why=(
                "More than reported: the passages of one conversation overlap a lot, and a search "
                "that sees the conversation ranks them anew each time."
            ),
        ),
        Claim(
            id="ttft-questions",
            statement="The same; ours: each question retrieved by itself, popular ones come back",
            reported="−20 to −33 %",
            where="abstract, three vLLM configurations",
            source="tan2026cacheweaver",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=-33,
            reported_high=-20,
            unit="%",
            direction_zero=0,
            study="ttft",
            why=(
                "The seeds differ widely. A popular question that comes back word for word is "
                "reused whole in any order: a request is nearly free or read in full, and the "
                "median jumps."
            ),
        ),
        Claim(
            id="ttft-browsing",
            statement="The same; ours: no query comes twice, neighbors share few passages",
            reported="−20 to −33 %",
            where="abstract, three vLLM configurations",
            source="tan2026cacheweaver",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=-33,
            reported_high=-20,
            unit="%",
            direction_zero=0,
            study="ttft",
            why=(
                "Less than reported: without repeats, neighboring requests share few passages, and "
                "no order can reuse what was never served."
            ),
        ),
        Claim(
            id="oracle-share",
            statement="The greedy walk reaches nearly all of the best order's gain in median time",
            reported="97.5 %",
            where="abstract",
            source="tan2026cacheweaver",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=97.5,
            reported_high=97.5,
            unit="%",
            direction_zero=0,
            study="ttft",
        ),
        Claim(
            id="quality",
            statement="Answers do not get measurably worse",
            reported="no measured loss",
            where="abstract; Table 7 as quoted by the replication",
            source="tan2026cacheweaver",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=0,
            reported_high=0,
            unit="nats a token",
            digits=3,
            study="quality",
            why=(
                "Where weaving changed the order, the answers became less likely. This small model "
                "answers best from the last passage, and the walk does not look at relevance. The "
                "paper's models are larger, and we could not read how it measured."
            ),
        ),
        Claim(
            id="replication-gain",
            statement="At ten passages a request, weaving raises the cached share of the prompt",
            reported="+5.6 points",
            where="section 6.1 of the report: 73.2 % against 67.6 %",
            source="ubbx2026router",
            kind=Kind.MEASURED,
            verdict=Verdict.DIRECTION,
            reported_low=5.6,
            reported_high=5.6,
            unit="points",
            direction_zero=0,
            rerun=(
                'python -c "from aiexplained.concepts import cacheweaver as cw; '
                "print(cw.measure_traces('bursty', k=10, n_requests=300, seeds=(0, 1, 2), "
                'engine=cw.Engine(capacity_blocks=5840)))"'
            ),
            why=(
                "Ten times the reported gain: our simulated ranking is noisier, so that retrieval "
                "order reuses little. The sign carries over, the size does not."
            ),
        ),
        Claim(
            id="sorted-loses",
            statement="Plain sorting by id reuses less than the walk",
            reported="−8.3 points",
            where="section 6.1 of the report: 64.9 % against 73.2 %",
            source="ubbx2026router",
            kind=Kind.MEASURED,
            verdict=Verdict.DIRECTION,
            reported_low=-8.3,
            reported_high=-8.3,
            unit="points",
            direction_zero=0,
            rerun=(
                'python -c "from aiexplained.concepts import cacheweaver as cw; '
                "print(cw.measure_traces('bursty', k=10, n_requests=300, seeds=(0, 1, 2), "
                'engine=cw.Engine(capacity_blocks=5840)))"'
            ),
        ),
        Claim(
            id="sorting-wins",
            statement="On tool schemas that open with a changing tool, sorting beats the walk",
            reported="+36.9 points",
            where="Phase 2 table, BFCL: 38.13 % against 1.19 %",
            source="taggyhan2026tooltrie",
            kind=Kind.MEASURED,
            verdict=Verdict.DIRECTION,
            reported_low=36.9,
            reported_high=36.9,
            unit="points",
            direction_zero=0,
            rerun=(
                'python -c "from aiexplained.concepts import cacheweaver as cw; '
                'print(cw.measure_tools())"'
            ),
            why=(
                "A little more than reported: our schemas have about equal length and random names."
            ),
        ),
        Claim(
            id="counting-repairs",
            statement="Putting what recent prompts listed first repairs that workload",
            reported="96.27 %",
            where="frequency_online, BFCL padded to 64 tools",
            source="taggyhan2026tooltrie",
            kind=Kind.MEASURED,
            verdict=Verdict.REPRODUCED,
            reported_low=96.265,
            reported_high=96.275,
            unit="%",
            direction_zero=0,
            rerun=(
                'python -c "from aiexplained.concepts import cacheweaver as cw; '
                'print(cw.measure_tools())"'
            ),
        ),
    ),
    prerequisites=("foundations/prefill-and-decode", "foundations/prefix-caching"),
)

STUDIES = (
    Study(
        "ttft",
        "aiexplained.concepts.cacheweaver.real:measure_ttft",
        tuple(
            {"kind": kind, "seed": seed}
            for seed in (0, 1, 2)
            for kind in ("conversation", "questions", "browsing")
        ),
    ),
    Study(
        "quality",
        "aiexplained.concepts.cacheweaver.real:measure_quality",
        tuple({"part": part} for part in range(8)),
    ),
    Study(
        "sweep",
        "aiexplained.concepts.cacheweaver.measure:measure_sweep",
        tuple(
            {"kind": kind, "k": k, "session": session, "capacity_blocks": blocks, "seed": seed}
            for kind in ("bursty",)
            for seed in range(5)
            for k, session, blocks in (
                *((k, 4.0, 3000) for k in (3, 5, 8, 12)),
                *((5, session, 3000) for session in (1.0, 2.0, 8.0)),
                *((5, 4.0, blocks) for blocks in (300, 1000, 10_000)),
            )
        ),
    ),
)
