import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.data.python_questions import find_evidence, load_questions
from aiexplained.data.python_reference import load_passages
from aiexplained.data.retrieval import rank_passages, rank_passages_by_words

Q, P, D, K = 3, 11, 7, 5


def test_ranks_by_the_angle_and_not_by_the_length():
    passages = np.array([[10.0, 10.0], [1.0, 0.0], [0.0, 5.0]])
    assert rank_passages(np.array([[2.0, 0.1]]), passages, 3).tolist() == [[1, 0, 2]]
    by_dot_product = np.argsort(-passages @ [2.0, 0.1])
    assert by_dot_product.tolist() != [1, 0, 2]


def test_equal_scores_keep_the_order_of_the_passages():
    passages = np.tile([[3.0, 4.0]], (P, 1))
    assert rank_passages(np.array([[1.0, 2.0]]), passages, K).tolist() == [list(range(K))]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_ranking_is_the_start_of_a_longer_one_and_ignores_scale(seed):
    rng = np.random.default_rng(seed)
    queries, passages = rng.normal(size=(Q, D)), rng.normal(size=(P, D))
    ranked = rank_passages(queries, passages, P)
    assert ranked.shape == (Q, P)
    assert np.array_equal(np.sort(ranked, axis=1), np.tile(np.arange(P), (Q, 1)))
    assert np.array_equal(rank_passages(queries, passages, K), ranked[:, :K])
    # Powers of two scale without rounding.
    scaled = passages * 2.0 ** rng.integers(-3, 4, size=(P, 1))
    assert np.array_equal(rank_passages(4 * queries, scaled, P), ranked)


@pytest.mark.parametrize(
    ("queries", "passages", "k", "message"),
    [
        (np.ones((Q, D)), np.ones((P, D)), P + 1, "k must be from 1 to the 11 passages, got 12"),
        (np.ones((Q, D)), np.ones((P, D)), 0, "k must be from 1"),
        (np.ones((Q, D)), np.ones((P, D + 1)), K, "same width, got 7 and 8"),
        (np.ones(D), np.ones((P, D)), K, r"query_vectors must have two axes.*\(7,\)"),
        (np.ones((Q, D)), np.zeros((P, D)), K, "passage_vectors must be finite and have no zero"),
        (np.full((Q, D), np.nan), np.ones((P, D)), K, "query_vectors must be finite"),
    ],
)
def test_rejects_what_has_no_cosine(queries, passages, k, message):
    with pytest.raises(ValueError, match=message):
        rank_passages(queries, passages, k)


def bm25_by_hand(query, passages, k1, b):
    """One passage and one word at a time, straight from the formula."""
    split = [p.split() for p in passages]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for words in split:
        score = 0.0
        for word in query.split():
            df = sum(word in other for other in split)
            f = words.count(word)
            if f:
                idf = math.log(1 + (len(split) - df + 0.5) / (df + 0.5))
                score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(words) / mean))
        scores.append(score)
    return scores


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=9), min_size=2, max_size=7),
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4),
    st.sampled_from([(1.2, 0.75), (0.5, 0.0), (2.0, 1.0)]),
)
def test_bm25_orders_as_the_formula_written_out(documents, query, parameters):
    k1, b = parameters
    passages, text = [" ".join(words) for words in documents], " ".join(query)
    (ranked,) = rank_passages_by_words([text], passages, len(passages), k1=k1, b=b)
    scores = np.array(bm25_by_hand(text, passages, k1, b))[ranked]
    assert (np.diff(scores) <= 1e-12 * max(1.0, scores.max())).all()


def test_a_rare_word_counts_more_than_a_frequent_one():
    passages = ["the the tree", "the walk", "the greedy walk"]
    assert rank_passages_by_words(["the greedy"], passages, 1).tolist() == [[2]]
    assert rank_passages_by_words(["THE, tree!"], passages, 1).tolist() == [[0]]


def test_a_query_of_unknown_words_leaves_the_order_of_the_passages():
    assert rank_passages_by_words(["zebra", ""], ["a b", "c"], 2).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(("k1", "b"), [(-0.1, 0.5), (1.2, 1.1), (1.2, -0.1)])
def test_rejects_parameters_outside_the_formula(k1, b):
    with pytest.raises(ValueError, match="BM25 needs k1 >= 0 and 0 <= b <= 1"):
        rank_passages_by_words(["a"], ["a"], 1, k1=k1, b=b)


def test_words_alone_find_most_of_the_evidence_and_chance_does_not():
    passages = load_passages()
    questions = load_questions(passages, skip_missing=True)
    ranked = rank_passages_by_words([q.text for q in questions], [p.text for p in passages], K)

    def recall(rows):
        hits = [
            bool(set(find_evidence(q, passages)) & set(row))
            for q, row in zip(questions, rows, strict=True)
        ]
        return sum(hits) / len(hits)

    assert recall(ranked.tolist()) > 0.85
    rng = np.random.default_rng(0)
    assert recall([rng.permutation(len(passages))[:K].tolist() for _ in questions]) < 0.2
