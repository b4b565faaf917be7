"""What operators take from the workspace, and what happens when there is no room for it."""

import json
import re
import resource
import subprocess
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.runtime.kernels.native import (
    available_isas,
    execute,
    export_calls,
    kernels_probe,
    library,
)
from tests.runtime.running import trainer
from tests.support.operators import Sizes, arguments
from tests.support.programs import outputs_of
from toolkit.errors import ToolkitError
from toolkit.ops import OPERATORS
from toolkit.planning.graph import Operation, Value
from toolkit.planning.scratch import Kernels, scratch_of

LONG, SIZE = 1100, 64
CASES = {
    "short": Sizes(t=37, d=96, f=288, heads=6, kv_heads=2, head_dim=10, rank=8, vocab=530),
    "strips": Sizes(t=600, d=64, f=544, heads=5, kv_heads=1, head_dim=24, rank=17, vocab=40),
    "long1": Sizes(t=LONG, heads=1, kv_heads=1, head_dim=SIZE, packed=False),
    "long4": Sizes(t=LONG, heads=4, kv_heads=4, head_dim=SIZE, packed=False),
    "heads": Sizes(t=260, d=64, f=64, heads=12, kv_heads=12, head_dim=64, rank=4, vocab=40),
}
LARGEST_BLOCK = 12  # rows
GRANULE = 64 << 10


def call(name: str, sizes: Sizes) -> list:
    values = dict(zip(OPERATORS[name].arguments, arguments(name, sizes), strict=True))
    if "labels" in values:
        # Of the rows that count there is a copy as soon as one does not: it is the largest then.
        values["labels"] = values["labels"].clamp(min=0)
        values["labels"][0, sizes.t // 5] = -100
    if name == "attention_cached":  # which is taken to be full
        values["positions"] = (
            values["positions"] + len(values["keys"]) - values["positions"][-1] - 1
        )
    return list(values.values())


def methods_of(case: str) -> dict[str, dict[str, list]]:
    """Every variant of attention by itself, and all other operators together."""
    sizes = CASES[case]
    attention = [name for name in OPERATORS if name.startswith("attention")]
    if case != "short":
        attention = [name for name in attention if "saved" not in name]
    methods = {f"{case}_{name}": {name: call(name, sizes)} for name in attention}
    if case in ("short", "strips"):
        others = [name for name in OPERATORS if not name.startswith("attention")]
        methods[f"{case}_others"] = {name: call(name, sizes) for name in others}
    return methods


CALLS = {method: calls for case in CASES for method, calls in methods_of(case).items()}


@pytest.fixture(scope="module")
def program():
    return export_calls(CALLS)


def taken(program, method: str, isa: str, threads: int, calls: dict[str, list]) -> int:
    """Bytes of scratch that a method's operators needed."""
    assert library().select_isa(isa)
    library().set_threads(threads)
    library().trim()
    assert library().workspace_bytes == 0
    execute(program, method, calls)
    return library().workspace_bytes


def value(tensor: torch.Tensor) -> Value:
    return Value("", "", tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def operation(name: str, values: list) -> Operation:
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(v) if torch.is_tensor(v) else v for v in values]
        results = outputs_of(getattr(torch.ops.toolkit, name)(*fakes))
    arguments = tuple(value(v) if torch.is_tensor(v) else v for v in values)
    return Operation(name, arguments, tuple(map(value, results)))


def operations(method: str) -> list[Operation]:
    return [operation(name, values) for name, values in CALLS[method].items()]


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize(
    ("threads", "arithmetic"), [(1, "float32"), (3, "float32"), (2, "fixed16")]
)
def test_operators_take_what_a_dry_run_says(program, isa, threads, arithmetic):
    assert library().select_arithmetic(arithmetic)
    for method in CALLS:
        if arithmetic == "fixed16" and not method.endswith("others"):
            continue  # attention multiplies no weights
        most = scratch_of(operations(method), Kernels(isa, threads, arithmetic))
        assert (
            taken(program, method, isa, threads, CALLS[method]) == -(-most // GRANULE) * GRANULE
        ), method


def head_calls(name: str, tokens: int, left_out: int) -> dict[str, list]:
    sizes = Sizes(t=tokens, d=1024, f=32, vocab=40)
    values = dict(zip(OPERATORS[name].arguments, arguments(name, sizes), strict=True))
    values["labels"] = values["labels"].clamp(min=0)
    values["labels"][0, :left_out] = -100
    return {name: list(values.values())}


@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_cross_entropy_loss"])
@pytest.mark.parametrize("tokens", [1, 2, 130])
def test_a_dry_run_knows_the_rows_of_the_head_that_take_most(name, tokens):
    """With none, one, half and all of them left out: the rows that count are copied."""
    calls = {f"{n}": head_calls(name, tokens, n) for n in {0, 1, tokens // 2, tokens}}
    program = export_calls(calls)
    [promised] = {
        scratch_of([operation(name, c[name])], Kernels("plain", 2)) for c in calls.values()
    }
    peaks = {left_out: taken(program, left_out, "plain", 2, calls[left_out]) for left_out in calls}
    assert max(peaks.values()) == -(-promised // GRANULE) * GRANULE, peaks


@pytest.mark.parametrize(
    ("isa", "block", "group"),
    [("plain", 4, 16), ("avx2", 6, 16), ("avx512", 12, 32), ("neon", 6, 16)],
)
def test_every_instruction_set_is_answered_on_every_processor(isa, block, group):
    """Counted by hand: what unpacks weights, x of all threads' rows packed, h twice, ones."""
    threads, tokens, depth, rank = 5, 37, 96, 8
    rows = -(-tokens // block) * block
    buffers = threads * (1024 + 32) * group
    floats = [buffers, tokens * rank, rows * rank, rows * depth, rows]
    expected = sum(-(-4 * count // 64) * 64 for count in floats)
    lora_linear = operation("lora_linear", CALLS["short_others"]["lora_linear"])
    assert scratch_of([lora_linear], Kernels(isa, threads)) == expected
    # In fixed16 x takes 72 bytes where 32 floats take 128.
    assert scratch_of([lora_linear], Kernels(isa, threads, "fixed16")) == expected - sum(
        -(-rows * depth * bytes // 64) * 64 * sign for bytes, sign in ((4, 1), (72 / 32, -1))
    )


def test_a_dry_run_takes_no_time_and_no_memory():
    """Of a linear layer whose tensors take 1.5 GB."""
    call = (
        "quantized_linear float32[1,8192,8192] uint8[2048,8192,8] float16[2048,256,16] "
        "float16[2048,256,16] - -> float32[1,8192,32768]"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with asked("neon", 4) as process:
        print(call, file=process.stdin, flush=True)
        assert json.loads(process.stdout.readline())["bytes"] > 0
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.stdin.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) < 64 << 10
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def asked(isa: str, threads: int, stdout: int = subprocess.PIPE) -> subprocess.Popen:
    command = [trainer(), "scratch", "--isa", isa, "--threads", str(threads)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("shape", ["65536,65536,65536,65536", "2147483647,1073741824"])
def test_a_tensor_that_no_memory_holds_is_an_error(shape):
    """The first of these takes 2^66 bytes, of which 64 bits are zeros."""
    _, error = asked("neon", 1).communicate(f"add float32[{shape}] float32[1] -> float32[1]\n")
    assert error.startswith("error: no address space for a tensor of "), error


def test_answers_that_cannot_be_written_are_an_error():
    with Path("/dev/full").open("w") as full:
        process = asked("neon", 1, full.fileno())
        _, error = process.communicate("add float32[2,3] float32[2,3] -> float32[2,3]\n")
    assert (process.returncode, error) == (1, "error: the answers cannot be written. Ask again\n")


def test_what_has_no_answer_is_an_error():
    add = operation("add", [torch.ones(2, 3), torch.ones(2, 3)])
    assert scratch_of([add], Kernels()) == 0
    with pytest.raises(ToolkitError, match="no operator is named 'subtract'"):
        scratch_of([Operation("subtract", add.arguments, add.results)], Kernels())
    with pytest.raises(ToolkitError, match="operator add does not take the values"):
        scratch_of([Operation("add", add.arguments[:1], add.results)], Kernels())
    with pytest.raises(ToolkitError, match="no instruction set is named 'mmx'"):
        scratch_of([add], Kernels("mmx"))
    with pytest.raises(ToolkitError, match="no arithmetic is named 'fixed8'"):
        scratch_of([add], Kernels(arithmetic="fixed8"))


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("name", ["attention", "attention_backward"])
def test_scratch_of_attention_does_not_grow_with_threads_times_heads(program, isa, name):
    def bytes_of(heads: int, threads: int) -> int:
        method = f"long{heads}_{name}"
        return taken(program, method, isa, threads, CALLS[method])

    granule = 64 << 10
    head = 4 * LONG * SIZE  # bytes of one, packed once
    backward = name.endswith("backward")
    a_thread = 4 * LARGEST_BLOCK * (2 * SIZE + (0 if backward else 528) + 512)  # and strips
    # Of each of two heads in work the backward has 96 rows of P and dS, with their q and g.
    in_work = 4 * 96 * 2 * (LONG + 48 + SIZE) if backward else 0
    for heads in (1, 4):
        alone, together = bytes_of(heads, 1), bytes_of(heads, 4)
        assert together - alone <= 3 * a_thread + granule < 3 * head
    # All of the heads that four kv-heads have are not packed at the same time.
    assert bytes_of(4, 1) - bytes_of(1, 1) <= max(head, in_work) + granule


def test_scratch_that_cannot_be_mapped_is_an_error():
    error, held, none, after = kernels_probe("scratch")
    assert error.startswith(f"not enough memory for {256 << 20} bytes of scratch")
    assert "Use a shorter sequence length" in error
    assert int(held) <= 1 << 16  # what was mapped before
    assert (none, int(after)) == ("none", (256 << 20) + (64 << 10))


def test_an_operator_without_scratch_fails_and_the_process_goes_on(capfd):
    tokens, size = 512, 2048
    q = torch.ones(1, tokens, size)
    start = torch.zeros(tokens, dtype=torch.int32)
    program = export_calls({"call": {"attention": [q, q, q, start, 1, 1, 0.1]}})
    method = program.load_method("call")
    library().set_threads(1)
    method.execute([q, q, q, start])
    library().trim()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    room = 2 << 20
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, before[1]))
    try:
        with pytest.raises(RuntimeError):
            method.execute([q, q, q, start])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert "toolkit::attention: not enough memory for" in capfd.readouterr().err
    (out,) = method.execute([q, q, q, start])
    torch.testing.assert_close(out, q)
