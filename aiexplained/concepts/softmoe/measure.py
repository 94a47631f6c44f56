"""Training runs that are recorded for the page: tokens of unequal need, and real text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from aiexplained.concepts.softmoe.model import Mixtures, MoETransformer, Rule, TokenModel
from aiexplained.concepts.softmoe.routing import ToldNumber
from aiexplained.concepts.softmoe.tokens import (
    MOST,
    N_MAPS,
    make_tokens,
    sample_tokens,
    split_tokens,
)
from aiexplained.data.corpora import load_corpus
from aiexplained.lm import (
    TransformerConfig,
    encode_characters,
    fit,
    next_token_loss,
    sample_windows,
)

_HARD = {
    **{f"hard, {k}": Rule(kind="hard", k=k) for k in (1, 2, 3, 4)},
    **{f"hard, {k}, renormalized": Rule(kind="hard", k=k, renormalize=True) for k in (2, 3, 4)},
}
_SOURCE = Rule(kind="soft", k=1.5)


def _soft(soft: Rule, budgets: tuple[float, ...], k: float) -> dict[str, Rule]:
    return {
        **{f"soft, {budget:g}": replace(soft, k=budget) for budget in budgets},
        "learned budgets": replace(soft, k=k, learned=True),
        "always two": replace(soft, k=2.0, expansion=1.0, cut=0.0),
    }


SOFT_TOKENS = Rule(kind="soft", k=2.0, start=0.5, end=0.5)
SOFT_TEXT = Rule(kind="soft", k=1.5, start=1.0, end=1.0, cut=1.0)
"""Temperatures and cuts were chosen on a seed that is not recorded."""

TOKEN_RULES: Mapping[str, Rule] = {
    **_HARD,
    **_soft(SOFT_TOKENS, (1.5, 2, 3), 2.0),
    "temperature 1": replace(SOFT_TOKENS, start=1.0, end=1.0),
    "temperature 2": replace(SOFT_TOKENS, start=2.0, end=2.0),
    "as in the source": _SOURCE,
    "relu": Rule(kind="relu", k=2.0),
    "all": Rule(kind="all"),
    "told": Rule(kind="told"),
}
TEXT_RULES: Mapping[str, Rule] = {
    **_HARD,
    **_soft(SOFT_TEXT, (1, 1.5, 2), 1.5),
    "as in the source": _SOURCE,
}
"""What is compared; a number in a name is the budget, ``k``. *Renormalized*: chosen first, softmax
after."""

TOKENS_IN_BATCH, TEST_TOKENS = 128, 16_384
SEQ_LEN, WINDOWS_IN_BATCH, HELD_OUT_WINDOWS = 128, 8, 400
TRACE_POINTS = 25


def measure_tokens(
    *, rule: str, steps: int, lr: float, seed: int, balance: float | None = None
) -> dict[str, Any]:
    """Train one model of two layers on tokens that need one to three maps.

    Args:
        rule: A name in :data:`TOKEN_RULES`.
        steps: Optimizer steps of ``TOKENS_IN_BATCH`` tokens.
        lr: Peak learning rate.
        seed: Of the weights and of the tokens.
        balance: Weight of the load-balance loss, if another than the rule's; see :class:`Rule`.

    Returns:
        ``loss`` (mean squared error on fresh tokens), ``train_experts`` and ``experts`` (run by a
        token in a layer, mean over training and on the fresh tokens), ``by_need`` and
        ``loss_by_need`` (the same for tokens that need one, two and three maps), ``correlation``
        (of need and experts run; ``None`` where all run alike), ``budgets`` by layer, and,
        as means over layers, ``busiest`` (share of all runs that the busiest expert took) and
        ``idle`` (share of experts that took less than a tenth of an even share).
    """
    model = TokenModel(_rule(TOKEN_RULES, rule, balance), seed=seed)
    train = sample_tokens(batch_size=TOKENS_IN_BATCH, seed=seed)
    train_experts, _ = _train(
        model, model.mixtures, train, _squared_error, steps=steps, lr=lr, weight_decay=0.01
    )
    tokens = make_tokens(TEST_TOKENS, torch.Generator().manual_seed(1_000_000 + seed))
    with torch.inference_mode():
        errors = (model(tokens.inputs) - tokens.targets).square().mean(dim=-1)
    experts = _experts_by_token(model.mixtures)
    needs = [tokens.needs == need for need in range(1, MOST + 1)]
    return {
        "loss": errors.mean().item(),
        "train_experts": train_experts,
        "experts": experts.mean().item(),
        "by_need": [experts[chosen].mean().item() for chosen in needs],
        "loss_by_need": [errors[chosen].mean().item() for chosen in needs],
        "correlation": correlation(tokens.needs.float(), experts),
        **_state(model.mixtures),
    }


def measure_number(*, steps: int, lr: float, seed: int) -> dict[str, float]:
    """As :func:`measure_tokens`, with hard top-k that is told each token's number of maps.

    It must still find out which experts to run; see :class:`ToldNumber`.

    Args:
        steps: As there.
        lr: As there.
        seed: As there.

    Returns:
        ``loss``, ``train_experts`` and ``experts`` as there.
    """
    model = TokenModel(Rule(kind="hard"), seed=seed)
    for mixture in model.mixtures:
        mixture.router = ToldNumber()

    def tell(model: nn.Module, inputs: tuple[Tensor]) -> None:
        counts = (inputs[0][:, :N_MAPS] > 0.5).sum(dim=-1)
        for mixture in cast("TokenModel", model).mixtures:
            cast("ToldNumber", mixture.router).counts = counts

    model.register_forward_pre_hook(tell)
    train = sample_tokens(batch_size=TOKENS_IN_BATCH, seed=seed)
    train_experts, _ = _train(
        model, model.mixtures, train, _squared_error, steps=steps, lr=lr, weight_decay=0.01
    )
    tokens = make_tokens(TEST_TOKENS, torch.Generator().manual_seed(1_000_000 + seed))
    with torch.inference_mode():
        loss = mse_loss(model(tokens.inputs), tokens.targets).item()
    experts = _experts_by_token(model.mixtures).mean().item()
    return {"loss": loss, "train_experts": train_experts, "experts": experts}


def measure_text(
    *,
    rule: str,
    n_layers: int,
    d_model: int,
    steps: int,
    lr: float,
    seed: int,
    balance: float | None = None,
) -> dict[str, Any]:
    """Train one transformer with mixtures of eight experts on the King James Bible by characters.

    Args:
        rule: A name in :data:`TEXT_RULES`.
        n_layers: Layers.
        d_model: Width; an expert's hidden layer has a third of it.
        steps: Optimizer steps of ``WINDOWS_IN_BATCH`` windows of ``SEQ_LEN`` characters.
        lr: Peak learning rate.
        seed: Of the weights and of the windows.
        balance: Weight of the load-balance loss, if another than the rule's; see :class:`Rule`.

    Returns:
        ``loss`` in nats a character on held-out chapters, ``train_experts`` and ``experts`` as
        :func:`measure_tokens`, ``by_layer`` (experts run in each layer), ``parameters``,
        ``correlation`` (of a character's loss and the experts
        that ran on the one before it, which predicts it), ``by_kind`` (experts run on spaces,
        first and later letters of words, and the rest), ``budgets`` by layer and, if they are
        learned, their ``trace`` over ``trace_steps``, ``busiest`` and ``idle``.
    """
    corpus = load_corpus("kjv")
    train, held_out, alphabet = encode_characters(corpus.train, corpus.validation)
    config = TransformerConfig(
        d_model=d_model, d_ff=d_model // 3, n_layers=n_layers, n_heads=4, n_kv_heads=4,
        head_dim=d_model // 4, vocab_size=len(alphabet), max_seq_len=SEQ_LEN,
    )  # fmt: skip
    chosen = _rule(TEXT_RULES, rule, balance)
    model = MoETransformer(chosen, config, n_experts=8, seed=seed)
    windows = sample_windows(train, batch_size=WINDOWS_IN_BATCH, seq_len=SEQ_LEN, seed=seed)
    train_experts, trace = _train(
        model, model.mixtures, windows, next_token_loss, steps=steps, lr=lr, weight_decay=0.1
    )
    test = held_out[: HELD_OUT_WINDOWS * SEQ_LEN + 1].unfold(0, SEQ_LEN + 1, SEQ_LEN)
    with torch.inference_mode():
        losses = cross_entropy(
            model(test[:, :-1]).flatten(0, 1), test[:, 1:].flatten(), reduction="none"
        )
    experts = _experts_by_token(model.mixtures)
    kinds = _kinds(test[:, :-1], alphabet)
    return {
        "loss": losses.mean().item(),
        "train_experts": train_experts,
        "experts": experts.mean().item(),
        "by_layer": model.mixtures.active_experts().tolist(),
        "correlation": correlation(losses, experts),
        "by_kind": {name: experts[mask].mean().item() for name, mask in kinds.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        **_state(model.mixtures),
        **({"trace": trace, "trace_steps": _trace_steps(steps)} if trace else {}),
    }


def _rule(rules: Mapping[str, Rule], name: str, balance: float | None) -> Rule:
    if name not in rules:
        raise ValueError(f"rule must be one of {', '.join(rules)}; got {name!r}")
    return rules[name] if balance is None else replace(rules[name], balance=balance)


def _train(
    model: nn.Module,
    mixtures: Mixtures,
    batches: Iterator[Tensor],
    loss: Callable[[nn.Module, Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    weight_decay: float,
) -> tuple[float, list[list[float]]]:
    """Train; return the mean number of experts that ran, and the budgets at some steps."""
    ran: list[Tensor] = []
    trace: list[list[float]] = []
    marks = set(_trace_steps(steps))

    def whole_loss(model: nn.Module, batch: Tensor) -> Tensor:
        value = loss(model, batch)
        ran.append(mixtures.active_experts().mean())
        return value + mixtures.routing_loss()

    def look(step: int) -> None:
        mixtures.steer(step, steps)
        if mixtures.budgets is not None and step in marks:
            trace.append(mixtures.budgets().tolist())

    look(0)
    fit(
        model, batches, steps=steps, lr=lr, weight_decay=weight_decay, loss=whole_loss, on_step=look
    )
    return torch.stack(ran).mean().item(), trace


def _trace_steps(steps: int) -> list[int]:
    n = min(TRACE_POINTS, steps)
    return [round(i * steps / n) for i in range(n + 1)]


def _squared_error(model: nn.Module, batch: Tensor) -> Tensor:
    inputs, targets = split_tokens(batch)
    return mse_loss(model(inputs), targets)


@torch.inference_mode()
def _experts_by_token(mixtures: Mixtures) -> Float[Tensor, "N"]:
    """Experts that each token of the last pass ran, mean over the layers."""
    return torch.stack([routing.active_experts for routing in mixtures.routings]).mean(dim=0)


def _state(mixtures: Mixtures) -> dict[str, Any]:
    budgets = None if mixtures.budgets is None else mixtures.budgets().tolist()
    return {"budgets": budgets, **_load(mixtures)}


def _load(mixtures: Mixtures) -> dict[str, float]:
    """How evenly the experts ran in the last pass, see :func:`measure_tokens`."""
    runs = torch.stack([routing.active.float().sum(dim=0) for routing in mixtures.routings])
    share = runs / runs.sum(dim=1, keepdim=True)
    idle = share < 0.1 / share.shape[1]
    return {
        "busiest": share.max(dim=1).values.mean().item(),
        "idle": idle.float().mean().item(),
    }


def correlation(x: Float[Tensor, "N"], y: Float[Tensor, "N"]) -> float | None:
    """Pearson's, or ``None`` where one of the two does not vary."""
    if x.std() < 1e-6 or y.std() < 1e-6:
        return None
    return float(torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1])


def _kinds(ids: Int[Tensor, "W T"], alphabet: str) -> dict[str, Tensor]:
    """Masks over flattened ids: by what a character is, and so by what is to be predicted."""
    text = ids.flatten()
    letters = torch.tensor([c.isalpha() for c in alphabet])[text]
    before = torch.tensor([c.isalpha() for c in alphabet])[
        torch.cat([ids[:, :1], ids[:, :-1]], dim=1)
    ].flatten()
    space = torch.tensor([c == " " for c in alphabet])[text]
    return {
        "space": space,
        "first letter": letters & ~before,
        "later letter": letters & before,
        "other": ~letters & ~space,
    }
