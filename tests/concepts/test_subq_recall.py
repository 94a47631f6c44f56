"""Associative recall by hashes: what is trained, what is chosen, and what comes out."""

import json

import numpy as np
import pytest
import torch

from aiexplained.concepts.subq import planes as hashing
from aiexplained.concepts.subq import reader as reading
from aiexplained.concepts.subq import recall
from aiexplained.concepts.subq.selection import selection_mask
from aiexplained.concepts.subq.selectors import select_by_hash, select_window
from aiexplained.data.recall import RecallVocabulary
from aiexplained.lm import Transformer, TransformerConfig
from aiexplained.nn import reference_attention

B, H, T, D = 2, 3, 67, 5
SHAPE = hashing.HashShape(bits=3, tables=2, members=2, window_size=11)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_reader(select=None):
    config = TransformerConfig(
        d_model=12, d_ff=13, n_layers=2, n_heads=3, n_kv_heads=3, head_dim=4, vocab_size=29
    )
    return Transformer(config, attention=reading.read_what_followed(select), seed=1)


def test_late_keys_read_what_followed_a_match():
    query, key, value = (draw(B, H, T, D, seed=s) for s in range(3))
    out = reading.read_what_followed()(query, key, value, is_causal=True)
    moved = torch.cat((key[:, :, :1], key[:, :, :-1]), dim=2)
    torch.testing.assert_close(out, reference_attention(query, moved, value, is_causal=True))
    place = 23
    key[:, :, place] = 40 * query[:, :, -1]
    found = reading.read_what_followed()(query, key, value, is_causal=True)[:, :, -1]
    torch.testing.assert_close(found, value[:, :, place + 1])


def test_a_window_of_everything_is_dense_and_a_narrow_one_is_not():
    query, key, value = (draw(B, H, T, D, seed=s) for s in range(3))
    dense = reading.read_what_followed()(query, key, value)
    for budget, alike in ((T, True), (T - 7, False)):
        operator = reading.read_what_followed(
            lambda q, k, p, budget=budget: select_window(q, k, p, budget=budget)
        )
        assert torch.allclose(operator(query, key, value), dense, atol=1e-6) == alike


def test_late_keys_refuse_parts_of_a_text():
    query, key = draw(B, H, 1, D), draw(B, H, T, D)
    with pytest.raises(ValueError, match="need a whole sequence"):
        reading.read_what_followed()(query, key, key)


def test_positions_rise_and_jump_between_parts_only():
    rng = np.random.default_rng(3)
    many = [reading.skip_positions(T, span=997, n_parts=4, rng=rng) for _ in range(53)]
    for places in many:
        steps = places.diff()
        assert (steps >= 1).all()
        assert 0 <= places[0] <= places[-1] < 997
        assert (steps > 1).sum() <= 3
    assert max(int(places[-1]) for places in many) > 900
    assert reading.skip_positions(T, span=T, n_parts=4, rng=rng).tolist() == list(range(T))
    with pytest.raises(ValueError, match="n_parts <= seq_len <= span, got 4, 67 and 66"):
        reading.skip_positions(T, span=T - 1, n_parts=4, rng=rng)


def test_batches_hold_ids_targets_and_positions():
    vocabulary = RecallVocabulary(n_keys=31, n_values=7, n_fillers=5)
    batches = reading.recall_batches(vocabulary, (61, 127), span=997, first=2, seed=0)
    lengths = [next(batches).shape for _ in range(23)]
    assert {shape[2] for shape in lengths[:2]} == {61}
    assert {shape[2] for shape in lengths} == {61, 127}
    assert all(shape[0] == 3 and shape[1] * shape[2] <= reading.BATCH_TOKENS for shape in lengths)
    ids, targets, positions = next(batches)
    asked = targets[:, :-1] >= 0
    assert (ids[:, 1:][asked] == targets[:, :-1][asked]).all()
    assert (positions == positions[0]).all()


def test_planes_have_an_offset_and_apply_to_queries_and_keys_apart():
    query, key, planes = draw(B, H, T, D), draw(B, H, T, D, seed=1), draw(7, 2 * D + 2, seed=2)
    wide_query, wide_key = hashing.widen(query, key)
    torch.testing.assert_close(wide_query @ planes.T, query @ planes[:, :D].T + planes[:, D])
    torch.testing.assert_close(wide_key @ planes.T, key @ planes[:, D + 1 : -1].T + planes[:, -1])


def test_random_planes_choose_as_an_ordinary_hash_does():
    query, key = draw(B, H, T, D), draw(B, H, T, D, seed=1)
    planes = hashing.random_planes([(query, key)], SHAPE, centered=False, seed=5)
    positions = torch.arange(T)
    ours = planes.selectors()[0](query, key, positions)
    same = select_by_hash(
        query, key, positions, budget=SHAPE.budget, window_size=11, members=2,
        planes=draw(H, 2, 3, D, seed=5),
    )  # fmt: skip
    masks = [selection_mask(x, positions, T) for x in (ours, same)]
    assert torch.equal(*masks)
    assert 11 < masks[0][:, :, -1].sum(dim=-1).max() <= SHAPE.budget == 15


def test_centered_planes_halve_what_lies_to_one_side():
    query, key = draw(B, H, T, D) + 3, draw(B, H, T, D, seed=1) - 3

    def balance(centered):
        planes = hashing.random_planes([(query, key)], SHAPE, centered=centered, seed=5).planes[0]
        wide = hashing.widen(query, key)
        signs = [torch.einsum("bhtd,hnkd->bhntk", x, planes).sign() for x in wide]
        return max(x.mean(dim=(0, 3)).abs().mean().item() for x in signs)

    assert balance(True) < 0.2
    assert balance(False) > 0.6


def test_the_wanted_key_is_the_best_beyond_the_window():
    query, key = draw(B, H, T, D), draw(B, H, T, D, seed=1)
    weights, places = hashing.wanted_keys(query, key, window_size=11)
    all_weights = (query @ key.transpose(-1, -2) / D**0.5).masked_fill(
        torch.ones(T, T).triu(1).bool(), -torch.inf
    )
    all_weights = all_weights.softmax(dim=-1)
    for t in (11, 29, T - 1):
        best = all_weights[:, :, t, : t - 10].max(dim=-1)
        torch.testing.assert_close(weights[:, :, t], best.values)
        assert torch.equal(places[:, :, t], best.indices)
    assert (weights[:, :, :11] == 0).all()
    part = torch.tensor([13, 41])
    of_part = hashing.wanted_keys(query[:, :, part], key, part, window_size=11)
    torch.testing.assert_close(of_part[0], weights[:, :, part])


def twisted_states(n_batches, *, seed=0, n_tokens=127, width=13):
    """Queries that look for one key each, stretched where keys are shrunk; keys are moved."""
    generator = torch.Generator().manual_seed(seed)
    stretch = torch.logspace(-0.8, 0.8, width)
    for _ in range(n_batches):
        hidden = torch.nn.functional.normalize(
            torch.randn(1, 1, n_tokens, width, generator=generator), dim=-1
        )
        wanted = hidden[:, :, torch.randint(1, 61, (n_tokens,), generator=generator)]
        yield [(8 * wanted * stretch, 8 * hidden / stretch + 2)]


def found_share(planes, states):
    query, key = states[0]
    positions = torch.arange(query.shape[2])
    weight, wanted = hashing.wanted_keys(query, key, window_size=planes.shape.window_size)
    chosen = planes.selectors()[0](query, key, positions)
    mask = selection_mask(chosen, positions, key.shape[2])
    sharp = weight > recall.SHARP
    assert sharp.sum() > 40
    return (mask.gather(-1, wanted[..., None])[..., 0] & sharp).sum().item() / sharp.sum().item()


def test_learned_planes_find_what_random_ones_miss():
    shape = hashing.HashShape(bits=5, tables=2, members=2, window_size=11)
    learned, losses = hashing.learn_planes(twisted_states(151), shape, steps=150, seed=0)
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) * 0.7
    *_, unseen = twisted_states(200)
    some = next(twisted_states(1))
    shares = [
        found_share(hashing.random_planes(some, shape, centered=c, seed=0), unseen)
        for c in (False, True)
    ]
    assert found_share(learned, unseen) > max(shares) + 0.3


def test_one_bucket_for_all_is_no_way_to_lower_the_loss():
    (query, key), *_ = next(twisted_states(1))
    shape = hashing.HashShape(bits=5, tables=2, members=2, window_size=11)
    fair = hashing.random_planes([(query, key)], shape, centered=True, seed=0).planes[0].detach()
    lumped = torch.zeros_like(fair)
    lumped[..., [13, -1]] = 9.0
    losses = [hashing.plane_loss(p, query, key, window_size=11) for p in (lumped, fair)]
    assert losses[0] > np.log(20) + 0.99  # a share of one in 20 and more keys, and no balance
    learned, _ = hashing.learn_planes(twisted_states(41), shape, steps=40, seed=0)
    assert hashing.plane_loss(learned.planes[0], query, key, window_size=11) < losses[0]


@pytest.mark.parametrize("kind", ["fixed", "from the text"])
def test_what_comes_later_changes_nothing_unless_the_planes_come_from_it(kind):
    model, ids = (
        tiny_reader(),
        torch.randint(29, (1, T), generator=torch.Generator().manual_seed(0)),
    )
    changed = ids.clone()
    changed[:, 41:] = (ids[:, 41:] + 5) % 29
    fixed = reading.queries_and_keys(model, ids.flip(1))

    def logits(text):
        states = fixed if kind == "fixed" else reading.queries_and_keys(model, text)
        planes = hashing.random_planes(states, SHAPE, centered=True, seed=0)
        operators = [reading.read_what_followed(select) for select in planes.selectors()]
        with torch.no_grad(), model.attending_with(operators):
            return model(text)[:, :41]

    assert torch.equal(logits(ids), logits(changed)) == (kind == "fixed")


SMALL = {
    "seed": 0, "steps": 240, "plane_steps": 100, "bits": 5, "tables": 2, "members": 2,
    "window_size": 13, "n_keys": 23, "d_model": 32, "lengths": (61, 251),
    "train_lengths": (31, 61), "n_questions": 89,
}  # fmt: skip


@pytest.fixture(scope="module")
def run():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH_TOKENS", 1024)
        return recall.measure_recall(**SMALL)


def test_learned_hashes_keep_what_a_window_loses(run):
    accuracy, found = run["accuracy"], run["found"]
    assert min(accuracy["dense"]) > 0.9
    assert max(accuracy["window"]) < 0.5
    for kind in ("random", "centered"):
        assert found["learned"][0] > found[kind][0] + 0.15
        assert accuracy["learned"][0] > accuracy[kind][0] + 0.1
        assert accuracy["learned"][1] > accuracy[kind][1]


def test_a_run_says_what_it_read(run):
    assert run["lengths"] == [61, 251]
    assert run["budget"] == 13 + 2 * 2
    assert json.loads(json.dumps(run)) == run
    read = run["keys_read"]
    assert set(read) == set(run["accuracy"]) == {"dense", "window", "random", "centered", "learned"}
    assert read["window"] == [17, 17]
    assert all(13 <= n <= 17 for name in run["found"] for n in read[name])
    # Questions are the last tokens: all but a few of the text are read.
    assert 0 < 61 - read["dense"][0] < 64
    assert 0 < 251 - read["dense"][1] < 64
    assert run["questions"] == [96, 92]


def test_a_run_is_decided_by_its_settings():
    short = {**SMALL, "steps": 3, "plane_steps": 2, "lengths": (61,), "n_questions": 7}
    first = recall.measure_recall(**short)
    assert recall.measure_recall(**short) == first
    assert recall.measure_recall(**{**short, "seed": 1})["final_loss"] != first["final_loss"]
    assert first["sharp"] == [0]
    assert first["found"]["learned"] == [None]


def test_rejects_a_hash_without_bits_and_planes_of_another_shape():
    with pytest.raises(ValueError, match=r"HashShape\.bits must be positive, got 0"):
        hashing.HashShape(bits=0)
    with pytest.raises(ValueError, match=r"planes must be \(L, H, 2, 3, 2 D \+ 2\), got"):
        hashing.HashPlanes(draw(1, H, 3, 2, 12), SHAPE)


@pytest.mark.parametrize(("n_batches", "message"), [(0, "got none"), (2, "ended after 1 of 2")])
def test_planes_are_not_learned_from_too_few_texts(n_batches, message):
    with pytest.raises(ValueError, match=message):
        hashing.learn_planes(twisted_states(n_batches), SHAPE, steps=2, seed=0)
