"""What the block-list figures share: colors."""

from __future__ import annotations

from aiexplained.viz.theme import PALETTE

OURS, THEIRS = PALETTE["reused"], PALETTE["computed"]
