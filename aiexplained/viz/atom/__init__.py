"""The figures of the page on ATOM and ATOMesh. They take plain numbers.

Their rules run in the browser: ``rules/atom_scheduler.js`` and ``rules/atom.js`` are the engine and
the simulator of :mod:`aiexplained.serving`, ``rules/atom_router.js`` the routing policies,
``rules/atom_planner.js`` the planner; tests hold each to the Python.
"""

from aiexplained.viz.atom.lanes import lanes
from aiexplained.viz.atom.planner import planner
from aiexplained.viz.atom.results import STYLE, feasible, staircase, table_check
from aiexplained.viz.atom.roofline import roofline
from aiexplained.viz.atom.routes import router

__all__ = [
    "STYLE",
    "feasible",
    "lanes",
    "planner",
    "roofline",
    "router",
    "staircase",
    "table_check",
]
