"""SubQ: the law of a fixed budget, causal selectors, exact attention on what they choose."""

import math

import numpy as np
import pytest
import torch

from aiexplained.concepts import subq
from aiexplained.nn import reference_attention, reference_block_list_attention

B, H, T, D = 2, 3, 331, 13
NAMES = list(subq.SELECTORS)


def make_inputs(seed=0, *, n_tokens=T, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, B, H, n_tokens, D)
    return torch.randn(shape, generator=generator, dtype=dtype).unbind()


def masks(query, key, select):
    positions = torch.arange(query.shape[2])
    return subq.selection_mask(select(query, key, positions), positions, key.shape[2])


# The law


def test_one_budget_gives_every_row_of_the_table_within_its_rounding():
    budget = subq.fit_budget(subq.VENDOR_TABLE[-1].n_tokens, subq.VENDOR_TABLE[-1].ratio)
    for row in subq.VENDOR_TABLE:
        low = (row.dense_pflop - 0.05) / (row.sparse_pflop + 0.05)
        high = (row.dense_pflop + 0.05) / (row.sparse_pflop - 0.05)
        assert low < subq.work_ratio(row.n_tokens, budget) < high, row
    assert 1 / subq.work_ratio(12 * 2**20, budget) == pytest.approx(0.0013, abs=5e-5)


def test_the_table_check_would_catch_a_budget_that_grows_with_the_text():
    rows = subq.VENDOR_TABLE
    grown = [subq.work_ratio(r.n_tokens, 8129 * math.sqrt(r.n_tokens / 2**20)) for r in rows]
    assert not all(r.ratio == pytest.approx(g, rel=0.05) for r, g in zip(rows, grown, strict=True))


@pytest.mark.parametrize(("n_tokens", "budget"), [(7, 3), (31, 31), (31, 97), (113, 1)])
def test_the_exact_ratio_counts_pairs_one_by_one(n_tokens, budget):
    read = sum(min(t, budget) for t in range(1, n_tokens + 1))
    dense = sum(range(1, n_tokens + 1))
    assert subq.exact_work_ratio(n_tokens, budget) == pytest.approx(dense / read)


def test_the_indexer_line_meets_the_rows_that_it_was_not_drawn_through():
    slope, offset = subq.fit_indexer()
    for n_tokens, ratio in subq.INDEXER_RATIOS:
        assert offset + slope * n_tokens == pytest.approx(ratio, abs=0.05)
    assert subq.indexer_crossover() == pytest.approx(52_000, rel=0.02)


def test_work_by_length_is_the_law_beyond_the_budget_and_dense_below_it():
    short, long = subq.work_by_length([100, 2**20], 8129)
    assert short["ratio"] == 1
    assert short["sparse"] == short["dense"]
    assert long["ratio"] == long["dense"] == subq.work_ratio(2**20, 8129)
    assert long["sparse"] == 1
    assert long["indexer"] == pytest.approx(1 + 16.1 * 2048 / 8129, rel=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: subq.work_ratio(0, 5), "positive, got 0 and 5"),
        (lambda: subq.fit_budget(5, -1), "positive, got 5 and -1"),
        (lambda: subq.efficiency(0, 3), "positive, got 0 and 3"),
    ],
)
def test_the_law_rejects_what_is_not_positive(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Selectors


@pytest.mark.parametrize("name", NAMES)
def test_no_selector_is_changed_by_the_future(name):
    query, key, _ = make_inputs()
    other_query, other_key, _ = make_inputs(1)
    now = 2 * T // 3
    select = subq.make_selector(name, budget=161)
    before = masks(query, key, select)
    query[:, :, now:], key[:, :, now:] = other_query[:, :, now:], 5 * other_key[:, :, now:]
    after = masks(query, key, select)
    assert torch.equal(before[:, :, :now], after[:, :, :now])
    assert name == "window" or not torch.equal(before, after)


@pytest.mark.parametrize("name", NAMES)
def test_a_selector_reads_its_newest_keys_no_future_and_no_more_than_its_budget(name):
    query, key, _ = make_inputs()
    read = masks(query, key, subq.make_selector(name, budget=161))
    assert read.sum(dim=-1).max() <= 161
    assert not read.triu(1).any()
    newest = torch.ones(T, T, dtype=torch.bool).tril().triu(-(subq.selectors.WINDOW_SIZE - 1))
    assert read[..., newest].all()


@pytest.mark.parametrize("name", NAMES)
def test_one_query_alone_is_chosen_for_as_among_all(name):
    query, key, _ = make_inputs()
    select = subq.make_selector(name, budget=161)
    positions = torch.tensor([T - 1, 197])
    alone = subq.selection_mask(select(query[:, :, positions], key, positions), positions, T)
    assert torch.equal(alone, masks(query, key, select)[:, :, positions])


def test_a_leak_would_be_caught():
    query, key, _ = make_inputs()

    def leaky(query, key, positions):
        return subq.select_best(query.roll(-1, 2), key, positions, budget=161)

    before = masks(query, key, leaky)
    query[:, :, -1] *= -1
    assert not torch.equal(before[:, :, :-1], masks(query, key, leaky)[:, :, :-1])


def test_the_oracle_reads_the_highest_scores():
    query, key, _ = make_inputs()
    read = masks(query, key, subq.make_selector("oracle", budget=101))
    scores = query @ key.transpose(-1, -2)
    old = torch.ones(T, T, dtype=torch.bool).tril(-subq.selectors.WINDOW_SIZE)
    last = scores[..., -1, :].masked_fill(~old[-1], -torch.inf)
    expected = last.topk(101 - subq.selectors.WINDOW_SIZE).indices
    assert read[..., -1, :].gather(-1, expected).all()
    assert int(read[..., -1, :].sum()) == 101 * B * H


def test_a_hash_reads_the_newest_earlier_members_of_the_querys_buckets():
    query, key, _ = make_inputs()
    planes = torch.randn(1, 2, 3, D, generator=torch.Generator().manual_seed(2))
    found = subq.select_by_hash(
        query, key, torch.arange(T), budget=80, window_size=5, members=3, planes=planes
    )
    read = subq.selection_mask(found, torch.arange(T), T)
    for b, h, t in [(0, 0, T - 1), (1, 2, 170), (1, 1, 6)]:
        expected = set(range(t - 4, t + 1))
        for table in planes[0]:
            same = ((key[b, h] @ table.T > 0) == (query[b, h, t] @ table.T > 0)).all(dim=-1)
            members = [s for s in range(t - 4) if same[s]]
            expected |= set(members[-3:])
        assert set(read[b, h, t].nonzero()[:, 0].tolist()) == expected


def test_a_hash_with_successors_also_reads_what_followed_each_member():
    query, key, _ = make_inputs()
    plain, more = (
        masks(query, key, subq.make_selector("hash", budget=b, members=2, bits=4, successor=s))
        for b, s in ((64 + 40, False), (64 + 80, True))
    )
    after = torch.nn.functional.pad(plain, (1, 0))[..., :T]
    assert torch.equal(more, plain | after.tril())


def test_directions_come_from_the_seed_and_not_from_the_data():
    query, key, _ = make_inputs()
    for name in ("hash", "centroids", "indexer"):
        first, same, other = (
            masks(query, key, subq.make_selector(name, budget=161, seed=s)) for s in (0, 0, 1)
        )
        assert torch.equal(first, same)
        assert not torch.equal(first, other)


GROWTH = {
    "window": 0, "hash": 1, "centroids": 1.5, "block means": 2, "two levels": 1.5, "indexer": 2,
    "oracle": 2,
}  # fmt: skip
"""Power of the length that the cost of choosing grows with, but for logarithms."""


@pytest.mark.parametrize("name", NAMES)
def test_the_counted_cost_of_choosing_grows_as_the_page_says(name):
    lengths = np.array([1024, 2048, 4096, 8192])
    costs = []
    for n in lengths:
        key = torch.randn(1, 1, n, 8, generator=torch.Generator().manual_seed(int(n)))
        # Sixteen queries stand for all; what is done for each key is counted in full.
        positions = torch.linspace(n / 32, n - 1, 16).long()
        found = subq.make_selector(name, budget=512)(key[:, :, positions], key, positions)
        costs.append(n * subq.cost_per_token(found, 16, n))
    if name == "window":
        assert costs == [0] * 4
        return
    power = np.polyfit(np.log(lengths), np.log(costs), 1)[0]
    assert power == pytest.approx(GROWTH[name], abs=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 64}, "covers the window and more, got 64 and a window of 64"),
        ({"window_size": -1}, "a window of -1"),
        ({"positions": torch.tensor([T])}, f"among the {T} keys, got {T} to {T}"),
        ({"positions": torch.arange(5)}, r"positions \(1,\)"),
        ({"key": torch.zeros(B, 1, T, D)}, "a key head for each query head"),
        ({"key": torch.zeros(B, H, T, D + 1)}, "equally wide"),
    ],
)
def test_selectors_reject_what_does_not_fit(change, message):
    query, key, _ = make_inputs()
    arguments = {"query": query[:, :, :1], "key": key, "positions": torch.tensor([3])}
    options = {"budget": 100} | {k: v for k, v in change.items() if k not in arguments}
    arguments |= {k: v for k, v in change.items() if k in arguments}
    with pytest.raises(ValueError, match=message):
        subq.select_by_hash(*arguments.values(), **options)


def test_an_unknown_selector_is_named():
    with pytest.raises(ValueError, match=r"'window'.*got 'psychic'"):
        subq.make_selector("psychic", budget=3)


# Attention on the selection


@pytest.mark.parametrize("name", NAMES)
def test_attention_is_an_exact_softmax_on_what_was_chosen(name):
    query, key, value = make_inputs(dtype=torch.float64)
    select = subq.make_selector(name, budget=161)
    found = subq.attend(query, key, value, select)
    expected = reference_attention(query, key, value, mask=masks(query, key, select))
    torch.testing.assert_close(found, expected)


def test_a_budget_for_everything_is_dense_attention():
    query, key, value = make_inputs(dtype=torch.float64)
    dense = reference_attention(query, key, value, is_causal=True)
    for name in ("window", "oracle", "indexer"):
        select = subq.make_selector(name, budget=T + 1)
        torch.testing.assert_close(subq.attend(query, key, value, select), dense)


@pytest.mark.parametrize("name", NAMES)
def test_attention_by_blocks_is_causal_and_reads_what_the_first_of_each_run_chose(name):
    query, key, value = make_inputs()
    select = subq.make_selector(name, budget=161)
    out = subq.attend_in_blocks(query, key, value, select)
    now = 200
    others = make_inputs(1)
    for mine, other in zip((query, key, value), others, strict=True):
        mine[:, :, now:] = other[:, :, now:]
    changed = subq.attend_in_blocks(query, key, value, select)
    assert torch.equal(out[:, :, :now], changed[:, :, :now])
    counts, indices = subq.select_blocks(query, key, select)
    first = torch.arange(0, T, 64)
    one_by_one = subq.selection_mask(select(query[:, :, ::64], key, first), first, T)
    blocks = torch.nn.functional.pad(one_by_one, (0, -T % 64)).unflatten(-1, (-1, 64)).any(-1)
    for b, h, n in [(0, 0, 5), (1, 2, 3)]:
        expected = set(blocks[b, h, n].nonzero()[:, 0].tolist())
        assert set(indices[b, h, n, : counts[b, h, n]].tolist()) == expected


def test_a_list_chosen_for_a_whole_run_would_leak():
    query, key, value = make_inputs()
    select = subq.make_selector("block means", budget=161)

    def attend(query):
        chosen = query.clone()
        chosen[:, :, ::64] = query[:, :, 63::64][:, :, -1:]
        counts, indices = subq.select_blocks(chosen, key, select)
        return reference_block_list_attention(query, key, value, counts, indices)[0]

    before = attend(query)
    query[:, :, 319] += 3  # the last query of the last full run
    assert not torch.equal(before[:, :, 256:319], attend(query)[:, :, 256:319])


def test_runs_of_keys_that_do_not_fit_a_block_are_refused():
    query, key, _ = make_inputs()
    select = subq.make_selector("block means", budget=161, block_size=24)
    with pytest.raises(ValueError, match="must fit in a block of 64, got key_block=24"):
        subq.select_blocks(query, key, select)


def test_selected_pairs_counts_the_mask():
    query, key, _ = make_inputs()
    positions = torch.arange(T)
    found = subq.make_selector("hash", budget=161)(query, key, positions)
    mask = subq.selection_mask(found, positions, T)
    assert subq.selected_pairs(found, positions, T) == int(mask.sum())


def test_rounded_keys_of_a_block_means_choice_cover_whole_blocks():
    query, key, _ = make_inputs()
    read = masks(query, key, subq.make_selector("block means", budget=64 + 128))
    old = read[:, :, -1, : T - 64 - T % 64]
    assert set(old.unflatten(-1, (-1, 64)).sum(-1).unique().tolist()) <= {0, 64}
