"""The figures of the page on Ternary Mamba. They take plain numbers.

Two of them compute in the browser: ``rules/ternary_mamba.js`` rounds weights and runs a state,
``rules/ternary_mamba_view.js`` is what the figures do with it; ``rules/ternary_mamba_drift.js``
unpacks the codes of a third. Their numbers travel in two bytes
each; :func:`in_steps` rounds to what the page will see.
"""

from aiexplained.viz.curves import View
from aiexplained.viz.ternary_mamba.drift import zero_drift
from aiexplained.viz.ternary_mamba.patch import weight_patch
from aiexplained.viz.ternary_mamba.size import size_account
from aiexplained.viz.ternary_mamba.state import state_error
from aiexplained.viz.ternary_mamba.steps import in_steps
from aiexplained.viz.ternary_mamba.style import STYLE, curves
from aiexplained.viz.ternary_mamba.weight_budget import loss_by_bytes

__all__ = [
    "STYLE",
    "View",
    "curves",
    "in_steps",
    "loss_by_bytes",
    "size_account",
    "state_error",
    "weight_patch",
    "zero_drift",
]
