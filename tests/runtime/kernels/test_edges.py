"""Arguments at the edge: extreme values, nothing to learn, broken input, other instruction sets."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
from executorch.exir.schema import Int
from executorch.runtime import Runtime

from tests.runtime.kernels.native import (
    EPSILON,
    assert_close,
    assert_within,
    available_isas,
    execute,
    export_calls,
    integer_isas,
    kernels_probe,
    library,
)
from tests.support.operators import Sizes, arguments, in_double
from tests.support.programs import lower_calls
from toolkit.errors import ToolkitError
from toolkit.ops import OPERATORS
from toolkit.runtime import native_directory, operators_library, runtime_directory

BEST_FIRST = [
    *("avx512vnni", "avx512", "avxvnni", "avx2"),
    *("neon_i8mm", "neon_dotprod", "neon"),
    "plain",
]
SIZES = Sizes(t=24, d=64, f=512, vocab=600)
WIDE = torch.linspace(-100, 88, 4096).reshape(1, 64, 64)


def call(name: str, **changes) -> dict[str, list]:
    """One operator on random arguments, some of them replaced."""
    values = dict(zip(OPERATORS[name].arguments, arguments(name, SIZES), strict=True))
    return {name: list((values | changes).values())}


def sink() -> dict[str, torch.Tensor]:
    """Queries and keys such that every query sees little but key 0."""
    values = dict(zip(OPERATORS["attention"].arguments, arguments("attention", SIZES), strict=True))
    q, k = values["q"].clone(), 0.1 * values["k"]
    q.view(-1, SIZES.head_dim)[:, 0] = 8.0
    k[:, 0].view(-1, SIZES.head_dim)[:, 0] = 4.0
    return {"q": q, "k": k}


def attention_with(scale: float, start: torch.Tensor | None = None) -> dict[str, list]:
    changes = {"scale": scale} if start is None else {"scale": scale, "start": start}
    return call("attention", **changes)


NO_DOCUMENTS = torch.zeros(SIZES.t, dtype=torch.int32)
ALL_IGNORED = torch.full((1, SIZES.t), -100, dtype=torch.int32)
CALLS = {
    "silu": call("silu_mul", gate=WIDE, up=torch.ones_like(WIDE)),
    "peaked": attention_with(300.0),
    "ignored": call("linear_cross_entropy", labels=ALL_IGNORED),
    "loss": call("linear_cross_entropy_loss"),
    "embedding": call("quantized_embedding"),
    "linear": call("lora_linear_backward"),
    "mlp": call("swiglu_mlp_backward"),
    "start": attention_with(0.3),
    "sink": call("attention_backward", start=NO_DOCUMENTS, **sink()),
}


@pytest.fixture(scope="module")
def program():
    return export_calls(CALLS)


def run(program, method: str, **changes) -> list[torch.Tensor]:
    """Outputs of a method's only operator, with some tensors replaced."""
    (name, args), *_ = CALLS[method].items()
    values = dict(zip(OPERATORS[name].arguments, args, strict=True)) | changes
    return execute(program, method, {name: list(values.values())})[name]


@pytest.mark.parametrize("isa", available_isas())
def test_exponential_is_accurate_to_two_units_in_the_last_place(program, isa):
    assert library().select_isa(isa)
    (silu,) = run(program, "silu")
    expected = WIDE.double() * WIDE.double().sigmoid()
    # Below -87 the result is subnormal or the exponential saturates: absolute there.
    relative = ((silu - expected) / expected).abs()[WIDE > -87]
    assert relative.max() < 4 * EPSILON  # exponential, sum, quotient, product
    assert silu[WIDE <= -87].abs().max() < 100 * math.exp(-87)


def test_peaked_attention_stays_finite_and_exact(program):
    (out,) = run(program, "peaked")
    arguments = [
        a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
        for a in CALLS["peaked"]["attention"]
    ]
    reference = OPERATORS["attention"].reference(*arguments)
    q, k = (a.view(-1, SIZES.head_dim).norm(dim=-1).max().item() for a in arguments[:2])
    # An error of eps in a score of ~1000 is one of 1000 eps in the probability.
    bound = 16 * EPSILON * 300.0 * q * k
    assert_within("out", out, reference, bound * reference.abs().max().item())


def test_gradient_at_an_attention_sink_keeps_its_digits(program):
    """Rows that look at one key have dS = P (dP - delta) with both terms nearly equal."""
    values = dict(
        zip(
            OPERATORS["attention_backward"].arguments,
            CALLS["sink"]["attention_backward"],
            strict=True,
        )
    )
    exact = OPERATORS["attention_backward"].reference(
        *(
            a.double() if torch.is_tensor(a) and a.is_floating_point() else a
            for a in values.values()
        )
    )
    dq = run(program, "sink")[0]
    assert exact[0].abs().max() < 1e-3 * values["grad"].abs().max()  # the terms do cancel
    assert (dq - exact[0]).norm() < 64 * EPSILON * exact[0].norm()


def test_no_labels_give_no_loss_and_no_gradient(program):
    loss, dx = run(program, "ignored")
    assert loss == 0
    assert torch.equal(dx, torch.zeros_like(dx))


@pytest.mark.parametrize(
    "method, argument, value, complaint",
    [
        ("loss", "labels", 600, "labels must be -100 or below vocab"),
        ("loss", "labels", -1, "labels must be -100 or below vocab"),
        ("embedding", "tokens", 700, "tokens must be [1, T] and below the vocabulary's size"),
        ("embedding", "tokens", -1, "tokens must be [1, T] and below the vocabulary's size"),
        ("start", "start", 7, "start must satisfy 0 <= start[t] <= t"),
        ("start", "start", -1, "start must satisfy 0 <= start[t] <= t"),
    ],
)
def test_values_out_of_range_fail_the_call(program, capfd, method, argument, value, complaint):
    (name, args), *_ = CALLS[method].items()
    tensor = args[OPERATORS[name].arguments.index(argument)].clone()
    tensor.view(-1)[0] = value
    with pytest.raises(RuntimeError):
        run(program, method, **{argument: tensor})
    assert complaint in capfd.readouterr().err


def test_counts_of_heads_that_no_row_has_fail_the_call(capfd):
    """Their sum would overflow."""
    calls = call("split_rope", heads=2, kv_heads=1)
    file = deserialize_pte_binary(bytes(lower_calls({"split": calls}).buffer))
    [plan] = file.program.execution_plan
    [count] = [value for value in plan.values if value.val == Int(1)]
    count.val = Int(2**63 - 1)
    program = Runtime.get().load_program(bytes(serialize_pte_binary(file)))
    with pytest.raises(RuntimeError):
        execute(program, "split", calls)
    assert "heads must be positive and no more than columns" in capfd.readouterr().err


def test_every_byte_of_a_weight_is_released_once(program):
    for method in ("linear", "mlp", "loss", "ignored", "embedding"):
        ((_, args),) = CALLS[method].items()
        weights = [a for a in args if isinstance(a, torch.Tensor) and a.dtype == torch.uint8]
        with library().releases() as ranges:
            run(program, method)
        for codes in weights:
            begin, end = codes.data_ptr(), codes.data_ptr() + codes.nbytes
            inside = [r for r in ranges if begin <= r[0] < end]
            assert all(address + size <= end for address, size, _ in inside)
            released = sorted((address, size) for address, size, rest in inside if not rest)
            # An embedding reads a few rows here and there; all others every byte once.
            assert (begin, codes.nbytes, True) in inside or method != "embedding"
            assert [address for address, _ in released] == [
                begin + sum(size for _, size in released[:i]) for i in range(len(released))
            ]
            assert sum(size for _, size in released) == (method != "embedding") * codes.nbytes


def test_the_head_goes_through_its_weight_as_often_as_it_says():
    """What the engine counts on when it plans its reading. Parts of about 256 tokens are rounded up
    to whole row blocks, so that of 5,797 tokens 23 parts become 22 with blocks of 12 rows."""
    lengths = (1, 384, 385, 641, 5797, 11611)
    lines = [line.split() for line in kernels_probe("sweeps", *lengths)]
    assert [(isa, int(length)) for isa, length, *_ in lines] == [
        (isa, length) for isa in available_isas() for length in lengths
    ]
    assert all(counted == promised for _, _, counted, promised in lines)
    blocks = {"plain": 4, "avx2": 6, "neon": 6, "avx512": 12}
    for isa, length, counted, _ in lines:
        part = math.ceil(int(length) / max(1, (int(length) + 127) // 256))
        part = math.ceil(part / blocks[isa]) * blocks[isa]
        assert int(counted) == math.ceil(int(length) / part), (isa, length)


def test_instruction_set_by_environment():
    code = (
        f"import ctypes; library = ctypes.CDLL({str(operators_library())!r}); "
        "library.toolkit_isa.restype = library.toolkit_last_error.restype = ctypes.c_char_p; "
        "print((library.toolkit_isa() or library.toolkit_last_error()).decode())"
    )
    trainer = native_directory("trainer") / "trainer"

    def run(isa: str, *command: object) -> subprocess.CompletedProcess:
        environment = {**os.environ, "TOOLKIT_ISA": isa}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert run("plain", sys.executable, "-c", code).stdout == "plain\n"
    assert json.loads(run("plain", trainer, "info").stdout)["isa"] == "plain"
    complaint = (
        "TOOLKIT_ISA=altivec is not available on this processor. "
        f"Choose one of {', '.join(i for i in BEST_FIRST if i in integer_isas())}\n"
    )
    assert run("altivec", sys.executable, "-c", code).stdout == complaint
    evaluate = ("evaluate", "--bundle", "none", "--data", "none")
    for command in (("info",), evaluate, ("train", *evaluate[1:], "--out", "none", "--steps", "1")):
        refused = run("altivec", trainer, *command)
        assert (refused.returncode, refused.stderr) == (2, f"error: {complaint}")


def test_missing_build_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("TOOLKIT_NATIVE_DIR", str(tmp_path))
    with pytest.raises(ToolkitError, match="pip install"):
        operators_library()
    (tmp_path / "trainer").touch()
    assert native_directory("trainer") == tmp_path
    with pytest.raises(ToolkitError, match="toolkit runtime build"):
        runtime_directory("mips")


def test_a_rank_of_zero_is_no_adapter_forward_and_refused_where_gradients_are_wanted(capfd):
    sizes = Sizes(rank=0)
    names = ["lora_linear", "lora_linear_backward", "lora_linear_saved", "swiglu_mlp"]
    names += ["swiglu_mlp_backward", "fused_swiglu_mlp", "fused_swiglu_mlp_backward"]
    calls = {name: {name: arguments(name, sizes)} for name in names}
    program = export_calls(calls)
    for name, call in calls.items():
        if name.endswith(("backward", "saved")):
            with pytest.raises(RuntimeError):
                execute(program, name, call)
            assert "must not have a rank of 0" in capfd.readouterr().err, name
        else:
            expected = OPERATORS[name].reference(*in_double(call[name]))
            assert_close(name, execute(program, name, call)[name], [expected], sizes)
