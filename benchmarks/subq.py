"""Attention that reads a constant budget of keys, its choice included, against dense attention.

``python benchmarks/subq.py`` (or ``nox -s bench -- subq``) prints speed-up, saving in work and
their ratio; ``--record`` keeps what is missing as records for the concept's page. There is no
figure, and the run fails, unless the result agrees with the definition first. A time is CPU seconds
of the process with one thread; rounds alternate between the rivals.
"""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import aiexplained_kernels as kernels
from aiexplained.concepts import subq
from aiexplained.concepts.subq.selection import BLOCK_SIZE, Selector, select_blocks
from aiexplained.concepts.subq.selectors import make_selector
from aiexplained.records import Study
from benchmarks._studies import run_studies
from benchmarks.block_list_attention import (
    check,
    instructions_of,
    interleave,
    prepare,
    seconds,
)

FOLDER = "subq"
HEAD_DIM = 64
SLOW = 1 << 18
"""From so many tokens on, dense attention takes minutes and is timed once."""


def measure_time(instructions: str, n_tokens: int, budget: int) -> dict[str, Any]:
    """One head of dense attention, and the same reading ``budget`` keys a query, in bfloat16.

    Returns:
        ``seconds`` of ``dense``, ``ours``, and of the parts ``choose`` (in two levels) and
        ``attend``, and of ``choose flat`` (all block means); pairs of both; ``speedup``, saving in
        ``work`` and their ratio, ``efficiency``.
    """
    prepare("cpu", instructions)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, 1, n_tokens, HEAD_DIM, generator=generator).bfloat16() for _ in range(3)
    )
    select, flat = (make_selector(name, budget=budget) for name in ("two levels", "block means"))
    lists = _choose(query, key, select)
    out, _ = kernels.block_list_attention(query, key, value, *lists)
    check([query, key, value], lists, out)
    calls = {
        "dense": lambda: scaled_dot_product_attention(query, key, value, is_causal=True),
        "ours": lambda: kernels.block_list_attention(
            query, key, value, *_choose(query, key, select)
        ),
        "choose": lambda: _choose(query, key, select),
        "choose flat": lambda: _choose(query, key, flat),
    }
    times, rounds = _time(calls, n_tokens)
    pairs = _pairs(lists, n_tokens)
    work = n_tokens * (n_tokens + 1) / 2 / pairs
    speedup = times["dense"] / times["ours"]
    return {
        "seconds": times, "rounds": rounds, "pairs": pairs, "work": work, "speedup": speedup,
        "efficiency": speedup / work,
    }  # fmt: skip


def _choose(query: Tensor, key: Tensor, select: Selector) -> tuple[Tensor, Tensor]:
    return select_blocks(query.float(), key.float(), select)


def _time(
    calls: dict[str, Callable[[], Any]], n_tokens: int
) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds of each call, and how often it was timed."""
    slow = {name: call for name, call in calls.items() if name == "dense" and n_tokens >= SLOW}
    quick = {name: call for name, call in calls.items() if name not in slow}
    times = interleave("cpu", quick, rounds=5 if n_tokens < SLOW else 3)
    times |= {name: [seconds("cpu", call)] for name, call in slow.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians, {name: len(values) for name, values in times.items()}


def _pairs(lists: tuple[Tensor, Tensor], n_tokens: int) -> int:
    """Pairs of a query and a key that the lists let through; every list holds its own block."""
    counts = lists[0].long().sum().item()
    n = -(-n_tokens // BLOCK_SIZE)
    return int((counts - n) * BLOCK_SIZE**2 + n * BLOCK_SIZE * (BLOCK_SIZE + 1) // 2)


@functools.cache
def studies(device: str) -> tuple[Study, ...]:
    """What is measured on a CPU like this one; nothing on a GPU."""
    if device == "gpu":
        return ()
    (study,) = (study for study in subq.STUDIES if study.name == "time")
    here = {"instructions": instructions_of("cpu")}
    return (replace(study, settings=tuple({**s, **here} for s in study.settings)),)


if __name__ == "__main__":
    sys.exit(run_studies(__doc__, studies, FOLDER))
