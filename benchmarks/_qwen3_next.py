"""A small random Qwen3-Next of transformers with and without our kernel, in a process of its own.

``python _qwen3_next.py BUILD SIZES``: BUILD is the folder that :mod:`_hub_form` fills, SIZES a JSON
object of ``config`` (of the model, over the small one below), ``prompt``, ``new`` (numbers of
tokens), ``batch`` and ``rounds``. Prints a JSON line.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers.utils.import_utils as limits

# The index of packages may hold an older `kernels` than transformers asks for. What is used here is
# the same in both, so this process lowers the limit before it is read.
limits.is_kernels_available = functools.partial(limits.is_kernels_available, "0.17")

import torch  # noqa: E402
from kernels import LocalLayerRepository, Mode, kernelize, use_kernel_mapping  # noqa: E402
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM  # noqa: E402
from transformers.models.qwen3_next import modeling_qwen3_next as modeling  # noqa: E402

LAYERS = {
    "chunk_gated_delta_rule": "ChunkGatedDeltaRule",
    "fused_recurrent_gated_delta_rule": "RecurrentGatedDeltaRule",
}
SMALL = {
    "vocab_size": 256, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}  # fmt: skip


def put_in(model: Any, build: Path) -> Callable[[str], None]:
    """Put our kernel into the model; the result chooses ``"ours"`` or ``"theirs"`` from then on."""
    functions = modeling.torch_chunk_gated_delta_rule, modeling.torch_recurrent_gated_delta_rule
    forwards = {"theirs": [f.forward for f in functions]}
    mapping = {
        name: {"cpu": {Mode.INFERENCE: LocalLayerRepository(build, layer_name=layer)}}
        for name, layer in LAYERS.items()
    }
    with use_kernel_mapping(mapping, inherit_mapping=False):
        kernelize(model, mode=Mode.INFERENCE, device="cpu")
    forwards["ours"] = [f.forward for f in functions]

    def choose(name: str) -> None:
        for function, forward in zip(functions, forwards[name], strict=True):
            function.forward = forward

    return choose


def count_calls() -> list[int]:
    """A list that fills with the number of tokens of each call of our operator."""
    loaded = (m for n, m in sys.modules.items() if n.endswith(".layers") and "aiexplained" in n)
    (ours,) = (m for m in loaded if hasattr(m, "ChunkGatedDeltaRule"))
    calls, right = [], ours.gated_delta_rule

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(args[0].shape[2])
        return right(*args, **options)

    ours.gated_delta_rule = counted
    return calls


def compare(build: Path, config: dict[str, int], prompt: int, new: int, batch: int, rounds: int):
    """Agreement, calls of our operator, and times of prefill and of generation."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Qwen3NextForCausalLM(Qwen3NextConfig(**SMALL | config)).eval()
    ids = torch.randint(SMALL["vocab_size"], (batch, prompt))
    choose = put_in(model, build)
    calls = count_calls()
    runs = {
        "prefill": lambda: model(ids).logits,
        "generate": lambda: model.generate(
            ids[:, :16], max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
        ),
    }
    times: dict[str, list[float]] = {
        f"{run}_{who}": [] for run in runs for who in ("theirs", "ours")
    }
    found: dict[str, Any] = {}
    with torch.no_grad():
        for _ in range(rounds):
            for name in times:
                run, _, who = name.partition("_")
                choose(who)
                calls.clear()
                start = time.process_time()
                found[name] = runs[run]()
                times[name].append(time.process_time() - start)
                found[f"{name}_calls"] = list(calls)
    difference = (found["prefill_ours"] - found["prefill_theirs"]).norm()
    kept = slice(1 if rounds > 1 else 0, None)  # the first round warms up
    ratios = {
        run: [
            a / b
            for a, b in zip(times[f"{run}_theirs"][kept], times[f"{run}_ours"][kept], strict=True)
        ]
        for run in runs
    }
    return {
        "same_tokens": bool(found["generate_ours"].equal(found["generate_theirs"])),
        "error": float(difference / found["prefill_theirs"].norm()),
        "rounds": len(range(rounds)[kept]),
        "layers": model.config.num_hidden_layers,
        "linear_layers": model.config.layer_types.count("linear_attention"),
        "prefill_calls": found["prefill_ours_calls"],
        "generate_calls": found["generate_ours_calls"],
        "their_calls": found["prefill_theirs_calls"] + found["generate_theirs_calls"],
        **{f"{name}_s": statistics.median(values[kept]) for name, values in times.items()},
        **{f"{run}_ratio": statistics.median(values) for run, values in ratios.items()},
        "spread": {run: [min(values), max(values)] for run, values in ratios.items()},
    }


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]), **json.loads(sys.argv[2]))))
