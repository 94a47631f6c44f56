"""Blocks of keys and values: owners are counted, contents live until their memory is needed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiexplained.errors import OutOfBlocks
from aiexplained.serving import BlockPool, block_hashes, extend_hashes

texts = st.lists(st.integers(0, 2), min_size=1, max_size=23)  # few values: openings are shared
histories = st.lists(
    st.one_of(
        st.tuples(st.just("take"), texts, st.integers(0, 3)),
        st.tuples(st.just("release"), st.just([0]), st.integers(0, 97)),
    ),
    max_size=41,
)


class Ledger:
    """Plays a history on a pool and writes down, apart from it, who owns and what lies where."""

    def __init__(self, n_blocks, block_size):
        self.pool = BlockPool(n_blocks, block_size=block_size)
        self.owned = []  # a list of blocks an owner
        self.contents = {}  # the text up to the end of a block, by block

    def claims(self):
        return Counter(block for blocks in self.owned for block in blocks)

    def take(self, text, n_more):
        names = block_hashes(text, block_size=self.pool.block_size)
        shared = self.pool.match(names)
        before = self.claims()
        try:
            blocks = self.pool.take(shared, len(names) - len(shared) + n_more)
        except OutOfBlocks:
            assert self.claims() == before
            return
        fresh = blocks[len(shared) :]
        assert blocks[: len(shared)] == shared
        assert not set(fresh) & (set(before) | set(shared)), "handed out an owned block"
        assert len(set(blocks)) == len(blocks)
        for i, (block, name) in enumerate(zip(blocks, names, strict=False)):
            read = tuple(text[: (i + 1) * self.pool.block_size])
            if i < len(shared):
                assert self.contents[block] == read, "a hit leads to another text"
            self.contents[block] = read
            self.pool.name(block, name)
        for block in blocks[len(names) :]:
            self.contents[block] = None
        self.owned.append(blocks)

    def release(self, which):
        if self.owned:
            self.pool.release(self.owned.pop(which % len(self.owned)))

    def play(self, history):
        for action, text, number in history:
            self.take(text, number) if action == "take" else self.release(number)
            yield


@settings(deadline=None)
@given(histories, st.sampled_from([1, 3, 7, 13]), st.sampled_from([1, 2, 5]))
def test_any_history_keeps_the_count_of_owners(history, n_blocks, block_size):
    ledger = Ledger(n_blocks, block_size)
    for _ in ledger.play(history):
        claims = ledger.claims()
        assert [ledger.pool.owners(i) for i in range(n_blocks)] == [
            claims[i] for i in range(n_blocks)
        ]
        assert ledger.pool.n_owned == len(claims)
        assert ledger.pool.n_owned + ledger.pool.n_free == n_blocks


def test_the_ledger_would_catch_a_pool_that_hands_out_an_owned_block(monkeypatch):
    ledger = Ledger(3, 1)
    ledger.take([1], 0)
    monkeypatch.setattr(ledger.pool, "_fresh", lambda: 0)
    assert ledger.owned == [[0]]
    with pytest.raises(AssertionError, match="handed out an owned block"):
        ledger.take([2], 0)


def test_a_shared_block_lives_while_one_owner_is_left():
    pool = BlockPool(3, block_size=5)
    names = block_hashes(range(5), block_size=5)
    first = pool.take((), 1)
    pool.name(first[0], names[0])
    second = pool.take(pool.match(names), 0)
    assert first == second
    pool.release(first)
    assert (pool.owners(second[0]), pool.n_free) == (1, 2)
    assert not set(pool.take((), 2)) & set(second)  # all that was free, and not this one
    with pytest.raises(OutOfBlocks, match="1 blocks are needed, 0 of 3 free"):
        pool.take((), 1)
    pool.release(second)
    pool.take((), 1)
    assert pool.match(names) == []  # idle until its memory was needed, then forgotten


def test_the_longest_idle_is_reused_first_and_of_one_text_its_deepest_block():
    pool = BlockPool(5, block_size=1)
    texts = {"a": [1, 2], "b": [3, 4, 5]}
    names = {key: block_hashes(text, block_size=1) for key, text in texts.items()}
    owned = {key: pool.take((), len(text)) for key, text in texts.items()}
    for key in texts:
        for block, name in zip(owned[key], names[key], strict=True):
            pool.name(block, name)
    pool.release(owned["a"])
    pool.release(owned["b"])
    known = []
    for _ in range(5):
        pool.take((), 1)
        known.append((len(pool.match(names["a"])), len(pool.match(names["b"]))))
    assert known == [(1, 3), (0, 3), (0, 2), (0, 1), (0, 0)]


def test_a_new_claim_makes_idle_contents_young_again():
    pool = BlockPool(2, block_size=1)
    for token in (1, 2):
        (block,) = pool.take((), 1)
        pool.name(block, block_hashes([token], block_size=1)[0])
    pool.release([0])
    pool.release([1])
    old = pool.match(block_hashes([1], block_size=1)) or pool.match([])
    pool.release(pool.take(old, 0))
    pool.take((), 1)
    assert pool.match(block_hashes([1], block_size=1)) == old
    assert pool.match(block_hashes([2], block_size=1)) == []


def test_blocks_without_a_name_are_used_before_any_contents_are_forgotten():
    pool = BlockPool(3, block_size=1)
    names = block_hashes([1], block_size=1)
    blocks = pool.take((), 3)
    pool.name(blocks[1], names[0])
    pool.release(blocks)
    pool.take((), 2)
    assert pool.match(names) == [blocks[1]]


def test_too_little_memory_changes_nothing():
    pool = BlockPool(5, block_size=1)
    names = block_hashes([1, 2], block_size=1)
    blocks = pool.take((), 2)
    for block, name in zip(blocks, names, strict=True):
        pool.name(block, name)
    pool.release(blocks)
    pool.take((), 2)
    shared = pool.match(names)
    assert not pool.can_take(shared, 2)  # three are free, of which the claim itself takes two
    with pytest.raises(OutOfBlocks):
        pool.take(shared, 2)
    assert (pool.n_free, pool.match(names), pool.owners(shared[0])) == (3, shared, 0)
    assert len(pool.take(shared, 1)) == 3


def test_a_name_belongs_to_the_first_block_that_took_it():
    pool = BlockPool(2, block_size=1)
    names = block_hashes([1], block_size=1)
    first, second = pool.take((), 2)
    pool.name(first, names[0])
    pool.name(second, names[0])
    assert pool.match(names) == [first]
    pool.release([second])
    assert pool.take((), 1) == [second]
    assert pool.match(names) == [first]


@pytest.mark.parametrize(("n_tokens", "n_blocks"), [(0, 0), (1, 1), (7, 1), (8, 2), (14, 2)])
def test_a_block_that_is_begun_counts_whole(n_tokens, n_blocks):
    assert BlockPool(1, block_size=7).blocks_for(n_tokens) == n_blocks


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BlockPool(0), "at least 1, got 0 and 16"),
        (lambda: BlockPool(1, block_size=0), "at least 1, got 1 and 0"),
        (lambda: BlockPool(1).release([0]), "block 0 has no owner to release it"),
        (lambda: BlockPool(1).name(0, b""), "block 0 has no owner, so"),
        (lambda: extend_hashes([], [1], block_size=0), "block_size must be at least 1, got 0"),
    ],
)
def test_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2**40), max_size=41),
    st.lists(st.integers(0, 41), max_size=5),
    st.sampled_from([1, 2, 5, 16]),
)
def test_hashes_do_not_depend_on_how_the_text_was_cut(tokens, cuts, block_size):
    whole = block_hashes(tokens, block_size=block_size)
    hashes = []
    for stop in [*sorted(cuts), len(tokens)]:
        extend_hashes(hashes, tokens[len(hashes) * block_size : stop], block_size=block_size)
    assert hashes == whole


def test_hashes_without_their_parent_would_depend_on_the_cut():
    tokens = list(range(6))
    assert block_hashes(tokens, block_size=3) != [
        *block_hashes(tokens[:3], block_size=3),
        *block_hashes(tokens[3:], block_size=3),
    ]
