"""Training small language models: one loop, one schedule, for every page that trains from scratch.

The recipe is the usual one for decoder-only models: AdamW with decoupled weight decay on matrices
(Loshchilov and Hutter, 2019), a linear warm-up, a cosine decay, and a bound on the gradient's norm.
All randomness comes from seeds that the caller passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Loss = Callable[[nn.Module, Tensor], Tensor]
"""Takes the model and a batch, gives a scalar to minimize."""


def sample_windows(
    token_ids: Int[Tensor, "N"], *, batch_size: int, seq_len: int, seed: int
) -> Iterator[Int[Tensor, "B T_plus_1"]]:
    """Endless batches of random windows: ``seq_len`` tokens and the one that follows.

    Args:
        token_ids: The training text, at least ``seq_len + 1`` tokens.
        batch_size: Windows in a batch.
        seq_len: Tokens that the model reads in each.
        seed: Seed of the places.

    Raises:
        ValueError: if a size is not positive, or the text is shorter than a window.
    """
    _check_windows(token_ids, batch_size, seq_len)
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.arange(seq_len + 1)
    while True:
        starts = torch.randint(len(token_ids) - seq_len, (batch_size, 1), generator=generator)
        yield token_ids[starts + offsets]


def next_token_loss(model: nn.Module, batch: Int[Tensor, "B T_plus_1"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of every next token, in nats.

    Args:
        model: Maps ids ``[B, T]`` to logits ``[B, T, V]``.
        batch: Windows as from :func:`sample_windows`.
    """
    logits = model(batch[:, :-1])
    return cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def learning_rate(step: int, *, steps: int, peak: float, warmup: int, final: float) -> float:
    """Rate of one step: linear up to ``peak`` over ``warmup`` steps, then a cosine down.

    Args:
        step: From 0 to ``steps - 1``.
        steps: Steps in all.
        peak: Highest rate.
        warmup: Steps of the rise; the last of them is the first at ``peak``.
        final: Rate after the last step, as a share of ``peak``.

    >>> [round(learning_rate(s, steps=5, peak=1.0, warmup=2, final=0.0), 2) for s in range(5)]
    [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)


def fit(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    steps: int,
    lr: float = 3e-3,
    warmup: float = 0.05,
    final: float = 0.1,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    max_norm: float = 1.0,
    loss: Loss = next_token_loss,
    on_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train ``model`` in place.

    Args:
        model: Parameters that do not require gradients are left alone.
        batches: At least ``steps`` batches, e.g. from :func:`sample_windows`.
        steps: Optimizer steps.
        lr: Peak learning rate.
        warmup: Share of the steps that the rate rises over, from 0 to 1.
        final: Last rate as a share of the peak.
        weight_decay: Of parameters with two or more axes; gains and biases have none.
        betas: AdamW's decay rates.
        max_norm: Bound on the gradient's norm.
        loss: What is minimized.
        on_step: Called with the number of steps done, after each; may look at the model.

    Returns:
        The loss before each step.

    Raises:
        ValueError: if ``steps`` is not positive, ``warmup`` is outside its range, or ``batches``
            ends too early.
        FloatingPointError: if the loss is no longer finite; the message names the step.
    """
    if steps < 1 or not 0 <= warmup <= 1:
        raise ValueError(f"fit needs steps >= 1 and 0 <= warmup <= 1, got {steps} and {warmup}")
    optimizer = torch.optim.AdamW(_groups(model, weight_decay), lr=lr, betas=betas)
    rising, losses, source = round(warmup * steps), [], iter(batches)
    model.train()
    for step in range(steps):
        batch = next(source, None)
        if batch is None:
            raise ValueError(f"fit: batches ended after {step} of {steps} steps")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=steps, peak=lr, warmup=rising, final=final)
        value = loss(model, batch)
        if not value.isfinite():
            raise FloatingPointError(f"fit: the loss is {value.item()} at step {step}")
        optimizer.zero_grad()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        losses.append(value.item())
        if on_step:
            on_step(step + 1)
    model.eval()
    return losses


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


@torch.inference_mode()
def mean_loss(
    model: nn.Module, token_ids: Int[Tensor, "N"], *, seq_len: int, batch_size: int = 16
) -> float:
    """Mean cross-entropy a token, in nats, over consecutive windows that do not overlap.

    Each window starts without context; a rest shorter than a window is left out.

    Args:
        model: Maps ids ``[B, T]`` to logits ``[B, T, V]``; its mode is left as it was.
        token_ids: The text, at least ``seq_len + 1`` tokens.
        seq_len: Tokens that the model reads in each window.
        batch_size: Windows at a time; the result does not depend on it.

    Raises:
        ValueError: as :func:`sample_windows`.
    """
    _check_windows(token_ids, batch_size, seq_len)
    windows = token_ids.unfold(0, seq_len + 1, seq_len)
    was_training = model.training
    model.eval()
    total = 0.0
    for part in torch.split(windows, batch_size):
        total += next_token_loss(model, part).item() * len(part)
    model.train(was_training)
    return total / len(windows)


def _check_windows(token_ids: Tensor, batch_size: int, seq_len: int) -> None:
    if batch_size < 1 or seq_len < 1:
        raise ValueError(f"batch_size and seq_len must be positive, got {batch_size}, {seq_len}")
    if len(token_ids) < seq_len + 1:
        raise ValueError(
            f"a window of seq_len + 1 = {seq_len + 1} tokens needs as many, got {len(token_ids)}"
        )
