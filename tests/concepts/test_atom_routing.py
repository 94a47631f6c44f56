"""ATOMesh's routing: what conversations reuse, and what becomes of a lost engine's requests."""

import pytest

from aiexplained.concepts.atom.routing_study import POLICIES, measure_failure, measure_routing

SMALL = {"n_sessions": 23, "turns": 5, "question_tokens": 307, "system_tokens": 211}
SEEDS = (0, 1, 2)


@pytest.mark.parametrize("two_pools", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_knowing_the_texts_or_the_session_finds_more_in_the_cache_than_chance(two_pools, seed):
    found = {
        policy: measure_routing(policy=policy, seed=seed, two_pools=two_pools, **SMALL)
        for policy in ("random", "cache aware", "sticky")
    }
    for policy in ("cache aware", "sticky"):
        assert found[policy].cached_share > found["random"].cached_share + 0.05
        assert found[policy].ttft_median_s < found["random"].ttft_median_s
        if two_pools:
            assert found[policy].blocks_skipped > found["random"].blocks_skipped
    moved = {r.blocks_moved + r.blocks_skipped for r in found.values()}
    assert len(moved) == 1  # together: the blocks of all prompts, whatever the policy
    assert (moved == {0}) is not two_pools


@pytest.mark.parametrize(
    ("policy", "seed"),
    [*(("least loaded", seed) for seed in SEEDS), ("cache aware", 0), ("random", 0)],
)
def test_every_request_is_answered_once_with_the_same_tokens(policy, seed):
    run = measure_failure(seed=seed, breaker=True, policy=policy)
    assert (run.answered, run.failed, run.same_tokens) == (160, 0, True)
    assert run.retries > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_without_breaker_the_lost_engine_looks_idle_and_swallows_requests(seed):
    run = measure_failure(seed=seed, breaker=False)
    assert run.failed > 0
    assert run.answered + run.failed == 160
    assert run.most_retries == 5
    assert run.ttft_p99_s > 5 * run.calm_ttft_p99_s


def test_rejects_an_unknown_policy():
    for call in (
        lambda: measure_routing(policy="best", seed=0, two_pools=True),
        lambda: measure_failure(policy="best", seed=0, breaker=True),
    ):
        with pytest.raises(ValueError, match="policy must be one of"):
            call()


def test_there_are_seven_policies():
    assert len(POLICIES) == 7
