"""KVCache behaves like tensors joined along time, only cheaper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.lm import KVCache

L, B, H_KV, D = 3, 2, 5, 7


def make_layers(length: int, seed: int = 0, **options):
    generator = torch.Generator().manual_seed(seed)
    shape = (B, H_KV, length, D)
    return [
        tuple(torch.randn(shape, generator=generator).to(**options) for _ in range(2))
        for _ in range(L)
    ]


def make_cache(length: int, seed: int = 0) -> KVCache:
    return KVCache.from_layers(make_layers(length, seed))


def assert_holds(cache: KVCache, layers) -> None:
    """The cache's keys and values are exactly ``layers``."""
    assert cache.length == layers[0][0].shape[2]
    if cache.length:
        for i, pair in enumerate(layers):
            for held, expected in zip(cache.layer(i), pair, strict=True):
                assert held.equal(expected)


def cut(layers, start: int, stop: int):
    return [tuple(x[:, :, start:stop] for x in pair) for pair in layers]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("crop"), st.floats(0, 1)),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, capacity=st.integers(0, 60))
def test_any_history_of_appends_and_crops_equals_joined_tensors(steps, capacity):
    cache, expected = KVCache(L, capacity=capacity), make_layers(0)
    for seed, (step, amount) in enumerate(steps):
        if step == "append":
            new = make_layers(amount, seed)
            for i in range(L):
                expected[i] = tuple(torch.cat(p, 2) for p in zip(expected[i], new[i], strict=True))
                returned = cache.append(i, *new[i])
                assert all(map(torch.equal, returned, expected[i]))
        else:
            length = int(amount * cache.length)
            cache.crop(length)
            expected = cut(expected, 0, length)
        assert_holds(cache, expected)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_pieces_of_a_cache_join_to_the_whole(data):
    layers = make_layers(29)
    cache = KVCache.from_layers(layers)
    cuts = sorted(data.draw(st.lists(st.integers(0, 29), max_size=4)))
    bounds = list(zip([0, *cuts], [*cuts, 29], strict=True))
    pieces = [cache.slice(a, b) for a, b in bounds]
    for piece, (a, b) in zip(pieces, bounds, strict=True):
        assert_holds(piece, cut(layers, a, b))
    assert_holds(KVCache.concat(pieces), layers)


def test_copies_share_nothing_with_the_original():
    cache, layers = make_cache(13), make_layers(13)
    copies = [cache.clone(), cache.slice(0, 13), KVCache.concat([cache])]
    cache.crop(5)
    for i, pair in enumerate(make_layers(8, seed=1)):
        cache.append(i, *pair)
    for copy in copies:
        assert_holds(copy, layers)


def test_a_step_that_fails_midway_leaves_the_cache_as_it_was():
    cache, layers = make_cache(13), make_layers(13)
    cache.append(0, *make_layers(3, seed=1)[0])  # the step stops here
    assert_holds(cache, layers)
    new = make_layers(2, seed=2)
    for i in range(L):
        cache.append(i, *new[i])
    joined = [
        tuple(torch.cat(p, 2) for p in zip(*pairs, strict=True))
        for pairs in zip(layers, new, strict=True)
    ]
    assert_holds(cache, joined)


def test_one_token_at_a_time_moves_the_cache_rarely():
    cache, homes = KVCache(1), set()
    token = torch.zeros(B, H_KV, 1, D)
    for _ in range(1000):
        key, _ = cache.append(0, token, token)
        homes.add(key.data_ptr())
    assert len(homes) <= 7  # 16, 32, … 1024: a copy per append would be 1000


def test_room_asked_for_at_once_is_never_moved():
    cache, homes = KVCache(1, capacity=100), set()
    for _ in range(100):
        homes.add(cache.append(0, *[torch.zeros(B, H_KV, 1, D)] * 2)[0].data_ptr())
    assert len(homes) == 1


@pytest.mark.parametrize(("dtype", "bytes_each"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_nbytes_counts_what_is_held(dtype, bytes_each):
    cache = KVCache.from_layers(make_layers(11, dtype=dtype))
    assert cache.nbytes == 2 * L * B * H_KV * 11 * D * bytes_each
    cache.crop(3)
    assert cache.nbytes == 2 * L * B * H_KV * 3 * D * bytes_each
    cache.crop(0)
    assert cache.nbytes == 0 == KVCache(L).nbytes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KVCache(0), "n_layers >= 1 and capacity >= 0, got 0 and 0"),
        (lambda: KVCache(1, capacity=-1), "got 1 and -1"),
        (lambda: KVCache(L).layer(0), "the cache is empty"),
        (lambda: make_cache(5).crop(6), r"length must be in \[0, 5\], got 6"),
        (lambda: make_cache(5).slice(3, 2), "got 3 and 2"),
        (lambda: make_cache(5).slice(-1, 2), "got -1 and 2"),
        (lambda: KVCache.concat([]), r"caches of one depth, got depths \[\]"),
        (lambda: KVCache.concat([KVCache(2), KVCache(3)]), r"got depths \[2, 3\]"),
        (lambda: KVCache.from_layers([]), "n_layers >= 1"),
        (
            lambda: KVCache.from_layers([*make_layers(2)[:1], *make_layers(3)[:1]]),
            r"equally long, got lengths \[2, 3\]",
        ),
        (
            lambda: make_cache(2).append(0, *make_layers(1, dtype=torch.float64)[0]),
            "the cache holds .*float32.* got .*float64",
        ),
        (
            lambda: make_cache(2).append(0, *[torch.zeros(B + 1, H_KV, 1, D)] * 2),
            r"the cache holds \(2, .* got \(3, ",
        ),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
