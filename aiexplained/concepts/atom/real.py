"""The same systems as processes with a real language model, by the clock.

Needs torch, and the packaged weights of :mod:`aiexplained.hub`. Each engine is a process with one
thread; keys and values move between processes by gloo.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from aiexplained import hub
from aiexplained.concepts.atom.pools import Pools
from aiexplained.data.corpora import load_corpus
from aiexplained.lm import PagedCache, Transformer, generate
from aiexplained.serving import EngineConfig, Request

CHUNK = 128
SYSTEMS: dict[str, tuple[dict[str, Any], EngineConfig]] = {
    "colocated": ({"n_colocated": 2}, EngineConfig(n_blocks=800)),
    "chunked prefill": (
        {"n_colocated": 2},
        EngineConfig(n_blocks=800, policy="mixed", max_num_batched_tokens=CHUNK),
    ),
    "two pools": ({"n_prefill": 1, "n_decode": 1}, EngineConfig(n_blocks=800)),
}
"""Two engines each: both read and write, both in small chunks, or one of each kind."""


@lru_cache(maxsize=1)
def load_pretrained() -> hub.Pretrained:
    """SmolLM2-135M-Instruct in float32, loaded once a process."""
    return hub.load_pretrained("smollm2-135m", dtype=torch.float32)


def load_model() -> Transformer:
    """Its model alone, for engines."""
    return load_pretrained().model


def text_requests(
    n: int,
    *,
    arrival_rate_rps: float,
    seed: int,
    prompt_tokens: tuple[int, int] = (200, 1000),
    output_tokens: tuple[int, int] = (32, 64),
) -> list[Request]:
    """Requests with passages of a real text as prompts, arriving at random.

    Args:
        n: How many.
        arrival_rate_rps: Mean arrivals a second.
        seed: Of times, passages and lengths.
        prompt_tokens: Shortest and longest prompt; uniform between.
        output_tokens: Shortest and longest answer; uniform between.

    Raises:
        ValueError: if ``n`` or the rate is not positive, or a range is empty or below 1.
    """
    if n < 1 or not arrival_rate_rps > 0:
        raise ValueError(f"need n >= 1 and arrival_rate_rps > 0, got {n} and {arrival_rate_rps}")
    for name, (low, high) in {"prompt": prompt_tokens, "output": output_tokens}.items():
        if not 1 <= low <= high:
            raise ValueError(f"{name}_tokens needs 1 <= shortest <= longest, got {low}, {high}")
    tokenizer = load_pretrained().tokenizer
    rng = np.random.default_rng(seed)
    chapters = load_corpus("kjv").train
    times = np.cumsum(rng.exponential(1 / arrival_rate_rps, n))
    requests = []
    for i in range(n):
        length = int(rng.integers(prompt_tokens[0], prompt_tokens[1] + 1))
        first = int(rng.integers(len(chapters)))
        tokens: list[int] = []
        while len(tokens) < length:
            tokens += tokenizer.encode(chapters[first % len(chapters)])
            first += 1
        n_out = int(rng.integers(output_tokens[0], output_tokens[1] + 1))
        requests.append(Request(i, tokens[:length], n_out, float(times[i]), i))
    return requests


def measure_pools(
    *, system: str, seed: int, n_requests: int = 20, arrival_rate_rps: float = 0.25
) -> dict[str, Any]:
    """Serve requests on one system, by the clock.

    Args:
        system: One of :data:`SYSTEMS`.
        seed: Of the requests.
        n_requests: How many.
        arrival_rate_rps: Mean arrivals a second.

    Returns:
        ``requests``: for each its ``arrival_s``, ``prompt_tokens``, ``token_times_s`` and
        ``outputs``. ``steps``: engine, start, end, pieces of prompts (tokens before, tokens) and
        contexts of the sequences that write. ``transfers``: start, end, blocks. Seconds.

    Raises:
        ValueError: if the system is unknown.
    """
    if system not in SYSTEMS:
        raise ValueError(f"system must be one of {list(SYSTEMS)}, got {system!r}")
    sizes, engine = SYSTEMS[system]
    requests = text_requests(n_requests, arrival_rate_rps=arrival_rate_rps, seed=seed)
    with Pools(load_model, engine=engine, **sizes) as pools:
        pools.serve(_warm_up())
        run = pools.serve(requests)
    return {
        "requests": [
            {
                "arrival_s": round(s.start_s, 4),
                "prompt_tokens": len(s.request.prompt),
                "token_times_s": [round(t, 4) for t in s.token_times_s],
                "outputs": s.outputs,
            }
            for s in run.served
        ],
        "steps": [
            [
                s.engine, round(s.start_s, 4), round(s.end_s, 4), list(map(list, s.prefill)),
                list(s.decode_contexts),
            ]
            for s in run.steps
        ],
        "transfers": [
            [round(t.start_s, 4), round(t.end_s, 4), t.n_blocks] for t in run.transfers
        ],
    }  # fmt: skip


def _warm_up() -> list[Request]:
    """The first passes of a process are slow; two prompts for each engine."""
    return [Request(i, [7 + i] * 64, 4, 0.0, i) for i in range(4)]


def measure_alone(*, seed: int, n_requests: int = 20) -> dict[str, Any]:
    """Answers to the requests of :func:`measure_pools`, each alone, without blocks or batches.

    Args:
        seed: Of the requests.
        n_requests: How many.
    """
    requests = text_requests(n_requests, arrival_rate_rps=1.0, seed=seed)
    return {"outputs": [_answer_alone(request) for request in requests]}


def _answer_alone(request: Request) -> list[int]:
    answer = generate(
        load_model(), torch.tensor([request.prompt]), max_new_tokens=request.max_new_tokens
    )
    return [int(token) for token in answer[0]]


def measure_deaths(
    *, seed: int, n_requests: int = 10, after_tokens: tuple[int, int] = (40, 110)
) -> dict[str, Any]:
    """Kill the writing process, later the reading one, while requests are in their hands.

    Args:
        seed: Of the requests.
        n_requests: How many.
        after_tokens: Delivered tokens at which the writing and the reading process are killed.

    Returns:
        ``answered``: requests with exactly as many tokens as they asked for; ``same``: those with
        the tokens of :func:`aiexplained.lm.generate`; ``attempts`` a request; engines
        ``replaced``; ``delivered`` and ``asked`` tokens; ``longest_gap_s``.
    """
    requests = text_requests(
        n_requests, arrival_rate_rps=1.0, seed=seed, prompt_tokens=(60, 250), output_tokens=(20, 40)
    )
    sizes, engine = SYSTEMS["two pools"]
    with Pools(load_model, engine=engine, **sizes) as pools:
        pools.serve(_warm_up())
        run = pools.serve(requests, lose={1: after_tokens[0], 0: after_tokens[1]})
    return {
        "answered": sum(len(s.outputs) == s.request.max_new_tokens for s in run.served),
        "same": sum(s.outputs == _answer_alone(s.request) for s in run.served),
        "n_requests": n_requests,
        "attempts": [s.attempts for s in run.served],
        "replaced": run.replaced,
        "delivered": sum(len(s.outputs) for s in run.served),
        "asked": sum(s.request.max_new_tokens for s in run.served),
        "longest_gap_s": round(max(gap for s in run.served for gap in s.gaps_s), 3),
    }


def measure_turns(*, seed: int, n_sessions: int = 4, n_turns: int = 3) -> dict[str, Any]:
    """Conversations on two pools: how many blocks move at each turn.

    Each turn's prompt is all that was said, the real answers included, and a new passage.

    Args:
        seed: Of the passages.
        n_sessions: Conversations.
        n_turns: Turns of each.

    Returns:
        ``turns``: for each the blocks of the prompts, those ``moved``, those ``skipped`` and those
        that the writing engine ``had`` from the turn before, and prompt tokens ``cached`` where
        they are read; ``same``: answers equal to those of a single engine; ``block_bytes``.
    """
    sizes, engine = SYSTEMS["two pools"]
    said: list[list[int]] = [[] for _ in range(n_sessions)]
    turns, same = [], 0
    with Pools(load_model, engine=engine, **sizes) as pools:
        for turn in range(n_turns):
            new = text_requests(
                n_sessions, arrival_rate_rps=2.0, seed=100 * seed + turn,
                prompt_tokens=(100, 300), output_tokens=(16, 32),
            )  # fmt: skip
            requests = [
                Request(r.id, [*said[i], *r.prompt], r.max_new_tokens, r.arrival_s, i)
                for i, r in enumerate(new)
            ]
            # The last token of an answer has no keys and values: nothing followed it.
            had = sum(max(len(tokens) - 1, 0) // engine.block_size for tokens in said)
            run = pools.serve(requests)
            said = [[*s.request.prompt, *s.outputs] for s in run.served]
            same += sum(s.outputs == _answer_alone(s.request) for s in run.served)
            turns.append(
                {
                    "blocks": sum(-(-len(r.prompt) // engine.block_size) for r in requests),
                    "moved": sum(t.n_blocks for t in run.transfers),
                    "skipped": sum(t.skipped_blocks for t in run.transfers),
                    "had": had,
                    "cached": sum(s.cached_tokens for s in run.served),
                    "tokens": sum(len(r.prompt) for r in requests),
                }
            )
    block_bytes = PagedCache(load_model().config, 1, block_size=engine.block_size).block_bytes
    return {
        "turns": turns, "same": same, "n_answers": n_sessions * n_turns, "block_bytes": block_bytes,
    }  # fmt: skip
