"""Variable widths: the solver, the accounts, and who owns which coordinate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from aiexplained.concepts import variable_width as vw
from aiexplained.concepts.variable_width import carry_forward, zero_pad
from aiexplained.lm import generate

VOCAB = 100_263
PUBLISHED = {
    (16, 640): (0.8500, 1.5633, (
        1152, 960, 832, 704, 608, 512, 448, 352, 320, 256, 224, 192, 288, 480, 736, 1152
    )),
    (24, 960): (0.8986, 1.3540, (
        1760, 1600, 1440, 1280, 1152, 1024, 928, 832, 768, 672, 608, 544, 480, 448, 384, 352, 320,
        288, 384, 544, 704, 960, 1312, 1760
    )),
    (32, 1280): (0.9234, 1.2576, (
        2400, 2208, 2048, ..., 416, 384, 480, 608, 768, 960, 1216, 1504, 1920, 2400
    )),
    (40, 1600): (0.9384, 1.2023, (
        3040, 2848, ..., 512, 480, 576, 704, 832, 992, 1216, 1440, 1728, 2080, 2528, 3040
    )),
}  # fmt: skip
"""Factors and widths of the authors' configurations; the dots stand for what we do not know."""

shapes = st.fixed_dictionaries(
    {
        "n_layers": st.integers(4, 40),
        "d_model": st.integers(96, 1600),
        "waist": st.floats(0.15, 1.3),
        "vocab_size": st.sampled_from([0, 63, VOCAB]),
        "own_ends": st.booleans(),
    }
)


def matches(found, published):
    """Whether ``found`` starts and ends as ``published`` does, dots left out."""
    if ... not in published:
        return found == published
    gap = published.index(...)
    tail = published[gap + 1 :]
    return found[:gap] == published[:gap] and found[-len(tail) :] == tail


@pytest.mark.parametrize(("n_layers", "d_model"), PUBLISHED)
def test_the_solver_gives_the_published_schedules_to_the_digit(n_layers, d_model):
    shrink, flare, widths = PUBLISHED[n_layers, d_model]
    solved = vw.solve_widths(n_layers, d_model, vocab_size=VOCAB)
    assert matches(solved.widths, widths)
    assert (round(solved.shrink, 4), round(solved.flare, 4)) == (shrink, flare)
    assert solved.turn == 3 * n_layers // 4


def test_the_comparison_would_catch_one_wrong_step():
    *_, widths = PUBLISHED[16, 640]
    assert not matches((1184, *widths[1:]), widths)
    assert not matches(vw.solve_widths(32, 1280, waist=0.31, vocab_size=VOCAB).widths,
                       PUBLISHED[32, 1280][2])  # fmt: skip


@given(shapes, st.data())
def test_the_solved_model_has_as_many_weights_as_the_uniform_one(shape, data):
    n_layers, d_model = shape["n_layers"], shape["d_model"]
    turn = data.draw(st.integers(2, n_layers - 1))
    solved = vw.solve_widths(**shape, turn=turn, multiple=1)
    exact = [solved.end * solved.shrink**i for i in range(turn)]
    exact += [exact[-1] * solved.flare**i for i in range(1, n_layers - turn + 1)]
    assert exact[turn - 1] == pytest.approx(shape["waist"] * d_model)
    assert exact[-1] == pytest.approx(exact[0])  # symmetric ends
    account = {"vocab_size": shape["vocab_size"], "own_ends": shape["own_ends"]}
    uniform = vw.count_parameters([d_model] * n_layers, d_model, shape["vocab_size"])
    assert vw.count_parameters(exact, d_model, **account) == pytest.approx(uniform)


@given(shapes, st.sampled_from([1, 8, 32]))
def test_widths_are_rounded_to_the_multiple_and_never_vanish(shape, multiple):
    widths = vw.solve_widths(**shape, multiple=multiple).widths
    assert len(widths) == shape["n_layers"]
    assert all(w >= multiple and w % multiple == 0 for w in widths)


def test_a_waist_of_one_is_the_uniform_model():
    solved = vw.solve_widths(12, 96, waist=1, vocab_size=63, multiple=8)
    assert solved.widths == (96,) * 12
    assert (solved.shrink, solved.flare) == pytest.approx((1, 1))


def test_a_bulge_has_narrow_ends():
    widths = vw.solve_widths(12, 96, waist=1.5, turn=6, vocab_size=63, multiple=8).widths
    assert max(widths) == widths[5] > 96 > widths[0] == widths[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_layers": 2}, "at least 3 layers, got 2"),
        ({"turn": 1}, "2 to 10, got 1"),
        ({"turn": 11}, "2 to 10, got 11"),
        ({"waist": 0.0}, "waist must be positive and finite, got 0"),
        ({"waist": math.inf}, "waist must be positive and finite, got inf"),
        ({"multiple": 0}, "multiple >= 1"),
        ({"waist": 4.0}, "waist 4 at layer 8 alone has more"),
    ],
)
def test_the_solver_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        vw.solve_widths(**{"n_layers": 11, "d_model": 89} | arguments)


# ---- accounts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_layers", "d_model"), PUBLISHED)
def test_at_matched_weights_flops_fall_by_three_percent_and_the_cache_by_ten(n_layers, d_model):
    widths, uniform = (
        vw.solve_widths(n_layers, d_model, vocab_size=VOCAB).widths,
        [d_model] * n_layers,
    )
    flops, cache, weights = (
        [count(w) for w in (widths, uniform)]
        for count in (
            lambda w: vw.count_flops(w, d_model, VOCAB, 4096),
            lambda w: vw.count_cache_bytes(w, 4096),
            lambda w: vw.count_parameters(w, d_model, VOCAB),
        )
    )
    assert weights[0] / weights[1] == pytest.approx(1, abs=0.005)  # widths are rounded to 32
    assert 0.96 < flops[0] / flops[1] < 0.975
    assert 0.89 < cache[0] / cache[1] <= 0.9


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=40))
def test_the_mean_never_exceeds_the_root_mean_square(widths):
    mean, rms = vw.mean_and_rms(widths)
    assert mean <= rms * (1 + 1e-12)
    assert (mean == pytest.approx(rms, rel=1e-9)) == (len(set(widths)) == 1)


@pytest.mark.parametrize("resize", vw.RESIZES)
@pytest.mark.parametrize("d_model", [None, 12])
def test_the_accounts_are_those_of_the_real_model(resize, d_model):
    widths = (20, 12, 4, 12, 20)
    model = vw.VariableWidthTransformer(
        widths, n_heads=2, vocab_size=17, d_model=d_model, resize=resize
    )
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    if d_model is None:
        assert weights == vw.count_parameters(
            widths, 12, 17, own_ends=True, learned_resize=resize.startswith("learned")
        )
    elif not resize.startswith("learned"):
        assert weights - vw.count_idle(widths, 12) == vw.count_parameters(widths, 12, 17)


def test_idle_weights_are_idle():
    """What the account leaves out changes no prediction, and its neighbors do."""
    widths, tokens = (20, 12, 20), torch.arange(7)[None]
    model = vw.VariableWidthTransformer(widths, n_heads=2, vocab_size=17, d_model=12)
    before = model(tokens)
    first, last = model.blocks[0].attention, model.blocks[-1].feed_forward.down
    with torch.no_grad():
        for projection in (first.query, first.key, first.value):
            projection.weight[:, 12:] += 1
    assert torch.equal(model(tokens), before)
    with torch.no_grad():
        last.weight[12:] *= 3
    # The last norm sees their mean square: all logits of a token change by one common factor.
    torch.testing.assert_close(
        nn.functional.normalize(model(tokens), dim=-1), nn.functional.normalize(before, dim=-1)
    )
    with torch.no_grad():
        last.weight[11] *= 3
    directions = [nn.functional.normalize(x, dim=-1) for x in (model(tokens), before)]
    assert (directions[0] - directions[1]).abs().max() > 1e-3


def test_the_real_cache_holds_the_bytes_of_the_account():
    widths, n_tokens = (20, 12, 4, 12), 7
    model = vw.VariableWidthTransformer(widths, n_heads=2, vocab_size=17)
    cache = model.make_cache()
    with torch.no_grad():
        model(torch.arange(n_tokens)[None], cache=cache)
    assert cache.nbytes == vw.count_cache_bytes(widths, n_tokens, bytes_per_value=4)


# ---- changing the width ------------------------------------------------------------------------


def wide_stream(widths, states):
    """The same bookkeeping in one wide stream: each state overwrites its first coordinates."""
    wide = torch.zeros(max(max(widths), *(s.shape[-1] for s in states)))
    for state in states:
        wide[: state.shape[-1]] = state
    return wide


@given(st.lists(st.integers(1, 11), min_size=1, max_size=7), st.integers(1, 13))
def test_carrying_forward_is_one_wide_stream_of_which_layers_see_the_start(widths, width):
    states = [100 * i + torch.arange(w, dtype=torch.float32) for i, w in enumerate(widths, 1)]
    found = carry_forward(states[-1], width, states[:-1])
    assert torch.equal(found, wide_stream([width], states)[:width])


def test_the_stream_check_would_catch_zero_padding():
    states = [torch.arange(1.0, 6.0), torch.tensor([7.0, 8.0])]
    assert torch.equal(zero_pad(states[-1], 5), torch.tensor([7.0, 8.0, 0, 0, 0]))
    assert not torch.equal(zero_pad(states[-1], 5), wide_stream([5], states))


def test_untouched_coordinates_come_back_exactly():
    wide = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0))
    narrow = carry_forward(wide, 5, [])
    assert torch.equal(narrow, wide[..., :5])
    assert torch.equal(carry_forward(narrow + 1, 11, [wide])[..., 5:], wide[..., 5:])
    assert torch.equal(carry_forward(narrow + 1, 11, [wide])[..., :5], narrow + 1)


def test_what_was_never_there_is_zero():
    assert torch.equal(
        carry_forward(torch.ones(3), 7, [torch.ones(5)]), torch.tensor([1.0] * 5 + [0, 0])
    )


def test_resizing_names_what_is_wrong():
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        carry_forward(torch.ones(3), 0, [])
    with pytest.raises(ValueError, match="width must be positive, got -1"):
        zero_pad(torch.ones(3), -1)
    with pytest.raises(ValueError, match=r"shape \(2, 5\), not \(3, 'C'\)"):
        carry_forward(torch.ones(3, 3), 5, [torch.ones(2, 5)])


# ---- the model ---------------------------------------------------------------------------------


def make_model(resize="carry", widths=(20, 12, 4, 12, 20), **options):
    return vw.VariableWidthTransformer(widths, n_heads=2, vocab_size=17, resize=resize, **options)


@pytest.mark.parametrize("resize", vw.RESIZES)
@pytest.mark.parametrize("d_model", [None, 12, 28])
def test_decoding_with_the_cache_equals_reading_at_once(resize, d_model):
    model = make_model(resize, d_model=d_model).double()
    tokens = torch.randint(17, (2, 11), generator=torch.Generator().manual_seed(1))
    cache = model.make_cache()
    with torch.no_grad():
        whole = model(tokens)
        parts = [model(part, cache=cache) for part in tokens.split((5, 1, 1, 4), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert generate(model, tokens[:, :3], max_new_tokens=4).shape == (2, 4)


@pytest.mark.parametrize("resize", vw.RESIZES)
def test_no_token_sees_a_later_one(resize):
    model, tokens = make_model(resize), torch.arange(9)[None]
    changed = tokens.clone()
    changed[0, 6] = 16
    with torch.no_grad():
        difference = (model(tokens) - model(changed))[0].abs().amax(dim=-1)
    assert (difference[:6] == 0).all()
    assert (difference[6:] > 0).all()


def test_equal_widths_need_no_resize():
    models = [make_model(resize, widths=(12, 12, 12)) for resize in vw.RESIZES]
    logits = [model(torch.arange(7)[None]) for model in models]
    assert all(torch.equal(logits[0], other) for other in logits[1:])


def test_a_learned_resize_can_start_as_zero_padding():
    tokens = torch.arange(7)[None]
    zero, learned = make_model("zero"), make_model("learned from zero")
    torch.testing.assert_close(learned(tokens), zero(tokens))
    assert (make_model("learned")(tokens) - zero(tokens)).abs().max() > 0.01
    assert (make_model("carry")(tokens) - zero(tokens)).abs().max() > 0.001


def test_every_weight_is_trained_and_only_the_seed_decides():
    for resize in vw.RESIZES:
        model = make_model(resize, seed=3)
        model(torch.arange(7)[None]).square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
        again = make_model(resize, seed=3)
        assert all(map(torch.equal, model.parameters(), again.parameters()))
        assert not torch.equal(model.lm_head.weight, make_model(resize, seed=4).lm_head.weight)


def test_making_a_model_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    for resize in vw.RESIZES:
        make_model(resize)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_initial_variance_follows_the_inputs_of_each_matrix():
    model = make_model(widths=(256, 64, 256))
    for block, width in zip(model.blocks, model.widths, strict=True):
        down = block.feed_forward.down.weight * (2 * len(model.widths)) ** 0.5
        for weight in (block.attention.query.weight, block.feed_forward.gate.weight, down):
            assert (weight.std() * weight.shape[1] ** 0.5).item() == pytest.approx(1, abs=0.05)
        assert block.attention.query.weight.shape[1] == width


def test_the_model_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"multiple of 2 \* n_heads = 4, got 10"):
        make_model(widths=(12, 10))
    with pytest.raises(ValueError, match="resize must be one of carry, zero, learned"):
        make_model("stretch")
    with pytest.raises(ValueError, match="at least one layer"):
        make_model(widths=())


def test_the_model_is_of_the_kind_that_the_language_model_layer_knows():
    model = make_model()
    assert isinstance(model, nn.Module)
    assert [layer.head_dim for layer in model.attention_layers] == [10, 6, 2, 6, 10]
