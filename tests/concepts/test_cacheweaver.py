"""CacheWeaver's planner and simulation: invariants, limits, and where the method loses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.concepts import cacheweaver as cw
from aiexplained.concepts.cacheweaver import PrefixTree, deepest, look_ahead, weave

served_sets = st.lists(
    st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True), min_size=0, max_size=25
)
retrieved = st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True)


def tree_of(served, window=400):
    tree = PrefixTree(window)
    for order in served:
        tree.serve(order)
    return tree


def brute_force_depth(passages, served):
    """Longest opening of any served order that is made of ``passages`` alone."""
    best = 0
    for order in served:
        n = 0
        while n < len(order) and order[n] in passages:
            n += 1
        best = max(best, n)
    return best


@given(served_sets, retrieved)
def test_every_order_is_a_permutation(served, passages):
    tree = tree_of(served)
    for order in (
        weave(passages, tree),
        weave(passages, tree, tail="popular"),
        deepest(passages, tree),
        look_ahead(passages, tree, served[:3]),
    ):
        assert sorted(order) == sorted(passages)


@given(served_sets, retrieved)
def test_greedy_lies_between_retrieval_order_and_the_oracle(served, passages):
    tree = tree_of(served)
    greedy, oracle = tree.depth(weave(passages, tree)), tree.depth(deepest(passages, tree))
    assert tree.depth(passages) <= oracle
    assert greedy <= oracle
    assert (greedy == 0) == (oracle == 0)  # any start at all is found by both
    assert oracle == brute_force_depth(passages, served)


def test_the_oracle_check_would_catch_a_greedy_oracle():
    served = [["A", "X"], ["B", "C", "D"]]
    passages = ["A", "B", "C", "D"]
    tree = tree_of(served)
    assert weave(passages, tree) == ("A", "B", "C", "D")
    assert tree.depth(weave(passages, tree)) == 1
    assert deepest(passages, tree) == ("B", "C", "D", "A")
    assert brute_force_depth(passages, served) == 3


@given(served_sets, retrieved)
def test_where_nothing_matches_the_order_is_retrieval_order(served, passages):
    fresh = [p + 100 for p in passages]
    tree = tree_of(served)
    assert weave(fresh, tree) == tuple(fresh)
    assert deepest(fresh, tree) == tuple(fresh)


@given(served_sets, retrieved)
def test_look_ups_stay_within_the_quadratic_bound(served, passages):
    tree = tree_of(served)
    weave(passages, tree)
    k = len(passages)
    assert tree.lookups <= k * (k + 1) // 2


def test_the_bound_on_look_ups_is_reached():
    k = 7
    tree = tree_of([range(k)])
    weave(range(k - 1, -1, -1), tree)
    assert tree.lookups == k * (k + 1) // 2


def test_an_opening_is_forgotten_after_the_window():
    tree = tree_of([["A", "B"]], window=3)
    for filler in "xy":
        tree.serve([filler])
    assert tree.depth(["A", "B"]) == 2
    tree.serve(["z"])
    assert tree.depth(["A", "B"]) == 0
    assert weave(["C", "A"], tree) == ("C", "A")


def test_memory_stays_within_the_window():
    tree = PrefixTree(window=5)
    for i in range(200):
        tree.serve([i, i + 1000, i + 2000])
    assert len(list(tree.paths())) <= 5 * 3


def test_paths_list_parents_before_children_with_their_age():
    tree = tree_of([["A", "B"], ["A", "C"]])
    assert list(tree.paths()) == [(("A",), 0), (("A", "B"), 1), (("A", "C"), 0)]


def test_ids_may_be_any_hashable():
    tree = tree_of([[("doc", 3), "b"]])
    assert weave(["b", ("doc", 3)], tree) == (("doc", 3), "b")


def test_rejects_a_passage_that_appears_twice():
    with pytest.raises(ValueError, match="passages must be distinct; 'A' appears 2 times"):
        weave(["A", "B", "A"], PrefixTree())


def test_rejects_unknown_tails_policies_and_windows():
    tree = PrefixTree()
    with pytest.raises(ValueError, match="tail must be 'retrieval' or 'popular', got 'best'"):
        weave(["A"], tree, tail="best")
    with pytest.raises(ValueError, match="window must be at least 1 request, got 0"):
        PrefixTree(0)
    with pytest.raises(ValueError, match=r"policy must be one of retrieval, .*; got 'magic'"):
        cw.simulate([[0]], [5], "magic")
    with pytest.raises(ValueError, match="trace must hold at least one request"):
        cw.simulate([], [5], "greedy")


# ---- simulation ------------------------------------------------------------------------------


def test_without_a_cache_every_order_reads_everything():
    trace, lengths = [[0, 1], [1, 0]], [17, 19]
    run = cw.simulate(trace, lengths, "greedy", engine=cw.Engine(capacity_blocks=0))
    assert run.cached.tolist() == [0, 0]
    assert run.total.tolist() == [32 + 17 + 19 + 32] * 2


def test_cached_tokens_follow_from_the_shared_opening():
    trace, lengths = [[0, 1], [1, 0]], [48, 64]
    retrieval = cw.simulate(trace, lengths, "retrieval")
    greedy = cw.simulate(trace, lengths, "greedy")
    assert retrieval.cached.tolist() == [0, 32]  # the instructions alone
    assert greedy.cached.tolist() == [0, 32 + 48 + 64]
    assert greedy.changed.tolist() == [False, True]


@pytest.mark.parametrize("k", [3, 5])
def test_greedy_beats_retrieval_order_in_every_seed_when_passages_recur(k):
    result = cw.measure_traces("bursty", k=k, n_requests=200, seeds=(0, 1, 2))
    for greedy, retrieval in zip(
        result["greedy"]["cached_share"], result["retrieval"]["cached_share"], strict=True
    ):
        assert greedy > retrieval


def test_a_one_off_first_passage_defeats_the_walk_and_the_repair_mends_it():
    result = cw.measure_one_off(n_requests=120, seeds=(0, 1, 2))
    for i in range(3):
        share = {policy: row["passage_share"][i] for policy, row in result.items()}
        assert share["retrieval"] == share["greedy"] == share["oracle"] == 0
        assert share["repaired"] > share["look-ahead"] / 2


def test_modeled_ttft_is_affine_in_the_tokens_read():
    engine = cw.Engine(overhead_s=0.5, per_token_s=0.25)
    assert engine.ttft_s(np.array([0, 2])).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="per_token_s > 0"):
        cw.Engine(per_token_s=0)
