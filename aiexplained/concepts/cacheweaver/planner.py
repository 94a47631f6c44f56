"""The planner: a prefix tree of what was served, and the orders that can be made from it.

No torch and no engine in here: :func:`weave` takes any hashable passage ids and a tree, and can
stand in front of any engine that reuses prompt prefixes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Passage = Hashable
P = TypeVar("P", bound=Hashable)
Tail = Literal["retrieval", "popular"]


@dataclass(slots=True)
class _Node:
    last_used: int
    children: dict[Passage, _Node] = field(default_factory=dict)


class PrefixTree:
    """Openings served lately, as a tree over passage ids.

    A path from the root is an opening that some prompt had. The engine is never asked what it
    still holds: a node counts as cached while fewer than ``window`` requests have been served
    since it was last used. Nodes older than that are dropped, so at most ``window`` paths remain.

    A tree remembers what it has served. Share one only among requests that may know of each other:
    a cache shared between tenants lets one of them learn, from response times, what another read.

    Args:
        window: Requests for which a served opening counts as cached, at least 1.
    """

    def __init__(self, window: int = 400) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1 request, got {window}")
        self.window = window
        self.clock = 0
        self.lookups = 0
        self._root = _Node(0)
        self._recent: deque[tuple[Passage, ...]] = deque()
        self._popularity: Counter[Passage] = Counter()

    def serve(self, order: Sequence[Passage]) -> None:
        """Record that a prompt with this order of passages was served (call it afterwards)."""
        order = _distinct(order)
        self.clock += 1
        node = self._root
        for passage in order:
            node = node.children.setdefault(passage, _Node(self.clock))
            node.last_used = self.clock
        self._recent.append(order)
        self._popularity.update(order)
        while len(self._recent) > self.window:
            self._popularity.subtract(self._recent.popleft())
        if self.clock % self.window == 0:
            self._drop_stale(self._root)
            self._popularity += Counter()  # drops zeros

    def depth(self, order: Sequence[Passage]) -> int:
        """Reusable prefix depth ℓ(O, T): passages of ``order`` that follow a cached root path."""
        node, depth = self._root, 0
        for passage in order:
            child = self._cached_child(node, passage)
            if child is None:
                break
            node, depth = child, depth + 1
        return depth

    def popularity(self, passage: Passage) -> int:
        """How many of the last ``window`` served prompts held this passage."""
        return self._popularity[passage]

    def paths(self) -> Iterator[tuple[tuple[Passage, ...], int]]:
        """Every cached path, parents before children, with the age of its last use in requests."""
        stack: list[tuple[tuple[Passage, ...], _Node]] = [((), self._root)]
        while stack:
            path, node = stack.pop()
            if path:
                yield path, self.clock - node.last_used
            live = [(p, c) for p, c in node.children.items() if self._is_cached(c)]
            stack.extend(((*path, p), c) for p, c in reversed(live))

    def _is_cached(self, node: _Node) -> bool:
        return self.clock - node.last_used < self.window

    def _cached_child(self, node: _Node, passage: Passage) -> _Node | None:
        self.lookups += 1
        child = node.children.get(passage)
        return child if child is not None and self._is_cached(child) else None

    def _drop_stale(self, node: _Node) -> None:
        node.children = {p: c for p, c in node.children.items() if self._is_cached(c)}
        for child in node.children.values():
            self._drop_stale(child)


def weave(passages: Sequence[P], tree: PrefixTree, *, tail: Tail = "retrieval") -> tuple[P, ...]:
    """Order ``passages`` so that the prompt opens like one served lately (Algorithm 1).

    Walk down from the root; at each node take the first remaining passage, in retrieval order,
    that is a cached child; stop where there is none and append the rest. At most
    ``k (k + 1) / 2`` look-ups for ``k`` passages, counted in ``tree.lookups``.

    Args:
        passages: Distinct ids in retrieval order, most relevant first.
        tree: What was served lately. It is read, not changed: call ``tree.serve(order)`` after.
        tail: Order of the rest. ``"retrieval"`` is the published rule. ``"popular"`` is our
            repair: passages that many recent prompts held come first, so that a one-off passage
            cannot lock later requests out of the tree.

    Returns:
        A permutation of ``passages``; exactly ``passages`` where nothing matches and the tail is
        ``"retrieval"``.

    Raises:
        ValueError: if an id appears twice or ``tail`` is unknown.

    >>> tree = PrefixTree()
    >>> tree.serve(["B", "A", "C"])
    >>> weave(["A", "B", "D"], tree)
    ('B', 'A', 'D')
    """
    rest = list(_distinct(passages))
    order: list[P] = []
    node = tree._root
    while rest:
        for passage in rest:
            child = tree._cached_child(node, passage)
            if child is not None:
                break
        else:
            break
        rest.remove(passage)
        order.append(passage)
        node = child
    return (*order, *_ordered_tail(rest, tree, tail))


def deepest(passages: Sequence[P], tree: PrefixTree, *, tail: Tail = "retrieval") -> tuple[P, ...]:
    """The oracle: an order with the deepest cached opening, argmax ℓ(O, T) (Eq. 1).

    It searches every cached path made of ``passages`` alone, so its cost grows with the tree.
    Among equally deep paths the one that retrieval order prefers is taken. It knows the tree, not
    the future: over a trace it need not be the best policy.
    """
    ranked = _distinct(passages)

    def search(node: _Node, used: tuple[P, ...]) -> tuple[P, ...]:
        best = used
        for passage in ranked:
            if passage in used:
                continue
            child = tree._cached_child(node, passage)
            if child is not None:
                found = search(child, (*used, passage))
                best = found if len(found) > len(best) else best
        return best

    path = search(tree._root, ())
    return (*path, *_ordered_tail([p for p in ranked if p not in path], tree, tail))


def look_ahead(
    passages: Sequence[P], tree: PrefixTree, upcoming: Sequence[Collection[P]]
) -> tuple[P, ...]:
    """An oracle that also knows the next requests.

    Opens with the deepest cached path, then puts first what most of ``upcoming`` will ask for
    again. A yardstick for what ordering could gain, not a policy: real engines do not know what
    comes next.
    """
    ranked = _distinct(passages)
    path = cached_opening(deepest(ranked, tree), tree)
    rest = [p for p in ranked if p not in path]
    wanted = {p: sum(p in request for request in upcoming) for p in rest}
    return (*path, *sorted(rest, key=lambda p: -wanted[p]))


def cached_opening(order: Sequence[P], tree: PrefixTree) -> tuple[P, ...]:
    """The opening of ``order`` that the tree holds as cached."""
    return tuple(order[: tree.depth(order)])


def _ordered_tail(rest: list[P], tree: PrefixTree, tail: Tail) -> list[P]:
    if tail == "retrieval":
        return rest
    if tail == "popular":
        return sorted(rest, key=lambda p: -tree.popularity(p))
    raise ValueError(f"tail must be 'retrieval' or 'popular', got {tail!r}")


def _distinct(passages: Sequence[P]) -> tuple[P, ...]:
    counts = Counter(passages)
    for passage, n in counts.items():
        if n > 1:
            raise ValueError(f"passages must be distinct; {passage!r} appears {n} times")
    return tuple(passages)
