"""Bytes of a Mamba-2 in 16 bits and with ternary projections, to the last weight.

A block of width ``d`` has two projections. The first makes ``2 d_inner + 2 G N + H`` rows, in the
order z, x, B, C, dt; the second brings ``d_inner`` values back to ``d``. Both become codes and a
scale for each group of a row; all else stays in 16 bits. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

MEGABYTE = 1e6
PAPER_FULL_MB, PAPER_TERNARY_MB, PAPER_RATIO = 2687, 744, 3.61
"""What the paper prints for its model of 1.3B weights; as quoted by notes on it.

The shape gives 2,687.5 MB in 16 bits: the print is rounded down, or leaves out the 11 rows that
pad the vocabulary.
"""

GROUP_SIZES = (16, 32, 64, 128, 256, 512)
PACKINGS = (2.0, 1.6)
"""Bits of a code: four codes in a byte, or five, since 3⁵ < 256."""


@dataclass(frozen=True)
class Mamba2Shape:
    """Sizes of a Mamba-2 language model, and what follows from them.

    Args:
        d_model: Width of the model.
        n_layers: Blocks.
        d_state: Values that a channel remembers, ``N``.
        head_dim: Channels of a head.
        expand: Width inside a block over ``d_model``.
        n_groups: Sets of B and C that heads share, ``G``.
        d_conv: Tokens that the convolution sees.
        vocab_size: Rows of the embedding, padding included.

    Raises:
        ValueError: if a size is not positive, or the heads do not fill the block.
    """

    d_model: int
    n_layers: int
    d_state: int = 128
    head_dim: int = 64
    expand: int = 2
    n_groups: int = 1
    d_conv: int = 4
    vocab_size: int = 50288

    def __post_init__(self) -> None:
        wrong = {name: size for name, size in vars(self).items() if size < 1}
        if wrong:
            raise ValueError(f"Mamba2Shape needs sizes of at least 1, got {wrong}")
        if self.d_inner % self.head_dim:
            raise ValueError(
                f"head_dim must divide expand * d_model = {self.d_inner}, got {self.head_dim}"
            )

    @property
    def d_inner(self) -> int:
        """Width inside a block."""
        return self.expand * self.d_model

    @property
    def n_heads(self) -> int:
        """Heads of a block."""
        return self.d_inner // self.head_dim

    @property
    def in_rows(self) -> dict[str, int]:
        """Rows of the first projection by what they make, in their order."""
        states = self.n_groups * self.d_state
        return {
            "z": self.d_inner, "x": self.d_inner, "B": states, "C": states, "dt": self.n_heads
        }  # fmt: skip

    @property
    def projections(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Outputs and inputs of a block's two projections."""
        return (sum(self.in_rows.values()), self.d_model), (self.d_model, self.d_inner)

    @property
    def projected(self) -> int:
        """Weights of all projections: those that become ternary."""
        return self.n_layers * sum(n * k for n, k in self.projections)

    def parts(self) -> dict[str, int]:
        """Weights of the whole model by part, a tied head counted once.

        >>> SHAPES["1.3B"].parts()["in_proj dt"]
        6291456
        """
        rows = self.in_rows
        channels = rows["x"] + rows["B"] + rows["C"]
        block = {
            **{f"in_proj {name}": n * self.d_model for name, n in rows.items()},
            "out_proj": self.d_model * self.d_inner,
            "conv weight": self.d_conv * channels, "conv bias": channels,
            "A_log": self.n_heads, "D": self.n_heads, "dt_bias": self.n_heads,
            "block norm": self.d_model, "gated norm": self.d_inner,
        }  # fmt: skip
        whole = {name: self.n_layers * n for name, n in block.items()}
        return whole | {"final norm": self.d_model, "embedding": self.vocab_size * self.d_model}

    @property
    def total(self) -> int:
        """Weights of the whole model, a tied head counted once.

        >>> round(SHAPES["1.3B"].total / 1e6, 1)
        1343.8
        """
        return sum(self.parts().values())


SHAPES = {
    "130M": Mamba2Shape(768, 24),
    "370M": Mamba2Shape(1024, 48),
    "780M": Mamba2Shape(1536, 48),
    "1.3B": Mamba2Shape(2048, 48),
    "2.7B": Mamba2Shape(2560, 64),
}
"""The public models. Source: Dao and Gu, 2024 (arXiv 2405.21060), released checkpoints."""


def full_size(shape: Mamba2Shape) -> dict[str, float]:
    """Bytes by term in 16 bits, with a head that shares the embedding's weights.

    Args:
        shape: Sizes of the model.

    Returns:
        ``projections``, ``embedding``, ``head`` (0) and ``other``.

    >>> round(sum(full_size(SHAPES["1.3B"]).values()) / 1e6, 1)
    2687.5
    """
    embedding = shape.vocab_size * shape.d_model
    other = shape.total - shape.projected - embedding
    return {
        "projections": 2.0 * shape.projected, "embedding": 2.0 * embedding, "head": 0.0,
        "other": 2.0 * other,
    }  # fmt: skip


def size_terms(
    shape: Mamba2Shape,
    *,
    group_size: int,
    tied_head: bool,
    scale_bytes: float = 2,
    code_bits: float = 2,
) -> dict[str, float]:
    """Bytes by term with ternary projections.

    Args:
        shape: Sizes of the model.
        group_size: Weights of a row that share a scale; the last group may be shorter.
        tied_head: Whether the head shares the embedding's weights; otherwise it has as many.
        scale_bytes: Bytes of a scale.
        code_bits: Bits of a code; 1.6 where five share a byte.

    Returns:
        ``codes``, ``scales``, ``embedding``, ``head`` and ``other``.

    Raises:
        ValueError: if ``group_size`` is below 1, or a cost is not positive.

    >>> terms = size_terms(SHAPES["1.3B"], group_size=128, tied_head=False)
    >>> round(sum(terms.values()) / 1e6, 1)
    743.9
    """
    if group_size < 1 or scale_bytes <= 0 or code_bits <= 0:
        raise ValueError(
            "size_terms needs group_size >= 1 and positive scale_bytes and code_bits, got "
            f"{group_size}, {scale_bytes} and {code_bits}"
        )
    kept = full_size(shape)
    groups = shape.n_layers * sum(n * math.ceil(k / group_size) for n, k in shape.projections)
    return {
        "codes": shape.projected * code_bits / 8,
        "scales": float(groups * scale_bytes),
        "embedding": kept["embedding"],
        "head": 0.0 if tied_head else kept["embedding"],
        "other": kept["other"],
    }


def bits_per_weight(
    shape: Mamba2Shape, *, group_size: int, scale_bytes: float = 2, code_bits: float = 2
) -> float:
    """Bits that a weight of a projection takes, its part of the scale included.

    Args:
        shape: Sizes of the model.
        group_size: Weights of a row that share a scale.
        scale_bytes: Bytes of a scale.
        code_bits: Bits of a code.

    Raises:
        ValueError: as :func:`size_terms`.

    >>> bits_per_weight(SHAPES["1.3B"], group_size=128)
    2.125
    """
    terms = size_terms(
        shape, group_size=group_size, tied_head=True, scale_bytes=scale_bytes, code_bits=code_bits
    )
    return 8 * (terms["codes"] + terms["scales"]) / shape.projected


@dataclass(frozen=True)
class Account:
    """A way to store the ternary model, and the size that it gives.

    Args:
        group_size: Weights that share a scale.
        tied_head: Whether the head shares the embedding's weights.
        code_bits: Bits of a code.
        scale_bytes: Bytes of a scale.
        size_mb: Size of the whole model, 10⁶ bytes.
        ratio: The model in 16 bits with a tied head, over this size.
        bits: Bits that a weight of a projection takes.
    """

    group_size: int
    tied_head: bool
    code_bits: float
    scale_bytes: float
    size_mb: float
    ratio: float
    bits: float


def accounts(
    shape: Mamba2Shape,
    *,
    group_sizes: Sequence[int] = GROUP_SIZES,
    code_bits: Sequence[float] = PACKINGS,
    scale_bytes: Sequence[float] = (2,),
) -> list[Account]:
    """Every combination of group size, head and packing, with its size.

    Args:
        shape: Sizes of the model.
        group_sizes: Group sizes to try.
        code_bits: Bits of a code to try.
        scale_bytes: Bytes of a scale to try.

    Raises:
        ValueError: as :func:`size_terms`.
    """
    full = sum(full_size(shape).values())
    found = []
    for g, tied, bits, each in product(group_sizes, (True, False), code_bits, scale_bytes):
        terms = size_terms(shape, group_size=g, tied_head=tied, scale_bytes=each, code_bits=bits)
        size = sum(terms.values())
        taken = bits_per_weight(shape, group_size=g, scale_bytes=each, code_bits=bits)
        found.append(Account(g, tied, bits, each, size / MEGABYTE, full / size, taken))
    return found


def fits(
    printed_mb: int = PAPER_TERNARY_MB,
    *,
    shape: Mamba2Shape | None = None,
    scale_bytes: Sequence[float] = (2,),
) -> list[Account]:
    """The accounts of :func:`accounts` that are printed as ``printed_mb``, rounded.

    With scales of 16 bits one remains. Bytes alone cannot tell all: scales of 32 bits for twice
    the group size cost the same, and so does a tied embedding in 32 bits for a separate head.

    Args:
        printed_mb: A size as printed, whole megabytes of 10⁶ bytes.
        shape: Sizes of the model; default: that of 1.3B weights.
        scale_bytes: Bytes of a scale to try.

    Raises:
        ValueError: if ``printed_mb`` is not positive.

    >>> [(a.group_size, a.tied_head, a.code_bits) for a in fits(744)]
    [(128, False, 2.0)]
    """
    if printed_mb <= 0:
        raise ValueError(f"printed_mb must be positive, got {printed_mb}")
    candidates = accounts(shape or SHAPES["1.3B"], scale_bytes=scale_bytes)
    return [a for a in candidates if round(a.size_mb) == printed_mb]


def measure_headline() -> dict[str, float]:
    """The paper's sizes from the shape of its model: megabytes, ratio, bits of a weight.

    Returns:
        ``full_mb``; ``ternary_mb``, ``ratio`` and ``bits`` with groups of 128 and a head of its
        own; ``tied_mb`` and ``tied_ratio``, the same with the head tied on both sides.
    """
    shape = SHAPES["1.3B"]
    chosen = {a.tied_head: a for a in accounts(shape, group_sizes=(128,), code_bits=(2.0,))}
    return {
        "full_mb": sum(full_size(shape).values()) / MEGABYTE,
        "ternary_mb": chosen[False].size_mb, "ratio": chosen[False].ratio,
        "bits": chosen[False].bits,
        "tied_mb": chosen[True].size_mb, "tied_ratio": chosen[True].ratio,
    }  # fmt: skip


def measure_sizes(
    names: Sequence[str] = tuple(SHAPES), group_sizes: Sequence[int] = GROUP_SIZES
) -> list[dict[str, Any]]:
    """Bytes by term for every model, group size and head: what the figure of sizes draws.

    Args:
        names: Models, of :data:`SHAPES`.
        group_sizes: Weights that share a scale.

    Returns:
        For each combination ``size`` (the name), ``group_size``, ``tied_head``, ``bits`` of a
        weight of the projections, and bytes by term in ``full`` and ``ternary``.

    Raises:
        ValueError: if a name is unknown, or as :func:`size_terms`.
    """
    unknown = [name for name in names if name not in SHAPES]
    if unknown:
        raise ValueError(f"models are {list(SHAPES)}, got {unknown}")
    return [
        {
            "size": name, "group_size": g, "tied_head": tied,
            "bits": bits_per_weight(SHAPES[name], group_size=g),
            "full": full_size(SHAPES[name]),
            "ternary": size_terms(SHAPES[name], group_size=g, tied_head=tied),
        }
        for name, g, tied in product(names, group_sizes, (False, True))
    ]  # fmt: skip
