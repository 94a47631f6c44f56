"""SubQ's experiments on vectors, run small, and the sums over their records."""

import math

import numpy as np
import pytest
import torch

from aiexplained import records
from aiexplained.concepts import subq
from aiexplained.nn import reference_attention

SMALL = {"lengths": (512, 1024), "budgets": (128, 256), "n_needles": 60}


@pytest.fixture(scope="module")
def needles():
    return [{"result": subq.measure_needles(seed=seed, **SMALL)} for seed in (0, 1)]


def test_needles_have_the_cosine_that_was_asked_for_and_different_places():
    key, query, place = subq.make_needles(97, (0.3, -0.5), 31, head_dim=7, seed=0)
    assert len(place.unique()) == 31
    for cosine, each in zip((0.3, -0.5), query, strict=True):
        found = torch.nn.functional.cosine_similarity(each, key[0, 0, place], dim=-1)
        torch.testing.assert_close(found, torch.full_like(found, cosine), atol=1e-5, rtol=0)
        torch.testing.assert_close(each.norm(dim=-1), torch.full_like(found, math.sqrt(7)))


@pytest.mark.parametrize(("n_tokens", "cosines"), [(5, (0.5,)), (50, (1.5,))])
def test_needles_that_cannot_be_are_refused(n_tokens, cosines):
    with pytest.raises(ValueError, match=rf"got 9 in {n_tokens} and \({cosines[0]}"):
        subq.make_needles(n_tokens, cosines, 9, seed=0)


def test_reads_says_what_the_mask_says():
    key, query, place = subq.make_needles(700, (0.9,), 41, seed=3)
    positions = torch.full((41,), 699)
    for name in subq.SELECTORS:
        found = subq.make_selector(name, budget=200)(query[None], key, positions)
        mask = subq.selection_mask(found, positions, 700)[0, 0]
        expected = mask[torch.arange(41), place]
        assert torch.equal(subq.reads(found, place, 699), expected), name


def test_the_oracle_finds_all_and_the_window_only_what_is_new(needles):
    cells = subq.needle_cells(needles)
    for (n_tokens, budget, _), cell in cells.items():
        assert cell["oracle"][0] == 100
        assert cell["window"][0] == pytest.approx(100 * budget / n_tokens, abs=15)
        assert cell["window"][1] == 2 * budget


def test_recall_rises_with_the_budget_and_with_likeness(needles):
    cells = subq.needle_cells(needles)
    assert cells[1024, 256, 0.85]["hash"][0] > cells[1024, 128, 0.85]["hash"][0]
    assert cells[1024, 128, 0.95]["hash"][0] > cells[1024, 128, 0.7]["hash"][0]


def test_a_budget_for_the_whole_text_reads_it(needles):
    few = {"lengths": (256, 512), "budgets": (256, 128)}
    short = [{"result": subq.measure_needles(seed=0, n_needles=9, **few)}]
    cell = subq.needle_cells(short)[256, 256, 0.7]
    assert set(cell.values()) == {(100.0, 512.0)}
    assert needles[0]["result"]["cosines"] == [0.7, 0.85, 0.95]


def test_cost_to_find_takes_the_cheapest_budget_that_is_enough():
    rows = [
        {"selector": "hash", "n_tokens": n, "budget": b, "recall": [r], "dots": d}
        for n, b, r, d in (
            (100, 10, 0.5, 1),
            (100, 20, 0.9, 2),
            (100, 40, 1.0, 3),
            (200, 20, 0.8, 2),
        )
    ]
    entry = {"result": {"rows": rows, "cosines": [0.85]}}
    costs = subq.cost_to_find([entry], "hash", cosine=0.85, recall=0.9)
    assert costs == {100: 2 + 2 * 20, 200: None}
    curves = subq.cost_curves([entry], cosine=0.85, recall=0.9)
    assert curves == {"hash": ([100], [42]), "dense": ([100, 200], [200, 400])}


def test_growth_is_the_power_of_the_length():
    assert subq.growth({10: 3.0, 100: 3.0, 1000: None}) == pytest.approx(1)
    assert subq.growth({10: 3.0, 100: 30.0, 1000: 300.0}) == pytest.approx(2)
    with pytest.raises(ValueError, match="two lengths, got 1"):
        subq.growth({10: 3.0, 100: None})


def test_a_vote_needs_every_vote():
    votes = {"n_tokens": 512, "n_votes": (32, 512), "budget": 96, "n_trials": 30, "margin": 0.07}
    found = subq.measure_vote(seed=0, selectors=("oracle", "window"), **votes)
    right = found["right"]
    assert right["dense"] == [1, 1]
    assert right["oracle"][0] == 1  # all votes fit the budget
    assert 0.5 < right["oracle"][1] < 1
    assert right["window"][0] < 1
    assert subq.summarize_vote([{"result": found}] * 2) == ([32, 512], right)


def test_the_vote_reads_what_attention_would():
    query, key, value = subq.measure._make_vote(300, 90, 0.1, 0.85, seed=1)
    last, select = torch.tensor([299]), subq.make_selector("block means", budget=140)
    found = select(query[None, None, None], key[None, None], last)
    read = subq.measure._read(found, 300)
    mask = subq.selection_mask(found, last, 300)
    assert torch.equal(read, mask[0, 0, 0])
    out = reference_attention(
        query[None, None, None], key[None, None], value[None, None, :, None], mask=mask
    )
    weight = (key @ query / math.sqrt(len(query))).exp()
    assert float(out) == pytest.approx(
        float((weight * value)[read].sum() / weight[read].sum()), rel=1e-4, abs=1e-6
    )


def rows_of_time():
    return [
        {"n_tokens": n, "seconds": {"dense": 1e-9 * n**2, "ours": 4e-6 * n}}
        for n in (1000, 2000, 4000, 8000, 16_000)
    ]


def test_slope_and_crossover_of_known_laws():
    rows = rows_of_time()
    assert subq.slope(rows, "dense") == pytest.approx(2)
    assert subq.slope(rows, "ours", at_least=2000) == pytest.approx(1)
    assert subq.crossover(rows) == pytest.approx(4000)
    with pytest.raises(ValueError, match="everywhere or nowhere"):
        subq.crossover(rows[:2])


def test_real_runs_are_averaged_over_texts():
    result = {"copy_nll": 1.0, "first_nll": 2.0, "perplexity": 4.0, "read": 0.5, "mass": 0.9}
    entries = [
        {
            "setting": {"selector": name, "budget": budget, "n_tokens": 4096, "part": part},
            "result": result | {"copy_nll": nll, "perplexity": perplexity},
        }
        for name, budget in (("hash", 256), ("hash", 1024), ("dense", 0))
        for part, nll, perplexity in ((0, 1.0, 4.0), (1, 3.0, 9.0))
    ]
    real = subq.summarize_real(entries, 4096)
    assert [p["budget"] for p in real["hash"]] == [256, 1024]
    point = real["hash"][0]
    assert (point["copy_nll"], point["copy_low"], point["copy_high"]) == (2.0, 1.0, 3.0)
    assert point["perplexity"] == pytest.approx(6.0)
    dense = real.pop("dense")[0]
    curves = subq.real_curves(real, dense, "mass")
    assert curves["hash"] == ([50, 50], [90, 90])
    assert curves["dense"] == ([50, 50], [90, 90])
    assert "hash 90.00" in subq.tell_real(curves, "attention (%)")
    assert subq.summarize_real(entries, 8192) == {}


def test_the_records_show_what_the_page_says():
    cells = subq.needle_cells(records.load("subq", "needles"))
    lengths = sorted({n for n, _, _ in cells})
    by_length = [cells[n, 256, 0.85]["hash"][0] for n in lengths]
    assert by_length == sorted(by_length, reverse=True)
    assert by_length[0] - by_length[-1] > 20
    for entry in records.load("subq", "needles"):
        costs = subq.cost_to_find([entry], "hash", cosine=0.85, recall=0.9)
        assert 1 < subq.growth(costs) < 2
    votes, right = subq.summarize_vote(records.load("subq", "vote"))
    beyond = [r for n, r in zip(votes, right["oracle"], strict=True) if n > 2048]
    assert max(beyond) < 1
    assert right["dense"] == [1.0] * len(votes)
    assert np.all(np.diff(votes) > 0)


def test_trained_planes_find_at_eight_times_their_length_what_random_ones_miss():
    recall = subq.recall_by_length(records.load("subq", "recall"), span=4096)
    assert min(recall["dense"][4096]) > 99
    assert min(recall["learned hash"][4096]) > 95
    assert max(recall["random hash"][4096]) < 60
    assert max(recall["window"][4096]) < 5
    near = subq.recall_by_length(records.load("subq", "recall"), span=512)
    pairs = zip(recall["learned hash"][4096], near["learned hash"][4096], strict=True)
    assert all(far > short for far, short in pairs)
    curves = subq.recall_curves(recall)
    assert curves["learned hash"][1][-1] == pytest.approx(np.mean(recall["learned hash"][4096]))
