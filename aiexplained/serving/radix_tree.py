"""Radix tree of the texts that a router sent to engines: who saw how much of a new one.

ATOMesh keeps one for each pool (ROCm/ATOM, ``atom/mesh/src/policies/tree.rs``), over raw
characters, since its router has no tokenizer. Ours holds token ids; a character is one too.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence


class RadixNode:
    """Where texts part or end.

    Args:
        text: What leads here from the parent; empty at the root only.
        parent: The node before; ``None`` at the root.
    """

    __slots__ = ("children", "parent", "text", "used")

    def __init__(self, text: tuple[int, ...], parent: RadixNode | None) -> None:
        self.text, self.parent = text, parent
        self.children: dict[int, RadixNode] = {}
        self.used: dict[int, int] = {}
        """Engines that saw the text up to here, with the number of the last insertion."""

    @property
    def last_used(self) -> int:
        """Number of the last insertion that passed here."""
        return max(self.used.values(), default=0)


class RadixTree:
    """Openings of texts, shared ones once, each with the engines that saw it.

    An engine that saw a node's text saw the texts of all nodes before it. Nodes that eviction
    leaves with one child are not joined with it.

    >>> tree = RadixTree()
    >>> tree.insert([1, 2, 3, 4], engine=0)
    >>> tree.insert([1, 2, 9], engine=1)
    >>> tree.match([1, 2, 3, 7]), tree.n_nodes
    ({0: 3, 1: 2}, 3)
    """

    def __init__(self) -> None:
        self.root = RadixNode((), None)
        self.n_nodes = 0
        self._clock = 0

    def nodes(self) -> Iterator[RadixNode]:
        """All nodes but the root, parents first."""
        todo = list(self.root.children.values())
        while todo:
            node = todo.pop()
            yield node
            todo += node.children.values()

    def match(self, tokens: Sequence[int]) -> dict[int, int]:
        """How many tokens of the opening each engine saw, in one text or another.

        Args:
            tokens: A text, matched from its start.

        Returns:
            Length by engine, for engines that saw at least one token; of equal lengths the one
            used last comes first.
        """
        text, node, depth = tuple(tokens), self.root, 0
        lengths: dict[int, int] = {}
        latest: dict[int, int] = {}
        while depth < len(text) and (child := node.children.get(text[depth])) is not None:
            shared = _common(child.text, text, depth)
            depth += shared
            lengths.update(dict.fromkeys(child.used, depth))
            latest.update(child.used)
            if shared < len(child.text):
                break
            node = child
        order = sorted(lengths, key=lambda engine: (-lengths[engine], -latest[engine]))
        return {engine: lengths[engine] for engine in order}

    def insert(self, tokens: Sequence[int], engine: int) -> None:
        """Note that an engine sees a text.

        Args:
            tokens: The text.
            engine: Number of the engine.
        """
        self._clock += 1
        text, node, depth = tuple(tokens), self.root, 0
        while depth < len(text):
            child = node.children.get(text[depth])
            if child is None:
                child = node.children[text[depth]] = RadixNode(text[depth:], node)
                self.n_nodes += 1
            shared = _common(child.text, text, depth)
            if shared < len(child.text):
                child = self._split(child, shared)
            child.used[engine] = self._clock
            node, depth = child, depth + shared

    def _split(self, node: RadixNode, at: int) -> RadixNode:
        """Put a node before ``node`` that takes the first ``at`` tokens of its text."""
        assert node.parent is not None
        upper = RadixNode(node.text[:at], node.parent)
        node.parent.children[node.text[0]] = upper
        node.text, node.parent = node.text[at:], upper
        upper.children[node.text[0]] = node
        upper.used = dict(node.used)
        self.n_nodes += 1
        return upper

    def evict(self, max_nodes: int) -> None:
        """Drop the leaves unused for longest until so many nodes are left.

        Args:
            max_nodes: At least 0; the root does not count.

        Raises:
            ValueError: if it is negative.
        """
        if max_nodes < 0:
            raise ValueError(f"evict needs max_nodes of at least 0, got {max_nodes}")
        if self.n_nodes <= max_nodes:
            return
        # Two leaves are never used by the same insertion; a parent is no leaf before its children.
        leaves = [(n.last_used, id(n), n) for n in self.nodes() if not n.children]
        heapq.heapify(leaves)
        while self.n_nodes > max_nodes:
            _, _, leaf = heapq.heappop(leaves)
            parent = self._drop(leaf)
            if not parent.children and parent is not self.root:
                heapq.heappush(leaves, (parent.last_used, id(parent), parent))

    def forget(self, engine: int) -> None:
        """Drop an engine from all texts, and texts that nobody else saw.

        Args:
            engine: Number of the engine; one that saw nothing is fine.
        """
        for node in reversed(list(self.nodes())):
            node.used.pop(engine, None)
            if not node.used:
                self._drop(node)

    def _drop(self, leaf: RadixNode) -> RadixNode:
        assert leaf.parent is not None
        del leaf.parent.children[leaf.text[0]]
        self.n_nodes -= 1
        return leaf.parent


def _common(edge: tuple[int, ...], text: tuple[int, ...], start: int) -> int:
    """Tokens that ``edge`` has in common with ``text`` from ``start`` on."""
    rest = text[start : start + len(edge)]
    if rest == edge:
        return len(edge)
    return next((i for i, (a, b) in enumerate(zip(edge, rest, strict=False)) if a != b), len(rest))
