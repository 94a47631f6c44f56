"""The keys and values of the tokens that a model has already read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_FIRST_CAPACITY = 16


class KVCache:
    """Keys and values of every layer, ``(B, H_kv, T, D)`` each; keys are stored after RoPE.

    A model appends to it. Room grows by doubling, so that ``T`` appends copy ``O(T)`` entries in
    all, and :meth:`crop` costs nothing. Every other method returns a cache with tensors of its own.
    The cache is made for inference: append under ``torch.no_grad()`` or ``inference_mode()``.

    Args:
        n_layers: Layers of the model that fills it.
        capacity: Tokens to make room for at once.
    """

    def __init__(self, n_layers: int, *, capacity: int = 0) -> None:
        if n_layers < 1 or capacity < 0:
            raise ValueError(
                f"KVCache needs n_layers >= 1 and capacity >= 0, got {n_layers} and {capacity}"
            )
        self._keys: list[Tensor | None] = [None] * n_layers
        self._values: list[Tensor | None] = [None] * n_layers
        self._capacity = capacity
        self._length = 0

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self._keys)

    @property
    def length(self) -> int:
        """Tokens held by every layer."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values in use; spare room is not counted."""
        return sum(x.nbytes for i in range(self.n_layers) if self.length for x in self.layer(i))

    def layer(self, index: int) -> tuple[Float[Tensor, "B H_kv T D"], Float[Tensor, "B H_kv T D"]]:
        """Keys and values of one layer, as views.

        Raises:
            ValueError: if the cache is empty.
        """
        key, value = self._keys[index], self._values[index]
        if key is None or value is None or self._length == 0:
            raise ValueError("the cache is empty")
        return key[:, :, : self._length], value[:, :, : self._length]

    def append(
        self, layer: int, key: Float[Tensor, "B H_kv T D"], value: Float[Tensor, "B H_kv T D"]
    ) -> tuple[Float[Tensor, "B H_kv S D"], Float[Tensor, "B H_kv S D"]]:
        """Add ``T`` tokens to one layer and return all that the layer now holds, as views.

        The layers of one step come in order; ``length`` grows when the last of them has been
        appended, so a step that fails midway leaves the cache as it was.

        Args:
            layer: Index of the layer.
            key: New keys, after RoPE.
            value: New values.

        Raises:
            ValueError: if the tensors differ from those held in anything but time.
        """
        if key.shape[:3] != value.shape[:3]:
            raise ValueError(
                f"key and value must match, got {tuple(key.shape)} and {tuple(value.shape)}"
            )
        stop = self._length + key.shape[2]
        all_keys = self._write(self._keys, layer, key, stop)
        all_values = self._write(self._values, layer, value, stop)
        if layer == self.n_layers - 1:
            self._length = stop
        return all_keys, all_values

    def _write(self, buffers: list[Tensor | None], layer: int, new: Tensor, stop: int) -> Tensor:
        buffer = buffers[layer]
        if buffer is not None and _kind(buffer) != _kind(new):
            raise ValueError(f"the cache holds {_kind(buffer)}, got {_kind(new)}")
        if buffer is None or buffer.shape[2] < stop:
            buffer = buffers[layer] = self._grown(buffer, new, stop)
        buffer[:, :, self._length : stop] = new
        return buffer[:, :, :stop]

    def _grown(self, buffer: Tensor | None, new: Tensor, stop: int) -> Tensor:
        if buffer is None:
            room = max(stop, self._capacity, _FIRST_CAPACITY)
        else:
            room = max(stop, 2 * buffer.shape[2])
        batch, heads, _, width = new.shape
        grown = new.new_empty(batch, heads, room, width)
        if buffer is not None:
            grown[:, :, : self._length] = buffer[:, :, : self._length]
        return grown

    def crop(self, length: int) -> None:
        """Forget the tokens from ``length`` on, in place and without copying.

        Raises:
            ValueError: if ``length`` is not between 0 and the cache's length.
        """
        if not 0 <= length <= self._length:
            raise ValueError(f"length must be in [0, {self._length}], got {length}")
        self._length = length

    def slice(self, start: int, stop: int) -> KVCache:
        """Copy of the tokens ``start <= t < stop``.

        Raises:
            ValueError: unless ``0 <= start <= stop <= length``.
        """
        if not 0 <= start <= stop <= self._length:
            raise ValueError(
                f"slice needs 0 <= start <= stop <= {self._length}, got {start} and {stop}"
            )
        piece = KVCache(self.n_layers)
        if start < stop:
            for i in range(self.n_layers):
                key, value = self.layer(i)
                piece.append(i, key[:, :, start:stop], value[:, :, start:stop])
        return piece

    def clone(self) -> KVCache:
        """Copy of the whole cache."""
        return self.slice(0, self._length)

    @classmethod
    def concat(cls, caches: Sequence[KVCache]) -> KVCache:
        """One cache that holds the tokens of ``caches``, one after the other.

        The keys keep the positions at which they were computed.

        Raises:
            ValueError: if there is no cache, or if they differ in anything but time.
        """
        depths = {cache.n_layers for cache in caches}
        if len(depths) != 1:
            raise ValueError(f"concat needs caches of one depth, got depths {sorted(depths)}")
        joined = cls(depths.pop(), capacity=sum(cache.length for cache in caches))
        for cache in caches:
            for i in range(cache.n_layers if cache.length else 0):
                joined.append(i, *cache.layer(i))
        return joined

    @classmethod
    def from_layers(cls, layers: Sequence[tuple[Tensor, Tensor]]) -> KVCache:
        """Cache with the given keys and values, copied; one pair a layer.

        Raises:
            ValueError: if there is no layer or the layers' lengths differ.
        """
        lengths = {key.shape[2] for key, _ in layers}
        if len(lengths) > 1:
            raise ValueError(f"all layers must be equally long, got lengths {sorted(lengths)}")
        cache = cls(len(layers))
        for i, (key, value) in enumerate(layers):
            cache.append(i, key, value)
        return cache


def _kind(x: Tensor) -> tuple[int, int, int, torch.dtype, torch.device]:
    """What must agree between entries of a layer: batch, heads, width, type and place."""
    return x.shape[0], x.shape[1], x.shape[3], x.dtype, x.device
