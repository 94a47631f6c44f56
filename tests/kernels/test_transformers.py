"""A model of transformers runs with our kernel, put in through Hugging Face's ``kernels``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import _hub_form
import pytest
import torch
import transformers
from accuracy import budget, relative
from gated_delta_cases import TERMS
from torch.nn.functional import normalize
from transformers.models.qwen3_next import modeling_qwen3_next as theirs

from aiexplained_kernels import layers

SCRIPT = Path(_hub_form.__file__).with_name("_qwen3_next.py")


def make_inputs(tokens, groups, heads, width=24, columns=20):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(1, tokens, *shape, generator=generator)

    return {
        "query": normal(groups, width), "key": normal(groups, width),
        "value": normal(heads, columns), "g": -normal(heads).abs(), "beta": normal(heads).sigmoid(),
        "initial_state": torch.randn(1, heads, width, columns, generator=generator),
    }  # fmt: skip


FORMS = {
    "chunks": (layers.ChunkGatedDeltaRule, theirs.torch_chunk_gated_delta_rule),
    "a token at a time": (layers.RecurrentGatedDeltaRule, theirs.torch_recurrent_gated_delta_rule),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_layer_computes_what_the_function_does_that_it_replaces(form, groups, normalized):
    layer, function = FORMS[form]
    inputs = make_inputs(70, groups, 4)
    if not normalized:
        inputs["key"] = normalize(inputs["key"], dim=-1)
    options = {"output_final_state": True, "use_qk_l2norm_in_kernel": normalized}
    expected = function(**inputs, **options)
    found = layer()(**inputs, **options, cu_seqlens=None)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert relative(one, other.double()) < 2 * budget(torch.float32, TERMS)  # both err
    assert layer()(**inputs)[1] is None


@pytest.mark.parametrize("form", FORMS)
def test_packed_sequences_are_refused(form):
    with pytest.raises(ValueError, match="cu_seqlens must be None"):
        FORMS[form][0]()(**make_inputs(5, 2, 2), cu_seqlens=torch.tensor([0, 2, 5]))


def test_a_random_qwen3_next_writes_the_same_tokens_with_our_kernel(tmp_path: Path) -> None:
    _hub_form.lay_out(tmp_path / "build", "_aiexplained_kernels_cpu_qwen")
    sizes = {"config": {}, "prompt": 150, "new": 24, "batch": 2, "rounds": 1}
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "build", json.dumps(sizes)],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    if "ImportError" in done.stderr:
        pytest.skip(f"transformers {transformers.__version__} takes no kernel here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same_tokens"]
    assert found["error"] < 1e-5
    assert found["prefill_calls"] == [150] * found["linear_layers"]
    steps = [1] * 23 * found["linear_layers"]
    assert found["generate_calls"] == [16] * found["linear_layers"] + steps
    assert found["their_calls"] == []
