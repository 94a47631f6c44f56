"""The Triton kernels of the gated delta rule on a real GPU: equal to the definition."""

from __future__ import annotations

import pytest
import torch
from accuracy import budget, relative
from gated_delta_cases import CASES, TERMS, excess, make_case, run

from aiexplained.nn import reference_gated_delta_rule
from aiexplained_kernels import backend_report, gated_delta_rule

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible to torch")
TYPES = [torch.float32, torch.bfloat16, torch.float16]


def on_gpu(tensors):
    return [None if x is None else x.cuda() for x in tensors]


def on_cpu(tensors):
    return [x.cpu() for x in tensors]


def exactly(inputs):
    """Outputs and last state by definition, on the CPU."""
    *inputs, state = (None if x is None else x.double() for x in inputs)
    return reference_gated_delta_rule(*inputs, initial_state=state)


def on_triton(inputs):
    *inputs, state = on_gpu(inputs)
    return gated_delta_rule(*inputs, initial_state=state, backend="triton")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_forward_equals_the_definition(dtype, name):
    inputs = make_case(name, dtype)
    found = on_cpu(on_triton(inputs))
    assert excess(found, exactly(inputs), dtype) < 1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_gradient_equals_the_definition(dtype, name):
    inputs = make_case(name, dtype)
    doubles = [None if x is None else x.double() for x in inputs]
    expected = run(reference_gated_delta_rule, doubles)
    found = on_cpu(run(gated_delta_rule, on_gpu(inputs), backend="triton"))
    assert excess(found, expected, dtype) < 1


def test_the_check_would_catch_a_decay_after_the_correction():
    inputs = make_case("ragged", torch.float32)
    late = torch.cat((torch.zeros_like(inputs[3][..., :1]), inputs[3][..., :-1]), dim=-1)
    found, _ = on_triton([*inputs[:3], late, *inputs[4:]])
    assert relative(found.cpu(), exactly(inputs)[0]) > 1000 * budget(torch.float32, TERMS)


@pytest.mark.parametrize("dtype", TYPES)
def test_decode_steps_go_on_where_a_prompt_ends(dtype):
    """A prompt in chunks, then token by token, from the state that the step before returned."""
    inputs = make_case("keys much alike", dtype)
    state, outputs = inputs[5], []
    for part in zip(*(x.split([147, 1, 1, 1], dim=2) for x in inputs[:5]), strict=True):
        out, state = on_triton([*part, state])
        outputs.append(out)
    found = torch.cat(outputs, dim=2).cpu(), state.cpu()
    assert excess(found, exactly(inputs), dtype) < 1


@pytest.mark.parametrize("kind", ["chunks and a rest", "one token"])
def test_two_runs_give_the_same_bits(kind):
    inputs = make_case(kind, torch.bfloat16)
    for a, b in zip(on_triton(inputs), on_triton(inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_strides_do_not_matter():
    query, key, value, log_decay, beta, state = make_case("chunks and a rest", torch.bfloat16)
    expected = on_triton([query, key, value, log_decay, beta, state])
    by_token = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (query, log_decay, beta)]
    columns = value.mT.contiguous().mT
    found = on_triton([by_token[0], key, columns, *by_token[1:], state])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_offsets_beyond_32_bits():
    """More than 2^31 numbers in a tensor: the last head is as it is alone (about 35 GB)."""
    if torch.cuda.get_device_properties(0).total_memory < 75e9:
        pytest.skip("needs 80 GB of GPU memory")
    heads, tokens, width = 16450, 1025, 128
    key = torch.empty(1, heads, tokens, width, dtype=torch.bfloat16, device="cuda")
    assert key.numel() > 1 << 31
    key.normal_(generator=torch.Generator("cuda").manual_seed(0)).mul_(width**-0.5)
    log_decay = -torch.rand(1, heads, tokens, device="cuda")
    beta = torch.rand(1, heads, tokens, device="cuda")
    inputs = key, key, key, log_decay, beta
    found = gated_delta_rule(*inputs, backend="triton")
    alone = gated_delta_rule(*(x[:, -1:].clone() for x in inputs), backend="triton")
    for a, b in zip(found, alone, strict=True):
        torch.testing.assert_close(a[:, -1:], b, rtol=0, atol=0)
    last = [x[:, -1:].cpu() for x in inputs]
    assert excess(on_cpu(alone), exactly([*last, None]), torch.bfloat16) < 1


def test_the_registration_satisfies_torch_and_auto_takes_triton():
    inputs = [x.requires_grad_() for x in on_gpu(make_case("ragged", torch.float32))]
    operator = torch.ops.aiexplained.gated_delta_rule.default
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    found = torch.library.opcheck(operator, (*inputs, 0.3, "triton"), test_utils=checks)
    assert set(found.values()) == {"SUCCESS"}
    for a, b in zip(operator(*inputs, 0.3, "auto"), operator(*inputs, 0.3, "triton"), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert backend_report()["gated_delta_rule"]["triton"] == "ready"


def test_a_compiled_model_is_one_graph_with_equal_results():
    inputs = on_gpu(make_case("ragged", torch.float32))

    def model(query, *others, initial_state):
        out, state = gated_delta_rule(2 * query, *others, initial_state=initial_state)
        return out.tanh(), state

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for a, b in zip(run(compiled, inputs), run(model, inputs), strict=True):
        torch.testing.assert_close(a, b)
