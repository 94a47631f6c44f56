"""The text in miniature: seeded, exact in two bytes a number, with a needle like the last query."""

import pytest
import torch

from aiexplained.concepts.subq.toy import LIKENESS, STEP, choose_in_toy, make_toy

PARTS = ("query", "key", "needle", "planes", "centroids", "narrow")
PLACES = range(0, 240, 29)


def test_a_seed_makes_a_text_and_another_seed_another():
    one, again, other = make_toy(61, 12), make_toy(61, 12), make_toy(61, 12, seed=3)
    for name in PARTS:
        assert torch.equal(getattr(one, name), getattr(again, name)), name
        assert not torch.equal(getattr(one, name), getattr(other, name)), name


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    make_toy(61)
    assert torch.equal(torch.get_rng_state(), before)


def test_numbers_fit_two_bytes_exactly():
    toy = make_toy(61, 12)
    for name in PARTS:
        steps = getattr(toy, name) / STEP
        assert torch.equal(steps, steps.round()), name
        assert steps.abs().max() < 1 << 15, name


@pytest.mark.parametrize("seed", range(3))
def test_the_needle_resembles_the_last_query_as_no_other_key_does(seed):
    toy = make_toy(seed=seed)
    likeness = torch.cosine_similarity(toy.query[-1], toy.needle, dim=0)
    assert likeness == pytest.approx(LIKENESS, abs=1e-3)
    assert torch.cosine_similarity(toy.query[-1], toy.key).max() < likeness - 0.05


def test_lists_hold_every_part():
    toy = make_toy(61)
    lists = toy.as_lists()
    assert set(lists) == set(PARTS)
    assert torch.equal(torch.tensor(lists["planes"]), toy.planes)


def test_only_the_needle_s_place_changes():
    toy = make_toy(61)
    changed = (toy.with_needle(37) != toy.key).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [37]


@pytest.mark.parametrize("position", [-1, 61])
def test_a_needle_lies_in_the_text(position):
    with pytest.raises(ValueError, match=f"0 to 60, got {position}"):
        make_toy(61).with_needle(position)


@pytest.mark.parametrize(("n_tokens", "head_dim"), [(15, 16), (64, 6), (64, 0)])
def test_rejects_sizes_that_make_no_text(n_tokens, head_dim):
    with pytest.raises(ValueError, match=f"got {n_tokens} and {head_dim}"):
        make_toy(n_tokens, head_dim)


def share_found(name, budget):
    toy = make_toy()
    found = [choose_in_toy(toy, name, budget=budget, position=p)[0][-1, p] for p in PLACES]
    return sum(map(float, found)) / len(found)


def test_the_text_tells_selectors_apart():
    assert share_found("oracle", 64) == 1
    assert share_found("hash", 64) > 0.9
    assert 0.1 < share_found("centroids", 64) < 0.9
    assert 0.1 < share_found("block means", 64) < 0.9
    assert share_found("window", 64) < 0.25
    assert share_found("hash", 32) < share_found("hash", 48) < share_found("hash", 64)


def test_the_hash_needs_directions_for_its_budget():
    with pytest.raises(ValueError, match="asks for 14 tables, got 13"):
        choose_in_toy(make_toy(n_tables=13), "hash", budget=128, position=0)
