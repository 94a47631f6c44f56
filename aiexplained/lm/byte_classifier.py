"""A Mamba that reads bytes in both directions and names the kind of content of each.

It serves the real weights of ``typeseg`` (:func:`aiexplained.hub.load_byte_classifier`) and small
random instances. Each layer is a Mamba block (Gu and Dao, 2023) that adds to the residual stream:

    [u, z] = W_in norm(x),          u = silu(conv(u)),
    [r, B, C] = W_x u,              dt = softplus(W_dt r) + 1e-4,
    h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_tᵀ,      y_t = h_t C_t + D u_t,
    x = x + W_out (y silu(z)).

The recurrence runs from the first byte to the last and from the last to the first, with the same
weights, and both outputs are added. Every ``W`` is a :class:`~aiexplained.nn.Projection`, so how it
multiplies can be exchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from aiexplained.nn import Projection

PROJECTIONS = ("in", "x", "dt", "out")
"""Names of the four projections of a layer, in the order in which a byte meets them."""

_SHOWN = {*range(0x20, 0x7F), 0x09, 0x0A, 0x0D}
_OTHER = 128
_SYMBOLS = 130  # the last one stands for padding and is not used here
_NORM_EPS = 1e-6
_DT_MIN = 1e-4


@dataclass(frozen=True, kw_only=True)
class ByteClassifierConfig:
    """Sizes of a :class:`ByteClassifier`.

    Args:
        d_model: Width of the residual stream.
        d_inner: Channels of a layer's recurrence.
        d_state: Numbers that each channel remembers, ``N``.
        dt_rank: Width of what the step sizes are made of.
        d_conv: Bytes that the convolution sees.
        n_layers: Layers.
        labels: Name of each kind of content.
    """

    d_model: int
    d_inner: int
    d_state: int
    dt_rank: int
    d_conv: int
    n_layers: int
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, size in (vars(self) | {"labels": len(self.labels)}).items():
            if size < 1:
                raise ValueError(f"ByteClassifierConfig.{name} must be positive, got {size}")


def selective_scan(
    u: Float[Tensor, "B T D"],
    dt: Float[Tensor, "B T D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
) -> Float[Tensor, "B T D"]:
    """Mamba's recurrence in both directions: the sum of two scans.

    ``h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_tᵀ`` starts from zero at either end.

    Args:
        u: Inputs, a number a channel.
        dt: Step sizes, ``> 0``.
        A: Rates at which a channel's memories fade, ``< 0``.
        B: What an input is written with.
        C: What the memories are read with.

    Returns:
        ``h_t C_t`` of the scan from the first to the last, plus that of the scan back.

    >>> one = torch.ones(1, 3, 1)
    >>> u, half = torch.tensor([[[4.0], [0.0], [0.0]]]), torch.tensor([[0.5]]).log()
    >>> selective_scan(u, one, half, one, one).flatten().tolist()
    [8.0, 2.0, 1.0]
    """
    decays = (dt[..., None] * A).exp().unbind(1)
    writes = ((dt * u)[..., None] * B[:, :, None]).unbind(1)
    onward = _states(decays, writes)
    back = _states(decays[::-1], writes[::-1])[::-1]
    states = torch.stack(onward, dim=1) + torch.stack(back, dim=1)
    return (states @ C[..., None])[..., 0]


def _states(decays: Sequence[Tensor], writes: Sequence[Tensor]) -> list[Tensor]:
    states = [writes[0]]
    for decay, write in zip(decays[1:], writes[1:], strict=True):
        states.append(torch.addcmul(write, decay, states[-1]))
    return states


class MambaLayer(nn.Module):
    """One layer of the module's equations; ``projections`` holds its four matrices by name."""

    def __init__(self, config: ByteClassifierConfig) -> None:
        super().__init__()
        c = self.config = config
        self.norm = nn.LayerNorm(c.d_model, eps=_NORM_EPS)
        self.projections = nn.ModuleDict(
            {
                "in": Projection(c.d_model, 2 * c.d_inner, bias=True),
                "x": Projection(c.d_inner, c.dt_rank + 2 * c.d_state, bias=True),
                "dt": Projection(c.dt_rank, c.d_inner, bias=True),
                "out": Projection(c.d_inner, c.d_model, bias=True),
            }
        )
        self.conv_weight = nn.Parameter(torch.zeros(c.d_inner, 1, c.d_conv))
        self.conv_bias = nn.Parameter(torch.zeros(c.d_inner))
        self.log_rate = nn.Parameter(torch.zeros(c.d_inner, c.d_state))
        self.skip = nn.Parameter(torch.zeros(c.d_inner))

    def forward(self, x: Float[Tensor, "B T d_model"]) -> Float[Tensor, "B T d_model"]:
        """Add the layer's output to the stream."""
        c, project = self.config, self.projections
        u, z = project["in"](self.norm(x)).chunk(2, dim=-1)
        u = functional.silu(self._convolve(u))
        r, B, C = project["x"](u).split((c.dt_rank, c.d_state, c.d_state), dim=-1)
        dt = functional.softplus(project["dt"](r)) + _DT_MIN
        y = selective_scan(u, dt, -self.log_rate.exp(), B, C) + 2 * self.skip * u  # once a scan
        out: Tensor = x + project["out"](y * functional.silu(z))
        return out

    def _convolve(self, u: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Mix each channel with its neighbors in time, as many outputs as inputs."""
        n_before = (self.config.d_conv - 1) // 2
        padded = functional.pad(u.mT, (n_before, self.config.d_conv - 1 - n_before))
        return functional.conv1d(
            padded, self.conv_weight, self.conv_bias, groups=self.config.d_inner
        ).mT


class ByteClassifier(nn.Module):
    """Logits of a label for each byte; see the module's docstring.

    Args:
        config: Sizes and names of the labels.
        seed: Seed of the initial weights: matrices normal with standard deviation
            ``1 / sqrt(inputs)``, step sizes spread from about 0.001 to 0.1 (Gu and Dao, 2023).

    >>> config = ByteClassifierConfig(d_model=8, d_inner=6, d_state=4, dt_rank=2, d_conv=3,
    ...                               n_layers=2, labels=("code", "text"))
    >>> ByteClassifier(config)(torch.tensor([list(b"a = 1")])).shape
    torch.Size([1, 5, 2])
    """

    def __init__(self, config: ByteClassifierConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.zeros(_SYMBOLS, config.d_model))
        self.layers = nn.ModuleList(MambaLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, eps=_NORM_EPS)
        self.head = Projection(config.d_model, len(config.labels), bias=True)
        symbols = torch.tensor([byte if byte in _SHOWN else _OTHER for byte in range(256)])
        self.register_buffer("symbols", symbols, persistent=False)
        self._init_weights(torch.Generator().manual_seed(seed))

    def _init_weights(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.embedding, generator=generator)
        for module in self.modules():
            if isinstance(module, Projection):
                std = module.weight.shape[1] ** -0.5
                nn.init.normal_(module.weight, std=std, generator=generator)
            if isinstance(module, MambaLayer):
                c = module.config
                nn.init.normal_(module.conv_weight, std=c.d_conv**-0.5, generator=generator)
                rates = torch.arange(1, c.d_state + 1).expand(c.d_inner, -1).log()
                nn.init.ones_(module.skip)
                with torch.no_grad():
                    module.log_rate.copy_(rates)
                    steps = torch.empty(c.d_inner).uniform_(-3, -1, generator=generator)
                    module.get_parameter("projections.dt.bias").copy_((10**steps).expm1().log())

    def projections(self, name: str) -> list[Projection]:
        """The projection called ``name`` of every layer, first to last.

        Args:
            name: ``"in"``, ``"x"``, ``"dt"`` or ``"out"``.

        Raises:
            ValueError: for another name.
        """
        if name not in PROJECTIONS:
            raise ValueError(f"a projection is one of {PROJECTIONS}, got {name!r}")
        found = [layer.get_submodule(f"projections.{name}") for layer in self.layers]
        return [projection for projection in found if isinstance(projection, Projection)]

    def forward(self, byte_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T labels"]:
        """Logits of each label for each byte.

        Args:
            byte_ids: Bytes, 0 to 255. All but printable ASCII, tab and line ends look alike.

        Raises:
            ValueError: if there is no byte, or a number is none.
        """
        if byte_ids.ndim != 2 or not byte_ids.numel():
            raise ValueError(f"byte_ids must be [B, T] with B, T >= 1, got {tuple(byte_ids.shape)}")
        low, high = (int(bound) for bound in torch.aminmax(byte_ids))
        if low < 0 or high > 255:
            raise ValueError(f"byte_ids must be 0 to 255, got {low} to {high}")
        x = self.embedding[self.get_buffer("symbols")[byte_ids]]
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def load_byte_classifier(folder: Path) -> ByteClassifier:
    """The model whose ``manifest.json`` and NumPy arrays a folder holds, as typeseg writes them.

    Args:
        folder: The package's ``data``.

    Raises:
        ValueError: if the arrays are not those of such a model.
    """
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    with np.load(folder / manifest["mamba"]["file"], allow_pickle=False) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    try:
        state = {_own_name(name): _own_order(name, array) for name, array in arrays.items()}
        model = ByteClassifier(_config(manifest, state))
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"the arrays in {folder} are not those of a byte classifier") from error
    return model.eval().requires_grad_(False)


def _config(manifest: Mapping[str, Any], state: Mapping[str, Tensor]) -> ByteClassifierConfig:
    sizes = manifest["mamba"]
    return ByteClassifierConfig(
        d_model=state["embedding"].shape[1],
        d_inner=state["layers.0.skip"].shape[0],
        d_state=sizes["d_state"],
        dt_rank=sizes["dt_rank"],
        d_conv=sizes["d_conv"],
        n_layers=sizes["n_layers"],
        labels=tuple(manifest["labels"]),
    )


_NAMES = {
    "LayerNorm_0__scale": "norm.weight",
    "LayerNorm_0__bias": "norm.bias",
    "Conv_0__kernel": "conv_weight",
    "Conv_0__bias": "conv_bias",
    "A_log": "log_rate",
    "D": "skip",
} | {
    f"Dense_{i}__{theirs}": f"projections.{name}.{ours}"
    for i, name in enumerate(PROJECTIONS)
    for theirs, ours in (("kernel", "weight"), ("bias", "bias"))
}
_OUTER_NAMES = {
    "Embed_0__embedding": "embedding",
    "LayerNorm_0__scale": "norm.weight",
    "LayerNorm_0__bias": "norm.bias",
    "Dense_0__kernel": "head.weight",
    "Dense_0__bias": "head.bias",
}


def _own_name(name: str) -> str:
    block, _, inner = name.rpartition("Block1D_")
    if not block:
        return _OUTER_NAMES[name]
    layer, _, inner = inner.partition("__")
    return f"layers.{layer}.{_NAMES[inner]}"


def _own_order(name: str, array: Tensor) -> Tensor:
    """Matrices and convolutions are stored with inputs first."""
    return array.permute(*reversed(range(array.ndim))) if name.endswith("kernel") else array
