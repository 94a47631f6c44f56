"""Prefix caching by chained block hashes, as paged engines do it.

A prompt is cut into blocks of ``block_size`` tokens. The hash of a block covers its tokens *and*
the hash of the block before it, so equal hashes mean equal text from the very first token on. Only
full blocks are hashed; a cache hit is the longest run of known hashes from the start.

The rule follows vLLM's Automatic Prefix Caching (blocks of 16 tokens by default, least recently
used block evicted first, and of one prompt the deepest block first). Reference counts are left
out: one request runs at a time here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 8
Tokens = Sequence[int] | NDArray[np.integer]


def block_hashes(tokens: Tokens, *, block_size: int = 16) -> list[bytes]:
    """Chained hashes of the full blocks of ``tokens``.

    Args:
        tokens: Token ids of one prompt, in order.
        block_size: Tokens a block, at least 1.

    Returns:
        One digest of 8 bytes a full block; a trailing partial block has none.

    >>> a, b = block_hashes(range(32)), block_hashes([9, *range(1, 32)])
    >>> len(a), a[1] == b[1]        # the second blocks hold the same tokens, after another first
    (2, False)
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    data = np.asarray(tokens, dtype=np.int64).tobytes()
    step = 8 * block_size
    digest, digests = b"", []
    for start in range(0, len(data) - step + 1, step):
        digest = _chain(digest, data[start : start + step])
        digests.append(digest)
    return digests


def extend_hashes(hashes: list[bytes], tokens: Tokens, *, block_size: int = 16) -> None:
    """Append the chained hashes of the full blocks that follow, in place.

    Args:
        hashes: Of the blocks before, from :func:`block_hashes` or this function.
        tokens: Token ids from the end of those blocks on.
        block_size: Tokens a block, at least 1.

    >>> hashes = block_hashes(range(4), block_size=2)
    >>> extend_hashes(hashes, [4, 5, 6], block_size=2)
    >>> hashes == block_hashes(range(7), block_size=2)
    True
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    data = np.asarray(tokens, dtype=np.int64).tobytes()
    step = 8 * block_size
    digest = hashes[-1] if hashes else b""
    for start in range(0, len(data) - step + 1, step):
        digest = _chain(digest, data[start : start + step])
        hashes.append(digest)


def _chain(parent: bytes, tokens: bytes) -> bytes:
    return hashlib.blake2b(parent + tokens, digest_size=DIGEST_BYTES).digest()


class BlockCache:
    """Least-recently-used cache of prompt blocks.

    It stores which block sits in which slot, not the keys and values themselves: a simulator needs
    no more, and a real engine keeps its tensors in arrays indexed by the slot.

    Args:
        capacity_blocks: Blocks that fit, at least 1.
        block_size: Tokens a block.
    """

    def __init__(self, capacity_blocks: int, *, block_size: int = 16) -> None:
        if capacity_blocks < 1:
            raise ValueError(f"capacity_blocks must be at least 1, got {capacity_blocks}")
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.capacity_blocks = capacity_blocks
        self.block_size = block_size
        self.evicted = 0
        self._slots: OrderedDict[bytes, int] = OrderedDict()  # oldest use first
        self._free = list(range(capacity_blocks - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._slots)

    def match(self, tokens: Tokens) -> list[int]:
        """Slots of the longest cached run of blocks at the start of ``tokens``.

        The last token is never taken from the cache, since the engine needs its output: a prompt
        of exactly n full blocks reuses at most n - 1.
        """
        usable = max(len(tokens) - 1, 0) // self.block_size
        slots = []
        for digest in block_hashes(tokens[: usable * self.block_size], block_size=self.block_size):
            slot = self._slots.get(digest)
            if slot is None:
                break
            slots.append(slot)
        return slots

    def insert(self, tokens: Tokens) -> list[tuple[int, int]]:
        """Store every full block of a served prompt and refresh its recency.

        Returns:
            ``(block index in the prompt, slot)`` of the blocks that were not cached before. Where
            the prompt is longer than the cache, its tail is not stored.
        """
        digests = block_hashes(tokens, block_size=self.block_size)[: self.capacity_blocks]
        missing = [i for i, digest in enumerate(digests) if digest not in self._slots]
        for digest in reversed(digests):  # deepest first: it will be the oldest of this prompt
            if digest in self._slots:
                self._slots.move_to_end(digest)
        placed = {}
        for index in missing:
            if not self._free:
                _, slot = self._slots.popitem(last=False)
                self._free.append(slot)
                self.evicted += 1
            placed[index] = self._free.pop()
            self._slots[digests[index]] = placed[index]
        for digest in reversed(digests):
            self._slots.move_to_end(digest)
        return sorted(placed.items())
