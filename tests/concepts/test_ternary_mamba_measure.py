"""What the page records of models that it trains, at a small size."""

from __future__ import annotations

import math

import pytest
import torch

from aiexplained.concepts.ternary_mamba import (
    FIXES,
    Mamba2,
    Mamba2Shape,
    input_moments,
    matrices,
    measure_errors,
    measure_heads,
    measure_positions,
    measure_rounding,
    measure_scales,
    measure_trace,
    measure_training,
    round_absmax,
    training,
)
from aiexplained.concepts.ternary_mamba.training import distillation_loss, load_text
from aiexplained.lm import next_token_loss

STEPS = {"base_steps": 11, "steps": 5, "lr": 1e-3}


@pytest.fixture(autouse=True, scope="module")
def small_text():
    """A hundredth of the held-out text, and a point of a curve every five steps."""
    text = load_text()
    short = training.Text(text.train, text.held_out[:2001], text.vocab_size)
    patch = pytest.MonkeyPatch()
    patch.setattr(training, "load_text", lambda: short)
    patch.setattr(training, "EVERY", 5)
    training._checkpoint.cache_clear()
    yield
    patch.undo()
    training._checkpoint.cache_clear()


@pytest.fixture(scope="module")
def run():
    return measure_training(seed=0, **STEPS)


def test_all_arms_are_trained_and_their_curves_end_with_their_steps(run):
    assert run["checkpoint"] < math.log(load_text().vocab_size)
    assert set(run["rounded"]) == {"128", "16", "32", "64", "row"}
    for name, arm in run["arms"].items():
        last = STEPS["steps"] if "all steps" not in name else sum(list(STEPS.values())[:2])
        assert [step for step, _ in arm["curve"]] == list(range(0, last + 1, 5)), name
        assert 1 < arm["loss"] < math.log(load_text().vocab_size), name


def test_an_arm_from_the_checkpoint_starts_where_the_checkpoint_or_its_rounding_is(run):
    def first(name):
        return run["arms"][name]["curve"][0][1]

    assert first("continued in full") == pytest.approx(run["checkpoint"])
    assert first("distilled") == pytest.approx(run["rounded"]["128"])
    assert first("not distilled") == first("distilled")
    assert first("ternary from nothing, as many steps") > run["checkpoint"]


def test_only_the_small_model_has_fewer_weights(run):
    counts = {name: arm["parameters"] for name, arm in run["arms"].items()}
    small = counts.pop("small, full, all steps")
    assert len(set(counts.values())) == 1
    assert 5 < counts["distilled"] / small < 7


def test_a_run_is_the_same_when_it_is_repeated():
    one, again = (measure_trace(seed=3, **STEPS) for _ in range(2))
    assert one == again
    weights = torch.tensor(one["weights"])
    assert weights.shape == (2, 16, 64)
    assert not weights[0].equal(weights[1])


def test_zeros_and_codes_are_told_for_every_point():
    for scale, seed in (("recomputed", 0), ("learned as a logarithm", 0), ("learned", 1)):
        run = measure_scales(seed=seed, scale=scale, weight_decay=0.1, **STEPS)
        assert [step for step, _ in run["zeros"]] == [0, 5]
        assert all(0.2 < share < 0.5 for _, share in run["zeros"])
        if seed == 0:
            assert [len(rows) for rows in run["codes"]] == [12, 12]
            assert {len(row) for rows in run["codes"] for row in rows} == {48}
            assert set("".join(run["codes"][0])) == set("-0+")
        else:
            assert "codes" not in run
    with pytest.raises(ValueError, match="scale must be one of recomputed, learned"):
        measure_scales(seed=0, scale="guessed", weight_decay=0.1, **STEPS)


def test_a_learned_scale_leaves_the_weights_behind_when_these_decay():
    """Without a pull on the scale, strong decay of the weights makes more of them zero."""

    def zeros(scale):
        run = measure_scales(
            seed=0, scale=scale, weight_decay=8.0, **{**STEPS, "steps": 20, "lr": 1e-2}
        )
        return run["zeros"][-1][1]

    assert zeros("learned, LSQ") > zeros("recomputed") + 0.05


def test_rounding_costs_more_the_fewer_the_bits_and_parts_cost_less_than_all():
    run = measure_rounding(model="mamba", seed=0, base_steps=60, n_characters=2001)
    assert set(run["fixes"]) == set(FIXES)
    assert run["fixes"]["absmean"] > run["full"]
    cost = {bits: abs(loss - run["full"]) for bits, loss in run["bits"].items()}
    assert cost["8"] < cost["4"] < cost["3"] < cost["2"]
    assert all(loss < run["fixes"]["absmean"] for loss in run["parts"].values())
    assert set(run["parts"]) == {"z", "x", "B", "C", "dt", "out"}
    assert run["weights"] == sum(n * k * 3 for n, k in ((552, 128), (128, 256)))


def test_the_transformer_beside_it_is_of_about_the_same_size():
    run = measure_rounding(model="transformer", seed=0, base_steps=2, n_characters=2001)
    assert "parts" not in run
    assert run["weights"] == pytest.approx(3 * (552 + 256) * 128, rel=0.06)
    with pytest.raises(ValueError, match="model must be one of mamba, transformer"):
        measure_rounding(model="rnn", seed=0, base_steps=2, n_characters=2001)


def test_moments_are_of_what_each_matrix_is_multiplied_with():
    model = training.make_transformer(seed=0)
    seen = {}
    block = model.blocks[0].attention.query
    block.register_forward_pre_hook(lambda _, inputs: seen.setdefault("x", inputs[0]))
    moments = input_moments(model, n_windows=2)
    assert set(moments) == set(matrices(model))
    rows = seen["x"].flatten(0, -2).double()
    torch.testing.assert_close(
        moments["blocks.0.attention.query"], rows.mT @ rows / len(rows), rtol=1e-6, atol=1e-9
    )


def test_whole_numbers_of_a_group_reach_from_its_largest_magnitude_to_the_opposite():
    weight = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    for bits in (2, 3, 4):
        rounded = round_absmax(weight, bits, group_size=32)
        for group, original in zip(rounded.split(32, 1), weight.split(32, 1), strict=True):
            step = original.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
            assert ((group - original).abs() <= step / 2 * (1 + 1e-5)).all()
            torch.testing.assert_close(group / step, (group / step).round())
    assert round_absmax(torch.zeros(2, 32), 4).equal(torch.zeros(2, 32))
    with pytest.raises(ValueError, match="bits must be at least 2, got 1"):
        round_absmax(weight, 1)


def test_distillation_from_itself_asks_for_nothing_more():
    model = Mamba2(Mamba2Shape(16, 1, d_state=3, head_dim=8, vocab_size=11))
    batch = torch.randint(11, (2, 14), generator=torch.Generator().manual_seed(0))
    plain = next_token_loss(model, batch)
    torch.testing.assert_close(distillation_loss(model, share=0.0)(model, batch), plain)
    torch.testing.assert_close(distillation_loss(model, share=0.5)(model, batch), plain / 2)


def test_distillation_asks_for_the_flattened_probabilities_of_the_teacher():
    """L = (1 - a) CE + a τ² KL(teacher ‖ student), not the other way round."""
    shape = Mamba2Shape(16, 1, d_state=3, head_dim=8, vocab_size=11)
    model, teacher = Mamba2(shape), Mamba2(shape, seed=1)
    with torch.no_grad():
        teacher.embedding.mul_(50)
    batch = torch.randint(11, (2, 14), generator=torch.Generator().manual_seed(0))
    t, s = ((m(batch[:, :-1]) / 2).log_softmax(-1) for m in (teacher, model))
    forward, reverse = ((a.exp() * (a - b)).sum(-1).mean() for a, b in ((t, s), (s, t)))
    plain = next_token_loss(model, batch)
    found = distillation_loss(teacher, share=0.3, temperature=2.0)(model, batch)
    torch.testing.assert_close(found, 0.7 * plain + 0.3 * 4 * forward)
    assert not torch.allclose(found, 0.7 * plain + 0.3 * 4 * reverse)
    with pytest.raises(ValueError, match="share must be from 0 to 1"):
        distillation_loss(model, share=1.5)


def test_errors_are_told_of_every_head():
    run = measure_errors(seed=0, base_steps=11, n_tokens=64, size=0.1)
    assert len(run["heads"]) == 3 * 8
    for head in run["heads"]:
        assert head["half_life"] > 0
        assert head["B once"] == pytest.approx(head["x once"], rel=1e-3)
        assert 0 < head["B always"] < 40


def test_losses_by_position_average_to_the_loss_of_the_windows():
    run = measure_positions(seed=0, base_steps=11, seq_len=64, n_windows=7)
    assert run["ends"] == [2, 4, 8, 16, 32, 64]
    widths = [2, 2, 4, 8, 16, 32]
    whole = sum(w * x for w, x in zip(widths, run["full"], strict=True)) / 64
    windows = training.load_text().held_out.unfold(0, 65, 64)[:7]
    model = training.load_checkpoint(0, 11)
    assert whole == pytest.approx(next_token_loss(model, windows).item(), rel=1e-5)
    assert run["full"] != run["rounded"]


def test_heads_for_the_figure_are_ordered_by_their_memory():
    run = measure_heads(seed=0, base_steps=11, n_tokens=37)
    lives = [head["half_life"] for head in run["heads"]]
    assert lives == sorted(lives)
    for head in run["heads"]:
        assert (len(head["dt"]), len(head["B"]), len(head["B"][0]), len(head["x"])) == (
            37,
            37,
            16,
            37,
        )
        assert head["decay"] < 0 < min(head["dt"])
