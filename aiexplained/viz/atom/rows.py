"""Random draws as the page's rule takes them: times and lengths of requests before any slider."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def request_rows(draws: ArrayLike) -> NDArray[np.float64]:
    """Rows for ``makeRequests`` of ``rules/atom.js``, from the draws of a generator.

    The logarithm is taken here: that of a browser may differ in the last bit.

    Args:
        draws: Uniform in [0, 1), ``(n, 3)``: for the arrival, the prompt's and the answer's length.
            ``default_rng(seed).random((n, 3))`` gives the requests of
            :func:`~aiexplained.serving.poisson_requests`.

    Returns:
        ``(n, 3)``: the time since the last arrival at a mean rate of 1, then the lengths as drawn.

    Raises:
        ValueError: if the draws have another shape or leave [0, 1).
    """
    rows = np.array(draws, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] != 3:
        raise ValueError(f"request_rows: draws are (n, 3) with n of at least 1, got {rows.shape}")
    if not (rows.min() >= 0 and rows.max() < 1):
        raise ValueError(f"request_rows: draws lie in [0, 1), got {rows.min():g} to {rows.max():g}")
    rows[:, 0] = -np.log1p(-rows[:, 0])
    return rows
