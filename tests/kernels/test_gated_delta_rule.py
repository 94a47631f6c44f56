"""The gated delta rule in torch and in C++: equal to the definition, forward and backward."""

from __future__ import annotations

import pytest
import torch
from accuracy import budget, relative
from gated_delta_cases import CASES, TERMS, excess, make_case, run

from aiexplained.nn import reference_gated_delta_rule
from aiexplained_kernels import BackendUnavailable, _backends, backend_report, gated_delta_rule

BACKENDS = ["torch", "native"]
BUILDS = ["as built", "x86-64-v3", "x86-64"]


def exact(inputs):
    return [None if x is None else x.double() for x in inputs]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_every_gradient_equal_the_definition(backend, dtype, name):
    inputs = make_case(name, dtype)
    expected = run(reference_gated_delta_rule, exact(inputs))
    found = run(gated_delta_rule, inputs, backend=backend)
    assert excess(found, expected, dtype) < 1


@pytest.mark.parametrize("name", ["ragged", "wide", "one key for all", "without beta"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("build", BUILDS)
def test_every_build_of_the_native_kernel_keeps_the_budget(set_build, build, dtype, name):
    if build != "as built":
        set_build("MARCH", build)
    inputs = make_case(name, dtype)
    expected = run(reference_gated_delta_rule, exact(inputs))
    found = run(gated_delta_rule, inputs, backend="native")
    assert excess(found, expected, dtype) < 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_check_would_catch_a_decay_after_the_correction(backend):
    """The correction sees what has faded already; the other order is another rule."""
    inputs = make_case("ragged", torch.float32)
    expected = run(reference_gated_delta_rule, exact(inputs))
    late = torch.cat((torch.zeros_like(inputs[3][..., :1]), inputs[3][..., :-1]), dim=-1)
    found = run(gated_delta_rule, [*inputs[:3], late, *inputs[4:]], backend=backend)
    assert relative(found[0], expected[0]) > 1000 * budget(torch.float32, TERMS)


def test_the_check_would_catch_an_inverse_made_of_products():
    """(I + A)^-1 by doubling passes on random keys; where keys are alike it is far off."""

    def error(name):
        query, key, value, _, beta, _ = make_case(name, torch.float32)
        system = (beta[..., None] * (key @ key.mT)).tril(-1)
        inverse, power = torch.eye(system.shape[-1]) - system, system @ system
        for _ in range(6):
            inverse, power = inverse + inverse @ power, power @ power
        write = inverse @ (beta[..., None] * value)
        out = (query @ key.mT).tril() @ write * key.shape[-1] ** -0.5
        calm = torch.zeros_like(beta)
        expected, _ = reference_gated_delta_rule(*exact([query, key, value, calm, beta]))
        return float((out.double() - expected).norm() / expected.norm())

    assert error("wide") < budget(torch.float32, TERMS)
    assert not error("one key for all") < 1000 * budget(torch.float32, TERMS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["chunks and a rest", "without beta", "forgets all at once"])
def test_parts_of_a_sequence_equal_the_whole(backend, name):
    query, key, value, log_decay, beta, state = make_case(name)
    whole = gated_delta_rule(query, key, value, log_decay, beta, initial_state=state,
                             backend=backend)  # fmt: skip
    outputs = []
    for part in (slice(0, 50), slice(50, 51), slice(51, 131)):
        gate = None if beta is None else beta[:, :, part]
        inputs = (x[:, :, part] for x in (query, key, value, log_decay))
        out, state = gated_delta_rule(*inputs, gate, initial_state=state, backend=backend)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=2), whole[0])
    torch.testing.assert_close(state, whole[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_and_heads_do_not_meet(backend):
    inputs = make_case("ragged")
    whole = run(gated_delta_rule, inputs, backend=backend)
    one = run(gated_delta_rule, [x[1:, 2:] for x in inputs], backend=backend)
    torch.testing.assert_close(whole[0][1:, 2:], one[0])
    torch.testing.assert_close(whole[1][1:, 2:], one[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_output_depends_on_a_later_token(backend):
    inputs = make_case("chunks and a rest", torch.float32)
    before, _ = gated_delta_rule(*inputs[:5], backend=backend)
    for x in inputs[:5]:
        x[:, :, 70:] = torch.nan
    after, _ = gated_delta_rule(*inputs[:5], backend=backend)
    assert before[:, :, :64].equal(after[:, :, :64])
    assert after[:, :, 70:].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend):
    inputs = make_case("ragged", torch.float32)
    expected = run(gated_delta_rule, inputs, backend=backend)
    layouts = [
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),  # (B, T, H, ...) in memory
        lambda x: x.mT.contiguous().mT if x.ndim == 4 else x,  # rows not contiguous
        lambda x: torch.cat([x, x.new_full(x.shape, torch.nan)], dim=-1)[..., : x.shape[-1]],
    ]
    strided = [layouts[i % 3](x) for i, x in enumerate(inputs)]
    out, state = gated_delta_rule(*strided[:5], initial_state=strided[5], backend=backend)
    torch.testing.assert_close(out, expected[0])
    torch.testing.assert_close(state, expected[1])
    leaves = [x.detach().requires_grad_() for x in strided]
    out, _ = gated_delta_rule(*leaves[:5], initial_state=leaves[5], backend=backend)
    grads = torch.autograd.grad(out, leaves, torch.ones(1).expand(out.shape))  # stride 0
    assert [g.shape for g in grads] == [x.shape for x in inputs]
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gates_may_be_of_another_type_and_gradients_keep_it(backend):
    query, key, value, log_decay, beta, state = make_case("ragged", torch.bfloat16)
    log_decay, beta, state = log_decay.float(), beta.float(), state.float()
    found = run(gated_delta_rule, [query, key, value, log_decay, beta, state], backend=backend)
    assert [x.dtype for x in found] == [
        torch.bfloat16, torch.float32, *[torch.bfloat16] * 3, *[torch.float32] * 3
    ]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["ragged", "without beta"])
def test_torch_accepts_the_registration(backend, name):
    inputs = make_case(name, torch.float32)
    leaves = [None if x is None else x.requires_grad_() for x in inputs]
    operator = torch.ops.aiexplained.gated_delta_rule.default
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator, (*leaves, 0.3, backend), test_utils=checks)
    plain = torch.ops.aiexplained.gated_delta_rule_forward.default
    inputs = make_case(name, torch.float32)
    torch.library.opcheck(plain, (*inputs, 0.3, backend), test_utils=checks[::2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_compiles_in_one_piece_with_its_backward(backend):
    inputs = make_case("ragged", torch.float32)

    def doubled(*inputs, initial_state):
        out, state = gated_delta_rule(*inputs, initial_state=initial_state, backend=backend)
        return 2 * out, state

    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager")
    for a, b in zip(run(compiled, inputs), run(doubled, inputs), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_lower_the_precision(backend):
    inputs = make_case("chunks and a rest", torch.float32)
    plain, _ = gated_delta_rule(*inputs[:5], backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = gated_delta_rule(*inputs[:5], backend=backend)
    assert inside.equal(plain)


def test_threads_share_the_work_and_agree():
    inputs = make_case("wide", torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(run(gated_delta_rule, inputs, backend="native"))
    finally:
        torch.set_num_threads(before)
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_a_second_derivative_is_refused():
    inputs = [x.requires_grad_() for x in make_case("ragged")[:5]]
    out, _ = gated_delta_rule(*inputs, backend="native")
    (grad,) = torch.autograd.grad(out.sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        grad.sum().backward()


def test_what_cannot_run_is_named(monkeypatch):
    inputs = make_case("ragged")[:5]
    with pytest.raises(BackendUnavailable, match=r"'triton'.*got torch\.float64"):
        gated_delta_rule(*inputs, backend="triton")
    with pytest.raises(BackendUnavailable, match=r"'triton'.*runs on a GPU"):
        gated_delta_rule(*(x.float() for x in inputs), backend="triton")
    with pytest.raises(ValueError, match="backend must be one of"):
        gated_delta_rule(*inputs, backend="fpga")
    report = backend_report()["gated_delta_rule"]
    assert [report["torch"], report["native"]] == ["ready", "ready"]
    monkeypatch.setitem(_backends.OPERATORS, "gated_delta_rule", ("torch", "native"))
    with pytest.raises(BackendUnavailable, match="written for torch and native"):
        gated_delta_rule(*inputs, backend="triton")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: lambda x: x[..., :-1]}, r"query and key must be alike.*\(2, 3, 37, 18\)"),
        ({0: lambda x: x[:, :, :0], 1: lambda x: x[:, :, :0]}, "no size 0"),
        ({2: lambda x: x[:, :1]}, r"value must be.*got \(2, 1, 37, 23\)"),
        ({3: lambda x: x[..., None]}, r"log_decay must be one number a token, \(2, 3, 37\)"),
        ({4: lambda x: x[:, :, 1:]}, r"beta must be one number a token.*\(2, 3, 36\)"),
        ({5: lambda x: x.mT}, r"initial_state must be \(2, 3, 19, 23\), got \(2, 3, 23, 19\)"),
        ({1: lambda x: x.float()}, "must share one floating type"),
        ({3: lambda x: x.long()}, "log_decay must be of a floating type, got torch.int64"),
        ({2: lambda x: x.to("meta")}, "value must be on cpu, as the query is, got meta"),
    ],
)
def test_bad_input_is_named(change, message):
    inputs = [change.get(i, lambda x: x)(x) for i, x in enumerate(make_case("ragged"))]
    with pytest.raises(ValueError, match=message):
        gated_delta_rule(*inputs[:5], initial_state=inputs[5])
