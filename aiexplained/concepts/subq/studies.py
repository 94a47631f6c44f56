"""What is recorded for the page, and with which settings."""

from __future__ import annotations

from aiexplained.records import Study

_TEXTS = ((4096, (1024, 256), (0, 1, 2)),)
"""Lengths of the texts for the real model, budgets, and which texts."""

_KERNEL = tuple(
    f"kernels/torch-ext/aiexplained_kernels/{name}"
    for name in (
        "_block_list_native.py", "_native.py", "_tensors.py", "block_list_attention.cpp",
        "block_list_worker.h", "matmul.h", "rows.h", "tiles.h",
    )
)  # fmt: skip
"""What the times rest on besides the functions that they reach."""

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
        "recall",
        "aiexplained.concepts.subq.recall:measure_recall",
        tuple({"seed": seed, "plane_span": span} for span in (4096, 512) for seed in (0, 1, 2)),
    ),
    Study(
        "real",
        "aiexplained.concepts.subq.real:measure_real",
        tuple(
            {"selector": selector, "budget": budget, "n_tokens": n_tokens, "part": part}
            for n_tokens, budgets, parts in _TEXTS
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
    Study(
        "time",
        "benchmarks.subq:measure_time",
        tuple(
            {"instructions": "AMX", "n_tokens": 1 << power, "budget": 8192}
            for power in range(10, 21)
        ),
        _KERNEL,
    ),
)
