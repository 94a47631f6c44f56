"""Ranking passages for a question: by cosine of embeddings, or by words (BM25).

Both return the indices of the ``k`` best passages, best first; equal scores keep the order of the
passages, so that a ranking never depends on the sort.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


def rank_passages(
    query_vectors: Float[ndarray, "Q D"], passage_vectors: Float[ndarray, "P D"], k: int
) -> Int[ndarray, "Q k"]:
    """The ``k`` passages of largest cosine to each query.

    Args:
        query_vectors: One embedding a row; need not have unit length.
        passage_vectors: One embedding a row, of the same width.
        k: How many passages to return, ``1 <= k <= P``.

    Returns:
        Row indices into ``passage_vectors``, best first.

    Raises:
        ValueError: if the shapes do not fit, a vector is zero or not finite, or ``k`` is out of
            range.
    """
    queries = _unit_rows("query_vectors", query_vectors)
    passages = _unit_rows("passage_vectors", passage_vectors)
    if queries.shape[1] != passages.shape[1]:
        raise ValueError(
            f"query and passage vectors must have the same width, got {queries.shape[1]} "
            f"and {passages.shape[1]}"
        )
    return _best(queries @ passages.T, k)


def rank_passages_by_words(
    queries: Sequence[str], passages: Sequence[str], k: int, *, k1: float = 1.2, b: float = 0.75
) -> Int[ndarray, "Q k"]:
    """The ``k`` passages of largest BM25 score for each query.

    A word ``w`` that occurs ``f`` times in a passage of ``n`` words adds
    ``idf(w) * f * (k1 + 1) / (f + k1 * (1 - b + b * n / mean(n)))``, where
    ``idf(w) = log(1 + (P - df(w) + 0.5) / (df(w) + 0.5))`` and ``df`` counts the passages with the
    word. Words are runs of letters, digits and underscores, in lower case.

    Reference: S. Robertson and H. Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond,
    Foundations and Trends in Information Retrieval 3(4), 2009; the ``1 +`` in the logarithm, which
    keeps it positive, is Lucene's.

    Args:
        queries: Texts of the queries.
        passages: Texts of the passages.
        k: How many passages to return, ``1 <= k <= P``.
        k1: How slowly repeats of a word saturate, ``>= 0``.
        b: How much long passages are discounted, from 0 to 1.

    Returns:
        Indices into ``passages``, best first.

    Raises:
        ValueError: if a parameter is out of range.
    """
    if k1 < 0 or not 0 <= b <= 1:
        raise ValueError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, got k1={k1} and b={b}")
    counts = [Counter(_WORD.findall(text.lower())) for text in passages]
    lengths = np.array([count.total() for count in counts], dtype=float)
    mean_length = lengths.mean() if lengths.sum() > 0 else 1.0
    discount = k1 * (1 - b + b * lengths / mean_length)
    scores = np.zeros((len(queries), len(passages)))
    for row, query in enumerate(queries):
        for word in _WORD.findall(query.lower()):
            frequency = np.array([count[word] for count in counts], dtype=float)
            holding = np.count_nonzero(frequency)
            if holding == 0:
                continue
            idf = np.log1p((len(passages) - holding + 0.5) / (holding + 0.5))
            scores[row] += idf * frequency * (k1 + 1) / np.maximum(frequency + discount, 1e-12)
    return _best(scores, k)


def _unit_rows(name: str, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"{name} must have two axes (rows, width), got shape {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError(f"{name} must be finite and have no zero row")
    unit: NDArray[np.float64] = rows / lengths
    return unit


def _best(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be from 1 to the {scores.shape[1]} passages, got {k}")
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]
