"""CPU model of an inference engine: caches, schedulers, routers and time. No torch."""

from aiexplained.serving.block_cache import BlockCache, block_hashes, extend_hashes
from aiexplained.serving.block_pool import BlockPool
from aiexplained.serving.fleet import Failure, Fleet, Link, ReadPiece, Run, Served, Span, Transfer
from aiexplained.serving.latency import (
    SLO,
    Pace,
    attainment,
    describe_latency,
    goodput_rps,
    percentile,
)
from aiexplained.serving.policies import (
    CacheAware,
    FewestRequests,
    PowerOfTwo,
    PrefixHash,
    RandomChoice,
    RoundRobin,
    Sticky,
    token_hash,
)
from aiexplained.serving.radix_tree import RadixNode, RadixTree
from aiexplained.serving.requests import (
    Request,
    conversation_requests,
    drawn_requests,
    poisson_requests,
    unit_draws,
)
from aiexplained.serving.routing import (
    CircuitBreaker,
    Decision,
    ExplainedPolicy,
    LeastLoaded,
    Retries,
    RoutingPolicy,
    WorkerLoad,
    available,
    load_of,
)
from aiexplained.serving.scheduler import EngineConfig, Scheduler
from aiexplained.serving.sequences import Piece, Plan, SequenceState
from aiexplained.serving.simulator import made_up_token, simulate
from aiexplained.serving.step_cost import StepCost

__all__ = [
    "SLO",
    "BlockCache",
    "BlockPool",
    "CacheAware",
    "CircuitBreaker",
    "Decision",
    "EngineConfig",
    "ExplainedPolicy",
    "Failure",
    "FewestRequests",
    "Fleet",
    "LeastLoaded",
    "Link",
    "Pace",
    "Piece",
    "Plan",
    "PowerOfTwo",
    "PrefixHash",
    "RadixNode",
    "RadixTree",
    "RandomChoice",
    "ReadPiece",
    "Request",
    "Retries",
    "RoundRobin",
    "RoutingPolicy",
    "Run",
    "Scheduler",
    "SequenceState",
    "Served",
    "Span",
    "StepCost",
    "Sticky",
    "Transfer",
    "WorkerLoad",
    "attainment",
    "available",
    "block_hashes",
    "conversation_requests",
    "describe_latency",
    "drawn_requests",
    "extend_hashes",
    "goodput_rps",
    "load_of",
    "made_up_token",
    "percentile",
    "poisson_requests",
    "simulate",
    "token_hash",
    "unit_draws",
]
