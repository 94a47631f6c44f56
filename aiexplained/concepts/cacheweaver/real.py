"""The same question on a real language model: a paged prefix cache, and a clock.

Needs torch, and the packaged weights of :mod:`aiexplained.hub`. Nothing is modeled here: the keys
and values of 16-token blocks are kept in a pool and reused exactly.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aiexplained import hub
from aiexplained.concepts.cacheweaver.planner import PrefixTree
from aiexplained.concepts.cacheweaver.simulate import POLICIES, UPCOMING, Context
from aiexplained.data import python_reference, retrieval, traces
from aiexplained.lm import KVCache, Tokenizer, Transformer, log_likelihood
from aiexplained.serving import BlockCache

INSTRUCTION = "Answer the question with a few words from the Python reference below."
ORDERS = ("retrieval", "random", "sorted", "greedy", "oracle")
ROTATION_SEED = 7


class FirstToken(NamedTuple):
    """Logits of the first answer token, tokens that came from the cache, and the time it took."""

    logits: Float[Tensor, "V"]
    cached: int
    ttft_s: float


class PrefixEngine:
    """One request at a time through a model, keys and values of earlier prompts kept in blocks.

    Args:
        model: The language model.
        capacity_blocks: Blocks in the pool; 0 switches reuse off.
        block_size: Tokens a block.
    """

    def __init__(
        self, model: Transformer, *, capacity_blocks: int, block_size: int = 16
    ) -> None:
        c = model.config
        self.model = model
        self.block_size = block_size
        self.cache = BlockCache(capacity_blocks, block_size=block_size) if capacity_blocks else None
        shape = (c.n_layers, 2, capacity_blocks, c.n_kv_heads, block_size, c.head_dim)
        self.pool = torch.zeros(shape)

    @torch.inference_mode()
    def first_token(self, tokens: Sequence[int]) -> FirstToken:
        """Prefill a prompt, reusing its cached opening; keep its blocks for later prompts."""
        start = time.perf_counter()
        slots = self.cache.match(tokens) if self.cache else []
        cache = self._read(slots)
        fresh = torch.tensor([list(tokens[len(slots) * self.block_size :])])
        logits = self.model(fresh, cache=cache, last_only=True)[0, -1]
        elapsed = time.perf_counter() - start
        if self.cache:
            self._write(self.cache.insert(tokens), cache)
        return FirstToken(logits, len(slots) * self.block_size, elapsed)

    def _read(self, slots: Sequence[int]) -> KVCache:
        cache = KVCache(self.model.config)
        if slots:
            blocks = self.pool[:, :, list(slots)]  # [L, 2, n, H_kv, block, D]
            L, _, n, H, b, D = blocks.shape
            joined = blocks.permute(0, 1, 3, 2, 4, 5).reshape(L, 2, 1, H, n * b, D)
            for layer, (key, value) in enumerate(joined):
                cache.append(layer, key, value)
        return cache

    def _write(self, placed: Sequence[tuple[int, int]], cache: KVCache) -> None:
        for index, slot in placed:
            part = slice(index * self.block_size, (index + 1) * self.block_size)
            for layer in range(self.model.config.n_layers):
                key, value = cache.layer(layer)
                self.pool[layer, 0, slot] = key[0, :, part]
                self.pool[layer, 1, slot] = value[0, :, part]


@dataclass(frozen=True)
class Corpus:
    """Passages, questions and queries with what a real retriever returned for each.

    Args:
        passages: Token ids of each passage.
        topics: Topic of each passage.
        questions: The written questions.
        question_hits: Passages retrieved for each question, best first.
        browsing_hits: Passages retrieved for the first sentence of each passage.
    """

    passages: tuple[list[int], ...]
    topics: tuple[str, ...]
    questions: tuple[python_reference.Question, ...]
    question_hits: np.ndarray
    browsing_hits: np.ndarray


@lru_cache(maxsize=1)
def load_language_model() -> hub.Pretrained:
    """SmolLM2-135M-Instruct in float32, loaded once a process."""
    return hub.load_pretrained("smollm2-135m", dtype=torch.float32)


@lru_cache(maxsize=1)
def load_corpus(k: int = 10) -> Corpus:
    """Embed the passages and all queries with MiniLM and keep the ``k`` best of each."""
    passages = python_reference.load_passages()
    questions = python_reference.load_questions()
    embed, tokenizer = hub.load_embedder(), load_language_model().tokenizer
    vectors = embed([p.text for p in passages])
    first = [_first_sentence(p.text) for p in passages]
    return Corpus(
        tuple(tokenizer.encode(p.text + "\n\n") for p in passages),
        tuple(p.topic for p in passages),
        questions,
        retrieval.rank_passages(embed([q.text for q in questions]), vectors, k),
        retrieval.rank_passages(embed(first), vectors, k),
    )


def _first_sentence(text: str) -> str:
    body = text.split("\n", 1)[-1].strip() or text
    return body.split(". ")[0][:300]


def make_prompt(
    tokenizer: Tokenizer, passages: Sequence[Sequence[int]], question: str
) -> list[int]:
    """Token ids: instructions, passages, question. Each part is encoded by itself.

    A passage must have the same tokens wherever it stands, so nothing in it may depend on its
    place: no "[1]", and no token that spans two passages.
    """
    head = f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\n"
    foot = f"Question: {question}<|im_end|>\n<|im_start|>assistant\nAnswer:"
    body = [token for passage in passages for token in passage]
    return [*tokenizer.encode(head), *body, *tokenizer.encode(foot)]


def make_trace(corpus: Corpus, kind: str, *, n_requests: int, k: int, seed: int) -> list[Any]:
    """Requests ``(question, passages)`` of one kind: ``"questions"`` or ``"browsing"``."""
    if kind == "questions":
        return _question_trace(corpus, n_requests, k, seed)
    if kind == "browsing":
        return _browsing_trace(corpus, n_requests, k, seed)
    raise ValueError(f"kind must be 'questions' or 'browsing', got {kind!r}")


def _question_trace(corpus: Corpus, n_requests: int, k: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    subjects = sorted({q.subject for q in corpus.questions})
    by_subject = {s: [i for i, q in enumerate(corpus.questions) if q.subject == s] for s in subjects}
    subjects = [subjects[i] for i in rng.permutation(len(subjects))]
    sessions = traces.sample_sessions(
        n_requests, n_subjects=len(subjects), zipf=1.1, mean_session_length=2.0, seed=seed
    )
    decks: dict[int, list[int]] = {}
    out = []
    for subject, session in sessions:
        deck = decks.setdefault(session, []) or rng.permutation(
            by_subject[subjects[subject]]
        ).tolist()
        decks[session] = deck
        i = deck.pop()
        out.append((corpus.questions[i].text, corpus.question_hits[i, :k].tolist()))
    return out


def _browsing_trace(corpus: Corpus, n_requests: int, k: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    starts = rng.permutation(len(corpus.topics)).tolist()
    seen: set[int] = set()
    out: list[Any] = []
    for start in starts:
        length = int(rng.geometric(1 / 4))
        for i in range(start, min(start + length, len(corpus.topics))):
            if i in seen or corpus.topics[i] != corpus.topics[start]:
                break
            seen.add(i)
            out.append((f"What does this section say? ({i})", corpus.browsing_hits[i, :k].tolist()))
        if len(out) >= n_requests:
            break
    return out[:n_requests]


def measure_ttft(
    *, kind: str, seed: int, n_requests: int = 60, k: int = 5, capacity_blocks: int = 1000
) -> dict[str, Any]:
    """Time to first token of each order on the real model, requests interleaved.

    Every order has its own engine and planner. For each request all orders run one after the
    other, starting with another one each time, so that a slow moment of the machine hits all. The
    greedy prompt also runs without any cache: its logits are the reference for exactness.

    Returns:
        For each order ``ttft_s``, ``cached``, ``total``, ``changed`` and ``planner_s`` (a list
        entry a request); ``no cache`` likewise; and ``max_logit_error``.
    """
    model, tokenizer = load_language_model().model, load_language_model().tokenizer
    corpus = load_corpus()
    trace = make_trace(corpus, kind, n_requests=n_requests, k=k, seed=seed)
    hits = [passages for _, passages in trace]
    engines = {name: PrefixEngine(model, capacity_blocks=capacity_blocks) for name in ORDERS}
    engines["no cache"] = PrefixEngine(model, capacity_blocks=0)
    trees = {name: PrefixTree() for name in ORDERS}
    rng = np.random.default_rng(seed)
    keys = ("ttft_s", "cached", "total", "changed", "planner_s")
    out: dict[str, Any] = {name: {key: [] for key in keys} for name in engines}
    worst = 0.0
    engines["no cache"].first_token(make_prompt(tokenizer, [corpus.passages[0]], "warm-up"))
    for i, (question, passages) in enumerate(trace):
        orders, logits = {}, {}
        for name in (*ORDERS[i % len(ORDERS) :], *ORDERS[: i % len(ORDERS)], "no cache"):
            start = time.perf_counter()
            if name in POLICIES:
                context = Context(trees[name], hits[i + 1 : i + 1 + UPCOMING], rng)
                orders[name] = POLICIES[name](passages, context)
            planner_s = time.perf_counter() - start
            order = orders.get(name, orders.get("greedy"))
            tokens = make_prompt(tokenizer, [corpus.passages[p] for p in order], question)
            first = engines[name].first_token(tokens)
            logits[name] = first.logits
            if name in trees:
                trees[name].serve(order)
            row = (
                first.ttft_s + planner_s, first.cached, len(tokens),
                list(order) != passages, planner_s,
            )  # fmt: skip
            for key, value in zip(keys, row, strict=True):
                out[name][key].append(value)
        worst = max(worst, float((logits["greedy"] - logits["no cache"]).abs().max()))
    out["max_logit_error"] = worst
    return out


def measure_quality(*, part: int, n_parts: int = 4, k: int = 5) -> dict[str, Any]:
    """Log-probability a token of the written answers, by the order of the passages.

    For each question whose evidence was retrieved: retrieval order; the woven order after a trace
    of the other questions; a random order; every place of the passage that holds the answer; and
    the same prompt without that passage.

    Args:
        part: Which of ``n_parts`` interleaved parts of the questions to score.
        n_parts: Parts that all questions are split into.
        k: Passages a prompt.
    """
    pretrained, corpus = load_language_model(), load_corpus()
    texts = [p.text for p in python_reference.load_passages()]
    rng = np.random.default_rng(ROTATION_SEED)
    woven = _woven_orders(corpus, k)
    rows = []
    for i, question in enumerate(corpus.questions):
        hits = corpus.question_hits[i, :k].tolist()
        shuffled = rng.permutation(hits).tolist()
        holds = [p for p in hits if question.evidence in texts[p]]
        if not holds or i % n_parts != part:
            continue
        rest = [p for p in hits if p != holds[0]]
        places = [[*rest[:place], holds[0], *rest[place:]] for place in range(k)]
        scored = [hits, woven[i], shuffled, rest, *places]
        answer = pretrained.tokenizer.encode(" " + question.answer)
        logp = []
        for order in scored:
            prompt = make_prompt(
                pretrained.tokenizer, [corpus.passages[p] for p in order], question.text
            )
            logp.append(float(log_likelihood(pretrained.model, prompt, answer).mean()))
        rows.append(
            {
                "question": question.id,
                "evidence_place": hits.index(holds[0]),
                "changed": woven[i] != hits,
                "retrieval": logp[0],
                "woven": logp[1],
                "random": logp[2],
                "without": logp[3],
                "by_place": logp[4:],
            }
        )
    return {"rows": rows}


def _woven_orders(corpus: Corpus, k: int) -> list[list[int]]:
    """Greedy order of every question in a trace that asks each once, subjects interleaved."""
    tree, out = PrefixTree(), {}
    for i in np.random.default_rng(ROTATION_SEED).permutation(len(corpus.questions)).tolist():
        hits = corpus.question_hits[i, :k].tolist()
        out[i] = list(POLICIES["greedy"](hits, Context(tree, (), np.random.default_rng(0))))
        tree.serve(out[i])
    return [out[i] for i in range(len(out))]
