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

Modules: ``cost`` (standard library only), ``selection`` and ``selectors`` (torch), ``measure``,
``recall``, ``real`` (the packaged language model; not imported here), ``toy`` and ``summary``.
"""

from aiexplained.concepts.subq.cost import (
    INDEXER_RATIOS,
    VENDOR_TABLE,
    VENDOR_TIMES_MS,
    VendorRow,
    efficiency,
    exact_work_ratio,
    fit_budget,
    fit_indexer,
    indexer_crossover,
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
from aiexplained.concepts.subq.summary import (
    cost_to_find,
    crossover,
    growth,
    recall_of,
    slope,
    summarize_real,
    summarize_time,
    summarize_vote,
)
from aiexplained.records import Study
from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

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
            authors="Subquadratic Inc.",
            date="2026-06-16",
            url="https://subq.ai/subq-1-1-small-technical-report",
            note="the opening of the announcement; the card's tables through a digest and an audit",
        ),
        Source(
            key="subq2026ssa",
            title="How SSA makes long context practical",
            authors="Subquadratic Inc.",
            date="2026-05-05",
            url="https://subq.ai/how-ssa-makes-long-context-practical",
            note="all of it",
        ),
        Source(
            key="lulzx2026audit",
            title="Subquadratic sparse attention: an audit and a prototype",
            authors="Lulzx",
            date="2026-06-30",
            url="https://github.com/Lulzx/subquadratic-sparse-attention",
            note="its account of the card's tables; an independent audit",
        ),
    ),
    claims=(),
)

STUDIES = (
    Study(
        "needles",
        "aiexplained.concepts.subq.measure:measure_needles",
        tuple({"seed": seed} for seed in (0, 1, 2)),
    ),
    Study(
        "vote",
        "aiexplained.concepts.subq.measure:measure_vote",
        tuple({"seed": seed} for seed in (0, 1, 2)),
    ),
    Study(
        "real",
        "aiexplained.concepts.subq.real:measure_real",
        tuple(
            {"selector": selector, "budget": budget, "n_tokens": n_tokens, "part": part}
            for n_tokens, budgets, parts in (
                (4096, (512, 1024, 256), (0, 1, 2)),
                (8192, (512, 1024), (0,)),
            )
            for part in parts
            for selector, some in (
                ("dense", (0,)),
                ("window", budgets),
                ("hash", budgets),
                ("block means", budgets),
                ("oracle", budgets),
            )
            for budget in some
        ),
    ),
)
