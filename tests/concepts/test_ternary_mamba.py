"""Ternary Mamba: the model in all its forms, and what happens to its weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

import aiexplained_kernels as kernels
from aiexplained.concepts.ternary_mamba import (
    LearnedScale,
    Mamba2,
    Mamba2Shape,
    learn_scales,
    pack_model,
    projections,
    round_weights,
    train_ternary,
    zero_share,
)
from aiexplained.nn import Projection

BATCH, T, V = 2, 37, 11
SIZES = Mamba2Shape(vocab_size=V, d_model=24, n_layers=2, d_state=5, head_dim=8)
GROUP = 32


@pytest.fixture
def model():
    model = Mamba2(SIZES, chunk_size=16, seed=1).double()
    with torch.no_grad():  # as initialized, a fresh model hardly listens to its input
        for block in model.blocks:
            block.dt_bias.normal_(generator=torch.Generator().manual_seed(2))
    return model


@pytest.fixture
def tokens():
    return torch.randint(V, (BATCH, T), generator=torch.Generator().manual_seed(0))


def test_token_by_token_gives_the_logits_of_the_whole_text(model, tokens):
    whole = model(tokens)
    state = model.make_state(BATCH)
    steps = [model(tokens[:, t : t + 1], state) for t in range(T)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)


def test_parts_of_any_length_carry_the_state_on(model, tokens):
    state = model.make_state(BATCH)
    parts = [model(part, state) for part in tokens.split((1, 2, 17, 17), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens))
    forgetful = [model(part) for part in tokens.split((20, 17), dim=1)]
    assert not torch.allclose(torch.cat(forgetful, dim=1), model(tokens))


def test_a_state_is_of_the_same_size_after_any_text(model, tokens):
    state = model.make_state(BATCH)
    before = [(s.conv.shape, s.ssm.shape) for s in state]
    model(tokens, state)
    assert [(s.conv.shape, s.ssm.shape) for s in state] == before


def test_a_late_token_changes_no_early_logit(model, tokens):
    later = tokens.clone()
    later[:, 23] = (later[:, 23] + 1) % V
    before, after = model(tokens), model(later)
    torch.testing.assert_close(after[:, :23], before[:, :23], rtol=0, atol=0)
    assert not torch.allclose(after[:, 23], before[:, 23])


def test_logits_agree_with_the_model_of_transformers(model, tokens):
    """The same weights in the Mamba-2 of transformers, whose rows have the same order."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Mamba2Config(
        vocab_size=V, hidden_size=SIZES.d_model, num_hidden_layers=SIZES.n_layers,
        state_size=SIZES.d_state, head_dim=SIZES.head_dim, num_heads=SIZES.n_heads,
        n_groups=1, expand=SIZES.expand, conv_kernel=SIZES.d_conv, chunk_size=16,
        tie_word_embeddings=True, use_bias=False, use_conv_bias=True, rms_norm=True,
        layer_norm_epsilon=1e-5, time_step_limit=(0.0, float("inf")),
    )  # fmt: skip
    theirs = transformers.Mamba2ForCausalLM(config).eval()
    names = {
        "in_proj.weight": "mixer.in_proj.weight", "out_proj.weight": "mixer.out_proj.weight",
        "conv_weight": "mixer.conv1d.weight", "conv_bias": "mixer.conv1d.bias",
        "dt_bias": "mixer.dt_bias", "A_log": "mixer.A_log", "D": "mixer.D",
        "gated_norm.weight": "mixer.norm.weight", "norm.weight": "norm.weight",
    }  # fmt: skip
    ours = model.float().state_dict()
    moved = {
        f"backbone.layers.{i}.{theirs_}": ours[f"blocks.{i}.{ours_}"]
        for i in range(SIZES.n_layers)
        for ours_, theirs_ in names.items()
    }
    moved |= {
        "backbone.embeddings.weight": ours["embedding"],
        "lm_head.weight": ours["embedding"],
        "backbone.norm_f.weight": ours["norm.weight"],
    }
    theirs.load_state_dict(moved)
    expected = theirs(tokens).logits
    torch.testing.assert_close(model(tokens), expected)


def test_the_seed_alone_decides_the_weights():
    one, same, other = (Mamba2(SIZES, seed=seed) for seed in (3, 3, 4))
    assert all(map(torch.equal, one.parameters(), same.parameters()))
    assert not one.embedding.equal(other.embedding)


def test_a_ternary_step_moves_the_weights_behind_by_the_gradient_at_the_rounded_ones(model, tokens):
    def step(model):
        loss = cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        weights = {name: p.weight for name, p in projections(model).items()}
        grads = torch.autograd.grad(loss, list(weights.values()))
        return {name: -grad for name, grad in zip(weights, grads, strict=True)}

    rounded, full = copy.deepcopy(model), copy.deepcopy(model)
    round_weights(rounded, GROUP)
    train_ternary(model, GROUP)
    before = {name: p.weight.detach().clone() for name, p in projections(model).items()}
    moved, at_rounded, at_full = step(model), step(rounded), step(full)
    for name, projection in projections(model).items():
        assert projection.weight.equal(before[name])  # the product changes no weight by itself
        torch.testing.assert_close(moved[name], at_rounded[name])
        assert not torch.allclose(moved[name], at_full[name])


def test_rounded_for_good_and_rounded_in_use_are_the_same_model(model, tokens):
    in_use, for_good = copy.deepcopy(model), copy.deepcopy(model)
    train_ternary(in_use, GROUP)
    round_weights(for_good, GROUP)
    torch.testing.assert_close(in_use(tokens), for_good(tokens))
    assert not torch.allclose(for_good(tokens), model(tokens))
    for projection in projections(for_good).values():
        assert projection.weight.unique().numel() > 3  # a scale for each group, not one for all
        for group in projection.weight.split(GROUP, dim=1):
            assert all(len(row.abs().unique()) <= 2 for row in group)


def test_learned_scales_start_where_recomputed_ones_are(model, tokens):
    recomputed = copy.deepcopy(model)
    train_ternary(recomputed, GROUP)
    for gradient in ("naive", "lsq"):
        for log in (False, True):
            learned = copy.deepcopy(model)
            scales = learn_scales(learned, GROUP, gradient=gradient, log=log)
            assert len(scales) == 2 * SIZES.n_layers
            torch.testing.assert_close(learned(tokens), recomputed(tokens))
            assert zero_share(learned, GROUP) == zero_share(recomputed, GROUP)


def differentiate(gradient):
    """Scales and weights with their gradients, and the gradient of the rounded weights."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    x, out = torch.randn(2, 7, generator=generator).double(), torch.ones(2, 3).double().cumsum(1)
    learned = LearnedScale(weight, None, gradient=gradient).double()
    (learned(x, weight) * out).sum().backward()
    return learned, weight, out.mT @ x


def test_the_lsq_gradient_of_a_scale_is_the_published_one():
    """ds = sum g (t - w / s) inside of the clip, sum g t outside (Esser et al., 2020)."""
    learned, weight, grad = differentiate("lsq")
    ratio = weight.detach() / learned.scale.detach()
    ternary, inside = ratio.clamp(-1, 1).round(), ratio.abs() < 1
    expected = (grad * torch.where(inside, ternary - ratio, ternary)).sum(dim=1)
    torch.testing.assert_close(learned.stored.grad, expected)
    torch.testing.assert_close(weight.grad, grad * inside)


def test_a_naive_scale_is_a_factor_and_the_weight_gets_the_whole_gradient():
    learned, weight, grad = differentiate("naive")
    ternary = (weight.detach() / learned.scale.detach()).clamp(-1, 1).round()
    torch.testing.assert_close(learned.stored.grad, (grad * ternary).sum(dim=1))
    torch.testing.assert_close(weight.grad, grad)


def test_a_larger_learned_scale_makes_more_zeros(model):
    learn_scales(model, GROUP)
    before = zero_share(model)
    for projection in projections(model).values():
        projection.multiply.stored.data.mul_(3)
    assert before < 0.4 < zero_share(model)


def test_about_three_weights_in_ten_of_a_fresh_model_are_zero():
    """P(|w| < E|w| / 2) of a normal weight is erf(1 / (2 sqrt(pi))) = 0.310."""
    model = Mamba2(Mamba2Shape(vocab_size=V, d_model=96, n_layers=3, d_state=16, head_dim=32))
    count = sum(p.weight.numel() for p in projections(model).values())
    share, cut = math.erf(0.5 / math.sqrt(math.pi)), math.sqrt(2 / math.pi) / 2
    # A weight counts in the mean of its row, which moves its cut by 1 / 2n of it; n is 96 at least.
    density = math.sqrt(2 / math.pi) * math.exp(-(cut**2) / 2)
    bias = density * cut / (2 * 96)
    assert abs(zero_share(model, None) - share) < 4 * math.sqrt(share / count) + bias


@pytest.mark.parametrize("kernel", [False, True])
def test_a_packed_model_decodes_what_the_rounded_one_does(model, tokens, kernel):
    model.float()
    rounded = copy.deepcopy(model)
    round_weights(rounded, GROUP)
    operators = {"pack": kernels.pack_ternary, "multiply": kernels.ternary_linear}
    pack_model(model, GROUP, **(operators if kernel else {}))
    state = model.make_state(BATCH)
    with torch.inference_mode():
        steps = torch.cat([model(tokens[:, t : t + 1], state) for t in range(T)], dim=1)
        torch.testing.assert_close(steps, rounded(tokens), rtol=1e-4, atol=1e-5)
    assert not any("proj" in name for name, _ in model.named_parameters())


def test_bad_arguments_are_named(model, tokens):
    with pytest.raises(ValueError, match="n_groups must be 1 here, got 2"):
        Mamba2(Mamba2Shape(d_model=24, n_layers=2, head_dim=8, n_groups=2))
    with pytest.raises(ValueError, match="state must have 2 layers, got 1"):
        model(tokens, model.make_state(BATCH)[:1])
    with pytest.raises(ValueError, match="no Projection in the Linear"):
        train_ternary(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="gradient must be 'naive' or 'lsq', got 'ttq'"):
        LearnedScale(torch.ones(2, 2), gradient="ttq")
    biased = torch.nn.Sequential(Projection(2, 2), Projection(2, 2, bias=True))
    with pytest.raises(ValueError, match="only a projection without bias can be packed, 1 has one"):
        pack_model(biased)
    assert len(projections(biased)) == 2  # none was packed on the way
    with pytest.raises(ValueError, match="inside a model, got a Projection"):
        pack_model(Projection(2, 2))
    learn_scales(model, GROUP)
    with pytest.raises(ValueError, match=r"blocks\.0\.in_proj has learned scales"):
        pack_model(model, GROUP)
