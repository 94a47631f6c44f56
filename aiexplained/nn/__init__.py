"""Tensor primitives: torch in, torch out; no training, no files. The oracle that kernels meet."""

from aiexplained.nn.attention import (
    AttentionOperator,
    causal_mask,
    check_attention,
    reference_attention,
    scaled_dot_product_attention,
)
from aiexplained.nn.block_list import block_list_mask, reference_block_list_attention
from aiexplained.nn.feedforward import swiglu
from aiexplained.nn.gated_delta import check_gated_delta_rule, reference_gated_delta_rule
from aiexplained.nn.norm import rms_norm
from aiexplained.nn.projection import Multiply, Projection
from aiexplained.nn.rotary import apply_rotary, rotary_cos_sin
from aiexplained.nn.ternary import reference_ternary_linear, ternarize

__all__ = [
    "AttentionOperator",
    "Multiply",
    "Projection",
    "apply_rotary",
    "block_list_mask",
    "causal_mask",
    "check_attention",
    "check_gated_delta_rule",
    "reference_attention",
    "reference_block_list_attention",
    "reference_gated_delta_rule",
    "reference_ternary_linear",
    "rms_norm",
    "rotary_cos_sin",
    "scaled_dot_product_attention",
    "swiglu",
    "ternarize",
]
