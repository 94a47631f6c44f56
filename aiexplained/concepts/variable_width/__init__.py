"""Variable-width transformers."""

from aiexplained.concepts.variable_width.measure import ARMS, measure_training
from aiexplained.concepts.variable_width.model import (
    RESIZES,
    LearnedResize,
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
from aiexplained.records import Study

__all__ = [
    "ARMS",
    "RESIZES",
    "STUDIES",
    "LearnedResize",
    "Schedule",
    "VariableWidthTransformer",
    "carry_forward",
    "count_cache_bytes",
    "count_flops",
    "count_idle",
    "count_parameters",
    "match_widths",
    "mean_and_rms",
    "measure_training",
    "solve_widths",
    "zero_pad",
]

_TRAINING = "aiexplained.concepts.variable_width.measure:measure_training"
_FIRST_SEEDS = (0, 1, 2)


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
        _runs(tuple(ARMS)) + _runs(("uniform", "paper", "mild"), seeds=(3, 4)),
    ),
    Study(
        "sizes",
        _TRAINING,
        tuple(run for width in (64, 80, 112) for run in _runs(("uniform",), width=width)),
    ),
    Study("longer", _TRAINING, _runs(("uniform", "paper"), width=64, steps=3000)),
    Study("deeper", _TRAINING, _runs(("uniform", "paper"), width=64, layers=16)),
    Study(
        "rates",
        _TRAINING,
        tuple(
            run for lr in (1.5e-3, 6e-3) for run in _runs(("uniform", "paper"), seeds=(0,), lr=lr)
        ),
    ),
)
