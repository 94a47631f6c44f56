"""Experiments on vectors: does a selector find one needle, and what does it cost; many needles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from aiexplained.concepts.subq.selection import Selection
from aiexplained.concepts.subq.selectors import SELECTORS, make_selector

LENGTHS = (2048, 4096, 8192, 16_384, 32_768, 65_536)
BUDGETS = (128, 256, 512, 1024, 2048, 4096)
COSINES = (0.7, 0.85, 0.95)
HEAD_DIM = 64


def make_needles(
    n_tokens: int, cosines: Sequence[float], n_needles: int, *, head_dim: int = HEAD_DIM, seed: int
) -> tuple[Float[Tensor, "1 1 K D"], Float[Tensor, "C N D"], Int[Tensor, "N"]]:
    """Random keys, and for some of them queries that point nearly the same way.

    Args:
        n_tokens: Keys ``K``.
        cosines: Cosine of a query with its key, exact; ``C`` of them.
        n_needles: Keys ``N`` that are sought, at different places, each once a cosine.
        head_dim: Width ``D``.
        seed: Seed of everything.

    Returns:
        Keys, queries and the places of the needles.

    Raises:
        ValueError: if there are more needles than keys, or a cosine is not between -1 and 1.
    """
    if not 0 < n_needles <= n_tokens or not all(-1 <= cosine <= 1 for cosine in cosines):
        raise ValueError(
            "make_needles needs at most one needle a key and cosines from -1 to 1, got "
            f"{n_needles} in {n_tokens} and {tuple(cosines)}"
        )
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(n_tokens, head_dim, generator=generator)
    place = torch.randperm(n_tokens, generator=generator)[:n_needles]
    along = normalize(key[place], dim=-1)
    noise = torch.randn(len(cosines), n_needles, head_dim, generator=generator)
    across = normalize(noise - (noise * along).sum(dim=-1, keepdim=True) * along, dim=-1)
    cosine = torch.tensor(cosines)[:, None, None]
    query = math.sqrt(head_dim) * (cosine * along + (1 - cosine**2).sqrt() * across)
    return key[None, None], query, place


def reads(selection: Selection, place: Int[Tensor, "Q"], last: int) -> Bool[Tensor, "Q"]:
    """Whether each query, standing at ``last``, reads the key at its ``place``; one head."""
    indices, counts = selection.indices[0, 0], selection.counts[0, 0]
    in_use = torch.arange(indices.shape[-1]) < counts[:, None]
    listed = (indices == (place // selection.key_block)[:, None]) & in_use
    return listed.any(dim=-1) | (place > last - selection.window_size)


def cost_per_token(selection: Selection, n_queries: int, n_keys: int) -> float:
    """Vector products to choose for one query, what its own key costs included; one head."""
    return (selection.dots - selection.key_dots) / n_queries + selection.key_dots / n_keys


def measure_needles(
    *,
    seed: int,
    lengths: Sequence[int] = LENGTHS,
    budgets: Sequence[int] = BUDGETS,
    cosines: Sequence[float] = COSINES,
    selectors: Sequence[str] = tuple(SELECTORS),
    n_needles: int = 300,
) -> dict[str, Any]:
    """Share of needles that each selector reads from the end of a text, and its cost there.

    Args:
        seed: Seed of texts and needles; a selector draws its own directions from it too.
        lengths: Tokens in a text.
        budgets: Keys that a query may read; left out where the text is no longer than that.
        cosines: How alike a needle and its query are.
        selectors: Names from :data:`SELECTORS`.
        n_needles: Needles in each text.

    Returns:
        ``rows`` with ``selector``, ``n_tokens``, ``budget``, ``recall`` (a number a cosine) and
        ``dots``, vector products for one query at the end; and ``cosines``.
    """
    rows = []
    for n_tokens in lengths:
        key, query, place = make_needles(n_tokens, cosines, n_needles, seed=seed)
        flat = query.reshape(1, 1, -1, query.shape[-1])
        positions = torch.full((flat.shape[2],), n_tokens - 1)
        for name in selectors:
            for budget in (b for b in budgets if b < n_tokens):
                options = {"seed": seed} if name in ("hash", "centroids", "indexer") else {}
                found = make_selector(name, budget=budget, **options)(flat, key, positions)
                hits = reads(found, place.repeat(len(cosines)), n_tokens - 1)
                rows.append(
                    {
                        "selector": name,
                        "n_tokens": n_tokens,
                        "budget": budget,
                        "recall": hits.view(len(cosines), -1).double().mean(dim=1).tolist(),
                        "dots": cost_per_token(found, flat.shape[2], n_tokens),
                    }
                )
    return {"rows": rows, "cosines": list(cosines)}


def measure_vote(
    *,
    seed: int,
    n_tokens: int = 8192,
    n_votes: Sequence[int] = (128, 512, 1024, 2048, 4096, 8192),
    budget: int = 1024,
    margin: float = 0.03,
    cosine: float = 0.85,
    n_trials: int = 60,
    selectors: Sequence[str] = ("window", "hash", "block means", "oracle"),
) -> dict[str, Any]:
    """Which of two words occurs more often? Each occurrence counts, and a budget leaves some out.

    Some keys are equally like the query; each carries +1 or -1 as its value, all others 0. The sign
    of the attention's result is the answer.

    Args:
        seed: Seed of the texts.
        n_tokens: Tokens in a text.
        n_votes: Keys that carry a vote.
        budget: Keys that a query may read.
        margin: Votes for the winner less those for the other, as a share of all.
        cosine: How alike the query and each voting key are.
        n_trials: Texts for each number of votes.
        selectors: Names from :data:`SELECTORS`; ``"dense"`` reads everything.

    Returns:
        ``n_votes``, and for each selector and ``dense`` the share of right answers, ``right``.
    """
    right: dict[str, list[float]] = {name: [] for name in (*selectors, "dense")}
    last = torch.tensor([n_tokens - 1])
    for votes in n_votes:
        hits = dict.fromkeys(right, 0)
        for trial in range(n_trials):
            query, key, value = _make_vote(
                n_tokens, votes, margin, cosine, seed=seed * 1000 + trial
            )
            weight = (key @ query / math.sqrt(HEAD_DIM)).exp()
            for name in right:
                read = torch.ones(n_tokens, dtype=torch.bool)
                if name != "dense":
                    select = make_selector(name, budget=budget)
                    read = _read(select(query[None, None, None], key[None, None], last), n_tokens)
                hits[name] += int((weight * value)[read].sum() > 0)
        for name, count in hits.items():
            right[name].append(count / n_trials)
    return {"n_votes": list(n_votes), "right": right}


def _make_vote(
    n_tokens: int, votes: int, margin: float, cosine: float, *, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, keys and values; +1 has the majority."""
    generator = torch.Generator().manual_seed(seed)
    query = normalize(torch.randn(HEAD_DIM, generator=generator), dim=-1)
    key = torch.randn(n_tokens, HEAD_DIM, generator=generator)
    place = torch.randperm(n_tokens, generator=generator)[:votes]
    across = normalize(key[place] - (key[place] @ query)[:, None] * query, dim=-1)
    like = cosine * query + math.sqrt(1 - cosine**2) * across
    key[place] = math.sqrt(HEAD_DIM) * like
    value = torch.zeros(n_tokens)
    value[place] = -1.0
    value[place[: round(votes * (1 + margin) / 2)]] = 1.0
    return math.sqrt(HEAD_DIM) * query, key, value


def _read(selection: Selection, n_tokens: int) -> Bool[Tensor, "K"]:
    """The keys that one query at the end reads."""
    listed = selection.indices[0, 0, 0, : int(selection.counts[0, 0, 0])].long()
    read = torch.zeros(n_tokens, dtype=torch.bool)
    run = torch.arange(selection.key_block)
    read[(listed[:, None] * selection.key_block + run).flatten().clamp(max=n_tokens - 1)] = True
    read[max(n_tokens - selection.window_size, 0) :] = True
    return read
