"""One head on a text in miniature: topics that come and go, and a last query that seeks one key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from aiexplained.concepts.subq.selection import selection_mask
from aiexplained.concepts.subq.selectors import make_selector

STEP = 2.0**-12
"""Numbers are multiples of this: a page carries them exactly in two bytes each."""

SETTINGS: Mapping[str, int] = {
    "window_size": 16, "members": 8, "probes": 4, "block_size": 8, "n_groups": 4
}  # fmt: skip
"""Options of the selectors in miniature: runs and windows that fit 256 tokens."""

N_TOPICS, RUN = 6, (9, 31)
"""Topics, and how many tokens one is spoken of before the next (at least, less than)."""

TOPIC, LIKENESS = 0.8, 0.88
"""How much of a key is its topic, and the cosine of the needle and the last query."""


@dataclass(frozen=True)
class Toy:
    """Queries and keys of one head, and what the selectors draw at random.

    Args:
        query: Queries ``(T, D)`` of length about one.
        key: Keys ``(T, D)``, likewise.
        needle: The key ``(D,)`` that the last query is after; see :meth:`with_needle`.
        planes: Directions ``(tables, bits, D)`` of the hash: a smaller budget uses the first ones.
        centroids: Directions ``(C, D)`` that keys are routed by.
        narrow: Projection ``(D, D / 4)`` to the vectors of the indexer.
    """

    query: Float[Tensor, "T D"]
    key: Float[Tensor, "T D"]
    needle: Float[Tensor, "D"]
    planes: Float[Tensor, "tables bits D"]
    centroids: Float[Tensor, "C D"]
    narrow: Float[Tensor, "D I"]

    def as_lists(self) -> dict[str, list[Any]]:
        """All of it by name as nested lists, which a figure takes."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    def with_needle(self, position: int) -> Float[Tensor, "T D"]:
        """The keys with the needle in place of the one at ``position``.

        Raises:
            ValueError: if ``position`` is not that of a key.
        """
        if not 0 <= position < len(self.key):
            raise ValueError(f"a needle lies at 0 to {len(self.key) - 1}, got {position}")
        keys = self.key.clone()
        keys[position] = self.needle
        return keys


def make_toy(n_tokens: int = 256, head_dim: int = 16, *, n_tables: int = 14, seed: int = 2) -> Toy:
    """Make a text of topics that come back, and a last query that is about none of them.

    A key is its topic's direction and noise of its own, a query likewise; all have length one. The
    last query points in a direction of its own, and the needle has a cosine of 0.88 with it, as far
    off it as chance decides.

    Args:
        n_tokens: Tokens ``T``.
        head_dim: Width ``D``, a multiple of 4.
        n_tables: Tables of the hash that directions are drawn for.
        seed: Seed of everything.

    Raises:
        ValueError: if ``n_tokens`` is under 16 or ``head_dim`` is not a multiple of 4.

    >>> make_toy(64).key.shape
    torch.Size([64, 16])
    """
    if n_tokens < 16 or head_dim < 4 or head_dim % 4:
        raise ValueError(
            f"a toy has 16 tokens or more and a width in fours, got {n_tokens} and {head_dim}"
        )
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    topic = normalize(draw(N_TOPICS, head_dim), dim=-1)[_topics(n_tokens, generator)]
    noise = math.sqrt(1 - TOPIC**2)
    key, query = (
        normalize(TOPIC * topic + noise * normalize(draw(n_tokens, head_dim), dim=-1), dim=-1)
        for _ in range(2)
    )
    query[-1] = normalize(draw(head_dim), dim=-1)
    aside = draw(head_dim)
    aside = normalize(aside - (aside @ query[-1]) * query[-1], dim=-1)
    needle = LIKENESS * query[-1] + math.sqrt(1 - LIKENESS**2) * aside
    n_bits = max(round(math.log2(n_tokens)) - 3, 1)
    planes = draw(n_tables, n_bits, head_dim)
    centroids = normalize(draw(math.isqrt(n_tokens - 1) + 1, head_dim), dim=-1)
    narrow = draw(head_dim, head_dim // 4) / math.sqrt(head_dim // 4)
    parts = (query, key, needle, planes, centroids, narrow)
    return Toy(*((part / STEP).round() * STEP for part in parts))


def choose_in_toy(
    toy: Toy, name: str, *, budget: int, position: int, settings: Mapping[str, int] = SETTINGS
) -> tuple[Bool[Tensor, "T T"], float]:
    """What every query of a toy reads, by one selector, in double precision.

    Args:
        toy: The text.
        name: One of :data:`aiexplained.concepts.subq.selectors.SELECTORS`.
        budget: Keys that a query reads at most.
        position: Where the needle lies.
        settings: Values for all names in :data:`SETTINGS`.

    Returns:
        Which key each query reads, and products of two vectors that the choice took.

    Raises:
        ValueError: if a selector refuses its options, or the hash lacks directions.
    """
    window_size, members = settings["window_size"], settings["members"]
    tables = max((budget - window_size) // members, 1)
    if tables > len(toy.planes):
        raise ValueError(f"a budget of {budget} asks for {tables} tables, got {len(toy.planes)}")
    blocks = {"block_size": settings["block_size"]}
    own: dict[str, dict[str, object]] = {
        "hash": {"members": members, "planes": toy.planes.double()[None, :tables]},
        "centroids": {"probes": settings["probes"], "centroids": toy.centroids.double()[None]},
        "block means": {**blocks},
        "two levels": {**blocks, "n_groups": settings["n_groups"]},
        "indexer": {"narrow": toy.narrow.double()},
    }
    window = {} if name == "window" else {"window_size": window_size}
    select = make_selector(name, budget=budget, **window, **own.get(name, {}))
    key = toy.with_needle(position).double()[None, None]
    positions = torch.arange(len(toy.key))
    found = select(toy.query.double()[None, None], key, positions)
    return selection_mask(found, positions, len(positions))[0, 0], found.dots


def _topics(n_tokens: int, generator: torch.Generator) -> Tensor:
    """Topic of each token: runs of one topic, the next one always another."""
    runs: list[Tensor] = []
    now = 0
    while sum(map(len, runs)) < n_tokens:
        length = int(torch.randint(*RUN, (), generator=generator))
        runs.append(torch.full((length,), now))
        now = (now + int(torch.randint(1, N_TOPICS, (), generator=generator))) % N_TOPICS
    return torch.cat(runs)[:n_tokens]
