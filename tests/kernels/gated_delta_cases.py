"""Inputs on which every form of the gated delta rule is held to its definition."""

from __future__ import annotations

import torch
from accuracy import budget, relative
from torch.nn.functional import normalize

TERMS = 1024
"""Products behind a number: the recurrence sums over tokens and over the key's width."""

# Batch, heads, tokens, key width, value width, keys, log-decay, beta, a first state.
CASES = {
    "one token": (2, 3, 1, 19, 23, "random", "usual", True, True),
    "ragged": (2, 3, 37, 19, 23, "random", "usual", True, True),
    "chunks and a rest": (1, 2, 131, 64, 64, "random", "usual", True, False),
    "wide": (1, 1, 70, 128, 128, "random", "usual", True, True),
    "one column": (1, 2, 65, 7, 1, "random", "usual", True, True),
    "keys much alike": (1, 2, 150, 64, 33, "alike", "none", True, True),
    "one key for all": (1, 2, 150, 32, 70, "one", "none", True, False),
    "all is replaced": (1, 1, 80, 16, 16, "one", "none", "ones", True),
    "strong decay": (1, 2, 131, 31, 17, "random", "strong", True, True),
    "forgets all at once": (1, 2, 131, 31, 17, "random", "resets", True, True),
    "nothing fades": (1, 2, 131, 31, 17, "random", "none", True, True),
    "without beta": (2, 3, 131, 29, 40, "random", "usual", None, True),
    "without beta, strong decay": (1, 2, 70, 29, 40, "random", "strong", None, False),
}


def make_case(name: str, dtype: torch.dtype = torch.float64, seed: int = 0):
    """Query, key, value, log_decay, beta (or None) and initial_state (or None)."""
    batch, heads, tokens, width, columns, keys, decay, with_beta, with_state = CASES[name]
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    key = normal(batch, heads, tokens, width)
    if keys != "random":
        key = key[:, :, :1] + (0.05 * key if keys == "alike" else 0 * key)
    log_decay = -torch.rand(batch, heads, tokens, generator=generator, dtype=torch.float64)
    log_decay *= {"usual": 0.3, "strong": 60.0, "resets": 0.3, "none": 0.0}[decay]
    if decay == "resets":
        log_decay[:, :, 20::29] = -torch.inf
    beta = torch.rand(batch, heads, tokens, generator=generator, dtype=torch.float64)
    beta = torch.ones_like(beta) if with_beta == "ones" else beta
    state = normal(batch, heads, width, columns)
    # Rounded first, so that every form gets the same numbers.
    inputs = [
        normal(batch, heads, tokens, width), normalize(key, dim=-1),
        normal(batch, heads, tokens, columns), log_decay, beta, state,
    ]  # fmt: skip
    query, key, value, log_decay, beta, state = (x.to(dtype) for x in inputs)
    return [
        query, key, value, log_decay,
        None if with_beta is None else beta, state if with_state else None,
    ]  # fmt: skip


def run(operator, inputs, seed: int = 1, **options):
    """Outputs, last state, and the gradients of a random functional of both."""
    inputs = [None if x is None else x.detach().clone().requires_grad_() for x in inputs]
    out, state = operator(*inputs[:5], initial_state=inputs[5], **options)
    generator = torch.Generator().manual_seed(seed)
    # Rounding the weights here would be an error of the test.
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    slope = torch.randn(state.shape, generator=generator, dtype=torch.float64).to(state)
    total = (out.double() * weight.double()).sum() + (state.double() * slope.double()).sum()
    grads = torch.autograd.grad(total, [x for x in inputs if x is not None])
    return [out.detach(), state.detach(), *grads]


def excess(found, expected, dtype):
    """The largest error as a share of what is allowed: below 1 is well.

    The gradient of a gate is a difference of sums that nearly cancel where a key returns and what
    stands under it is replaced, so it may err by eight times the budget.
    """
    errors = [relative(a, b) for a, b in zip(found, expected, strict=True)]
    is_gate = [b.ndim == 3 for b in expected]
    allowed = [budget(dtype, TERMS) * (8 if gate else 1) for gate in is_gate]
    return max(error / most for error, most in zip(errors, allowed, strict=True))
