"""The Triton kernels of the gated delta rule in Triton's interpreter: equal to the definition.

Each group of cases runs in a process of its own (this file, run as a script), on guarded memory;
what the kernels read lies inside larger tensors of NaN.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

import pytest
import torch
import triton
import triton.language as tl
from accuracy import budget, relative
from gated_delta_cases import CASES, TERMS, excess, make_case, run
from triton_interpreter import (
    bfloat16_as_on_a_gpu,
    check_group,
    guarded_buffers,
    inside_nan,
    report,
)

from aiexplained.nn import reference_gated_delta_rule
from aiexplained_kernels import BackendUnavailable, gated_delta_rule
from aiexplained_kernels import _gated_delta_triton as kernels
from aiexplained_kernels import _gated_delta_triton_solve as solve
from aiexplained_kernels._gated_delta_torch import Inputs

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
EVERYTHING = 1 << 30
SHORT = ("one token", "seventeen tokens", "wide", "one column", "all is replaced",
         "without beta, strong decay")  # fmt: skip
CASES["seventeen tokens"] = (1, 3, 17, 19, 23, "random", "usual", True, True)


def inside_nan_as_tokens_by_heads(gate):
    """A gate with its heads side by side in memory."""
    return inside_nan(gate.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)


def interpreted(inputs, scale=None):
    """Outputs and last state by the kernels, on guarded memory."""
    query, key, value, log_decay, beta, state = inputs
    inputs = Inputs(
        query.transpose(1, 2).contiguous().transpose(1, 2), inside_nan(key), inside_nan(value),
        inside_nan_as_tokens_by_heads(log_decay),
        None if beta is None else inside_nan(beta[None])[0],
        None if state is None else inside_nan(state),
    )  # fmt: skip
    with guarded_buffers(), bfloat16_as_on_a_gpu():
        return kernels.forward(inputs, query.shape[3] ** -0.5 if scale is None else scale)


def exactly(inputs, **options):
    """Outputs and last state by definition."""
    *inputs, state = (None if x is None else x.double() for x in inputs)
    return reference_gated_delta_rule(*inputs, initial_state=state, **options)


def measure(name, dtype):
    inputs = make_case(name, dtype)
    return excess(interpreted(inputs), exactly(inputs), dtype)


def check(name, dtype=F32):
    found = measure(name, dtype)
    assert found < 1, found


def check_recurrent(name, dtype=F32):
    with patch.object(kernels, "RECURRENT_TOKENS", EVERYTHING):
        check(name, dtype)


def check_in_chunks(name, dtype=F32):
    with patch.object(kernels, "RECURRENT_TOKENS", 0):
        check(name, dtype)


def check_long_chunks(name):
    """Chunks of 64, as of 16-bit numbers, with nothing rounded to 16 bits."""
    with patch.dict(kernels.CHUNK, {F32: 64}):
        check(name)


def check_with_tiles(kind, name):
    """Cut as on this kind of GPU; the interpreter has no data sheet."""
    with patch.object(kernels, "kind", lambda device: kind):
        check(name, BF16)


def check_scale():
    inputs = make_case("seventeen tokens", F32)
    found, expected = interpreted(inputs, scale=0.3), exactly(inputs, scale=0.3)
    assert excess(found, expected, F32) < 1


def check_gates_of_other_types():
    query, key, value, log_decay, beta, state = make_case("seventeen tokens")
    inputs = [*(x.to(BF16) for x in (query, key, value)), log_decay.float(), beta, state.to(F16)]
    assert excess(interpreted(inputs), exactly(inputs), BF16) < 1


def check_parts(name, lengths, dtype):
    """A sequence in parts, long and short ones, equals the whole."""
    inputs = make_case(name, dtype)
    state, outputs = inputs[5], []
    for part in zip(*(x.split(lengths, dim=2) for x in inputs[:5]), strict=True):
        out, state = interpreted([*part, state])
        outputs.append(out)
    found = torch.cat(outputs, dim=2), state
    assert excess(found, exactly(inputs), dtype) < 1


def check_strides():
    """Rows that are not contiguous, and one gate for all tokens."""
    inputs = make_case("seventeen tokens", F32)
    inputs[3] = inputs[3][..., :1].expand(inputs[3].shape)
    expected = exactly(inputs)
    inputs[:3] = (x.mT.contiguous().mT for x in inputs[:3])
    inputs[5] = inputs[5].mT.contiguous().mT
    found = gated_delta_rule(*inputs[:5], initial_state=inputs[5], backend="triton")
    assert excess(found, expected, F32) < 1


def check_no_output_depends_on_a_later_token():
    inputs = make_case("all is replaced", F32)
    before, _ = interpreted(inputs)
    for x in inputs[:5]:
        x[:, :, 70:] = torch.nan
    after, _ = interpreted(inputs)
    assert before[:, :, :64].equal(after[:, :, :64])
    assert after[:, :, 70:].isnan().all()


def check_the_operator_with_its_gradients(name):
    inputs = make_case(name, F32)
    doubles = [None if x is None else x.double() for x in inputs]
    found = run(gated_delta_rule, inputs, backend="triton")
    assert excess(found, run(reference_gated_delta_rule, doubles), F32) < 1


def check_torch_accepts_the_registration():
    inputs = [x.requires_grad_() for x in make_case("one token", F32)]
    operator = torch.ops.aiexplained.gated_delta_rule.default
    checks = "test_schema", "test_autograd_registration", "test_faketensor"
    torch.library.opcheck(operator, (*inputs, 0.3, "triton"), test_utils=checks)


def check_limits_are_named():
    wide = torch.zeros(1, 1, 2, 129)
    with pytest.raises(BackendUnavailable, match="keys of up to 128 numbers, got 129"):
        gated_delta_rule(wide, wide, wide, wide[..., 0], None, backend="triton")
    doubles = make_case("one token")
    with pytest.raises(BackendUnavailable, match=r"got torch\.float64"):
        gated_delta_rule(*doubles[:5], backend="triton")


@triton.jit
def fading_by_float32(total, chunk: tl.constexpr):
    lane = tl.arange(0, chunk)
    total = total.to(tl.float32)
    between = total[:, None] - total[None, :]
    return tl.exp(tl.where(lane[:, None] >= lane[None, :], between, -float("inf")))


@triton.jit
def product_of_rounded_factors(a, high, low):
    return tl.dot(a.to(high.dtype), high)


def check_a_late_decay_is_caught():
    inputs = make_case("seventeen tokens", F32)
    late = torch.cat((torch.zeros_like(inputs[3][..., :1]), inputs[3][..., :-1]), dim=-1)
    found = interpreted([*inputs[:3], late, *inputs[4:]])
    assert relative(found[0], exactly(inputs)[0]) > 1000 * budget(F32, TERMS)


def check_sums_of_decays_in_float32_are_caught():
    with patch.object(solve, "_fading", fading_by_float32), patch.dict(kernels.CHUNK, {F32: 64}):
        assert measure("forgets all at once", F32) > 10


def check_rounded_factors_would_cost():
    """Where writes nearly cancel, their rounding would be most of the error."""
    error = measure("one key for all", BF16)
    with patch.object(solve, "_exact_dot", product_of_rounded_factors):
        assert measure("one key for all", BF16) > 2 * error


GROUPS = {
    "float32 and 16 bits": {
        **{name: (check, name) for name in SHORT},
        **{f"{name}, chunks of 64": (check_long_chunks, name) for name in CASES},
        **{f"{name}, bfloat16": (check, name, BF16)
           for name in ("wide", "one key for all", "strong decay", "without beta", "one token")},
        **{f"{name}, float16": (check, name, F16)
           for name in ("chunks and a rest", "one key for all", "nothing fades")},
        **{kind: (check_with_tiles, kind, "keys much alike") for kind in ("sm80", "cdna", "rdna")},
    },
    "short, cut and strided; negative controls": {
        "one token in a chunk": (check_in_chunks, "one token"),
        "seventeen one by one": (check_recurrent, "seventeen tokens"),
        "seventeen one by one, bfloat16": (check_recurrent, "seventeen tokens", BF16),
        "seventeen in a chunk, bfloat16": (check_in_chunks, "seventeen tokens", BF16),
        "resets one by one": (check_recurrent, "forgets all at once"),
        "without beta one by one": (check_recurrent, "without beta, strong decay"),
        "parts": (check_parts, "one column", [47, 1, 17], F32),
        "parts, float16": (check_parts, "wide", [65, 3, 2], F16),
        "scale": (check_scale,),
        "gates of other types": (check_gates_of_other_types,),
        "strides": (check_strides,),
        "NaN later": (check_no_output_depends_on_a_later_token,),
        "operator": (check_the_operator_with_its_gradients, "seventeen tokens"),
        "operator without beta": (check_the_operator_with_its_gradients,
                                  "without beta, strong decay"),
        "registration": (check_torch_accepts_the_registration,),
        "limits": (check_limits_are_named,),
        "a late decay": (check_a_late_decay_is_caught,),
        "sums in float32": (check_sums_of_decays_in_float32_are_caught,),
        "rounded factors": (check_rounded_factors_would_cost,),
    },
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_in_the_interpreter(group, subtests):
    check_group(__file__, group, GROUPS[group], subtests)


if __name__ == "__main__":
    print(report(GROUPS[sys.argv[1]]))
