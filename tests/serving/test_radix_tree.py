"""A radix tree of texts: its matches are those of a search through all texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiexplained.serving import RadixTree

# Three tokens and short texts: openings are shared all the time.
texts = st.lists(st.integers(0, 2), max_size=7)
sent = st.lists(st.tuples(texts, st.integers(0, 2)), max_size=17)


def common(a, b):
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def brute_force(inserted, text):
    lengths = {}
    for other, engine in inserted:
        lengths[engine] = max(lengths.get(engine, 0), common(text, other))
    return {engine: length for engine, length in lengths.items() if length}


def grown(inserted):
    tree = RadixTree()
    for text, engine in inserted:
        tree.insert(text, engine)
    return tree


def check_shape(tree):
    """What holds of every tree: labels are not empty, and a node knows all that its child knows."""
    nodes = list(tree.nodes())
    assert tree.n_nodes == len(nodes)
    for node in nodes:
        assert node.text
        assert node.used
        assert node.parent.children[node.text[0]] is node
        if node.parent is not tree.root:
            for engine, used in node.used.items():
                assert node.parent.used[engine] >= used


@given(sent, texts)
def test_match_is_the_longest_opening_shared_with_a_text_of_the_engine(inserted, text):
    assert grown(inserted).match(text) == brute_force(inserted, text)


@given(sent, texts)
def test_engines_come_by_length_and_then_by_last_use(inserted, text):
    tree = grown(inserted)
    lengths = list(tree.match(text).values())
    assert lengths == sorted(lengths, reverse=True)
    if text:
        tree.insert(text, 2)
        assert next(iter(tree.match(text))) == 2


@given(sent)
def test_edges_are_compressed_and_nodes_few(inserted):
    tree = grown(inserted)
    check_shape(tree)
    distinct = {tuple(text) for text, _ in inserted if text}
    assert tree.n_nodes <= 2 * len(distinct)
    ends = {tuple(text) for text, _ in inserted}
    for node in tree.nodes():
        path, at = (), node
        while at is not tree.root:
            path, at = at.text + path, at.parent
        assert len(node.children) != 1 or path in ends


@given(sent, st.integers(0, 9), texts)
def test_eviction_keeps_the_bound_and_never_invents_a_match(inserted, max_nodes, text):
    tree = grown(inserted)
    before = tree.n_nodes
    tree.evict(max_nodes)
    assert tree.n_nodes == min(before, max_nodes)
    check_shape(tree)
    exact = brute_force(inserted, text)
    assert all(length <= exact[engine] for engine, length in tree.match(text).items())


def test_the_leaf_unused_for_longest_goes_first():
    tree = grown([([1, 1, 1], 0), ([1, 2, 2], 1), ([1, 3, 3], 0)])
    tree.insert([1, 1, 1], 1)  # refreshed by another engine
    tree.evict(3)
    assert tree.match([1, 2, 2]) == {1: 1, 0: 1}
    assert tree.match([1, 1, 1])[0] == 3


@given(sent, st.integers(0, 2), texts)
def test_a_forgotten_engine_leaves_the_others_as_they_were(inserted, engine, text):
    tree = grown(inserted)
    tree.forget(engine)
    check_shape(tree)
    assert tree.match(text) == brute_force([(t, e) for t, e in inserted if e != engine], text)


def test_rejects_a_negative_bound():
    with pytest.raises(ValueError, match="max_nodes of at least 0, got -1"):
        RadixTree().evict(-1)
