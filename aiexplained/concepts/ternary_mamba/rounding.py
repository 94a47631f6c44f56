"""What rounding alone costs: by part of the model, by bits, and with corrections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aiexplained.concepts.ternary_mamba.fixes import FIXES, Fix, second_moments
from aiexplained.concepts.ternary_mamba.model import Mamba2
from aiexplained.concepts.ternary_mamba.ternary import spread
from aiexplained.concepts.ternary_mamba.training import (
    SEQ_LEN,
    held_out_loss,
    load_checkpoint,
    load_text,
    make_model,
    make_transformer,
)
from aiexplained.nn import Projection, ternarize

GROUP_SIZE = 32
"""Small enough that a row has several groups, which some corrections compare."""
BITS = (8, 4, 3, 2)
MODELS: dict[str, Callable[..., nn.Module]] = {"mamba": make_model, "transformer": make_transformer}

Rule = Callable[[str, Tensor], Tensor]
"""Takes the name of a matrix and its weight, gives the rounded weight."""


def round_absmax(
    weight: Float[Tensor, "N K"], bits: int, group_size: int | None = GROUP_SIZE
) -> Float[Tensor, "N K"]:
    """The usual rounding to whole numbers: the largest magnitude of a group is the last of them.

    Args:
        weight: ``N`` outputs of ``K`` inputs.
        bits: Of a number, sign included; at least 2.
        group_size: Weights of a row that share a scale; ``None``: all.

    Raises:
        ValueError: if ``bits`` is less than 2, or ``group_size`` not positive.

    >>> round_absmax(torch.tensor([[0.5, -1.0, 0.1, 0.3]]), bits=3)
    tensor([[ 0.6667, -1.0000,  0.0000,  0.3333]])
    """
    if bits < 2:
        raise ValueError(f"bits must be at least 2, got {bits}")
    if group_size is not None and group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    most = 2 ** (bits - 1) - 1
    groups = weight.split(group_size or weight.shape[1], dim=1)
    largest = torch.cat([group.abs().amax(dim=1, keepdim=True) for group in groups], dim=1)
    step = spread(largest / most, weight.shape[1], group_size)
    return torch.where(step > 0, (weight / step).round() * step, 0.0)


def matrices(model: nn.Module) -> dict[str, nn.Linear | Projection]:
    """The layers of a model that multiply by a matrix, by name.

    Args:
        model: Any module; an embedding is none of them.
    """
    kinds = (nn.Linear, Projection)
    return {name: part for name, part in model.named_modules() if isinstance(part, kinds)}


@torch.no_grad()
def input_moments(model: nn.Module, n_windows: int = 64) -> dict[str, Float[Tensor, "K K"]]:
    """Second moments of what each matrix is multiplied with, over some training text.

    Args:
        model: A language model.
        n_windows: Windows of the text.
    """
    with _Inputs({id(part.weight): name for name, part in matrices(model).items()}) as inputs:
        model(load_text().train[: n_windows * SEQ_LEN].view(n_windows, SEQ_LEN))
    return {name: second_moments(torch.cat(rows)) for name, rows in inputs.seen.items()}


class _Inputs(TorchFunctionMode):
    """Keeps what is multiplied by each of some weights, known by their identity."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.seen: dict[str, list[Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is nn.functional.linear and id(args[1]) in self.names:
            self.seen.setdefault(self.names[id(args[1])], []).append(args[0].flatten(0, -2))
        return func(*args, **(kwargs or {}))


def measure_rounding(
    *, model: str, seed: int, base_steps: int, n_characters: int
) -> dict[str, Any]:
    """Losses after rounding a trained model in groups of 32, with no training after it.

    Args:
        model: A name in :data:`MODELS`.
        seed: Of the model.
        base_steps: Steps of its training.
        n_characters: Held-out characters that it is judged by.

    Returns:
        Losses in nats a character: ``full``; ``bits``, by their number; ``fixes``,
        ternary, by name of the correction; and for Mamba-2 ``parts``,
        where only some rows are rounded to ternary. ``weights``: how many the matrices have.
    """
    if model not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {model!r}")
    trained = load_checkpoint(seed, base_steps, MODELS[model])
    moments = input_moments(trained)

    def loss_with(rule: Rule) -> float:
        rounded = load_checkpoint(seed, base_steps, MODELS[model])
        with torch.no_grad():
            for name, part in matrices(rounded).items():
                part.weight.copy_(rule(name, part.weight))
        return held_out_loss(rounded, n_characters)

    result: dict[str, Any] = {
        "full": loss_with(lambda _, weight: weight),
        "bits": {str(bits): loss_with(_absmax(bits)) for bits in BITS},
        "fixes": {name: loss_with(_fixed(fix, moments)) for name, fix in FIXES.items()},
        "weights": sum(part.weight.numel() for part in matrices(trained).values()),
    }
    if isinstance(trained, Mamba2):
        result["parts"] = {name: loss_with(rule) for name, rule in _parts(trained)}
    return result


def _absmax(bits: int) -> Rule:
    return lambda _, weight: round_absmax(weight, bits)


def _fixed(fix: Fix, moments: Mapping[str, Tensor]) -> Rule:
    return lambda name, weight: fix(weight, moments[name], GROUP_SIZE)


def _parts(model: Mamba2) -> Iterator[tuple[str, Rule]]:
    """For each part of the projections, a rule that rounds it and nothing else."""
    sizes, start = model.shape.in_rows, 0
    for name, size in sizes.items():
        yield name, _only("in_proj", slice(start, start + size))
        start += size
    yield "out", _only("out_proj", slice(None))


def _only(which: str, rows: slice) -> Rule:
    def rule(name: str, weight: Tensor) -> Tensor:
        if not name.endswith(which):
            return weight
        ternary, scale = ternarize(weight[rows], GROUP_SIZE)
        out = weight.clone()
        out[rows] = spread(scale, weight.shape[1], GROUP_SIZE) * ternary
        return out

    return rule
