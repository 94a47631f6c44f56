"""Tokens of which some need more experts than others: a sum of one, two or three maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

N_MAPS, WIDTH, MOST = 8, 16, 3
"""Maps that a token may need, width of what they map, and the most that one token needs."""
NOISE = 0.1
_SEED_OF_MAPS = 1234


@dataclass(frozen=True)
class Tokens:
    """A batch of the task.

    A token says by eight noisy bits which maps it needs, and carries a vector ``z``. Wanted is the
    sum of these maps of ``z``, ``tanh(A_j z)`` each. One expert an input would need as many experts
    as there are sets of up to three maps, 92; one expert a map needs eight.

    Args:
        inputs: Bits, then ``z``.
        targets: What is wanted.
        needs: How many maps each token needs, 1 to 3, equally often.
    """

    inputs: Float[Tensor, "N d_in"]
    targets: Float[Tensor, "N d_out"]
    needs: Int[Tensor, "N"]


def make_tokens(n_tokens: int, generator: torch.Generator) -> Tokens:
    """Draw tokens; the maps are the same in every call.

    Args:
        n_tokens: How many, ``N``.
        generator: Draws them.

    >>> tokens = make_tokens(5, torch.Generator().manual_seed(0))
    >>> tokens.inputs.shape, tokens.targets.shape, tokens.needs.tolist()
    (torch.Size([5, 24]), torch.Size([5, 16]), [3, 1, 3, 1, 2])
    """
    needs = torch.randint(1, MOST + 1, (n_tokens,), generator=generator)
    rank = torch.rand(n_tokens, N_MAPS, generator=generator).argsort(dim=-1).argsort(dim=-1)
    bits = (rank < needs[:, None]).float()
    z = torch.randn(n_tokens, WIDTH, generator=generator)
    parts = torch.einsum("aij,nj->nai", _maps(), z).tanh()
    noisy = bits + NOISE * torch.randn(bits.shape, generator=generator)
    return Tokens(torch.cat([noisy, z], dim=1), (parts * bits[..., None]).sum(dim=1), needs)


def sample_tokens(*, batch_size: int, seed: int) -> Iterator[Float[Tensor, "N d_in_plus_d_out"]]:
    """Endless batches, inputs and targets side by side; see :func:`split_tokens`.

    Args:
        batch_size: Tokens in a batch.
        seed: Of the tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = make_tokens(batch_size, generator)
        yield torch.cat([tokens.inputs, tokens.targets], dim=1)


def split_tokens(
    batch: Float[Tensor, "N d_in_plus_d_out"],
) -> tuple[Float[Tensor, "N d_in"], Float[Tensor, "N d_out"]]:
    """Inputs and targets of a batch from :func:`sample_tokens`."""
    return batch[:, : N_MAPS + WIDTH], batch[:, N_MAPS + WIDTH :]


def _maps() -> Float[Tensor, "A d d"]:
    generator = torch.Generator().manual_seed(_SEED_OF_MAPS)
    size = 1.5 / math.sqrt(WIDTH)
    return torch.randn(N_MAPS, WIDTH, WIDTH, generator=generator) * size
