"""Paged memory for keys and values: blocks with owners, shared by prefix, reused when idle.

A sequence owns a list of blocks of ``block_size`` tokens. Full blocks are named by their chained
hash (:func:`~aiexplained.serving.block_hashes`), so sequences that open alike share blocks; each
block counts its owners. A block that nobody owns keeps its contents until it is needed: the one
idle for longest goes first. The rules are those of vLLM and of ATOM's engine (ROCm/ATOM,
``docs/scheduling_kv_cache_guide.md``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from aiexplained.errors import OutOfBlocks


class BlockPool:
    """Which block holds what, and who owns it. The tensors are kept elsewhere, by block number.

    Args:
        n_blocks: Blocks that fit into memory, at least 1.
        block_size: Tokens a block, at least 1.
    """

    def __init__(self, n_blocks: int, *, block_size: int = 16) -> None:
        if n_blocks < 1 or block_size < 1:
            raise ValueError(
                f"BlockPool needs n_blocks and block_size of at least 1, got {n_blocks} and "
                f"{block_size}"
            )
        self.n_blocks, self.block_size = n_blocks, block_size
        self._owners = [0] * n_blocks
        self._unnamed = list(range(n_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, bytes] = OrderedDict()  # named, without owner; oldest first
        self._by_name: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}

    @property
    def n_free(self) -> int:
        """Blocks that nobody owns."""
        return len(self._unnamed) + len(self._idle)

    @property
    def n_owned(self) -> int:
        """Blocks with at least one owner."""
        return self.n_blocks - self.n_free

    def blocks_for(self, n_tokens: int) -> int:
        """Blocks that hold ``n_tokens`` tokens."""
        return -(-n_tokens // self.block_size)

    def match(self, names: Sequence[bytes]) -> list[int]:
        """Blocks of the longest run of known names from the start; nobody's claim changes.

        Args:
            names: Chained hashes of a sequence's full blocks, in order.
        """
        found = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def can_take(self, shared: Sequence[int], n_new: int) -> bool:
        """Whether :meth:`take` would succeed.

        Args:
            shared: Blocks from :meth:`match`.
            n_new: Fresh blocks besides.
        """
        return n_new + sum(block in self._idle for block in shared) <= self.n_free

    def take(self, shared: Sequence[int], n_new: int) -> list[int]:
        """Become an owner of shared blocks and of fresh ones.

        Args:
            shared: Blocks from :meth:`match`.
            n_new: Fresh blocks besides; the longest idle contents are forgotten for them.

        Returns:
            All of them, the shared ones first.

        Raises:
            OutOfBlocks: if too few are free; nothing has changed then.
        """
        if not self.can_take(shared, n_new):
            raise OutOfBlocks(f"{n_new} blocks are needed, {self.n_free} of {self.n_blocks} free")
        for block in shared:
            self._idle.pop(block, None)
            self._owners[block] += 1
        return [*shared, *(self._fresh() for _ in range(n_new))]

    def _fresh(self) -> int:
        if self._unnamed:
            block = self._unnamed.pop()
        else:
            block, name = self._idle.popitem(last=False)
            del self._by_name[name], self._names[block]
        self._owners[block] = 1
        return block

    def name(self, block: int, name: bytes) -> None:
        """Make a full block known by its chained hash, unless another block is already.

        Args:
            block: A block with an owner.
            name: The hash.
        """
        if self._owners[block] < 1:
            raise ValueError(f"block {block} has no owner, so what it holds may change")
        if name not in self._by_name and block not in self._names:
            self._by_name[name], self._names[block] = block, name

    def release(self, blocks: Sequence[int]) -> None:
        """Give up one claim on each block; the last in the list becomes the oldest idle one.

        Args:
            blocks: Blocks of one owner.

        Raises:
            ValueError: if a block has no owner.
        """
        for block in reversed(blocks):
            if self._owners[block] < 1:
                raise ValueError(f"block {block} has no owner to release it")
            self._owners[block] -= 1
            if self._owners[block]:
                continue
            if block in self._names:
                self._idle[block] = self._names[block]
            else:
                self._unnamed.append(block)

    def owners(self, block: int) -> int:
        """How many sequences own a block."""
        return self._owners[block]
