"""CPU model of an inference engine: caches and schedulers, no torch."""

from aiexplained.serving.block_cache import BlockCache, block_hashes

__all__ = ["BlockCache", "block_hashes"]
