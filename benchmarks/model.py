"""Our Transformer against transformers': the same weights, float32, one thread, side by side.

``python benchmarks/model.py`` prints a table and a JSON line. Rounds alternate between the two, and
times are CPU seconds of the process, so that other load on the machine weighs on both alike. There
is no ratio, and the exit status is 1, unless our logits are as near to those of transformers in
float64 as its own in float32 are and the greedy tokens are the same.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import Tensor

from aiexplained.hub import load_pretrained

N_PREFILL, N_DECODE = 512, 64
# Root-mean-square errors of two orders of the same float32 sums differ by chance: 10 % seen.
ERROR_RATIO = 1.5

# One step of a model: new ids and the cache so far (None: start one) to last logits and the cache.
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def our_step(model: Any) -> Step:
    """A step of our model."""

    def step(ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        cache = model.make_cache() if cache is None else cache
        return model(ids, cache=cache, last_only=True), cache

    return step


def their_step(model: Any) -> Step:
    """A step of a model of transformers, which renamed the argument for the cache in 5.x."""
    names = inspect.signature(model.forward).parameters
    name = "cache" if "cache" in names else "past_key_values"

    def step(ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        cache = transformers.DynamicCache(config=model.config) if cache is None else cache
        out = model(ids, **{name: cache}, use_cache=True, logits_to_keep=1)
        return out.logits, cache

    return step


def run_once(step: Step, ids: Tensor) -> tuple[float, float, list[int]]:
    """CPU seconds of the prefill and of the decoding, and the greedy tokens."""
    start = time.process_time()
    logits, cache = step(ids, None)
    prefilled = time.process_time()
    tokens = []
    for _ in range(N_DECODE):
        token = logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(int(token))
        logits, cache = step(token, cache)
    return prefilled - start, time.process_time() - prefilled, tokens


def measure(steps: dict[str, Step], ids: Tensor, rounds: int) -> dict[str, Any]:
    """Medians over alternating rounds, after one round to warm up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    tokens: dict[str, list[int]] = {}
    for i in range(rounds + 1):
        for name, step in steps.items():
            prefill_s, decode_s, tokens[name] = run_once(step, ids)
            if i > 0:
                times[name].append((prefill_s, decode_s))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    return {"medians": medians, "same_tokens": tokens["ours"] == tokens["transformers"]}


def load_theirs(path: Path) -> Any:
    """The model as transformers reads it from the same GGUF file."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
    ).eval()


def cpu_name() -> str:
    """The processor, as the system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def text_ids(tokenizer: Any) -> Tensor:
    """512 tokens of real text: this file, repeated as needed."""
    ids: list[int] = tokenizer.encode(Path(__file__).read_text("utf-8"))
    return torch.tensor([(ids * N_PREFILL)[:N_PREFILL]])


def logit_errors(ours: Any, theirs: Any, ids: Tensor) -> dict[str, float]:
    """Root-mean-square error of each model's logits against transformers in float64."""
    exact = copy.deepcopy(theirs).double()(ids).logits
    logits = {"ours": ours(ids), "transformers": theirs(ids).logits}
    return {name: float((x - exact).square().mean().sqrt()) for name, x in logits.items()}


@torch.inference_mode()
def main() -> int:
    """Check, measure and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_pretrained()
    theirs = load_theirs(Path(loaded.source))
    ids = text_ids(loaded.tokenizer)
    errors = logit_errors(loaded.model, theirs, ids)
    if not errors["ours"] <= ERROR_RATIO * errors["transformers"]:
        print(f"FAILED: root-mean-square errors of the logits are {errors}; no ratio")
        return 1
    steps = {"ours": our_step(loaded.model), "transformers": their_step(theirs)}
    result = measure(steps, ids, arguments.rounds)
    if not result["same_tokens"]:
        print("FAILED: greedy tokens differ; no ratio")
        return 1
    report(result["medians"], errors, arguments.rounds)
    return 0


def report(medians: dict[str, list[float]], errors: dict[str, float], rounds: int) -> None:
    """Print the table and the JSON line."""
    rates = {
        name: {"prefill": N_PREFILL / prefill_s, "decode": N_DECODE / decode_s}
        for name, (prefill_s, decode_s) in medians.items()
    }
    rows = [(f"prefill of {N_PREFILL}", "prefill"), (f"decode of {N_DECODE} after it", "decode")]
    print(f"{'tokens per CPU second':<24}{'ours':>10}{'transformers':>14}{'ratio':>8}")
    for label, key in rows:
        ours, other = rates["ours"][key], rates["transformers"][key]
        print(f"{label:<24}{ours:>10.1f}{other:>14.1f}{ours / other:>8.2f}")
    facts = {
        "tokens_per_cpu_s": rates,
        "ratio": {key: rates["ours"][key] / rates["transformers"][key] for _, key in rows},
        "rms_logit_error": errors,
        "rounds": rounds,
        "threads": 1,
        "dtype": "float32",
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    sys.exit(main())
