"""What is recorded for the page, and with which settings."""

from __future__ import annotations

from typing import Any

from aiexplained.records import Study

_MEASURE = "aiexplained.concepts.softmoe.measure"
_TOKENS = {"steps": 1800, "lr": 1.2e-2}
_TEXT = {"n_layers": 4, "d_model": 96, "steps": 800, "lr": 3e-3}
_DEEP = {"n_layers": 10, "d_model": 48, "steps": 600, "lr": 3e-3}
_COMPARED = (
    "hard, 1", "hard, 2, renormalized", "hard, 3, renormalized", "soft, 1", "soft, 1.5", "soft, 2",
)  # fmt: skip
_SOFT = ("learned budgets", "always two", "as in the source")
_SEEDS = (0, 1, 2)


def _runs(
    rules: tuple[str, ...], shared: dict[str, Any], seeds: tuple[int, ...] = _SEEDS
) -> tuple[dict[str, Any], ...]:
    return tuple({"rule": rule, "seed": seed, **shared} for seed in seeds for rule in rules)


STUDIES = (
    Study(
        "tokens",
        f"{_MEASURE}:measure_tokens",
        _runs(
            (
                *(f"hard, {k}" for k in (1, 2, 3, 4)), "hard, 2, renormalized", "all",
                *(f"soft, {k}" for k in ("1.5", "2", "3")), *_SOFT, "temperature 1",
                "temperature 2", "relu", "told",
            ),
            _TOKENS,
        ),
    ),
    Study(
        "number",
        f"{_MEASURE}:measure_number",
        tuple({"seed": seed, **_TOKENS} for seed in _SEEDS),
    ),
    Study(
        "text",
        f"{_MEASURE}:measure_text",
        _runs(_COMPARED, _TEXT, (0, 1, 2, 3, 4)) + _runs(("always two", "as in the source"), _TEXT),
    ),
    Study(
        "depth",
        f"{_MEASURE}:measure_text",
        _runs(("learned budgets", "soft, 1.5"), _DEEP),
    ),
    Study(
        "balance",
        f"{_MEASURE}:measure_text",
        _runs(("hard, 2, renormalized", "soft, 1.5"), {**_TEXT, "balance": 0.0}),
    ),
    Study(
        "time",
        "benchmarks.softmoe:measure_time",
        (
            {
                "instructions": "AVX-512", "n_tokens": 1024, "d_model": 512, "d_ff": 1024,
                "n_experts": 32, "rounds": 7,
            },
        ),
    ),
)  # fmt: skip
