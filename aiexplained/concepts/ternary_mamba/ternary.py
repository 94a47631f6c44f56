"""Ternary projections: rounded in use, with recomputed or learned scales, or packed for good."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aiexplained.nn import Projection, reference_ternary_linear, ternarize

Gradient = Literal["naive", "lsq"]
Pack = Callable[..., tuple[Tensor, Tensor]]
"""Takes a weight ``[N, K]`` and ``group_size``, gives the packed weight and its scales."""
MultiplyPacked = Callable[..., Tensor]
"""Takes ``x [*B, K]``, packed weight and scales, and ``group_size``; gives ``[*B, N]``."""


def projections(model: nn.Module) -> dict[str, Projection]:
    """The projections of a model by name, those that become ternary.

    Args:
        model: Any module.

    Raises:
        ValueError: if it has none.
    """
    found = {name: part for name, part in model.named_modules() if isinstance(part, Projection)}
    if not found:
        raise ValueError(f"no Projection in the {type(model).__name__}")
    return found


def train_ternary(model: nn.Module, group_size: int | None = 128) -> None:
    """Make all projections multiply with rounded weights; the weights behind them stay trainable.

    Not for a model whose scales are learned. The scale is recomputed from the weight each time, and
    the gradient passes the rounding straight through, see
    :func:`aiexplained.nn.reference_ternary_linear`.

    Args:
        model: Changed in place.
        group_size: Weights of a row that share a scale; ``None``: all of a row.
    """
    for projection in projections(model).values():
        projection.multiply = partial(reference_ternary_linear, group_size=group_size)


@torch.no_grad()
def round_weights(model: nn.Module, group_size: int | None = 128) -> None:
    """Round all projections once, for good: no training.

    Rounding twice is not rounding once: zeros make the mean magnitude smaller. So take a model
    whose projections still multiply in full.

    Args:
        model: Changed in place.
        group_size: As of :func:`train_ternary`.
    """
    for projection in projections(model).values():
        ternary, scale = ternarize(projection.weight, group_size)
        projection.weight.copy_(spread(scale, ternary.shape[1], group_size) * ternary)


def spread(
    scale: Float[Tensor, "N G"], n_columns: int, group_size: int | None
) -> Float[Tensor, "N K"]:
    """The scale of each weight, from those of the groups.

    Args:
        scale: A scale for each group of a row.
        n_columns: ``K``, weights of a row.
        group_size: Weights of a group.
    """
    return scale.repeat_interleave(group_size or n_columns, dim=1)[:, :n_columns]


class LearnedScale(nn.Module):
    """Multiplies with ternary weights whose scales are parameters.

    They start as the mean magnitudes of the groups, and are then on their own:

        t = round(clip(w / s, -1, 1)),    y = x (s t)ᵀ

    Nothing keeps a scale positive unless its logarithm is learned; below 1e-8 it divides as 1e-8.

    Args:
        weight: The weight that the scales start from, ``[N, K]``.
        group_size: Weights of a row that share a scale.
        gradient: ``"naive"``: the scale is a factor, ``ds = sum g t``, and the weight gets the
            whole gradient. ``"lsq"``: as Esser et al. (2020) derive it, ``ds = sum g (t - w / s)``
            within the clip and ``sum g t`` outside, and a clipped weight gets none.
        log: Train the logarithm of the scale instead of the scale.

    Raises:
        ValueError: for an unknown ``gradient``.
    """

    def __init__(
        self,
        weight: Float[Tensor, "N K"],
        group_size: int | None = 128,
        *,
        gradient: Gradient = "naive",
        log: bool = False,
    ) -> None:
        if gradient not in ("naive", "lsq"):
            raise ValueError(f"gradient must be 'naive' or 'lsq', got {gradient!r}")
        super().__init__()
        self.group_size, self.gradient, self.log = group_size, gradient, log
        _, scale = ternarize(weight.detach(), group_size)
        flat = scale.flatten()  # one axis: like gains and biases, scales have no weight decay
        self.stored = nn.Parameter(flat.clamp_min(1e-8).log() if log else flat)
        self.n_rows = len(weight)

    @property
    def scale(self) -> Float[Tensor, "N G"]:
        """Scales as they stand."""
        flat: Tensor = self.stored.exp() if self.log else self.stored
        return flat.view(self.n_rows, -1)

    def round(self, weight: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """The ternary weight, -1, 0 and 1, with the gradient of the clipped ratio."""
        scale = spread(self.scale, weight.shape[1], self.group_size)
        clipped = (weight / scale.clamp_min(1e-8)).clamp(-1, 1)
        return clipped.round().detach() + (clipped - clipped.detach())

    def forward(
        self, x: Float[Tensor, "*B K"], weight: Float[Tensor, "N K"]
    ) -> Float[Tensor, "*B N"]:
        """``x`` times the transpose of the rounded weight."""
        scale = spread(self.scale, weight.shape[1], self.group_size)
        if self.gradient == "lsq":
            return x @ (scale * self.round(weight)).mT
        rounded = scale * self.round(weight).detach()
        return x @ (rounded + (weight - weight.detach())).mT


def learn_scales(
    model: nn.Module,
    group_size: int | None = 128,
    *,
    gradient: Gradient = "naive",
    log: bool = False,
) -> list[nn.Parameter]:
    """As :func:`train_ternary`, with scales that are trained.

    Args:
        model: Changed in place.
        group_size: As there.
        gradient: As of :class:`LearnedScale`.
        log: As of :class:`LearnedScale`.

    Returns:
        The scales, so that an optimizer can treat them on their own.
    """
    scales = []
    for projection in projections(model).values():
        learned = LearnedScale(projection.weight, group_size, gradient=gradient, log=log)
        projection.multiply = learned
        scales.append(learned.stored)
    return scales


@torch.no_grad()
def ternary_codes(projection: Projection, group_size: int | None = 128) -> Float[Tensor, "N K"]:
    """A projection's weight as -1, 0 and 1, as it stands.

    Args:
        projection: With learned scales, or without.
        group_size: Where scales are recomputed: weights that share one.
    """
    if isinstance(projection.multiply, LearnedScale):
        return projection.multiply.round(projection.weight)
    return ternarize(projection.weight, group_size)[0]


def zero_share(model: nn.Module, group_size: int | None = 128) -> float:
    """Share of the projections' weights that are rounded to zero, from 0 to 1.

    Args:
        model: Its weights are rounded as they stand, with learned scales where there are some.
        group_size: Where scales are recomputed: weights that share one.
    """
    codes = [ternary_codes(projection, group_size) for projection in projections(model).values()]
    return sum(int((c == 0).sum()) for c in codes) / sum(c.numel() for c in codes)


class PackedProjection(nn.Module):
    """A projection that keeps only what a packed product needs; it cannot be trained.

    Args:
        projection: What is packed; without a bias.
        pack: Packs a weight, e.g. ``aiexplained_kernels.pack_ternary``.
        multiply: Multiplies with it, e.g. ``aiexplained_kernels.ternary_linear``.
        group_size: Weights of a row that share a scale.

    Raises:
        ValueError: if the projection has a bias.
    """

    packed: Tensor
    scale: Tensor

    def __init__(
        self,
        projection: Projection,
        *,
        pack: Pack,
        multiply: MultiplyPacked,
        group_size: int | None = 128,
    ) -> None:
        if projection.bias is not None:
            raise ValueError("only a projection without bias can be packed")
        super().__init__()
        packed, scale = pack(projection.weight.detach(), group_size)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.multiply, self.group_size = multiply, group_size

    def forward(self, x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B N"]:
        """Apply the map to the last axis."""
        return self.multiply(x, self.packed, self.scale, group_size=self.group_size)


def multiply_rounded(
    x: Float[Tensor, "*B K"],
    ternary: Float[Tensor, "N K"],
    scale: Float[Tensor, "N G"],
    *,
    group_size: int | None = 128,
) -> Float[Tensor, "*B N"]:
    """The definition of a packed product, for what :func:`aiexplained.nn.ternarize` gives.

    Args:
        x: Inputs.
        ternary: -1, 0 and 1.
        scale: Scales of the groups.
        group_size: Weights of a row that share a scale.
    """
    return x @ (spread(scale, ternary.shape[1], group_size) * ternary).mT


def pack_model(
    model: nn.Module,
    group_size: int | None = 128,
    *,
    pack: Pack = ternarize,
    multiply: MultiplyPacked = multiply_rounded,
) -> None:
    """Replace all projections by packed ones: after this the model decodes and cannot be trained.

    What is packed are the weights behind, rounded once, as :func:`train_ternary` uses them.

    Args:
        model: Changed in place.
        group_size: Weights of a row that share a scale.
        pack: Packs a weight; by default not at all, so that no kernel is needed. With
            ``aiexplained_kernels.pack_ternary`` a weight takes two bits.
        multiply: Multiplies with what ``pack`` gave; ``aiexplained_kernels.ternary_linear`` there.

    Raises:
        ValueError: if ``model`` is itself a projection, or one has a bias or learned scales; then
            nothing is packed.
    """
    found = projections(model)
    if "" in found:
        raise ValueError("pack_model packs the projections inside a model, got a Projection")
    for name, projection in found.items():
        if isinstance(projection.multiply, LearnedScale):
            raise ValueError(f"{name} has learned scales, which a packed weight cannot keep")
        if projection.bias is not None:
            raise ValueError(f"only a projection without bias can be packed, {name} has one")
    for name, projection in found.items():
        parent, _, last = name.rpartition(".")
        packed = PackedProjection(projection, pack=pack, multiply=multiply, group_size=group_size)
        setattr(model.get_submodule(parent), last, packed)
