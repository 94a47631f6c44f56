"""What is recorded of models that we train: losses, zeros over the steps, weights on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aiexplained.concepts.ternary_mamba.model import Mamba2
from aiexplained.concepts.ternary_mamba.perturb import HeadInput, head_inputs, measure_travel
from aiexplained.concepts.ternary_mamba.ternary import (
    learn_scales,
    projections,
    round_weights,
    ternary_codes,
    train_ternary,
    zero_share,
)
from aiexplained.concepts.ternary_mamba.training import (
    CURVE_LEN,
    LEARNING_RATE,
    distillation_loss,
    held_out_loss,
    load_checkpoint,
    load_text,
    make_model,
    train,
)
from aiexplained.nn import Projection

GROUP_SIZE = 128
OTHER_GROUPS = (16, 32, 64, None)
SMALL_WIDTH = 48
"""Width of a full-precision model whose file is as large as the ternary one."""
FROM_NOTHING = 6e-3
"""Peak learning rate of ternary models without a checkpoint, the better of two that were tried."""
PATCH = (16, 64)
"""Rows and columns of the weights whose way is shown, of those that make ``x`` in layer one."""
CODES = (12, 48)
"""Rows and columns of the rounded weights that are kept."""


def measure_training(*, seed: int, base_steps: int, steps: int, lr: float) -> dict[str, Any]:
    """A checkpoint in full precision, and what becomes of it and of models without one.

    Args:
        seed: Of the weights; windows follow from it, the same for all arms of a stage.
        base_steps: Steps behind the checkpoint.
        steps: Steps of every arm that starts from it.
        lr: Peak learning rate of those arms; from nothing it is ``FROM_NOTHING`` for ternary
            models, and that of the checkpoint for the others.

    Returns:
        ``checkpoint`` and ``rounded`` (by group size): losses in nats a character. ``arms``: by
        name ``loss``, ``curve`` (pairs of a step and a loss on part of the held-out text) and
        ``parameters``.
    """
    run = _Arms(seed=seed, base_steps=base_steps, steps=steps, lr=lr)
    teacher = load_checkpoint(seed, base_steps).eval().requires_grad_(False)
    distill = {"loss": distillation_loss(teacher)}
    run.go_on("continued in full")
    run.go_on("distilled", prepare=_ternary(GROUP_SIZE), **distill)
    run.go_on("not distilled", prepare=_ternary(GROUP_SIZE))
    for group_size in OTHER_GROUPS:
        name = f"distilled, groups of {group_size or 'a row'}"
        run.go_on(name, prepare=_ternary(group_size), **distill)
    run.start("ternary from nothing, as many steps", steps, prepare=_ternary(GROUP_SIZE))
    run.start("ternary from nothing, all steps", base_steps + steps, prepare=_ternary(GROUP_SIZE))
    run.start("full from nothing, all steps", base_steps + steps)
    run.start("small, full, all steps", base_steps + steps, d_model=SMALL_WIDTH)
    rounded = {}
    for group_size in (GROUP_SIZE, *OTHER_GROUPS):
        model = load_checkpoint(seed, base_steps)
        round_weights(model, group_size)
        rounded[str(group_size or "row")] = held_out_loss(model)
    return {"checkpoint": held_out_loss(teacher), "rounded": rounded, "arms": run.arms}


def _ternary(group_size: int | None) -> Callable[[nn.Module], None]:
    return lambda model: train_ternary(model, group_size)


class _Arms:
    """Trains one model after the other and keeps what is to be recorded."""

    def __init__(self, *, seed: int, base_steps: int, steps: int, lr: float) -> None:
        self.seed, self.base_steps, self.steps, self.lr = seed, base_steps, steps, lr
        self.arms: dict[str, Any] = {}

    def go_on(
        self, name: str, *, prepare: Callable[[nn.Module], None] | None = None, **options: Any
    ) -> None:
        """From the checkpoint, on windows that it has not seen."""
        model = load_checkpoint(self.seed, self.base_steps)
        self._run(name, model, prepare, steps=self.steps, seed=1000 + self.seed, lr=self.lr,
                  **options)  # fmt: skip

    def start(
        self,
        name: str,
        steps: int,
        *,
        prepare: Callable[[nn.Module], None] | None = None,
        d_model: int = 128,
    ) -> None:
        """From random weights."""
        model = make_model(d_model=d_model, seed=self.seed)
        lr = FROM_NOTHING if prepare else LEARNING_RATE
        self._run(name, model, prepare, steps=steps, seed=self.seed, lr=lr)

    def _run(
        self,
        name: str,
        model: nn.Module,
        prepare: Callable[[nn.Module], None] | None,
        **options: Any,
    ) -> None:
        if prepare is not None:
            prepare(model)
        curve: list[tuple[int, float]] = []
        train(model, look=lambda step: curve.append((step, held_out_loss(model, CURVE_LEN))),
              **options)  # fmt: skip
        parameters = sum(p.numel() for p in model.parameters())
        self.arms[name] = {"loss": held_out_loss(model), "curve": curve, "parameters": parameters}


SCALES: dict[str, dict[str, Any]] = {
    "recomputed": {},
    "learned": {"gradient": "naive"},
    "learned, LSQ": {"gradient": "lsq"},
    "learned as a logarithm": {"gradient": "naive", "log": True},
}
"""Where scales come from: arguments of :func:`learn_scales`; none where they are recomputed."""


def measure_scales(
    *, seed: int, scale: str, base_steps: int, steps: int, lr: float, weight_decay: float
) -> dict[str, Any]:
    """Share of zeros while a checkpoint is trained with ternary weights.

    Args:
        seed: As of :func:`measure_training`.
        scale: A name in :data:`SCALES`.
        base_steps: As there.
        steps: As there.
        lr: As there; scales have the same.
        weight_decay: Of the weights behind the rounded ones; scales have none.

    Returns:
        ``zeros``: pairs of a step and the share of zeros, from 0 to 1; ``loss`` in the end; and
        for seed 0 ``codes``: at each of those steps some rows of the first layer, as ``-0+``.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}; got {scale!r}")
    model = load_checkpoint(seed, base_steps)
    if SCALES[scale]:
        learn_scales(model, GROUP_SIZE, **SCALES[scale])
    else:
        train_ternary(model, GROUP_SIZE)
    zeros: list[tuple[int, float]] = []
    codes: list[list[str]] = []

    def look(step: int) -> None:
        zeros.append((step, zero_share(model, GROUP_SIZE)))
        codes.append(_write_codes(model))

    train(model, steps=steps, seed=1000 + seed, lr=lr, weight_decay=weight_decay, look=look)
    kept = {"codes": codes} if seed == 0 else {}
    return {"zeros": zeros, "loss": held_out_loss(model), **kept}


def _first_rows(model: nn.Module) -> tuple[Projection, slice]:
    """The input projection of the first layer, and the rows that make ``x``."""
    projection = projections(model)["blocks.0.in_proj"]
    start = cast(Mamba2, model).shape.in_rows["z"]
    return projection, slice(start, None)


@torch.no_grad()
def _write_codes(model: nn.Module) -> list[str]:
    projection, rows = _first_rows(model)
    codes = ternary_codes(projection, GROUP_SIZE)[rows][: CODES[0], : CODES[1]]
    return ["".join("-0+"[int(code) + 1] for code in row) for row in codes]


def measure_trace(*, seed: int, base_steps: int, steps: int, lr: float) -> dict[str, Any]:
    """Some weights on their way, while a checkpoint is trained with rounding in the loop.

    Args:
        seed: As of :func:`measure_training`; the arm is "distilled".
        base_steps: As there.
        steps: As there.
        lr: As there.

    Returns:
        ``steps`` and ``weights``: at each of them some rows of the first layer's input projection.
    """
    teacher = load_checkpoint(seed, base_steps).eval().requires_grad_(False)
    model = load_checkpoint(seed, base_steps)
    train_ternary(model, GROUP_SIZE)
    projection, rows = _first_rows(model)
    seen: list[tuple[int, list[list[float]]]] = []

    def look(step: int) -> None:
        patch = projection.weight.detach()[rows][: PATCH[0], : PATCH[1]]
        seen.append((step, [[round(w, 4) for w in row] for row in patch.tolist()]))

    train(model, steps=steps, seed=1000 + seed, lr=lr, loss=distillation_loss(teacher), look=look)
    return {"steps": [step for step, _ in seen], "weights": [weights for _, weights in seen]}


def measure_errors(*, seed: int, base_steps: int, n_tokens: int, size: float) -> dict[str, Any]:
    """How errors in the recurrence of a trained model travel, see :func:`measure_travel`.

    Args:
        seed: Of the model and of the random errors.
        base_steps: As of :func:`measure_training`.
        n_tokens: Length of the text.
        size: Relative size of the errors.

    Returns:
        ``heads``: what :func:`measure_travel` gives.
    """
    model, text = load_checkpoint(seed, base_steps), load_text().held_out[:n_tokens]
    assert isinstance(model, Mamba2)
    return {"heads": measure_travel(model, text, size=size, seed=seed)}


def measure_positions(
    *, seed: int, base_steps: int, seq_len: int, n_windows: int
) -> dict[str, Any]:
    """Loss by the position in a text, of a checkpoint and of the same, rounded.

    If errors piled up in the recurrence, the two would part the farther the later.

    Args:
        seed: As of :func:`measure_training`.
        base_steps: As there.
        seq_len: Characters of a window, read from an empty state.
        n_windows: Held-out windows.

    Returns:
        ``ends``: the ends of stretches of positions, each twice as far as the one before; and
        ``full`` and ``rounded``: mean losses in nats a character in each stretch.
    """
    text = load_text().held_out.unfold(0, seq_len + 1, seq_len)[:n_windows]
    ends = [seq_len >> shift for shift in range(5, -1, -1)]
    result: dict[str, Any] = {"ends": ends}
    for name in ("full", "rounded"):
        model = load_checkpoint(seed, base_steps)
        if name == "rounded":
            round_weights(model, GROUP_SIZE)
        by_position = _losses_by_position(model, text)
        starts = [0, *ends[:-1]]
        result[name] = [by_position[a:b].mean().item() for a, b in zip(starts, ends, strict=True)]
    return result


@torch.inference_mode()
def _losses_by_position(model: nn.Module, windows: Tensor) -> Tensor:
    """Mean loss at each position of the windows ``[n, T + 1]``."""
    total = torch.zeros(windows.shape[1] - 1)
    for part in windows.split(16):
        logits = model(part[:, :-1]).mT
        total += cross_entropy(logits, part[:, 1:], reduction="none").sum(dim=0)
    return total / len(windows)


def measure_heads(*, seed: int, base_steps: int, n_tokens: int) -> dict[str, Any]:
    """What the recurrence of three heads of a trained model is made of, for a figure.

    Args:
        seed: As of :func:`measure_training`.
        base_steps: As there.
        n_tokens: Length of the text.

    Returns:
        ``heads``: those of a short, a middle and a long memory (the second shortest, the median and
        the second longest), each with ``half_life``, ``decay``, ``dt``, ``B`` and ``x``, in the
        channel of the largest input; numbers to four digits.
    """
    model, text = load_checkpoint(seed, base_steps), load_text().held_out[:n_tokens]
    assert isinstance(model, Mamba2)
    found: list[dict[str, Any]] = []
    for decay, dt, B, x in head_inputs(model, text).values():
        head = HeadInput(decay, dt, B, x[:, int(x.square().mean(dim=0).argmax())])
        numbers = {name: _digits(getattr(head, name)) for name in ("dt", "B", "x")}
        found.append({"half_life": head.half_life, "decay": decay, **numbers})
    found.sort(key=lambda head: head["half_life"])
    return {"heads": [found[1], found[len(found) // 2], found[-2]]}


def _digits(values: Tensor) -> list[Any]:
    """Numbers to four digits, as nested lists."""
    if values.ndim > 1:
        return [_digits(row) for row in values]
    return [float(f"{value:.4g}") for value in values.tolist()]
