"""The same question on a real language model: a paged prefix cache, and a clock.

Needs torch, and the packaged weights of :mod:`aiexplained.hub`. Nothing is modeled here: the keys
and values of 16-token blocks are kept in a pool and reused exactly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aiexplained import hub
from aiexplained.concepts.cacheweaver.planner import PrefixTree, weave
from aiexplained.concepts.cacheweaver.simulate import POLICIES, UPCOMING, Context
from aiexplained.data import retrieval, traces
from aiexplained.data.python_questions import Question, find_evidence, load_questions
from aiexplained.data.python_reference import load_passages
from aiexplained.lm import KVCache, Transformer, log_likelihood
from aiexplained.lm.tokenizer import Tokenizer
from aiexplained.serving import BlockCache

INSTRUCTION = "Answer the question with a few words from the Python reference below."
ORDERS = ("retrieval", "sorted", "greedy", "oracle")
TRACES = ("conversation", "questions", "browsing")
CHECK_EVERY = 4
ROTATION_SEED = 7


class FirstToken(NamedTuple):
    """Logits of the first answer token, tokens that came from the cache, and the time it took.

    ``cpu_s`` is the processor time of the thread that did the work: on an idle machine with one
    thread it equals ``wall_s``, on a busy one it is the steadier of the two.
    """

    logits: Float[Tensor, "V"]
    cached: int
    wall_s: float
    cpu_s: float


class PrefixEngine:
    """One request at a time through a model, keys and values of earlier prompts kept in blocks.

    Args:
        model: The language model.
        capacity_blocks: Blocks in the pool; 0 switches reuse off.
        block_size: Tokens a block.
    """

    def __init__(self, model: Transformer, *, capacity_blocks: int, block_size: int = 16) -> None:
        c = model.config
        self.model = model
        self.block_size = block_size
        self.cache = BlockCache(capacity_blocks, block_size=block_size) if capacity_blocks else None
        shape = (c.n_layers, 2, capacity_blocks, c.n_kv_heads, block_size, c.head_dim)
        self.pool = torch.zeros(shape)

    @torch.inference_mode()
    def first_token(self, tokens: Sequence[int]) -> FirstToken:
        """Prefill a prompt, reusing its cached opening; keep its blocks for later prompts."""
        wall, cpu = time.perf_counter(), time.thread_time()
        slots = [] if self.cache is None else self.cache.match(tokens)
        cache = self._read(slots)
        fresh = torch.tensor([list(tokens[len(slots) * self.block_size :])])
        logits = self.model(fresh, cache=cache, last_only=True)[0, -1]
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        if self.cache is not None:
            self._write(self.cache.insert(tokens), cache)
        return FirstToken(logits, len(slots) * self.block_size, wall, cpu)

    def _read(self, slots: Sequence[int]) -> KVCache:
        if not slots:
            return self.model.make_cache()
        blocks = self.pool[:, :, list(slots)]  # [L, 2, n, H_kv, block, D]
        L, _, n, H, b, D = blocks.shape
        joined = blocks.permute(0, 1, 3, 2, 4, 5).reshape(L, 2, 1, H, n * b, D)
        return KVCache.from_layers([(key, value) for key, value in joined])

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
        openings: First sentence of each passage, the query of the browsing trace.
        questions: The written questions.
        hits: Passages retrieved for a query, best first, by the text of the query.
    """

    passages: tuple[list[int], ...]
    topics: tuple[str, ...]
    openings: tuple[str, ...]
    questions: tuple[Question, ...]
    hits: Mapping[str, list[int]]


@lru_cache(maxsize=1)
def load_language_model() -> hub.Pretrained:
    """SmolLM2-135M-Instruct in float32, loaded once a process."""
    return hub.load_pretrained("smollm2-135m", dtype=torch.float32)


@lru_cache(maxsize=1)
def load_corpus(k: int = 10) -> Corpus:
    """Embed the passages and all queries with MiniLM and keep the ``k`` best of each."""
    passages, questions = load_passages(), load_questions()
    embed, tokenizer = hub.load_embedder(), load_language_model().tokenizer
    openings = tuple(_first_sentence(p.text) for p in passages)
    by_subject: dict[str, list[str]] = {}
    for question in questions:
        by_subject.setdefault(question.subject, []).append(question.text)
    talks = [
        " ".join(asked)
        for texts in by_subject.values()
        for n in range(1, len(texts) + 1)
        for asked in permutations(texts, n)
    ]
    queries = list(dict.fromkeys([*openings, *talks]))
    best = retrieval.rank_passages(embed(queries), embed([p.text for p in passages]), k)
    return Corpus(
        tuple(tokenizer.encode(p.text + "\n\n") for p in passages),
        tuple(p.topic for p in passages),
        openings,
        questions,
        dict(zip(queries, best.tolist(), strict=True)),
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


def make_trace(
    corpus: Corpus, kind: str, *, n_requests: int, k: int, seed: int
) -> list[tuple[str, list[int]]]:
    """Requests ``(question, retrieved passages)`` of one kind.

    ``"questions"``: sessions ask up to three questions of one subject, each retrieved by itself.
    ``"conversation"``: the same, but the retriever sees all that the session has asked so far.
    ``"browsing"``: sessions walk through a topic; the query is a passage's first sentence, and no
    query comes twice.
    """
    if kind == "browsing":
        return _browsing_trace(corpus, n_requests, k, seed)
    if kind not in TRACES:
        raise ValueError(f"kind must be one of {', '.join(TRACES)}; got {kind!r}")
    rng = np.random.default_rng(seed)
    texts: dict[str, list[str]] = {}
    for question in corpus.questions:
        texts.setdefault(question.subject, []).append(question.text)
    ranked = [sorted(texts)[i] for i in rng.permutation(len(texts))]
    asked: dict[int, list[str]] = {}
    out = []
    for subject, session in traces.sample_sessions(
        n_requests, n_subjects=len(ranked), zipf=1.1, mean_session_length=3.0, seed=seed
    ):
        before = asked.setdefault(session, [])
        left = [text for text in texts[ranked[subject]] if text not in before]
        if not left:
            before, left = asked.setdefault(session, []), texts[ranked[subject]]
            before.clear()
        before.append(left[rng.integers(len(left))])
        query = " ".join(before) if kind == "conversation" else before[-1]
        out.append((before[-1], corpus.hits[query][:k]))
    return out


def _browsing_trace(
    corpus: Corpus, n_requests: int, k: int, seed: int
) -> list[tuple[str, list[int]]]:
    rng = np.random.default_rng(seed)
    seen: set[int] = set()
    out: list[tuple[str, list[int]]] = []
    for start in rng.permutation(len(corpus.topics)).tolist():
        for i in range(start, min(start + int(rng.geometric(1 / 4)), len(corpus.topics))):
            if i in seen or corpus.topics[i] != corpus.topics[start]:
                break
            seen.add(i)
            out.append((f"Explain: {corpus.openings[i]}", corpus.hits[corpus.openings[i]][:k]))
        if len(out) >= n_requests:
            break
    return out[:n_requests]


def measure_ttft(
    *, kind: str, seed: int, n_requests: int = 40, k: int = 5, capacity_blocks: int = 1000
) -> dict[str, Any]:
    """Time to first token of each order on the real model, requests interleaved.

    Every order has its own engine and planner. For each request all orders run one after the
    other, starting with another one each time, so that a slow moment of the machine hits all.
    Every fourth greedy prompt also runs without any cache: its logits are the reference for
    exactness.

    Returns:
        For each order, and for ``no cache``, a list entry a request: ``cpu_s`` and ``wall_s`` (the
        planner included), ``planner_s``, ``cached`` and ``total`` tokens, ``changed``. And
        ``max_logit_error``, ``n_checked``.
    """
    pretrained, corpus = load_language_model(), load_corpus()
    trace = make_trace(corpus, kind, n_requests=n_requests, k=k, seed=seed)
    engines = {n: PrefixEngine(pretrained.model, capacity_blocks=capacity_blocks) for n in ORDERS}
    cold = PrefixEngine(pretrained.model, capacity_blocks=0)
    trees = {name: PrefixTree() for name in ORDERS}
    out: dict[str, Any] = {name: _empty_rows() for name in (*ORDERS, "no cache")}
    worst = 0.0
    cold.first_token(make_prompt(pretrained.tokenizer, corpus.passages[:1], "warm-up"))
    for i, (question, passages) in enumerate(trace):
        upcoming = [p for _, p in trace[i + 1 : i + 1 + UPCOMING]]
        for name in (*ORDERS[i % len(ORDERS) :], *ORDERS[: i % len(ORDERS)]):
            start = time.thread_time()
            context = Context(trees[name], upcoming, np.random.default_rng(seed))
            order = list(POLICIES[name](passages, context))
            planner_s = time.thread_time() - start
            prompt = make_prompt(
                pretrained.tokenizer, [corpus.passages[p] for p in order], question
            )
            first = engines[name].first_token(prompt)
            trees[name].serve(order)
            _add_row(out[name], first, planner_s, len(prompt), order != passages)
            if name == "greedy" and i % CHECK_EVERY == 0:
                alone = cold.first_token(prompt)
                _add_row(out["no cache"], alone, 0.0, len(prompt), order != passages)
                worst = max(worst, float((first.logits - alone.logits).abs().max()))
    return {**out, "max_logit_error": worst, "n_checked": len(out["no cache"]["total"])}


def _empty_rows() -> dict[str, list[Any]]:
    return {key: [] for key in ("cpu_s", "wall_s", "planner_s", "cached", "total", "changed")}


def _add_row(
    rows: dict[str, list[Any]], first: FirstToken, planner_s: float, total: int, changed: bool
) -> None:
    rows["cpu_s"].append(round(first.cpu_s + planner_s, 5))
    rows["wall_s"].append(round(first.wall_s + planner_s, 5))
    rows["planner_s"].append(round(planner_s, 7))
    rows["cached"].append(first.cached)
    rows["total"].append(total)
    rows["changed"].append(changed)


def measure_quality(*, part: int, n_parts: int = 8, k: int = 5) -> dict[str, Any]:
    """Log-probability a token of the written answers, by the order of the passages.

    For each question whose evidence was retrieved: the woven order, in a trace that asks every
    question once; every place of the passage that holds the answer, the others in retrieval order
    (one of these is retrieval order itself); and the same prompt without that passage.

    Args:
        part: Which of ``n_parts`` interleaved parts of the questions to score.
        n_parts: Parts that all questions are split into.
        k: Passages a prompt.
    """
    passages, corpus = load_passages(), load_corpus()
    woven = _woven_orders(corpus, k)
    rows = []
    for i, question in enumerate(corpus.questions):
        hits = corpus.hits[question.text][:k]
        holds = [p for p in hits if p in find_evidence(question, passages)]
        if not holds or i % n_parts != part:
            continue
        rest = [p for p in hits if p != holds[0]]
        places = [[*rest[:place], holds[0], *rest[place:]] for place in range(k)]
        by_place = [_answer_logp(corpus, order, question) for order in places]
        rows.append(
            {
                "question": question.id,
                "evidence_place": hits.index(holds[0]),
                "changed": woven[i] != hits,
                "retrieval": by_place[hits.index(holds[0])],
                "woven": _answer_logp(corpus, woven[i], question),
                "without": _answer_logp(corpus, rest, question),
                "by_place": by_place,
            }
        )
    return {"rows": rows}


def _answer_logp(corpus: Corpus, order: Sequence[int], question: Question) -> float:
    pretrained = load_language_model()
    prompt = make_prompt(pretrained.tokenizer, [corpus.passages[p] for p in order], question.text)
    answer = pretrained.tokenizer.encode(" " + question.answer)
    logp = log_likelihood(pretrained.model, torch.tensor(prompt), torch.tensor(answer))
    return round(float(logp.mean()), 5)


def _woven_orders(corpus: Corpus, k: int) -> list[list[int]]:
    """Greedy order of every question, in a trace that asks each once, subjects mixed."""
    tree = PrefixTree()
    out: dict[int, list[int]] = {}
    for i in np.random.default_rng(ROTATION_SEED).permutation(len(corpus.questions)).tolist():
        out[i] = list(weave(corpus.hits[corpus.questions[i].text][:k], tree))
        tree.serve(out[i])
    return [out[i] for i in range(len(out))]
