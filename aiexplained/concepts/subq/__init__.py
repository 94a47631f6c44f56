"""SubQ 1.1 Small: every query chooses a fixed number of keys and reads nothing else.

The vendor calls its attention subquadratic and sparse: for each query it selects a small set of
positions by content, and computes exact softmax attention on that set. With a set of ``B`` keys the
pairs of a text of ``n`` tokens are ``n · B`` in place of ``n² / 2``.

**How the set is selected is secret.** No weights, code or paper exist. What stands here is an
*SSA-like mechanism*: seven selectors from the literature with one interface
(:data:`SELECTORS`), each causal, each with its cost counted, and exact attention on what they
choose. None of them is the vendor's.

Source: Subquadratic Inc., "SubQ-1.1-Small technical report" and model card, June 2026, whose tables
we know from a digest and an audit; and "How SSA makes long context practical", May 2026.

Modules: ``cost`` (standard library only); ``selection`` and ``selectors`` (torch); ``planes``,
``reader`` and ``recall``, in which a hash is trained; ``measure`` and ``summary``; ``toy``, a text
in miniature; ``real`` (the packaged language model; not imported here).
"""

from aiexplained.concepts.subq.cost import (
    INDEXER_BUDGET,
    INDEXER_RATIOS,
    VENDOR_TABLE,
    VENDOR_TIMES_MS,
    VendorRow,
    efficiency,
    exact_work_ratio,
    fit_budget,
    fit_indexer,
    indexer_crossover,
    work_by_length,
    work_ratio,
)
from aiexplained.concepts.subq.measure import (
    cost_per_token,
    make_needles,
    measure_needles,
    measure_vote,
    reads,
)
from aiexplained.concepts.subq.selection import (
    Selection,
    Selector,
    attend,
    attend_in_blocks,
    select_blocks,
    selected_pairs,
    selection_mask,
)
from aiexplained.concepts.subq.selectors import (
    SELECTORS,
    block_means,
    make_selector,
    select_best,
    select_by_block_mean,
    select_by_centroid,
    select_by_hash,
    select_by_indexer,
    select_in_two_levels,
    select_window,
)
from aiexplained.concepts.subq.studies import STUDIES
from aiexplained.concepts.subq.summary import (
    cost_curves,
    cost_to_find,
    crossover,
    growth,
    needle_cells,
    real_curves,
    recall_by_length,
    recall_curves,
    recall_of,
    slope,
    summarize_real,
    summarize_time,
    summarize_vote,
    tell_real,
    time_curves,
)
from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

__all__ = [
    "CONCEPT",
    "INDEXER_BUDGET",
    "INDEXER_RATIOS",
    "SELECTORS",
    "STUDIES",
    "VENDOR_TABLE",
    "VENDOR_TIMES_MS",
    "Selection",
    "Selector",
    "VendorRow",
    "attend",
    "attend_in_blocks",
    "block_means",
    "cost_curves",
    "cost_per_token",
    "cost_to_find",
    "crossover",
    "efficiency",
    "exact_work_ratio",
    "fit_budget",
    "fit_indexer",
    "growth",
    "indexer_crossover",
    "make_needles",
    "make_selector",
    "measure_needles",
    "measure_vote",
    "needle_cells",
    "reads",
    "real_curves",
    "recall_by_length",
    "recall_curves",
    "recall_of",
    "select_best",
    "select_blocks",
    "select_by_block_mean",
    "select_by_centroid",
    "select_by_hash",
    "select_by_indexer",
    "select_in_two_levels",
    "select_window",
    "selected_pairs",
    "selection_mask",
    "slope",
    "summarize_real",
    "summarize_time",
    "summarize_vote",
    "tell_real",
    "time_curves",
    "work_by_length",
    "work_ratio",
]

CONCEPT = Concept(
    name="subq",
    title="SubQ 1.1 Small",
    tag="Attention",
    headline="Read a fixed number of tokens, however long the text: 56 times faster at a million?",
    summary=(
        "If each token looks at a few chosen others, a long text costs no more a token than a "
        "short one. The choice is the hard part, and the vendor keeps it secret."
    ),
    date="2026-06-16",
    sources=(
        Source(
            key="subq2026card",
            title="SubQ-1.1-Small technical report and model card",
            authors="Subquadratic",
            date="2026-06-16",
            url="https://subq.ai/subq-1-1-small-technical-report",
            note="the opening of the announcement; the card's tables through a digest and an audit",
        ),
        Source(
            key="subq2026ssa",
            title="How SSA makes long context practical",
            authors="Subquadratic",
            date="2026-05-05",
            url="https://subq.ai/how-ssa-makes-long-context-practical",
            note="all of it",
        ),
    ),
    claims=(
        Claim(
            id="work-1m",
            statement=(
                "Operations of one attention layer at a million tokens, dense over theirs; ours: "
                "one printed number over the other"
            ),
            reported="64.5×",
            where="Table 1 as quoted by an audit; the range is what its rounded operations allow",
            source="subq2026card",
            kind=Kind.MEASURED,
            verdict=Verdict.ARITHMETIC,
            reported_low=63.6,
            reported_high=65.6,
            unit="×",
            direction_zero=1,
            rerun=(
                'python -c "from aiexplained.concepts import subq; row = subq.VENDOR_TABLE[-1]; '
                'print(row.dense_pflop / row.sparse_pflop)"'
            ),
        ),
        Claim(
            id="other-rows",
            statement=(
                "The saving in operations at 128K tokens; ours: from the keys a query that the row "
                "at a million tokens implies"
            ),
            reported="8.0×",
            where="Table 1 as quoted by an audit; the range is what its rounded operations allow",
            source="subq2026card",
            kind=Kind.MEASURED,
            verdict=Verdict.ARITHMETIC,
            reported_low=7.78,
            reported_high=8.14,
            unit="×",
            direction_zero=1,
            rerun=(
                'python -c "from aiexplained.concepts import subq; '
                'print(subq.work_ratio(131072, subq.fit_budget(1048576, 64.5)))"'
            ),
        ),
        Claim(
            id="share-12m",
            statement="Share of all pairs that is read at twelve million tokens; ours: as above",
            reported="0.13 %",
            where="as quoted by an audit",
            source="subq2026card",
            kind=Kind.MEASURED,
            verdict=Verdict.ARITHMETIC,
            reported_low=0.125,
            reported_high=0.135,
            unit="%",
            digits=3,
            rerun=(
                'python -c "from aiexplained.concepts import subq; '
                'print(100 / subq.work_ratio(12582912, subq.fit_budget(1048576, 64.5)))"'
            ),
        ),
        Claim(
            id="thousandfold",
            statement="Saving in operations at twelve million tokens",
            reported="nearly 1,000×",
            where="as quoted by an audit",
            source="subq2026card",
            kind=Kind.MEASURED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=900,
            reported_high=1000,
            unit="×",
            digits=0,
            rerun=(
                'python -c "from aiexplained.concepts import subq; '
                'print(subq.work_ratio(12582912, subq.fit_budget(1048576, 64.5)))"'
            ),
            why=(
                "The company's own share of pairs, one in about 770, says the same as our number. "
                "To call that nearly a thousand is generous."
            ),
        ),
        Claim(
            id="indexer-1m",
            statement=(
                "Work of a layer with DeepSeek's indexer over theirs, both with 2,048 keys, at a "
                "million tokens; ours: a line through two other rows"
            ),
            reported="17.1×",
            where="Table 3 as quoted by an audit",
            source="subq2026card",
            kind=Kind.MEASURED,
            verdict=Verdict.ARITHMETIC,
            reported_low=17.05,
            reported_high=17.15,
            unit="×",
            direction_zero=1,
            rerun=(
                'python -c "from aiexplained.concepts import subq; s, o = subq.fit_indexer(); '
                'print(1 + o + s * 1048576)"'
            ),
        ),
        Claim(
            id="time-1m",
            statement=(
                "Time of one attention layer at a million tokens, dense over sparse; ours: our own "
                "selector and kernel on one core, with about the same saving in work"
            ),
            reported="56.2×",
            where="Table 1 as quoted by a digest, against FlashAttention-2",
            source="subq2026card",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=56.15,
            reported_high=56.25,
            unit="×",
            direction_zero=1,
            study="time",
            why=(
                "Not their mechanism, and not their machine. It shows that a saving in pairs can "
                "become a saving in time, choice included."
            ),
        ),
        Claim(
            id="efficiency",
            statement=(
                "Speed-up divided by the saving in work, at a million tokens; ours: as above"
            ),
            reported="0.87",
            where="56.2 over 64.5, Table 1 as quoted by a digest",
            source="subq2026card",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=0.87,
            reported_high=0.8725,
            direction_zero=0,
            digits=2,
            study="time",
        ),
        Claim(
            id="linear",
            statement=(
                "Power of the length with which the work grows; ours: an untrained hash that must "
                "find nine needles in ten of a cosine of 0.85"
            ),
            reported="1, linear",
            where="as quoted by a digest",
            source="subq2026card",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=1,
            reported_high=1,
            direction_zero=2,
            digits=2,
            study="needles",
            why=(
                "Less than quadratic, more than linear: with a fixed budget an untrained hash "
                "finds fewer needles the longer the text, so the budget must grow."
            ),
        ),
        Claim(
            id="needle",
            statement=(
                "Needles found in a long text; ours: 64K tokens, an untrained hash that reads "
                "1,024 keys, query and needle alike to a cosine of 0.85"
            ),
            reported="100 % at 1M, 98 % at 12M",
            where="as quoted by an audit; 98 % are 49 of 50, and one caption says 100 %",
            source="subq2026card",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=98,
            reported_high=100,
            unit="%",
            study="needles",
            why=(
                "Our directions are random; how theirs are chosen, or whether there are any, is "
                "not known. A needle more like its query is found nearly always."
            ),
        ),
        Claim(
            id="needle-trained",
            statement=(
                "The same; ours: a small model whose hash was trained, 80 keys of 4,096, eight "
                "times the length that it was trained at"
            ),
            reported="100 % at 1M, 98 % at 12M",
            where="as quoted by an audit; 98 % are 49 of 50, and one caption says 100 %",
            source="subq2026card",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=98,
            reported_high=100,
            unit="%",
            direction_zero=50,
            study="recall",
            why=(
                "A toy: exact matches, and filler that is easily told apart. Its hash holds at "
                "eight times the length, though not at distances that training had not shown."
            ),
        ),
        Claim(
            id="benchmarks",
            statement="Scores of the whole model on benchmarks of long texts, code and science",
            reported="RULER-128K 99.12",
            where="as quoted by a digest",
            source="subq2026card",
            kind=Kind.NONE,
            verdict=Verdict.NOT_TESTABLE,
            why="Neither weights nor code nor the tests' set-up are public.",
        ),
    ),
    prerequisites=("foundations/kv-cache",),
)
