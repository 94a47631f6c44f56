"""What benchmarks of operators on a CPU share: the machine, and rounds against rivals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.block_list_attention import interleave


def vector_instructions() -> str:
    """The vector instructions of this CPU."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": "AVX-512"}.get(capability, capability)


def prepare(instructions: str) -> None:
    """One thread; raise unless this machine has these instructions."""
    torch.set_num_threads(1)
    if instructions != vector_instructions():
        raise ValueError(f"this machine has {vector_instructions()}, not {instructions}")


def compare(device: str, forms: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Median seconds of each form, and ratios over ``"ours"`` with their spread."""
    times = interleave(device, dict(forms), rounds)
    over = {
        name: [b / a for a, b in zip(times["ours"], values, strict=True)]
        for name, values in times.items()
        if name != "ours"
    }
    return {
        "rounds": rounds,
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "over": {name: statistics.median(ratios) for name, ratios in over.items()},
        "spread": {name: [min(ratios), max(ratios)] for name, ratios in over.items()},
    }
