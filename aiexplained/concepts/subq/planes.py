"""Hash planes that are trained: a query shall share its bucket with the key that it wants.

The hash of :func:`~aiexplained.concepts.subq.select_by_hash` cuts space by planes. Random planes
know nothing of the model; queries and keys of trained attention are unlike vectors whose product is
large, and land in different buckets. Here each head has planes of its own, others for its queries
than for its keys, trained on what the head attends to in short texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aiexplained.concepts.subq.selection import Selection, Selector
from aiexplained.concepts.subq.selectors import WINDOW_SIZE, select_by_hash
from aiexplained.lm import fit

MARGIN = 1.0
TRAINED_QUERIES = 64
"""Queries of each head that a step of training looks at: those that want one far key most."""
States = Sequence[tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H T D"]]]
"""Queries and keys of each layer, as attention sees them."""


@dataclass(frozen=True, kw_only=True)
class HashShape:
    """Sizes of a hash and of the window beside it.

    Args:
        bits: Planes of a table.
        tables: Tables.
        members: Keys taken from a bucket.
        window_size: Newest keys, which are read in any case.
    """

    bits: int = 8
    tables: int = 4
    members: int = 4
    window_size: int = WINDOW_SIZE

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 1:
                raise ValueError(f"HashShape.{name} must be positive, got {size}")

    @property
    def budget(self) -> int:
        """Keys that a query reads at most."""
        return self.window_size + self.tables * self.members


class HashPlanes(nn.Module):
    """Planes for every layer and head, one set for queries and one for keys.

    A table's ``bits`` planes have an offset each. Rows of ``planes``
    ``(L, H, tables, bits, 2 D + 2)`` hold the query's plane and offset, then the key's: both are
    applied to vectors as :func:`widen` makes them, so any hash with one set of planes can use them.

    Args:
        planes: Where training starts.
        shape: Sizes; those of ``planes`` must be the same.
    """

    def __init__(
        self, planes: Float[Tensor, "L H tables bits two_D_plus_2"], shape: HashShape
    ) -> None:
        super().__init__()
        if planes.shape[2:4] != (shape.tables, shape.bits):
            raise ValueError(
                f"planes must be (L, H, {shape.tables}, {shape.bits}, 2 D + 2), got "
                f"{tuple(planes.shape)}"
            )
        self.shape = shape
        self.planes = nn.Parameter(planes.clone())

    def selectors(self) -> list[Selector]:
        """A selector for each layer: the window and the members of the buckets."""
        return [partial(self._select, planes) for planes in self.planes.detach()]

    def _select(self, planes: Tensor, query: Tensor, key: Tensor, positions: Tensor) -> Selection:
        size = self.shape
        return select_by_hash(
            *widen(query, key), positions, budget=size.budget, window_size=size.window_size,
            members=size.members, planes=planes,
        )  # fmt: skip


def widen(
    query: Float[Tensor, "B H Q D"], key: Float[Tensor, "B H K D"]
) -> tuple[Float[Tensor, "B H Q two_D_plus_2"], Float[Tensor, "B H K two_D_plus_2"]]:
    """``[query, 1, 0, 0]`` and ``[0, 0, key, 1]``: a plane's halves see one of the two each."""
    pad, one = nn.functional.pad, 1.0
    wide_query = pad(pad(query, (0, 1), value=one), (0, key.shape[-1] + 1))
    return wide_query, pad(pad(key, (0, 1), value=one), (query.shape[-1] + 1, 0))


def random_planes(states: States, shape: HashShape, *, centered: bool, seed: int) -> HashPlanes:
    """The same random directions for queries and keys, as a hash without training has.

    Args:
        states: Queries and keys of each layer, from any text.
        shape: Sizes.
        centered: Whether the planes pass through the mean query and the mean key of each head, and
            are scaled to their spread, rather than through the origin.
        seed: Of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for layer in states:
        _, n_heads, _, width = layer[0].shape
        drawn = torch.randn(n_heads, shape.tables, shape.bits, width, generator=generator)
        halves = []
        for x in layer:
            mean = x.mean(dim=(0, 2))[:, None] * centered
            spread = (x - mean).norm(dim=-1).mean(dim=(0, 2))[:, None, None, None]
            offset = -(drawn @ mean[:, None].transpose(-1, -2))
            halves.append(torch.cat((drawn, offset), dim=-1) / spread)
        layers.append(torch.cat(halves, dim=-1))
    return HashPlanes(torch.stack(layers), shape)


def learn_planes(
    states: Iterable[States], shape: HashShape, *, steps: int, seed: int, lr: float = 3e-2
) -> tuple[HashPlanes, list[float]]:
    """Train planes on what attention wants; they start as centered random ones.

    Args:
        states: Queries and keys of one batch of texts after another, ``steps + 1`` or more.
        shape: Sizes.
        steps: Optimizer steps.
        seed: Of the first planes.
        lr: Peak learning rate.

    Returns:
        The planes, and the loss of each step (:func:`plane_loss`, summed over layers).

    Raises:
        ValueError: if ``states`` ends too early.
    """
    source = iter(states)
    first = next(source, None)
    if first is None:
        raise ValueError("learn_planes needs states of steps + 1 batches, got none")
    planes = random_planes(first, shape, centered=True, seed=seed)

    def loss(module: nn.Module, batch: Float[Tensor, "L 2 B H T D"]) -> Tensor:
        assert isinstance(module, HashPlanes)
        pairs = zip(module.planes, batch, strict=True)
        return torch.stack(
            [plane_loss(p, *x, window_size=shape.window_size) for p, x in pairs]
        ).sum()

    batches = (torch.stack([torch.stack(layer) for layer in each]) for each in source)
    return planes, fit(planes, batches, steps=steps, lr=lr, weight_decay=0.0, loss=loss)


def plane_loss(
    planes: Float[Tensor, "H tables bits two_D_plus_2"],
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H T D"],
    *,
    window_size: int,
) -> Float[Tensor, ""]:
    """How badly the buckets match one layer's attention; signs are softened to ``tanh``.

    The sum of three terms, the first two averaged over tables and the queries of a head that want
    one far key most, each with the attention that it pays to that key ``k*`` as its weight:

    - ``-log softmax_k(s_q . s_k)`` at ``k*``, over the keys beyond the window: one bit that
      differs divides a key's share by ``e ** 2``;
    - a margin, ``sum_bits max(0, 1 - s_q s_k*)``: signs agree, and far from the plane;
    - balance: the squared mean of each plane's sign over keys, averaged.

    Args:
        planes: Of one layer; see :class:`HashPlanes`.
        query: Queries of whole texts.
        key: Their keys.
        window_size: Keys nearer than this are read without a hash.
    """
    n_queries = min(TRAINED_QUERIES, query.shape[2])
    weight, wanted = wanted_keys(query, key, window_size=window_size)
    weight, place = weight.topk(n_queries, dim=-1)
    wanted = wanted.gather(-1, place)[:, :, None, :, None]
    chosen = query.gather(2, place[..., None].expand(-1, -1, -1, query.shape[-1]))
    sign_q, sign_k = (
        torch.einsum("bhtd,hnkd->bhntk", x, planes).tanh() for x in widen(chosen, key)
    )
    is_far = torch.arange(key.shape[2]) <= place[..., None] - window_size
    agreement = (sign_q @ sign_k.transpose(-1, -2)).masked_fill(~is_far[:, :, None], -1e4)
    share = agreement.log_softmax(dim=-1).gather(-1, wanted.expand(*agreement.shape[:4], 1))
    sign_wanted = sign_k.gather(3, wanted.expand_as(sign_q))
    missed = (MARGIN - sign_q * sign_wanted).clamp(min=0).sum(dim=-1) - share[..., 0]
    balance = sign_k.mean(dim=(0, 3)).square().mean()
    return (missed.mean(dim=2) * weight).sum() / weight.sum().clamp(min=1e-6) + balance


def wanted_keys(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B H K D"],
    positions: Int[Tensor, "Q"] | None = None,
    *,
    window_size: int,
) -> tuple[Float[Tensor, "B H Q"], Int[Tensor, "B H Q"]]:
    """The key beyond the window that each query attends to most, and how much.

    Args:
        query: Queries that stand at ``positions``.
        key: Keys of the whole text.
        positions: Places of the queries; default: one query for each key.
        window_size: Keys nearer than this do not count as wanted, but take part in the softmax.

    Returns:
        Attention weights, 0 where there is no such key, and places.
    """
    positions = torch.arange(key.shape[2]) if positions is None else positions
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    behind = positions[:, None] - torch.arange(key.shape[2])
    weights = scores.masked_fill(behind < 0, -torch.inf).softmax(dim=-1)
    best = weights.masked_fill(behind < window_size, 0).max(dim=-1)
    return best.values, best.indices
