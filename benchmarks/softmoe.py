"""A layer of experts under hard and soft top-k: time of a pass against experts that run.

``python benchmarks/softmoe.py`` (or ``nox -s bench -- softmoe``) prints experts a token, times and
the router's share of them; ``--record`` keeps what is missing as records for the concept's page.
There is no figure, and the run fails, unless each rule's output is the weighted sum of all experts.
A time is CPU seconds of the process with one thread; rounds alternate between the rules.
"""

from __future__ import annotations

import functools
import statistics
import sys
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aiexplained.concepts.softmoe.layer import Experts, MixtureOfExperts
from aiexplained.concepts.softmoe.routing import HardTopK, Router, SoftmaxAll, SoftTopK
from aiexplained.concepts.softmoe.studies import STUDIES
from aiexplained.records import Study
from benchmarks._rounds import prepare, vector_instructions
from benchmarks._studies import run_studies
from benchmarks.block_list_attention import interleave

FOLDER = "softmoe"
RULES: dict[str, Router] = {
    **{f"hard {k}": HardTopK(k) for k in (1, 2, 3, 4)},
    **{f"soft {k:g}": SoftTopK(k) for k in (1.0, 1.5, 2.0)},
    "all": SoftmaxAll(),
}
"""The rules by name and budget; the soft ones at temperature 1, cut as in the source's port."""
CHECKED = 16
"""First tokens whose outputs are compared with the definition."""


def measure_time(
    *, instructions: str, n_tokens: int, d_model: int, d_ff: int, n_experts: int, rounds: int
) -> dict[str, Any]:
    """Seconds of one layer with random weights, in float32, under each of :data:`RULES`.

    How many experts a soft rule runs depends on how far apart the scores are: the router's matrix
    is scaled so that their standard deviation is 1.

    Args:
        instructions: The vector instructions of this machine.
        n_tokens: Tokens of a pass, drawn from a normal distribution.
        d_model: Width of a token.
        d_ff: Hidden width of an expert.
        n_experts: Experts of the layer.
        rounds: Timed turns of each rule.

    Returns:
        By rule: ``active_experts``, the mean over tokens; ``seconds`` of a pass and
        ``router_seconds``, from scores to weights alone, an entry a round; and, of the medians,
        ``us_per_token`` and ``router_share``.
    """
    prepare(instructions)
    layer, x = make_layer(n_tokens, d_model, d_ff, n_experts)
    active, scores = {}, {}
    for name, router in RULES.items():
        layer.router = router
        check_layer(layer, x[:CHECKED])
        with torch.inference_mode():
            layer(x)
        assert layer.routing is not None
        scores[name] = layer.routing.logits
        active[name] = float(layer.routing.active_experts.mean())
    calls = {name: functools.partial(_run, layer, router, x) for name, router in RULES.items()}
    routes = {name: functools.partial(router, scores[name]) for name, router in RULES.items()}
    with torch.inference_mode():
        times = interleave("cpu", calls, rounds)
        route_times = interleave("cpu", routes, rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "active_experts": active, "seconds": times, "router_seconds": route_times,
        "us_per_token": {name: 1e6 * t / n_tokens for name, t in medians.items()},
        "router_share": {
            name: statistics.median(route_times[name]) / t for name, t in medians.items()
        },
    }  # fmt: skip


def make_layer(
    n_tokens: int, d_model: int, d_ff: int, n_experts: int
) -> tuple[MixtureOfExperts, Float[Tensor, "N d_model"]]:
    """A layer whose scores have standard deviation 1 on the tokens that come with it."""
    generator = torch.Generator().manual_seed(0)
    experts = Experts(n_experts, d_model, d_ff, generator=generator)
    layer = MixtureOfExperts(experts, RULES["all"], seed=1).eval().requires_grad_(False)
    x = torch.randn(n_tokens, d_model, generator=generator)
    layer.weight /= (x @ layer.weight.T).std()
    return layer, x


@torch.inference_mode()
def check_layer(layer: MixtureOfExperts, x: Float[Tensor, "N d_model"]) -> None:
    """Compare with the sum over all experts, in float64; raise if they differ.

    Sums of n terms in float32 err by about sqrt(n) of its eps, and an expert has two of them.
    """
    out = layer(x)
    assert layer.routing is not None
    up, down = layer.experts.up.double(), layer.experts.down.double()
    hidden = torch.nn.functional.gelu(torch.einsum("nd,efd->nef", x.double(), up))
    weights = layer.routing.weights.double()
    expected = torch.einsum("ne,nef,edf->nd", weights, hidden, down)
    error = float((out - expected).norm() / expected.norm())
    budget = 4 * torch.finfo(torch.float32).eps * max(up.shape[1:]) ** 0.5
    if not error < budget:
        raise SystemExit(f"FAILED: relative error {error:.1e}, allowed {budget:.1e}; no figure")


def _run(layer: MixtureOfExperts, router: Router, x: Tensor) -> None:
    layer.router = router
    layer(x)


def studies(device: str) -> tuple[Study, ...]:
    """What is measured on a CPU like this one; nothing on a GPU."""
    if device == "gpu":
        return ()
    (study,) = (study for study in STUDIES if study.name == "time")
    here = {"instructions": vector_instructions()}
    return (replace(study, settings=tuple({**s, **here} for s in study.settings)),)


if __name__ == "__main__":
    sys.exit(run_studies(__doc__, studies, FOLDER))
