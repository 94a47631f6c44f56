"""The figures of the CacheWeaver page. They take plain numbers; the rule runs in the browser.

The scripts ``rules/cacheweaver.js`` (the algorithm) and ``rules/cacheweaver_view.js`` (what the
figures do with it) are loaded with those that replay it.
"""

from aiexplained.viz.cacheweaver.replay import block_chain, failure, trace_scrubber
from aiexplained.viz.cacheweaver.results import differences, share_by_order, sweeps, ttft_by_order
from aiexplained.viz.cacheweaver.weaving import weave_it

__all__ = [
    "block_chain",
    "differences",
    "failure",
    "share_by_order",
    "sweeps",
    "trace_scrubber",
    "ttft_by_order",
    "weave_it",
]
