"""Ternary Mamba."""

from aiexplained.concepts.ternary_mamba.account import SHAPES, Mamba2Shape
from aiexplained.concepts.ternary_mamba.model import LayerState, Mamba2, Mamba2Block
from aiexplained.concepts.ternary_mamba.ternary import (
    LearnedScale,
    PackedProjection,
    learn_scales,
    multiply_rounded,
    pack_model,
    projections,
    round_weights,
    spread,
    train_ternary,
    zero_share,
)
