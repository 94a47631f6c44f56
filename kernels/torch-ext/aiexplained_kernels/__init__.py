"""Fast forms of the operators that AI Explained explains.

Each operator has a formula in torch, a C++ kernel for CPUs and Triton kernels for GPUs (for the
gated delta rule: its forward pass); all are held to the plain definitions in ``aiexplained.nn``.
"""

from . import layers
from ._backends import backend_report
from ._native import BackendUnavailable
from .block_list_attention import block_list_attention, paged_attention
from .block_lists import (
    BLOCK_SIZE,
    block_list_from_mask,
    check_block_list,
    top_k_block_list,
    window_block_list,
)
from .gated_delta_rule import gated_delta_rule
from .ternary_linear import pack_ternary, ternary_linear, unpack_ternary

__all__ = [
    "BLOCK_SIZE",
    "BackendUnavailable",
    "backend_report",
    "block_list_attention",
    "block_list_from_mask",
    "check_block_list",
    "gated_delta_rule",
    "layers",
    "pack_ternary",
    "paged_attention",
    "ternary_linear",
    "top_k_block_list",
    "unpack_ternary",
    "window_block_list",
]
