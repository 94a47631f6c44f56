"""Variable-width transformers: wide first and last layers, a narrow waist, no weight more.

All layers of a transformer have one width by habit. Here the width falls by a constant factor from
layer to layer down to a turning layer ``k``, and rises by another one from there:

    w_{i+1} = w_i · g  for i < k,      w_{i+1} = w_i · r  for i >= k,      w_k = β · h

with ``h`` the width of the uniform model and ``β = 0.3``, ``k = 0.75 L`` in the source. The ends,
``w_1 = w_L``, are as wide as the number of weights allows. Weights go with the squares of the
widths and the KV cache with their sum; the mean never exceeds the root mean square, so the cache
shrinks.

:func:`carry_forward` changes the width without weights: coordinates that a narrow layer does not
read wait for the next one that does.

Source: Wu et al., "Variable-Width Transformers", 2026 (arXiv 2606.18246), and its released code at
commit 65b8464.

Departures, in the models that we train: the embedding and the output projection are as wide as the
layers next to them, so that no weight is idle; attention is scaled by ``1/sqrt(d_head)`` instead of
``1/d_head``, and there are no other muP multipliers; two heads; RMSNorm gains and rotary positions
as in :mod:`aiexplained.lm`.

Modules: ``schedule`` (standard library only), ``model`` (torch), ``measure`` and ``summary``.
"""

from aiexplained.concepts.variable_width.measure import (
    ARMS,
    SCALES,
    SOURCE_VOCAB_SIZE,
    Arm,
    arm_widths,
    measure_accounts,
    measure_contributions,
    measure_speed,
    measure_training,
    measure_variation,
)
from aiexplained.concepts.variable_width.model import (
    RESIZES,
    LearnedResize,
    Resize,
    VariableWidthTransformer,
    carry_forward,
    zero_pad,
)
from aiexplained.concepts.variable_width.schedule import (
    Schedule,
    count_cache_bytes,
    count_flops,
    count_idle,
    count_parameters,
    match_widths,
    mean_and_rms,
    solve_widths,
)
from aiexplained.concepts.variable_width.summary import (
    Curve,
    differences,
    draw_match,
    fit_curve,
    gaps_by,
    match_losses,
    price,
    summarize_losses,
    summarize_speed,
)
from aiexplained.records import Study
from aiexplained.registry import Claim, Concept, Kind, Source, Verdict

__all__ = [
    "ARMS",
    "CONCEPT",
    "RESIZES",
    "SCALES",
    "SOURCE_VOCAB_SIZE",
    "STUDIES",
    "Arm",
    "Curve",
    "LearnedResize",
    "Resize",
    "Schedule",
    "VariableWidthTransformer",
    "arm_widths",
    "carry_forward",
    "count_cache_bytes",
    "count_flops",
    "count_idle",
    "count_parameters",
    "differences",
    "draw_match",
    "fit_curve",
    "gaps_by",
    "match_losses",
    "match_widths",
    "mean_and_rms",
    "measure_accounts",
    "measure_contributions",
    "measure_speed",
    "measure_training",
    "measure_variation",
    "price",
    "solve_widths",
    "summarize_losses",
    "summarize_speed",
    "zero_pad",
]

CONCEPT = Concept(
    name="variable_width",
    title="Variable-width transformers",
    tag="Architecture",
    headline="Layers wide at both ends and narrow in between: as many weights, less cache",
    summary=(
        "Nothing says that all layers must be equally wide. This design narrows them down to a "
        "waist at three quarters of the depth, and lets what they do not read ride along."
    ),
    date="2026-06-16",
    sources=(
        Source(
            key="wu2026variable",
            title="Variable-Width Transformers",
            authors="Wu, Sieberling, Tan, Panda, Polyanskiy and Kim",
            date="2026-06-16",
            url="https://arxiv.org/abs/2606.18246",
            note=(
                "the abstract, the start of the introduction and all of the released code; not its "
                "tables"
            ),
        ),
    ),
    claims=(
        Claim(
            id="flops-same-loss",
            statement="Operations needed for the same loss, against uniform models",
            reported="−22 %",
            where="abstract, read off fitted curves",
            source="wu2026variable",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=-22,
            reported_high=-22,
            unit="%",
            direction_zero=0,
            digits=0,
            study="sizes",
            why=(
                "With eight layers the shape costs loss, so a smaller uniform model is as good. "
                "With sixteen the losses are level, and the seeds too far apart for a reading."
            ),
        ),
        Claim(
            id="cache-same-loss",
            statement="KV cache needed for the same loss, against uniform models",
            reported="−15 %",
            where="abstract, read off fitted curves",
            source="wu2026variable",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=-15,
            reported_high=-15,
            unit="%",
            direction_zero=0,
            digits=0,
            study="sizes",
            why=(
                "The shape's cache is smaller, but so is that of the narrower uniform model that "
                "is as good."
            ),
        ),
        Claim(
            id="flops-same-weights",
            statement="Operations at an equal number of weights, 4,096 tokens",
            reported="about −3 %",
            where="as quoted by two digests",
            source="wu2026variable",
            kind=Kind.MEASURED,
            verdict=Verdict.REPRODUCED,
            reported_low=-3.5,
            reported_high=-2.5,
            unit="%",
            direction_zero=0,
            rerun=(
                'python -c "from aiexplained.concepts import variable_width as vw; '
                'print(vw.measure_accounts())"'
            ),
        ),
        Claim(
            id="cache-same-weights",
            statement="KV cache at an equal number of weights",
            reported="about −10 %",
            where="as quoted by two digests",
            source="wu2026variable",
            kind=Kind.MEASURED,
            verdict=Verdict.REPRODUCED,
            reported_low=-10.5,
            reported_high=-9.5,
            unit="%",
            direction_zero=0,
            rerun=(
                'python -c "from aiexplained.concepts import variable_width as vw; '
                'print(vw.measure_accounts())"'
            ),
        ),
        Claim(
            id="perplexity",
            statement="Perplexity at an equal number of weights; ours: sixteen layers",
            reported="about −3 %",
            where="as quoted by two digests; lower in every case, says the abstract",
            source="wu2026variable",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=-3.5,
            reported_high=-2.5,
            unit="%",
            direction_zero=0,
            study="deeper",
            why=(
                "Level: some seeds gain, some lose. Our models have about a million weights and "
                "read a million characters; the source's smallest has two hundred million, and "
                "reads ten billion tokens."
            ),
        ),
        Claim(
            id="perplexity-shallow",
            statement="The same; ours: eight layers",
            reported="about −3 %",
            where="as quoted by two digests; lower in every case, says the abstract",
            source="wu2026variable",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=-3.5,
            reported_high=-2.5,
            unit="%",
            direction_zero=0,
            study="shapes",
            why=(
                "In every seed uniform layers do better. None of the source's models is this "
                "shallow."
            ),
        ),
        Claim(
            id="carry-beats-zero",
            statement="Loss with carry-forward, against zero padding at the same widths",
            reported="−0.025",
            where="ablation at 500M, as quoted by a digest: 3.099 against 3.124",
            source="wu2026variable",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=-0.025,
            reported_high=-0.025,
            unit="nats",
            direction_zero=0,
            digits=3,
            study="deeper",
            why="More than reported, perhaps because our waist is so narrow.",
        ),
        Claim(
            id="zero-beats-uniform",
            statement="Loss with zero padding, against the uniform model",
            reported="−0.014",
            where="ablation at 500M, as quoted by a digest: 3.124 against 3.138",
            source="wu2026variable",
            kind=Kind.RECORDED,
            verdict=Verdict.NOT_REPRODUCED,
            reported_low=-0.014,
            reported_high=-0.014,
            unit="nats",
            direction_zero=0,
            digits=3,
            study="deeper",
            why=(
                "Without carry-forward the narrow waist costs more than the wide ends bring, in "
                "every seed."
            ),
        ),
        Claim(
            id="uniform-beats-learned",
            statement="Loss with a learned matrix at each change of width, against uniform",
            reported="+0.012",
            where="ablation at 500M, as quoted by a digest: 3.150 against 3.138",
            source="wu2026variable",
            kind=Kind.RECORDED,
            verdict=Verdict.DIRECTION,
            reported_low=0.012,
            reported_high=0.012,
            unit="nats",
            direction_zero=0,
            digits=3,
            study="shapes",
            why=(
                "Much more than reported, even with matrices that start as zero padding; those "
                "that start at random do worse still."
            ),
        ),
    ),
    prerequisites=("foundations/kv-cache",),
)

_TRAINING = "aiexplained.concepts.variable_width.measure:measure_training"
_FIRST_SEEDS = (0, 1, 2)
_ALL_SEEDS = (0, 1, 2, 3, 4)


def _runs(
    arms: tuple[str, ...],
    *,
    seeds: tuple[int, ...] = _FIRST_SEEDS,
    width: int = 96,
    layers: int = 8,
    steps: int = 1000,
    lr: float = 3e-3,
) -> tuple[dict[str, object], ...]:
    """Settings of one training run for each arm and seed."""
    shared = {"width": width, "layers": layers, "steps": steps, "lr": lr}
    return tuple({"arm": arm, "seed": seed, **shared} for seed in seeds for arm in arms)


STUDIES = (
    Study(
        "shapes",
        _TRAINING,
        _runs(tuple(ARMS)) + _runs(("uniform", "paper", "diamond"), seeds=(3, 4)),
    ),
    Study(
        "sizes",
        _TRAINING,
        tuple(run for width in (64, 80, 112) for run in _runs(("uniform",), width=width)),
    ),
    Study(
        "deeper",
        _TRAINING,
        _runs(("uniform", "paper"), seeds=_ALL_SEEDS, width=64, layers=16)
        + _runs(("zero",), width=64, layers=16),
    ),
    Study(
        "variations",
        "aiexplained.concepts.variable_width.measure:measure_variation",
        tuple(
            {"variation": "kept-ends", **run}
            for run in _runs(("paper",), seeds=(0, 1, 2, 3), width=64, layers=16)
        ),
    ),
    Study(
        "speed",
        "aiexplained.concepts.variable_width.measure:measure_speed",
        tuple({"model": "200M", "n_tokens": 2048, "repeats": 3, "repetition": i} for i in range(3)),
    ),
)
