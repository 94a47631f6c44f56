"""The benchmark prints a ratio only where the two models agree."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from aiexplained.hub import load_pretrained

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "model.py"


@pytest.fixture
def benchmark(tiny_llama, monkeypatch):
    """The script on a tiny model: 23 tokens, then 5."""
    spec = importlib.util.spec_from_file_location("benchmark_of_the_model", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    threads = torch.get_num_threads()
    for name, value in {
        "N_PREFILL": 23,
        "N_DECODE": 5,
        "load_pretrained": lambda: load_pretrained(tiny_llama),
        "load_theirs": lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
    }.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr("sys.argv", ["model.py", "--rounds", "2"])
    yield script
    torch.set_num_threads(threads)


def test_it_prints_a_table_and_a_line_of_json(benchmark, capsys):
    assert benchmark.main() == 0
    *table, line = capsys.readouterr().out.strip().splitlines()
    facts = json.loads(line)
    assert len(table) == 3
    for key, ratio in facts["ratio"].items():
        ours, theirs = (facts["tokens_per_cpu_s"][x][key] for x in ("ours", "transformers"))
        assert ratio == pytest.approx(ours / theirs)
        assert f"{ratio:.2f}" in "".join(table)
    assert facts["rounds"] == 2
    assert facts["cpu"]


def test_it_refuses_a_ratio_when_logits_are_wrong(benchmark, monkeypatch, tiny_llama, capsys):
    broken = load_pretrained(tiny_llama)
    broken.model.blocks[1].attention.operator = lambda query, key, value, **_: query
    monkeypatch.setattr(benchmark, "load_pretrained", lambda: broken)
    assert benchmark.main() == 1
    assert "FAILED" in capsys.readouterr().out


def test_it_refuses_a_ratio_when_greedy_tokens_differ(benchmark, monkeypatch, capsys):
    step_of = benchmark.our_step

    def second_best(model):
        step = step_of(model)

        def worse(ids, cache):
            logits, cache = step(ids, cache)
            return -logits, cache

        return worse

    monkeypatch.setattr(benchmark, "our_step", second_best)
    assert benchmark.main() == 1
    out = capsys.readouterr().out
    assert out.strip() == "FAILED: greedy tokens differ; no ratio"
