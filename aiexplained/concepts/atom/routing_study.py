"""What a routing policy does to reuse and waiting in conversations, and what a lost engine costs.

Every engine shares blocks by prefix; conversations repeat what was said, so the engine that read
the turn before could skip most of a prompt, if the router sends it there. Engines are those of
:mod:`~aiexplained.concepts.atom.measure`, with room for fewer sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from aiexplained.concepts.atom.measure import study_fleet
from aiexplained.concepts.atom.planner import Layout
from aiexplained.serving import (
    CacheAware,
    Failure,
    Fleet,
    LeastLoaded,
    PowerOfTwo,
    PrefixHash,
    RandomChoice,
    Retries,
    RoundRobin,
    RoutingPolicy,
    Run,
    Sticky,
    conversation_requests,
    percentile,
    poisson_requests,
    simulate,
)

Seed = int | tuple[int, ...]
POLICIES: Mapping[str, Callable[[Seed], RoutingPolicy]] = {
    "random": RandomChoice,
    "round robin": lambda seed: RoundRobin(),
    "power of two": PowerOfTwo,
    "least loaded": lambda seed: LeastLoaded(),
    "cache aware": lambda seed: CacheAware(),
    "prefix hash": lambda seed: PrefixHash(),
    "sticky": lambda seed: Sticky(),
}
"""Makes a policy, from a seed, by its name."""

NEVER = 10**9
"""Failures in a row that no run reaches."""


@dataclass(frozen=True)
class Routed:
    """What one policy did.

    Args:
        cached_share: Share of the prompt tokens that reading engines found in their caches.
        ttft_median_s: Time to first token, median.
        ttft_p99_s: The same, 99 of 100 requests.
        worst_gap_s: Longest time between two tokens of an answer.
        blocks_moved: Blocks that went from pool to pool; 0 with one pool.
        blocks_skipped: Blocks that the writing engine had already.
        imbalance: Prompt tokens that the busiest reading engine read, over the mean of all.
    """

    cached_share: float
    ttft_median_s: float
    ttft_p99_s: float
    worst_gap_s: float
    blocks_moved: int
    blocks_skipped: int
    imbalance: float


def measure_routing(
    *,
    policy: str,
    seed: int,
    two_pools: bool,
    n_sessions: int = 50,
    turns: int = 5,
    session_rate_rps: float = 1.5,
    think_s: float = 4.0,
    system_tokens: int = 1024,
    question_tokens: int = 1024,
    output_tokens: int = 128,
    n_blocks: int = 6000,
) -> Routed:
    """Serve conversations with one policy: on two pools of two engines, or on four colocated ones.

    Args:
        policy: One of :data:`POLICIES`; each pool has its own.
        seed: Of the conversations and the policy.
        two_pools: Two engines read and two write; else four do both.
        n_sessions: Conversations.
        turns: Questions of each.
        session_rate_rps: Conversations that begin in a second, on average.
        think_s: Mean time between questions.
        system_tokens: Tokens of a system prompt; there are three.
        question_tokens: Longest question.
        output_tokens: Longest answer.
        n_blocks: Blocks of 16 tokens that an engine has.

    Raises:
        ValueError: if the policy is unknown.
    """
    _known(policy)
    requests = conversation_requests(
        n_sessions, turns, session_rate_rps=session_rate_rps, think_s=think_s,
        system_tokens=system_tokens, question_tokens=question_tokens,
        output_tokens=output_tokens, seed=seed,
    )  # fmt: skip
    fleet = _fleet(n_blocks, two_pools=two_pools)
    run = simulate(
        requests,
        fleet,
        prefill_policy=POLICIES[policy]((seed, 1)),
        decode_policy=POLICIES[policy]((seed, 2)),
    )
    return _summary(run, fleet)


def _fleet(n_blocks: int, *, two_pools: bool) -> Fleet:
    layout = Layout("2 read, 2 write", 0, 2, 2) if two_pools else Layout("colocated", 4)
    fleet = study_fleet(layout)
    return replace(fleet, engine=replace(fleet.engine, n_blocks=n_blocks, prefix_caching=True))


def _known(policy: str) -> None:
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {list(POLICIES)}, got {policy!r}")


def _summary(run: Run, fleet: Fleet) -> Routed:
    read = [0] * fleet.n_engines
    for span in run.spans:
        read[span.engine] += span.prefill_tokens
    readers = [read[i] for i in fleet.pools[0]]
    ttfts = [served.ttft_s for served in run.served]
    prompts = sum(len(served.request.prompt) for served in run.served)
    return Routed(
        cached_share=sum(served.cached_tokens for served in run.served) / prompts,
        ttft_median_s=percentile(ttfts, 0.5),
        ttft_p99_s=percentile(ttfts, 0.99),
        worst_gap_s=max((gap for served in run.served for gap in served.gaps_s), default=0.0),
        blocks_moved=sum(t.n_blocks for t in run.transfers),
        blocks_skipped=sum(t.skipped_blocks for t in run.transfers),
        imbalance=max(readers) * len(readers) / sum(readers),
    )


@dataclass(frozen=True)
class Survived:
    """What the loss of an engine did.

    Args:
        answered: Requests with an answer of full length.
        failed: Requests that the router gave up.
        same_tokens: Whether each answer, as far as it goes, is that of a run without failure.
        restarted: Requests that were begun more than once.
        retries: How often the router tried again, all requests together.
        most_retries: The same for the request that needed most.
        ttft_p99_s: Time to first token of 99 of 100 requests that got one.
        calm_ttft_p99_s: The same in the run without failure.
    """

    answered: int
    failed: int
    same_tokens: bool
    restarted: int
    retries: int
    most_retries: int
    ttft_p99_s: float
    calm_ttft_p99_s: float


def measure_failure(
    *,
    seed: int,
    breaker: bool,
    policy: str = "least loaded",
    down_s: float = 6.0,
    up_s: float = 10.0,
    n_requests: int = 160,
    arrival_rate_rps: float = 10.0,
    prompt_tokens: int = 2048,
    output_tokens: int = 128,
) -> Survived:
    """Lose one of four colocated engines for a while.

    Args:
        seed: Of the arrivals, the policy and the jitter of retries.
        breaker: Whether the router's circuit breakers work; off, they never open.
        policy: One of :data:`POLICIES`.
        down_s: When the engine is lost.
        up_s: When it is back, empty.
        n_requests: Requests, each with a prompt of its own.
        arrival_rate_rps: Mean arrivals in a second.
        prompt_tokens: Longest prompt.
        output_tokens: Longest answer.

    Raises:
        ValueError: if the policy is unknown.
    """
    _known(policy)
    requests = poisson_requests(
        n_requests, arrival_rate_rps=arrival_rate_rps, prompt_tokens=prompt_tokens,
        output_tokens=output_tokens, seed=seed,
    )  # fmt: skip
    retries = Retries(seed=seed, failure_threshold=5 if breaker else NEVER)

    def serve(failures: tuple[Failure, ...]) -> Run:
        return simulate(
            requests,
            _fleet(6000, two_pools=False),
            prefill_policy=POLICIES[policy]((seed, 1)),
            failures=failures,
            retries=retries,
        )

    calm, run = serve(()), serve((Failure(0, down_s, up_s),))
    pairs = list(zip(calm.served, run.served, strict=True))
    return Survived(
        answered=sum(len(s.outputs) == s.request.max_new_tokens for s in run.served),
        failed=sum(s.failed for s in run.served),
        same_tokens=all(s.outputs == c.outputs[: len(s.outputs)] for c, s in pairs),
        restarted=sum(s.attempts > 1 for s in run.served),
        retries=sum(s.retries for s in run.served),
        most_retries=max(s.retries for s in run.served),
        ttft_p99_s=_p99_ttft(run),
        calm_ttft_p99_s=_p99_ttft(calm),
    )


def _p99_ttft(run: Run) -> float:
    return percentile((s.ttft_s for s in run.served if s.token_times_s), 0.99)


def record_routing(*, policy: str, seed: int) -> dict[str, dict[str, float]]:
    """:func:`measure_routing` on both kinds of fleets, as plain numbers.

    Args:
        policy: One of :data:`POLICIES`.
        seed: Of the conversations and the policy.
    """
    fleets = {"two pools": True, "colocated": False}
    return {
        name: asdict(measure_routing(policy=policy, seed=seed, two_pools=two_pools))
        for name, two_pools in fleets.items()
    }


def record_failure(*, policy: str, seed: int) -> dict[str, dict[str, float]]:
    """:func:`measure_failure` with circuit breakers and without, as plain numbers.

    Args:
        policy: One of :data:`POLICIES`.
        seed: Of the arrivals, the policy and the retries.
    """
    return {
        name: asdict(measure_failure(seed=seed, breaker=breaker, policy=policy))
        for name, breaker in (("breaker", True), ("no breaker", False))
    }
