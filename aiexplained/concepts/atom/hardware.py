"""What a data sheet and a model's configuration say of time and memory.

:func:`step_cost` turns them into the time of a step, :func:`kv_blocks` into room for keys and
values, and :func:`roofline_point` says why one might split prefill from decode at all: a step that
writes leaves most of the arithmetic idle.

Left out: communication within an engine of several GPUs, quantized weights, and whatever keeps a
machine from the shares of its data sheet that we assume.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from aiexplained.serving import StepCost

BLOCK = 16
"""Tokens a block."""


@dataclass(frozen=True)
class Gpu:
    """What a data sheet says of a GPU.

    Args:
        name: As its maker calls it.
        flops: Operations a second of dense matrix products in bfloat16, without sparsity.
        bandwidth: Bytes a second from its memory.
        memory: Bytes of its memory.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float


@dataclass(frozen=True)
class Model:
    """What time and memory depend on.

    Args:
        name: As its makers call it.
        n_params: All weights; each is used by every token.
        n_layers: Layers.
        n_heads: Query heads.
        n_kv_heads: Heads that have keys and values.
        head_dim: Width of a head.
        weight_bytes: Bytes a weight.
        kv_bytes: Bytes a number of the keys and values.
    """

    name: str
    n_params: float
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    weight_bytes: float = 2.0
    kv_bytes: float = 2.0

    @property
    def bytes(self) -> float:
        """Bytes of all weights."""
        return self.n_params * self.weight_bytes

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of one token's keys and values, all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * self.kv_bytes

    @property
    def attention_width(self) -> float:
        """Layers times query heads times head width."""
        return self.n_layers * self.n_heads * self.head_dim


GPUS = MappingProxyType(
    {
        gpu.name: gpu
        for gpu in (
            Gpu("MI300X", 1307.4e12, 5.3e12, 192e9),
            Gpu("MI325X", 1307.4e12, 6.0e12, 256e9),
            Gpu("MI355X", 2500e12, 8.0e12, 288e9),
            Gpu("A100 80GB", 312e12, 2.039e12, 80e9),
            Gpu("H100 SXM", 989e12, 3.35e12, 80e9),
            Gpu("H200", 989e12, 4.8e12, 141e9),
            Gpu("B200", 2250e12, 8.0e12, 180e9),
            Gpu("L40S", 362e12, 0.864e12, 48e9),
        )
    }
)
"""By name: the makers' data sheets, bfloat16 without sparsity."""

MODELS = MappingProxyType(
    {
        model.name: model
        for model in (
            Model("Llama-3.1-8B", 8.03e9, 32, 32, 8, 128),
            Model("Qwen3-8B", 8.19e9, 36, 32, 8, 128),
            Model("Qwen3-32B", 32.8e9, 64, 64, 8, 128),
            Model("Llama-3.1-70B", 70.6e9, 80, 64, 8, 128),
        )
    }
)
"""By name: dense models in bfloat16, from their published configurations."""


def step_cost(
    gpu: Gpu,
    model: Model,
    *,
    gpus_per_engine: int = 1,
    flops_share: float = 0.5,
    bandwidth_share: float = 0.7,
) -> StepCost:
    """Time of a step of an engine.

    Args:
        gpu: The hardware.
        model: The model.
        gpus_per_engine: GPUs that work as one; what they say to each other takes no time here.
        flops_share: Of the data sheet's operations a second, what matrix products reach.
        bandwidth_share: Of its bytes a second, what reads reach.
    """
    if not (0 < flops_share <= 1 and 0 < bandwidth_share <= 1 and gpus_per_engine >= 1):
        raise ValueError(
            "step_cost needs shares in (0, 1] and gpus_per_engine >= 1, got "
            f"{flops_share}, {bandwidth_share} and {gpus_per_engine}"
        )
    return StepCost.of_hardware(
        flops=flops_share * gpu.flops * gpus_per_engine,
        bandwidth=bandwidth_share * gpu.bandwidth * gpus_per_engine,
        n_params=model.n_params,
        weight_bytes=model.bytes,
        kv_bytes_per_token=model.kv_bytes_per_token,
        attention_width=model.attention_width,
    )


def kv_blocks(gpu: Gpu, model: Model, *, gpus_per_engine: int = 1, used: float = 0.9) -> int:
    """Blocks of keys and values that fit beside the weights.

    Args:
        gpu: The hardware.
        model: The model.
        gpus_per_engine: GPUs that share weights, keys and values.
        used: Share of the memory that may be filled.

    Raises:
        ValueError: if the weights, or one block beside them, do not fit.

    >>> kv_blocks(GPUS["MI300X"], MODELS["Llama-3.1-8B"])
    74739
    """
    if gpus_per_engine < 1 or not 0 < used <= 1:
        raise ValueError(
            f"kv_blocks needs gpus_per_engine >= 1 and used in (0, 1], got {gpus_per_engine} and "
            f"{used}"
        )
    left = used * gpu.memory * gpus_per_engine - model.bytes
    n_blocks = int(left // (BLOCK * model.kv_bytes_per_token))
    if n_blocks < 1:
        raise ValueError(
            f"{model.name} needs {model.bytes / 1e9:.1f} GB for its weights; {gpus_per_engine} "
            f"{gpu.name} have {used * gpu.memory * gpus_per_engine / 1e9:.1f} GB to fill"
        )
    return n_blocks


def gpus_needed(gpu: Gpu, model: Model) -> int:
    """GPUs an engine needs: the least power of two that the weights fill to 80 % at most.

    >>> gpus_needed(GPUS["MI300X"], MODELS["Llama-3.1-8B"])
    1
    >>> gpus_needed(GPUS["H100 SXM"], MODELS["Llama-3.1-70B"])
    4
    """
    n = 1
    while model.bytes > 0.8 * gpu.memory * n:
        n *= 2
    return n


class RooflinePoint(NamedTuple):
    """Where a step lies below the roof.

    Args:
        intensity: Operations for each byte that is fetched.
        flops: Operations a second that the data sheet allows at that intensity.
        ridge: Intensity from which on arithmetic is the limit.
        idle_share: Of the arithmetic, the share that waits for memory; 0 beyond the ridge.
    """

    intensity: float
    flops: float
    ridge: float
    idle_share: float


def roofline_point(gpu: Gpu, model: Model, *, tokens: int, context: int) -> RooflinePoint:
    """A step that computes one token for each of ``tokens`` sequences, or reads a prompt.

    The bytes are the weights once, and the keys and values of what was written before: those of
    every sequence that writes, none for a prompt.

    Args:
        gpu: The roof.
        model: The model.
        tokens: Sequences that write a token each; or, where ``context`` is 0, a prompt's tokens.
        context: Tokens that each of the sequences attends to.

    Raises:
        ValueError: if ``tokens`` is below 1 or ``context`` is negative.
    """
    if tokens < 1 or context < 0:
        raise ValueError(
            f"roofline_point needs tokens >= 1 and context >= 0, got {tokens} and {context}"
        )
    pairs = tokens * context if context else tokens * (tokens + 1) // 2
    operations = 2 * model.n_params * tokens + 4 * model.attention_width * pairs
    fetched = model.bytes + model.kv_bytes_per_token * tokens * context
    intensity, ridge = operations / fetched, gpu.flops / gpu.bandwidth
    flops = min(gpu.flops, intensity * gpu.bandwidth)
    return RooflinePoint(intensity, flops, ridge, 1 - flops / gpu.flops)
