"""Attention: the fast operator against the definition, and what both must hold."""

from __future__ import annotations

import pytest
import torch

from aiexplained.nn import causal_mask, reference_attention, scaled_dot_product_attention

B, H, H_KV, D = 2, 6, 3, 10
OPERATORS = [reference_attention, scaled_dot_product_attention]
SHAPES = [(1, 1), (1, 17), (5, 5), (7, 13), (31, 67), (64, 64)]
# Sums of at most 67 products in float64 differ by their order alone.
EXACT = {"rtol": 1e-12, "atol": 1e-13}


def make_inputs(n_queries: int, n_keys: int, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, H, n_queries, D), (B, H_KV, n_keys, D), (B, H_KV, n_keys, D)
    return [torch.randn(*shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize("kind", ["full", "causal", "mask", "mask per head"])
@pytest.mark.parametrize(("n_queries", "n_keys"), SHAPES)
def test_the_fast_operator_equals_the_definition(n_queries, n_keys, kind):
    inputs = make_inputs(n_queries, n_keys)
    lead = (B, H) if kind == "mask per head" else ()
    random = torch.rand(*lead, n_queries, n_keys, generator=torch.Generator().manual_seed(1)) < 0.5
    options = {
        "full": {},
        "causal": {"is_causal": True},
        "mask": {"mask": random},
        "mask per head": {"mask": random},
    }[kind]
    fast = scaled_dot_product_attention(*inputs, **options)
    torch.testing.assert_close(fast, reference_attention(*inputs, **options), **EXACT)


@pytest.mark.parametrize("is_causal", [False, True])
def test_their_gradients_are_equal(is_causal):
    gradients = []
    for operator in OPERATORS:
        inputs = [x.requires_grad_() for x in make_inputs(7, 13)]
        operator(*inputs, is_causal=is_causal, scale=0.3).square().sum().backward()
        gradients.append([x.grad for x in inputs])
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
def test_grouped_queries_equal_repeated_key_heads(operator):
    query, key, value = make_inputs(5, 11)
    repeated = [x.repeat_interleave(H // H_KV, dim=1) for x in (key, value)]
    torch.testing.assert_close(operator(query, key, value), operator(query, *repeated), **EXACT)
    tiled = [x.repeat(1, H // H_KV, 1, 1) for x in (key, value)]  # the plausible wrong order
    assert not torch.allclose(operator(query, key, value), operator(query, *tiled))


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_causal_query_ignores_what_comes_after_it(operator):
    query, key, value = make_inputs(7, 13)
    before = operator(query, key, value, is_causal=True)
    seen = 13 - 7 + 4  # keys that query 3 may attend to
    key[:, :, seen:], value[:, :, seen:] = 1e3, -1e3
    after = operator(query, key, value, is_causal=True)
    torch.testing.assert_close(after[:, :, :4], before[:, :, :4], **EXACT)
    assert not torch.allclose(after[:, :, 4], before[:, :, 4])


@pytest.mark.parametrize("operator", OPERATORS)
def test_causal_is_short_for_the_causal_mask(operator):
    inputs = make_inputs(7, 13)
    torch.testing.assert_close(
        operator(*inputs, is_causal=True), operator(*inputs, mask=causal_mask(7, 13)), **EXACT
    )
    from_the_start = torch.ones(7, 13, dtype=torch.bool).tril()
    wrong = operator(*inputs, mask=from_the_start)
    assert not torch.allclose(operator(*inputs, is_causal=True), wrong)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_query_without_keys_gets_zero(operator):
    mask = torch.ones(5, 11, dtype=torch.bool)
    mask[2] = False
    mixed = operator(*make_inputs(5, 11), mask=mask)
    assert mixed[:, :, 2].eq(0).all()
    assert mixed.isfinite().all()


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_order_of_keys_does_not_matter(operator):
    query, key, value = make_inputs(5, 11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        operator(query, key[:, :, order], value[:, :, order]), operator(query, key, value), **EXACT
    )


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": torch.ones(5, 11, dtype=torch.bool), "is_causal": True}, "not both"),
        ({"query": torch.zeros(B, 4, 5, D).double()}, "key heads must divide query heads"),
        ({"query": torch.zeros(B, H, 12, D).double(), "is_causal": True}, "queries <= keys"),
        ({"query": torch.zeros(B, H, 5, D + 1).double()}, "share batch and width"),
        ({"value": torch.zeros(B, H_KV, 7, D).double()}, "key and value alike"),
    ],
)
def test_arguments_that_do_not_fit_are_named(operator, change, message):
    names = ("query", "key", "value")
    arguments = dict(zip(names, make_inputs(5, 11), strict=True)) | change
    with pytest.raises(ValueError, match=message) as caught:
        operator(**arguments)
    assert any(character.isdigit() for character in str(caught.value)) or message == "not both"


@pytest.mark.usefixtures("without_shape_checks")
def test_an_additive_mask_is_refused():
    with pytest.raises(ValueError, match=r"mask must be boolean .* got torch.float32"):
        reference_attention(*make_inputs(5, 11), mask=torch.zeros(5, 11))


def test_causal_mask_needs_a_key_for_every_query():
    with pytest.raises(ValueError, match="got 3 and 2"):
        causal_mask(3, 2)
