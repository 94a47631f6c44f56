"""Small models of experts, the same for every router: one for tokens apart, one for text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from aiexplained.concepts.softmoe.layer import Experts, MixtureOfExperts, Routing
from aiexplained.concepts.softmoe.routing import (
    CUT,
    EXPANSION,
    HardTopK,
    LayerBudgets,
    ReLURouter,
    Router,
    SoftmaxAll,
    SoftTopK,
    Told,
    anneal,
)
from aiexplained.concepts.softmoe.tokens import N_MAPS, WIDTH
from aiexplained.lm import Transformer, TransformerConfig
from aiexplained.lm.transformer import Block

_EXPERTS, _ROUTERS = 104_729, 1_000_003
KINDS = ("hard", "soft", "relu", "all", "told")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How all layers of a model choose their experts.

    Args:
        kind: ``"hard"``: :class:`HardTopK`; ``"soft"``: :class:`SoftTopK`; ``"relu"``:
            :class:`ReLURouter`; ``"all"``: :class:`SoftmaxAll`; ``"told"``: :class:`Told`.
        k: Budget of a layer; for ``"relu"`` the target; without meaning for the last two.
        learned: Whether layers compete for the budget (``"soft"`` only).
        expansion: See :func:`truncate`.
        cut: See :func:`truncate`.
        start: Temperature at first (``"soft"`` only).
        end: Temperature at last.
        renormalize: See :class:`HardTopK`.
        balance: Weight of the load-balance loss (``"hard"`` and ``"soft"`` only).
        noise: Standard deviation of the noise on the scores while training.

    Raises:
        ValueError: if the kind is unknown, ``"hard"`` has a ``k`` that is not whole, or ``learned``
            is asked of another kind than ``"soft"``.
    """

    kind: str
    k: float = 2.0
    learned: bool = False
    expansion: float = EXPANSION
    cut: float = CUT
    start: float = 5.0
    end: float = 1.0
    renormalize: bool = False
    balance: float = 0.01
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.kind == "hard" and self.k != int(self.k):
            raise ValueError(f"hard top-k takes a whole k, got {self.k}")
        if self.learned and self.kind != "soft":
            raise ValueError(f"only soft routers can learn budgets, got kind {self.kind!r}")

    def router(self, layer: int, budgets: LayerBudgets | None) -> Router:
        """The router of one layer."""
        if self.kind == "hard":
            return HardTopK(self.k, self.renormalize)
        if self.kind == "relu":
            return ReLURouter(self.k)
        if self.kind == "all":
            return SoftmaxAll()
        if self.kind == "told":
            return Told()
        k = self.k if budgets is None else partial(budgets.budget, layer)
        return SoftTopK(k, self.start, self.expansion, self.cut)


class Mixtures(nn.Module):
    """The layers of experts of a model: what they cost, and what steers them while they train.

    Args:
        rule: How they choose.
        n_layers: How many.
        n_experts: Experts of each.
        d_model: Width of a token.
        d_ff: Hidden width of one expert.
        seed: Of all weights.

    Attributes:
        layers: A :class:`MixtureOfExperts` each.
        budgets: Where they are learned.
    """

    def __init__(
        self, rule: Rule, n_layers: int, n_experts: int, d_model: int, d_ff: int, *, seed: int
    ) -> None:
        super().__init__()
        # Streams apart from one another and from the rest of a model: a seed gives all of them.
        generator = torch.Generator().manual_seed(seed + _EXPERTS)
        self.rule = rule
        self.budgets = LayerBudgets(n_layers, rule.k, n_experts) if rule.learned else None
        self.layers = nn.ModuleList(
            MixtureOfExperts(
                Experts(n_experts, d_model, d_ff, generator=generator, depth=n_layers),
                rule.router(layer, self.budgets),
                noise=rule.noise,
                seed=seed + _ROUTERS * (layer + 1),
            )
            for layer in range(n_layers)
        )

    def __iter__(self) -> Iterator[MixtureOfExperts]:
        """The layers, first to last."""
        return iter(cast("list[MixtureOfExperts]", list(self.layers)))

    @property
    def routings(self) -> list[Routing]:
        """What each layer decided in the last pass."""
        found = [mixture.routing for mixture in self]
        if any(routing is None for routing in found):
            raise RuntimeError("no pass has been made yet")
        return cast("list[Routing]", found)

    def active_experts(self) -> Float[Tensor, "L"]:
        """Experts that a token ran in each layer, mean over the last pass."""
        return torch.stack([routing.active_experts.mean() for routing in self.routings])

    def routing_loss(self) -> Float[Tensor, ""]:
        """What the layers add to the loss: balance, and the penalty of ReLU routers."""
        total = torch.zeros(())
        for mixture, routing in zip(self, self.routings, strict=True):
            if isinstance(mixture.router, ReLURouter):
                # ReMoE weights the penalty of each expert by how often it ran.
                runs = routing.active.float().mean(dim=0)
                share = runs / runs.mean().clamp(min=1e-9)
                total = total + mixture.router.penalty * (share * routing.weights).sum(-1).mean()
            elif self.rule.balance and self.rule.kind in ("hard", "soft"):
                total = total + self.rule.balance * routing.load_balance
        return total

    def steer(self, step: int, steps: int) -> None:
        """Set what follows a schedule: temperatures, and the penalty of ReLU routers.

        Args:
            step: Steps done, the first pass has none.
            steps: Steps in all.
        """
        for mixture in self:
            router = mixture.router
            if isinstance(router, SoftTopK):
                router.temperature = anneal(
                    step, steps=steps, start=self.rule.start, end=self.rule.end
                )
            elif isinstance(router, ReLURouter) and step:
                assert mixture.routing is not None
                router.adapt(float(mixture.routing.active_experts.mean()))


class TokenModel(nn.Module):
    """For the task of ``tokens``: a map in, residual layers of experts, a map out.

    Args:
        rule: How experts are chosen; ``"told"`` reads from the input which maps a token needs.
        n_layers: Layers of experts.
        n_experts: Experts of each.
        d_model: Width between the layers.
        d_ff: Hidden width of one expert.
        seed: Of all weights.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        n_layers: int = 2,
        n_experts: int = 8,
        d_model: int = 32,
        d_ff: int = 24,
        seed: int,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        d_in, d_out = N_MAPS + WIDTH, WIDTH
        self.read = nn.Parameter(torch.randn(d_model, d_in, generator=generator) * d_in**-0.5)
        self.write = nn.Parameter(torch.randn(d_out, d_model, generator=generator) * d_model**-0.5)
        self.mixtures = Mixtures(rule, n_layers, n_experts, d_model, d_ff, seed=seed)

    def forward(self, x: Float[Tensor, "N d_in"]) -> Float[Tensor, "N d_out"]:
        """Outputs for tokens."""
        needed = (x[:, :N_MAPS] > 0.5).to(x.dtype)
        x = x @ self.read.mT
        for mixture in self.mixtures:
            if isinstance(mixture.router, Told):
                mixture.router.needed = needed
            x = x + mixture(rms_norm(x, x.shape[-1:]))
        return x @ self.write.mT


class MoETransformer(Transformer):
    """A :class:`~aiexplained.lm.Transformer` whose feed-forward layers are mixtures of experts.

    Args:
        rule: How experts are chosen.
        config: Sizes; ``d_ff`` is that of one expert.
        n_experts: Experts of a layer.
        seed: Of all weights.
    """

    def __init__(self, rule: Rule, config: TransformerConfig, *, n_experts: int, seed: int) -> None:
        super().__init__(config, seed=seed)
        self.mixtures = Mixtures(
            rule, config.n_layers, n_experts, config.d_model, config.d_ff, seed=seed
        )
        for block, mixture in zip(self.blocks, self.mixtures, strict=True):
            cast("Block", block).feed_forward = mixture  # type: ignore[assignment]
