"""SoftMoE: a choice of experts whose number is not fixed, and that has a gradient.

A mixture of experts gives each token ``k`` of its ``E`` experts, by a hard top-k of their scores.
SoftMoE gives weights that sum to any real ``k``, from LapSum's soft top-k, and drops those below a
cut. How many experts run then differs from token to token, and ``k`` itself can be learned:

    Σ_i F((r_i - x) / α) = k,    p_i = F((r_i - x) / α),    y = Σ_i cut(p_i) E_i(token)

with scores ``r`` ``[*B, E]``, the Laplace distribution function ``F``, temperature ``α`` and a
threshold ``x`` for each token.

Not to be confused with Soft MoE (Puigcerver et al., 2023), which mixes tokens into slots.

Source: Zasada, Struski, Tabor and Kurdziel, "SoftMoE: Soft Differentiable Routing for
Mixture-of-Experts in LLMs", 2026 (arXiv 2606.17952); the operator is LapSum, Struski et al., 2025
(arXiv 2503.06242).

Departures: the threshold is solved in closed form in float64. Our small models keep one temperature
where the source, by a note, cools from 5 to 1; that schedule is measured beside it. Experts are
plain two-layer networks, and nothing is split over devices.

Modules: ``lapsum``, ``routing``, ``layer``, ``model`` (torch), ``tokens`` (a task), ``measure``,
``gradients``, ``studies`` and ``summary``.
"""

from aiexplained.concepts.softmoe.gradients import (
    ROUTERS,
    measure_curve,
    measure_gradients,
    measure_nudge,
)
from aiexplained.concepts.softmoe.lapsum import (
    hard_top_k,
    laplace_cdf,
    soft_threshold,
    soft_top_k,
)
from aiexplained.concepts.softmoe.layer import Experts, MixtureOfExperts, Routing
from aiexplained.concepts.softmoe.measure import (
    TEXT_RULES,
    TOKEN_RULES,
    measure_number,
    measure_text,
    measure_tokens,
)
from aiexplained.concepts.softmoe.model import Mixtures, MoETransformer, Rule, TokenModel
from aiexplained.concepts.softmoe.routing import (
    CUT,
    EXPANSION,
    HardTopK,
    LayerBudgets,
    ReLURouter,
    Router,
    SoftmaxAll,
    SoftTopK,
    Told,
    ToldNumber,
    anneal,
    load_balance_loss,
    truncate,
)
from aiexplained.concepts.softmoe.studies import STUDIES
from aiexplained.concepts.softmoe.summary import (
    COUNTED,
    by_rule,
    experts_needed,
    gains,
    gaps,
    hard_curve,
    hard_rules,
    last_share,
    loss_at,
    read_points,
    savings,
)
from aiexplained.concepts.softmoe.tokens import Tokens, make_tokens, sample_tokens, split_tokens
from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

__all__ = [
    "CONCEPT",
    "COUNTED",
    "CUT",
    "EXPANSION",
    "ROUTERS",
    "STUDIES",
    "TEXT_RULES",
    "TOKEN_RULES",
    "Experts",
    "HardTopK",
    "LayerBudgets",
    "MixtureOfExperts",
    "Mixtures",
    "MoETransformer",
    "ReLURouter",
    "Router",
    "Routing",
    "Rule",
    "SoftTopK",
    "SoftmaxAll",
    "TokenModel",
    "Tokens",
    "Told",
    "ToldNumber",
    "anneal",
    "by_rule",
    "experts_needed",
    "gains",
    "gaps",
    "hard_curve",
    "hard_rules",
    "hard_top_k",
    "laplace_cdf",
    "last_share",
    "load_balance_loss",
    "loss_at",
    "make_tokens",
    "measure_curve",
    "measure_gradients",
    "measure_nudge",
    "measure_number",
    "measure_text",
    "measure_tokens",
    "read_points",
    "sample_tokens",
    "savings",
    "soft_threshold",
    "soft_top_k",
    "split_tokens",
    "truncate",
]

CONCEPT = Concept(
    name="softmoe",
    title="SoftMoE",
    tag="Mixture of experts",
    headline="Top-k becomes a dial: any number of experts a token, and a gradient that can turn it",
    summary=(
        "A mixture of experts usually runs a fixed number of them for every token. Here the choice "
        "is softened, so that easy tokens can run fewer, and training can move the number."
    ),
    date="2026-06-16",
    sources=(
        Source(
            key="zasada2026softmoe",
            title="SoftMoE: Soft Differentiable Routing for Mixture-of-Experts in LLMs",
            authors="Zasada, Struski, Tabor and Kurdziel",
            date="2026-06-16",
            url="https://arxiv.org/abs/2606.17952",
            note="abstract and first page; method and tables through two notes and a port",
        ),
        Source(
            key="learnvisually2026softmoe",
            title="SoftMoE: differentiable routing",
            authors="Learn AI Visually",
            date="2026-06-16",
            url="https://learnaivisually.com/ai-explained/softmoe-differentiable-routing",
            note="its opening",
        ),
    ),
    claims=(
        Claim(
            id="fewer-text",
            statement=(
                "Experts run in training, against hard top-k; theirs at a slightly lower loss than "
                "with two, ours at an equal one: a small transformer on text"
            ),
            reported="17 to 24 % fewer",
            where="tables for C4 and OpenWebText, as quoted by two notes",
            source="zasada2026softmoe",
            kind=Kind.RECORDED,
            verdict=Verdict.REPRODUCED,
            reported_low=-24,
            reported_high=-17,
            unit="%",
            direction_zero=0,
            digits=0,
            study="text",
            why=(
                "In four of five runs by about a quarter, in one not at all. With the source's "
                "temperatures and cut it loses here."
            ),
        ),
        Claim(
            id="fewer-tokens",
            statement="The same; ours: made-up tokens that need one, two or three experts",
            reported="17 to 24 % fewer",
            where="tables for C4 and OpenWebText, as quoted by two notes",
            source="zasada2026softmoe",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=-24,
            reported_high=-17,
            unit="%",
            direction_zero=0,
            digits=0,
            study="tokens",
            why="A task made so that tokens differ; it cannot tell what a language model saves.",
        ),
        Claim(
            id="from-its-table",
            statement="Experts run in training, SoftMoE* with 1.5 against hard top-k with 2",
            reported="−24 %",
            where="OpenWebText: 1.53 against 2, as quoted by two notes",
            source="zasada2026softmoe",
            kind=Kind.MEASURED,
            verdict=Verdict.ARITHMETIC,
            reported_low=-24,
            reported_high=-23,
            unit="%",
            digits=1,
            rerun='python -c "print(100 * (1.53 / 2 - 1))"',
        ),
        Claim(
            id="last-layers",
            statement=(
                "Share of a learned budget that the last three of ten layers take; even: 30 %"
            ),
            reported="about 50 %",
            where="as quoted by two notes",
            source="zasada2026softmoe",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=45,
            reported_high=55,
            unit="%",
            direction_zero=30,
            study="depth",
            why=(
                "A slight tilt. The source's budgets settled after some 25,000 steps; ours had a "
                "small part of that."
            ),
        ),
        Claim(
            id="learned-lowers-loss",
            statement="Loss with learned budgets against equal ones; ours: ten layers",
            reported="−0.01 to −0.02, with more experts run",
            where="tables for C4 and OpenWebText, as quoted by two notes",
            source="zasada2026softmoe",
            kind=Kind.RECORDED,
            verdict=Verdict.REPRODUCED,
            reported_low=-0.02,
            reported_high=-0.01,
            unit="nats",
            direction_zero=0,
            digits=3,
            study="depth",
            why="With about as many experts run as with equal budgets.",
        ),
        Claim(
            id="no-gradient",
            statement=(
                "Slope of an expert's weight by its own score while hard top-k does not choose it"
            ),
            reported="none: “the router gets no gradient from its own decision”",
            where="the opening of the page",
            source="learnvisually2026softmoe",
            kind=Kind.MEASURED,
            verdict=Verdict.REPRODUCED,
            reported_low=0,
            reported_high=0,
            rerun=(
                'python -c "from aiexplained.concepts import softmoe; '
                'print(softmoe.measure_nudge([2, 1, 0], k=2, temperature=1))"'
            ),
        ),
        Claim(
            id="tasks",
            statement="HellaSwag, budget of one and cap of four, against hard top-k with four",
            reported="48.48 against 47.23",
            where="C4, 3.60 experts run in training, as quoted by two notes",
            source="zasada2026softmoe",
            kind=Kind.NONE,
            verdict=Verdict.NOT_TESTABLE,
            why=(
                "Models of our size are at chance on it. It needs the source's 1.63 billion "
                "weights and 206 billion tokens."
            ),
        ),
    ),
    prerequisites=(),
)
