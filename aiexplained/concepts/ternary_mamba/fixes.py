"""Rounding a trained weight to -1, 0 and 1 times a scale, with no training afterwards.

Each rule takes a weight, the second moments of the layer's inputs and a group size, and returns
the rounded weight, already multiplied by its scales. Three look at the weight alone, two at the
inputs as well. Some were tried on state-space models by Ganesaraja et al., 2026 (arXiv
2606.18114); their forms here are ours, from the sources named at each, since we know the paper's
from notes on it only. Its Kalman-style rule is not among them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from aiexplained.nn.ternary import ternarize

Fix = Callable[[Tensor, Tensor | None, int], Tensor]
"""``(weight, gram, group_size)`` to the rounded weight."""

DAMPING = 0.01
"""What error feedback adds to the diagonal of the moments, over the diagonal's mean."""


def second_moments(x: Float[Tensor, "*B K"]) -> Float[Tensor, "K K"]:
    """Mean of ``x xᵀ`` over all rows, in float64: what the rules know of a layer's inputs.

    Args:
        x: Inputs of a layer; all axes but the last count rows.

    Raises:
        ValueError: if there are no rows.

    >>> second_moments(torch.tensor([[1.0, 2.0], [3.0, 0.0]])).tolist()
    [[5.0, 1.0], [1.0, 2.0]]
    """
    if not x.numel():
        raise ValueError(f"second_moments needs at least one row, got shape {tuple(x.shape)}")
    rows = x.reshape(-1, x.shape[-1]).double()
    return rows.mT @ rows / len(rows)


def output_error(
    weight: Float[Tensor, "N K"], rounded: Float[Tensor, "N K"], gram: Float[Tensor, "K K"]
) -> Float[Tensor, ""]:
    """Squared error of the layer's outputs over their squares: ``tr(E G Eᵀ) / tr(W G Wᵀ)``.

    Args:
        weight: Before rounding.
        rounded: After it.
        gram: Second moments of the layer's inputs, see :func:`second_moments`.

    Raises:
        ValueError: if shapes do not fit, or the outputs are all zero.
    """
    _check(weight, gram)
    if rounded.shape != weight.shape:
        raise ValueError(f"rounded must be shaped like {tuple(weight.shape)}, got {rounded.shape}")
    whole, error = weight.double(), (weight - rounded).double()
    power = _sum_of_products(whole, gram, whole).sum()
    if power <= 0:
        raise ValueError("output_error needs outputs that are not all zero")
    return _sum_of_products(error, gram, error).sum() / power


def round_absmean(
    weight: Float[Tensor, "N K"], gram: Tensor | None, group_size: int
) -> Float[Tensor, "N K"]:
    """Nearest of three values, the scale being the group's mean magnitude.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        gram: Not used.
        group_size: Weights that share a scale; the last group of a row may be shorter.

    Raises:
        ValueError: if ``group_size`` is below 1, or the weight is not a matrix.

    >>> round_absmean(torch.tensor([[0.5, -1.0, 0.1, 2.4]]), None, 4)
    tensor([[ 0., -1.,  0.,  1.]])
    """
    _check(weight)
    ternary, scale = ternarize(weight, group_size)
    return ternary * _each(scale, group_size, weight.shape[1])


def round_least_squares(
    weight: Float[Tensor, "N K"], gram: Tensor | None, group_size: int
) -> Float[Tensor, "N K"]:
    """The scale and the zeros with the least ``‖w − s t‖²`` in each group, exactly.

    With ``k`` codes that are not zero the best are the ``k`` largest magnitudes, their mean is the
    best scale, and ``(sum of them)² / k`` is what the error falls by; all ``k`` are tried.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        gram: Not used.
        group_size: Weights that share a scale.

    Raises:
        ValueError: as :func:`round_absmean`.

    Source: the problem of Li et al., 2016 (arXiv 1605.04711), who approximate its solution.

    >>> round_least_squares(torch.tensor([[0.5, -1.0, 0.1, 2.5]]), None, 4)
    tensor([[0.0000, 0.0000, 0.0000, 2.5000]])
    """
    _check(weight, group_size=group_size)
    rounded = []
    for group in weight.split(group_size, dim=1):
        largest, order = group.abs().sort(dim=1, descending=True)
        count = torch.arange(1, group.shape[1] + 1, device=group.device)
        sums = largest.cumsum(dim=1)
        best = (sums.square() / count).argmax(dim=1, keepdim=True)
        scale = sums.gather(1, best) / (best + 1)
        kept = torch.zeros_like(group, dtype=torch.bool).scatter(1, order, count - 1 <= best)
        rounded.append(torch.where(kept, scale * group.sign(), 0.0))
    return torch.cat(rounded, dim=1)


def round_shrunk(
    weight: Float[Tensor, "N K"], gram: Tensor | None, group_size: int
) -> Float[Tensor, "N K"]:
    """Absmean with each scale drawn toward the mean scale of its row, as James and Stein did.

    With ``G`` scales ``s_j`` of a row and ``v`` the mean variance of such a mean magnitude, from
    the spread within the groups, ``s_j`` becomes ``s̄ + c (s_j − s̄)`` with
    ``c = max(0, 1 − (G − 3) v / Σ (s_j − s̄)²)``. Rows of three groups or fewer stay as they are.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        gram: Not used.
        group_size: Weights that share a scale, at least 2, so that a group has a spread.

    Raises:
        ValueError: if ``group_size`` is below 2, or the weight is not a matrix.

    Source: Stein's estimator toward the mean of all, as in Efron and Morris, 1975 (J. Amer.
    Statist. Assoc. 70, 311), its factor kept from being negative.
    """
    _check(weight, group_size=group_size)
    if group_size < 2:
        raise ValueError(f"shrinkage needs groups of at least 2 weights, got {group_size}")
    groups = [group.abs() for group in weight.split(group_size, dim=1)]
    if len(groups) <= 3:
        return round_absmean(weight, None, group_size)
    scale = torch.stack([group.mean(dim=1) for group in groups], dim=1)
    noise = [group.var(dim=1) / group.shape[1] for group in groups if group.shape[1] > 1]
    middle = scale.mean(dim=1, keepdim=True)
    spread = (scale - middle).square().sum(dim=1, keepdim=True)
    excess = (len(groups) - 3) * torch.stack(noise, dim=1).mean(dim=1, keepdim=True)
    keep = torch.where(spread > excess, 1 - excess / spread, 0.0)
    return _nearest(weight, _each(middle + keep * (scale - middle), group_size, weight.shape[1]))


def round_sigma_delta(
    weight: Float[Tensor, "N K"], gram: Tensor | None, group_size: int
) -> Float[Tensor, "N K"]:
    """Absmean scales, and each weight's rounding error added to the next weight of its row.

    Running sums of a row follow those of the weight, so inputs that change little from one place
    to the next give nearly the right output; others do not. What is carried stays within half a
    scale except after weights above the scale, of which only the scale can be written, and where a
    smaller scale follows; in rows of normal weights it is now and then several scales.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        gram: Not used.
        group_size: Weights that share a scale.

    Raises:
        ValueError: as :func:`round_absmean`.

    Source: first-order noise shaping, Inose and Yasuda, 1963 (Proc. IEEE 51, 1524).

    >>> round_sigma_delta(torch.tensor([[0.3, 0.3, 0.3, -0.3]]), None, 2).sum().round(decimals=4)
    tensor(0.6000)
    """
    _check(weight)
    _, scale = ternarize(weight, group_size)
    each = _each(scale, group_size, weight.shape[1])
    carried = torch.zeros_like(weight[:, 0])
    rounded = torch.empty_like(weight)
    for k in range(weight.shape[1]):
        wanted = weight[:, k] + carried
        rounded[:, k] = _nearest(wanted, each[:, k])
        carried = wanted - rounded[:, k]
    return rounded


def round_error_feedback(
    weight: Float[Tensor, "N K"], gram: Tensor | None, group_size: int
) -> Float[Tensor, "N K"]:
    """Each column's rounding error made up for by the columns after it, as the inputs allow.

    With ``U`` the upper Cholesky factor of the inverse of the damped moments, ``UᵀU = H⁻¹``,
    rounding column ``k`` with the error ``e = w_k − ŵ_k`` moves each later column ``j`` by
    ``−e U_kj / U_kk``. A group's scale is the mean magnitude of what the group has become when its
    first column is reached. Inputs without correlation move nothing, and the rule is absmean.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        gram: Second moments of the layer's inputs; 1 % of their mean diagonal is added to it.
        group_size: Weights that share a scale.

    Raises:
        ValueError: if ``gram`` is missing, zero or shaped otherwise, or as :func:`round_absmean`.

    Source: Frantar et al., 2022 (arXiv 2210.17323), columns in their own order.
    """
    moments = _needed(weight, gram, "error feedback", group_size)
    size = weight.shape[1]
    damping = DAMPING * moments.diagonal().mean()
    damped = moments + damping * torch.eye(size, dtype=moments.dtype, device=moments.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse).mT
    moved, rounded = weight.double().clone(), torch.empty_like(weight, dtype=torch.float64)
    for start in range(0, size, group_size):
        end = min(start + group_size, size)
        scale = moved[:, start:end].abs().mean(dim=1)
        errors = torch.empty_like(moved[:, start:end])
        for k in range(start, end):
            rounded[:, k] = _nearest(moved[:, k], scale)
            error = (moved[:, k] - rounded[:, k]) / factor[k, k]
            moved[:, k + 1 : end] -= error[:, None] * factor[k, k + 1 : end]
            errors[:, k - start] = error
        moved[:, end:] -= errors @ factor[start:end, end:]
    return rounded.to(weight.dtype)


def round_output_scaled(
    weight: Float[Tensor, "N K"], gram: Tensor | None, group_size: int
) -> Float[Tensor, "N K"]:
    """Absmean, and each row times the factor with the least squared error of its output.

    The factor of a row is ``(w G ŵ) / (ŵ G ŵ)``. It can be multiplied into the row's scales, so it
    takes no bytes.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        gram: Second moments ``G`` of the layer's inputs.
        group_size: Weights that share a scale.

    Raises:
        ValueError: as :func:`round_error_feedback`.
    """
    moments = _needed(weight, gram, "output scale", group_size)
    rounded = round_absmean(weight, None, group_size).double()
    power = _sum_of_products(rounded, moments, rounded)
    shared = _sum_of_products(weight.double(), moments, rounded)
    factor = torch.where(power > 0, shared / power, 1.0)
    return (factor[:, None] * rounded).to(weight.dtype)


FIXES: MappingProxyType[str, Fix] = MappingProxyType(
    {
        "absmean": round_absmean,
        "least squares": round_least_squares,
        "shrinkage": round_shrunk,
        "sigma-delta": round_sigma_delta,
        "error feedback": round_error_feedback,
        "output scale": round_output_scaled,
    }
)
"""The rules by name; the last two need the moments of the inputs."""


def _each(scale: Tensor, group_size: int, size: int) -> Tensor:
    """The scale of each weight, from that of each group."""
    return scale.repeat_interleave(group_size, dim=1)[:, :size]


def _nearest(wanted: Tensor, scale: Tensor) -> Tensor:
    ratio = torch.where(scale > 0, wanted / scale, 0.0)
    return ratio.clamp(-1, 1).round() * scale


def _sum_of_products(left: Tensor, gram: Tensor, right: Tensor) -> Tensor:
    """``l G r`` of each pair of rows."""
    return ((left @ gram.to(left.dtype)) * right).sum(dim=1)


def _check(weight: Tensor, gram: Tensor | None = None, group_size: int = 1) -> None:
    if weight.ndim != 2 or not weight.numel():
        raise ValueError(f"weight must be (N, K) with no size 0, got {tuple(weight.shape)}")
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    size = weight.shape[1]
    if gram is not None and gram.shape != (size, size):
        raise ValueError(f"gram must be {(size, size)}, got {tuple(gram.shape)}")


def _needed(weight: Tensor, gram: Tensor | None, name: str, group_size: int) -> Tensor:
    _check(weight, gram, group_size)
    if gram is None:
        raise ValueError(f"{name} needs gram, the second moments of the layer's inputs, got None")
    if not gram.diagonal().mean() > 0:
        raise ValueError(f"{name} needs inputs that are not all zero, and gram's diagonal is")
    return gram.double()
