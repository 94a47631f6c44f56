"""Ternary Mamba: every weight of a state-space model's projections is -1, 0 or +1 times a scale.

Mamba-2 writes with constant memory a token, so on a device its weights are what costs. Here the
weights of its projections, in groups of ``g = 128`` along a row, become

    s = mean(abs(w)),    t = round(clip(w / s, -1, 1)),    ŵ = s t

two bits each. Rounding a trained model this way costs much of its quality. So it is trained on with
the rounding in the loop: the product uses ``ŵ``, the gradient passes straight through to ``w``, the
scale follows from ``w`` each time, and the full-precision model is the teacher.

Source: Ganesaraja et al., "Ternary Mamba", 2026 (arXiv 2606.18114), of which we know the abstract;
the rule, the groups and the result on learned scales through a public port and notes.

Departures: models of a third of a million weights on the King James Bible by characters, with a
mixture of the loss of the next character and of the teacher; optimizer, temperature and data of
the source are not known to us.

Modules: ``account``, sizes; ``model``, ``ternary`` and ``fixes``; ``perturb``, errors in the
recurrence; ``training``, ``measure`` and ``rounding``, what is recorded, and ``real`` with
``texts`` (a real Mamba; not imported here); ``summary`` and ``studies``.
"""

from aiexplained.concepts.ternary_mamba.account import (
    GROUP_SIZES,
    PAPER_TERNARY_MB,
    SHAPES,
    Account,
    Mamba2Shape,
    accounts,
    bits_per_weight,
    fits,
    full_size,
    measure_headline,
    measure_sizes,
    size_terms,
)
from aiexplained.concepts.ternary_mamba.fixes import FIXES, output_error, second_moments
from aiexplained.concepts.ternary_mamba.measure import (
    SCALES,
    measure_errors,
    measure_heads,
    measure_positions,
    measure_scales,
    measure_trace,
    measure_training,
)
from aiexplained.concepts.ternary_mamba.model import LayerState, Mamba2, Mamba2Block
from aiexplained.concepts.ternary_mamba.perturb import (
    HOW,
    WHAT,
    HeadInput,
    compare_states,
    head_inputs,
    make_noise,
    measure_travel,
    perturb,
    relative_error,
    run_states,
)
from aiexplained.concepts.ternary_mamba.rounding import (
    input_moments,
    matrices,
    measure_rounding,
    round_absmax,
)
from aiexplained.concepts.ternary_mamba.studies import STUDIES
from aiexplained.concepts.ternary_mamba.summary import (
    agreement_curve,
    agreements,
    by_group,
    closed_by_fixes,
    error_ratios,
    late_damage,
    loss_curves,
    losses,
    recovered,
    rounding_costs,
    sizes_and_losses,
    steps_from_nothing,
    steps_to_reach,
    tell_losses,
    zero_runs,
)
from aiexplained.concepts.ternary_mamba.ternary import (
    LearnedScale,
    PackedProjection,
    learn_scales,
    multiply_rounded,
    pack_model,
    projections,
    round_weights,
    ternary_codes,
    train_ternary,
    zero_share,
)
from aiexplained.concepts.ternary_mamba.training import distillation_loss
from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

__all__ = [
    "CONCEPT",
    "FIXES",
    "GROUP_SIZES",
    "HOW",
    "PAPER_TERNARY_MB",
    "SCALES",
    "SHAPES",
    "STUDIES",
    "WHAT",
    "Account",
    "HeadInput",
    "LayerState",
    "LearnedScale",
    "Mamba2",
    "Mamba2Block",
    "Mamba2Shape",
    "PackedProjection",
    "accounts",
    "agreement_curve",
    "agreements",
    "bits_per_weight",
    "by_group",
    "closed_by_fixes",
    "compare_states",
    "distillation_loss",
    "error_ratios",
    "fits",
    "full_size",
    "head_inputs",
    "input_moments",
    "late_damage",
    "learn_scales",
    "loss_curves",
    "losses",
    "make_noise",
    "matrices",
    "measure_errors",
    "measure_headline",
    "measure_heads",
    "measure_positions",
    "measure_rounding",
    "measure_scales",
    "measure_sizes",
    "measure_trace",
    "measure_training",
    "measure_travel",
    "multiply_rounded",
    "output_error",
    "pack_model",
    "perturb",
    "projections",
    "recovered",
    "relative_error",
    "round_absmax",
    "round_weights",
    "rounding_costs",
    "run_states",
    "second_moments",
    "size_terms",
    "sizes_and_losses",
    "steps_from_nothing",
    "steps_to_reach",
    "tell_losses",
    "ternary_codes",
    "train_ternary",
    "zero_runs",
    "zero_share",
]

CONCEPT = Concept(
    name="ternary_mamba",
    title="Ternary Mamba",
    tag="Quantization",
    headline="Weights of −1, 0 and +1: a Mamba in under a third of the memory, from a checkpoint",
    summary=(
        "Rounding a trained model to three values ruins it. Training it a little longer with the "
        "rounding in the loop repairs most of the damage, if a trained model is at hand."
    ),
    date="2026-06-16",
    sources=(
        Source(
            key="ganesaraja2026ternary",
            title=(
                "Ternary Mamba: Grouped Quantization-Aware Training of W1.58A16 State Space Models"
            ),
            authors="Ganesaraja, Panse and Swathika N",
            date="2026-06-16",
            url="https://arxiv.org/abs/2606.18114",
            note="the abstract; the method through a public port and notes by readers",
        ),
    ),
    claims=(
        Claim(
            id="smaller",
            statement="Size of the model in 16 bits over its size with ternary weights, 1.3B",
            reported="3.61×",
            where="as quoted by notes on the paper: 2,687 MB and 744 MB",
            source="ganesaraja2026ternary",
            kind=Kind.MEASURED,
            verdict=Verdict.ARITHMETIC,
            reported_low=3.605,
            reported_high=3.615,
            unit="×",
            direction_zero=1,
            digits=2,
            rerun=(
                'python -c "from aiexplained.concepts import ternary_mamba as tm; '
                'print(tm.measure_headline())"'
            ),
        ),
        Claim(
            id="megabytes",
            statement="Size with ternary weights, groups of 128 and an output layer of its own",
            reported="744 MB",
            where="as quoted by notes on the paper",
            source="ganesaraja2026ternary",
            kind=Kind.MEASURED,
            verdict=Verdict.ARITHMETIC,
            reported_low=744,
            reported_high=744,
            unit="MB",
            digits=0,
            rerun=(
                'python -c "from aiexplained.concepts import ternary_mamba as tm; '
                'print(tm.measure_headline())"'
            ),
        ),
        Claim(
            id="fewer-tokens",
            statement=(
                "Tokens of training from nothing over those from a checkpoint; ours: to the same "
                "loss, the checkpoint for free"
            ),
            reported="about 1,000×",
            where="abstract: 102 million tokens; others from nothing: over 100 billion",
            source="ganesaraja2026ternary",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=1000,
            reported_high=1500,
            unit="×",
            direction_zero=1,
            study="training",
            why=(
                "The factor depends on how long the checkpoint was trained: ours for three times "
                "as many steps as the training after it. With those counted there is no gain."
            ),
        ),
        Claim(
            id="collapse",
            statement=(
                "Weights that are zero where scales are learned; ours: in the manner of LSQ, usual "
                "weight decay"
            ),
            reported="a collapse, about 90 %",
            where="abstract; the number as quoted by a port",
            source="ganesaraja2026ternary",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=85,
            reported_high=95,
            unit="%",
            direction_zero=32,
            study="scales",
            why=(
                "A drift, not a collapse, at a small price. LSQ and a plain factor drift up from "
                "thirty-two, a learned logarithm drifts down; strong weight decay adds to it."
            ),
        ),
        Claim(
            id="corrections",
            statement=(
                "Share of the damage of rounding that the best of five corrections takes away in "
                "Mamba-2, over that in a transformer"
            ),
            reported="corrections for transformers fail",
            where="abstract and notes; no number, we read it as 0 %",
            source="ganesaraja2026ternary",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=0,
            reported_high=0,
            unit="%",
            direction_zero=100,
            digits=0,
            study="rounding",
            why=(
                "The two that notes name help neither model. The others help the transformer, "
                "which loses far more to begin with and was not tuned, and Mamba-2 less."
            ),
        ),
        Claim(
            id="pile-up",
            statement=(
                "Damage of rounding late in a text over that at its start; ours: the second half "
                "of 1,024 characters over the first 32"
            ),
            reported="errors accumulate in the recurrence",
            where="abstract, as a reason; no number, we read it as a fifth more at least",
            source="ganesaraja2026ternary",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=1.2,
            reported_high=100,
            unit="×",
            direction_zero=1,
            digits=2,
            study="positions",
            why=(
                "Hardly more, and in one of three seeds the same. Our models are small and their "
                "memories short; a state that fades forgets its errors, too."
            ),
        ),
        Claim(
            id="accuracy",
            statement="Average score on seven tasks, beside a one-bit Mamba trained from nothing",
            reported="48.1 % against 48.4 %",
            where="abstract",
            source="ganesaraja2026ternary",
            kind=Kind.NONE,
            verdict=Verdict.NOT_TESTABLE,
            why=(
                "A model of our size is at chance on such tasks. It needs the checkpoint of 1.3 "
                "billion weights and some hours of a large GPU."
            ),
        ),
    ),
    prerequisites=("kernels/ternary-linear",),
)
