"""Associative recall: every answer stands in the sequence, and nowhere else can it be had from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.data.recall import IGNORE, RecallVocabulary, sample_recall

VOCABULARY = RecallVocabulary(n_keys=13, n_values=7, n_fillers=5)


def look_up(ids, place):
    """The token behind the first appearance of the token at ``place``."""
    return ids[list(ids).index(ids[place]) + 1]


@settings(deadline=None)
@given(st.integers(1, 13), st.data(), st.integers(0, 29), st.integers(0, 2**32 - 1))
def test_every_answer_can_be_looked_up(n_pairs, data, n_filler, seed):
    n_questions = data.draw(st.integers(1, n_pairs))
    seq_len = 2 * (n_pairs + n_questions) + n_filler
    batch = sample_recall(
        3, seq_len=seq_len, n_pairs=n_pairs, n_questions=n_questions, seed=seed,
        vocabulary=VOCABULARY,
    )  # fmt: skip
    for ids, targets, sources in zip(batch.token_ids, batch.targets, batch.sources, strict=True):
        asked = np.flatnonzero(targets != IGNORE)
        assert len(asked) == len({*ids[asked]}) == n_questions
        assert (sources >= 0).nonzero()[0].tolist() == asked.tolist()
        for place in asked:
            assert list(ids[: place + 1]).count(ids[place]) == 2
            assert targets[place] == look_up(ids, place) == ids[place + 1] == ids[sources[place]]
            assert 0 < sources[place] < place
            assert ids[sources[place] - 1] == ids[place]
        assert np.bincount(kinds(ids), minlength=3).tolist() == [
            n_pairs + n_questions, n_pairs + n_questions, n_filler,
        ]  # fmt: skip


def kinds(ids):
    """0 for keys, 1 for values, 2 for filler."""
    return np.searchsorted([13, 20], ids, side="right")


def test_the_look_up_would_catch_a_value_that_moved():
    batch = sample_recall(1, seq_len=41, n_pairs=7, n_questions=3, seed=2, vocabulary=VOCABULARY)
    ids, (place, *_) = batch.token_ids[0].copy(), np.flatnonzero(batch.targets[0] >= 0)
    source = batch.sources[0, place]
    ids[source] = 13 + (ids[source] - 12) % 7
    assert look_up(ids, place) != batch.targets[0, place]


def test_distances_reach_from_near_to_far():
    batch = sample_recall(23, seq_len=509, n_pairs=97, n_questions=31, seed=1)
    rows, places = np.nonzero(batch.targets >= 0)
    distances = places - batch.sources[rows, places]
    # Sources are spread evenly over the 447 tokens before the questions: the mean distance is
    # 447 / 2 and half of the 62 more, its standard deviation 447 / sqrt(12) and a little.
    assert abs(distances.mean() - 509 / 2) < 4 * 132 / np.sqrt(len(distances))
    assert distances.min() < 25
    assert distances.max() > 484


def test_values_tell_nothing_of_their_keys():
    batch = sample_recall(997, seq_len=17, n_pairs=5, n_questions=3, seed=4, vocabulary=VOCABULARY)
    rows, places = np.nonzero(batch.targets >= 0)
    table = np.zeros((13, 7))
    np.add.at(table, (batch.token_ids[rows, places], batch.targets[rows, places] - 13), 1)
    expected = table.sum() / table.size
    # 90 degrees of freedom: 137.2 is exceeded once in a thousand times.
    assert ((table - expected) ** 2 / expected).sum() < 137.2


def test_same_seed_same_sequences_and_another_seed_others():
    def draw(seed):
        return sample_recall(2, seq_len=64, n_pairs=11, n_questions=5, seed=seed).token_ids.tolist()

    assert draw(7) == draw(7) == draw(np.random.default_rng(7))
    assert draw(7) != draw(8)


def test_ids_of_the_default_vocabulary():
    assert RecallVocabulary().size == 384
    batch = sample_recall(2, seq_len=1999, n_pairs=256, n_questions=256, seed=0)
    assert sorted({*batch.token_ids.flat}) == list(range(384))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_questions": 6}, "n_questions <= n_pairs <= n_keys, got 6, 5 and 13"),
        ({"n_pairs": 14}, "n_keys, got 3, 14 and 13"),
        ({"n_questions": 0}, "n_questions must be at least 1, got 0"),
        ({"seq_len": 15}, "5 pairs and 3 questions take 16 tokens, got seq_len=15"),
    ],
)
def test_rejects_sizes_that_do_not_fit(changes, message):
    sizes = {"seq_len": 17, "n_pairs": 5, "n_questions": 3, **changes}
    with pytest.raises(ValueError, match=message):
        sample_recall(2, **sizes, seed=0, vocabulary=VOCABULARY)


def test_rejects_an_empty_batch_and_a_kind_without_tokens():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        sample_recall(0, seq_len=17, n_pairs=5, n_questions=3, seed=0)
    with pytest.raises(ValueError, match=r"RecallVocabulary\.n_values must be at least 1, got 0"):
        RecallVocabulary(n_values=0)
