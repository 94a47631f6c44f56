"""Experts of which only the chosen run, and the layer that chooses them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from aiexplained.concepts.softmoe.routing import Router, load_balance_loss


class Experts(nn.Module):
    """Feed-forward networks side by side, each with one hidden layer.

    Args:
        n_experts: How many, ``E``.
        d_model: Width of a token.
        d_ff: Hidden width of one expert.
        generator: Draws the weights, normal with standard deviation ``1 / sqrt(inputs)``.
        depth: Layers that write into one residual stream; the weights out of the hidden layer are
            smaller by ``sqrt(2 · depth)``.

    Attributes:
        up: Weights into the hidden layer ``[E, d_ff, d_model]``.
        down: Weights out of it ``[E, d_model, d_ff]``.
    """

    def __init__(
        self,
        n_experts: int,
        d_model: int,
        d_ff: int,
        *,
        generator: torch.Generator,
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.up = nn.Parameter(
            torch.randn(n_experts, d_ff, d_model, generator=generator) * d_model**-0.5
        )
        self.down = nn.Parameter(
            torch.randn(n_experts, d_model, d_ff, generator=generator) * (2 * depth * d_ff) ** -0.5
        )

    def run(self, expert: int, x: Float[Tensor, "M d_model"]) -> Float[Tensor, "M d_model"]:
        """The output of one expert."""
        return linear(gelu(linear(x, self.up[expert])), self.down[expert])

    def forward(
        self, x: Float[Tensor, "N d_model"], routing_weights: Float[Tensor, "N E"]
    ) -> Float[Tensor, "N d_model"]:
        """Weighted sum of the experts' outputs; an expert reads only tokens that give it weight.

        Args:
            x: Tokens.
            routing_weights: Zero where an expert is not run.

        Raises:
            ValueError: if the weights are not one for each token and expert.
        """
        if routing_weights.shape != (len(x), len(self.up)):
            raise ValueError(
                f"routing_weights must be [{len(x)}, {len(self.up)}], got "
                f"{tuple(routing_weights.shape)}"
            )
        out = torch.zeros_like(x)
        for expert in range(len(self.up)):
            (tokens,) = routing_weights[:, expert].detach().nonzero(as_tuple=True)
            if len(tokens):
                part = self.run(expert, x[tokens]) * routing_weights[tokens, expert, None]
                out = out.index_add(0, tokens, part)
        return out


@dataclass(frozen=True)
class Routing:
    """What a layer decided for the tokens of its last pass.

    Args:
        logits: Scores ``[N, E]``.
        weights: What the router made of them, zero where an expert did not run.
    """

    logits: Float[Tensor, "N E"]
    weights: Float[Tensor, "N E"]

    @property
    def active(self) -> Bool[Tensor, "N E"]:
        """Which experts each token ran."""
        return self.weights.detach() != 0

    @property
    def active_experts(self) -> Float[Tensor, "N"]:
        """How many experts each token ran."""
        return self.active.sum(dim=-1).to(self.weights.dtype)

    @property
    def load_balance(self) -> Float[Tensor, ""]:
        """See :func:`load_balance_loss`."""
        return load_balance_loss(self.logits, self.active)


class MixtureOfExperts(nn.Module):
    """A feed-forward layer of experts: ``y = Σ_e router(x W)_e E_e(x)``.

    Args:
        experts: The experts.
        router: Turns scores into weights; it may be exchanged at any time.
        noise: Standard deviation of the noise on the scores while training.
        seed: Of the router's matrix and of the noise; another than that of the experts.

    Attributes:
        routing: What was decided in the last pass, or ``None``. It holds on to that pass's graph:
            set it to ``None`` before copying the layer.

    >>> from aiexplained.concepts.softmoe.routing import SoftTopK
    >>> experts = Experts(8, 16, 32, generator=torch.Generator().manual_seed(0))
    >>> layer = MixtureOfExperts(experts, SoftTopK(k=1.5), seed=1)
    >>> layer(torch.randn(2, 5, 16)).shape, layer.routing.active_experts.shape
    (torch.Size([2, 5, 16]), torch.Size([10]))
    """

    def __init__(
        self, experts: Experts, router: Router, *, noise: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.experts, self.router, self.noise = experts, router, noise
        n_experts, _, d_model = experts.up.shape
        self._generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(n_experts, d_model, generator=self._generator).to(experts.up)
        self.weight = nn.Parameter(weight * d_model**-0.5)
        self.routing: Routing | None = None

    def forward(self, x: Float[Tensor, "*B d_model"]) -> Float[Tensor, "*B d_model"]:
        """Apply the layer to every token."""
        tokens = x.reshape(-1, x.shape[-1])
        logits = linear(tokens, self.weight)
        if self.training and self.noise:
            noise = torch.randn(logits.shape, generator=self._generator)
            logits = logits + self.noise * noise.to(logits)
        self.routing = Routing(logits, self.router(logits))
        out: Tensor = self.experts(tokens, self.routing.weights)
        return out.view_as(x)
