"""What is recorded for the page, and with which settings."""

from __future__ import annotations

from aiexplained.records import Study

_MEASURE = "aiexplained.concepts.ternary_mamba.measure"
_SEEDS = (0, 1, 2)
_RUN = {"base_steps": 600, "steps": 200, "lr": 1e-3}

_KERNEL = tuple(
    f"kernels/torch-ext/aiexplained_kernels/{name}"
    for name in (
        "_ternary_native.py", "_native.py", "_tensors.py", "ternary_linear.cpp", "ternary_float.h",
        "ternary_packed.h", "matmul.h", "rows.h",
    )
)  # fmt: skip
"""What times of decoding rest on besides the functions that they reach."""

STUDIES = (
    Study(
        "training",
        f"{_MEASURE}:measure_training",
        tuple({"seed": seed, **_RUN} for seed in _SEEDS),
    ),
    Study(
        "scales",
        f"{_MEASURE}:measure_scales",
        tuple(
            {"seed": seed, "scale": scale, "weight_decay": decay, **_RUN, "lr": 3e-3}
            for seed in _SEEDS
            for scale, decay in (
                ("recomputed", 0.1),
                ("learned", 0.1),
                ("learned, LSQ", 0.1),
                ("learned as a logarithm", 0.1),
                ("recomputed", 1.0),
                ("learned, LSQ", 1.0),
                ("recomputed", 3.0),
                ("learned, LSQ", 3.0),
            )
        ),
    ),
    Study(
        "rounding",
        "aiexplained.concepts.ternary_mamba.rounding:measure_rounding",
        tuple(
            {"seed": seed, "model": model, "base_steps": 600, "n_characters": 25_601}
            for model in ("mamba", "transformer")
            for seed in _SEEDS
        ),
    ),
    Study(
        "errors",
        f"{_MEASURE}:measure_errors",
        tuple({"seed": seed, "base_steps": 600, "n_tokens": 512, "size": 0.1} for seed in _SEEDS),
    ),
    Study(
        "positions",
        f"{_MEASURE}:measure_positions",
        tuple(
            {"seed": seed, "base_steps": 600, "seq_len": 1024, "n_windows": 96} for seed in _SEEDS
        ),
    ),
    Study(
        "heads",
        f"{_MEASURE}:measure_heads",
        ({"seed": 0, "base_steps": 600, "n_tokens": 200},),
    ),
    Study("trace", f"{_MEASURE}:measure_trace", ({"seed": 0, **_RUN},)),
    Study(
        "real-rounding",
        "aiexplained.concepts.ternary_mamba.real:measure_rounding",
        (
            *({"bits": bits, "part": "all"} for bits in ("int8", "int4", "int3", "int2")),
            *({"bits": "ternary", "part": part} for part in ("all", "in", "x", "dt", "out")),
        ),
    ),
    Study(
        "real-training",
        "aiexplained.concepts.ternary_mamba.real:measure_qat",
        tuple({"steps": 100, "weights": "ternary", "seed": seed} for seed in _SEEDS),
    ),
    Study(
        "decode",
        "benchmarks.ternary_mamba:measure_decode",
        tuple(
            {"instructions": "AVX-512", "shape": shape, "rounds": 5}
            for shape in ("130M", "370M", "1.3B")
        ),
        _KERNEL,
    ),
)
