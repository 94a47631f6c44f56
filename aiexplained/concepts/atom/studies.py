"""What is recorded for the page, and with which settings."""

from __future__ import annotations

from aiexplained.concepts.atom.measure import PRINTED, WORKLOADS
from aiexplained.concepts.atom.real import SYSTEMS
from aiexplained.concepts.atom.routing_study import POLICIES
from aiexplained.records import Study

_MEASURE = "aiexplained.concepts.atom.measure"
_REAL = "aiexplained.concepts.atom.real"
_ROUTING = "aiexplained.concepts.atom.routing_study"
_SEEDS = (0, 1, 2)

STUDIES = (
    Study(
        "processes",
        f"{_REAL}:measure_pools",
        tuple({"system": system, "seed": seed} for seed in _SEEDS for system in SYSTEMS),
    ),
    Study("alone", f"{_REAL}:measure_alone", tuple({"seed": seed} for seed in _SEEDS)),
    Study("deaths", f"{_REAL}:measure_deaths", tuple({"seed": seed} for seed in _SEEDS)),
    Study("turns", f"{_REAL}:measure_turns", tuple({"seed": seed} for seed in _SEEDS)),
    Study(
        "rates",
        f"{_MEASURE}:measure_rates",
        tuple({"workload": work, "seed": seed} for work in WORKLOADS for seed in _SEEDS),
    ),
    Study(
        "saturation",
        f"{_MEASURE}:measure_saturation",
        tuple({"workload": work, "seed": seed} for work in WORKLOADS for seed in _SEEDS),
    ),
    Study("region", f"{_MEASURE}:measure_region", tuple({"seed": seed} for seed in _SEEDS)),
    Study("link", f"{_MEASURE}:measure_link", tuple({"seed": seed} for seed in _SEEDS)),
    Study(
        "table",
        f"{_MEASURE}:measure_table",
        tuple({"concurrency": c, "seed": seed} for c in PRINTED for seed in _SEEDS),
    ),
    Study(
        "routing",
        f"{_ROUTING}:record_routing",
        tuple({"policy": policy, "seed": seed} for policy in POLICIES for seed in _SEEDS),
    ),
    Study(
        "failure",
        f"{_ROUTING}:record_failure",
        tuple(
            {"policy": policy, "seed": seed}
            for policy in ("least loaded", "round robin")
            for seed in _SEEDS
        ),
    ),
)
