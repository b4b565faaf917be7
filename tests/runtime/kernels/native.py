"""The operator library, and programs that call operators in ExecuTorch's own Python runtime."""

import ctypes
import math
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from executorch.runtime import Program, Runtime
from torch import Tensor

from tests.support.operators import Sizes
from tests.support.programs import lower_calls, tensors_of
from toolkit.ops import OPERATORS
from toolkit.quantization.packing import QuantizedTensor
from toolkit.runtime import native_directory, operators_library

EPSILON = torch.finfo(torch.float32).eps
_ROOT = Path(__file__).resolve().parents[3]
_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool)


class Library:
    """The C functions of libtoolkit_operators.so."""

    def __init__(self) -> None:
        self._native = ctypes.CDLL(str(operators_library()), ctypes.RTLD_GLOBAL)
        self._native.toolkit_isa.restype = ctypes.c_char_p
        self._native.toolkit_workspace_bytes.restype = ctypes.c_size_t
        self._native.toolkit_set_release_hook.argtypes = [_HOOK]
        self.default_isa = self.isa

    @property
    def isa(self) -> str:
        return self._native.toolkit_isa().decode()

    def select_isa(self, isa: str) -> bool:
        return bool(self._native.toolkit_select_isa(isa.encode()))

    def select_arithmetic(self, arithmetic: str) -> bool:
        return bool(self._native.toolkit_select_arithmetic(arithmetic.encode()))

    def multiply(self, x: Tensor, w: QuantizedTensor, transposed: bool) -> Tensor:
        """Return x Wᵀ, or x W: x [T, K] or [T, N], W [N, K], N a multiple of 16."""
        rows, depth = w.codes.shape[0] * 16, w.codes.shape[1]
        out = torch.empty(x.shape[0], depth if transposed else rows)
        pointers = [None if t is None else t.data_ptr() for t in (w.codes, w.scale, w.offset)]
        assert self._native.toolkit_multiply(
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_int64(x.shape[0]),
            *map(ctypes.c_void_p, pointers),
            *(ctypes.c_int64(rows), ctypes.c_int64(depth), w.bits, int(transposed)),
            ctypes.c_void_p(out.data_ptr()),
        )
        return out

    def set_threads(self, count: int) -> None:
        self._native.toolkit_set_threads(count)
        assert self._native.toolkit_threads() == count

    @property
    def workspace_bytes(self) -> int:
        return self._native.toolkit_workspace_bytes()

    def trim(self) -> None:
        """Give the workspace back."""
        self._native.toolkit_workspace_trim()

    @contextmanager
    def releases(self) -> Iterator[list[tuple[int, int, bool]]]:
        """Collect (address, bytes, rest) of weights the operators will not read again."""
        ranges: list[tuple[int, int, bool]] = []
        hook = _HOOK(lambda *released: ranges.append(released))
        self._native.toolkit_set_release_hook(hook)
        yield ranges
        self._native.toolkit_set_release_hook(_HOOK())


def build_directories() -> list[Path]:
    """Return where the build under test may have left what is not installed, best first."""
    newest = sorted(_ROOT.glob("build/*/"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [native_directory(), *newest]


def kernels_probe(*arguments: object) -> list[str]:
    """Run the kernels' own test program and return the lines it printed."""
    found = [path / "kernels_probe" for path in build_directories()]
    program = next((path for path in found if path.is_file()), None)
    assert program, "kernels_probe is not built: run `make setup`"
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


_AVX2, _AVX512 = {"avx2", "fma"}, {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
FLAGS = {
    "x86_64": {"avx2": _AVX2, "avx512": _AVX512},
    "aarch64": {"neon": {"asimd"}},
}
"""What a processor needs for an instruction set, by machine: those that float32 has code for."""
INTEGER_FLAGS = {
    "x86_64": {"avxvnni": {*_AVX2, "avx_vnni"}, "avx512vnni": {*_AVX512, "avx512_vnni"}},
    "aarch64": {"neon_dotprod": {"asimddp"}, "neon_i8mm": {"asimddp", "i8mm"}},
}
"""The same of those that have other code for fixed16 only."""


def _offered(needed: dict[str, set[str]]) -> list[str]:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return [isa for isa, flag in needed.items() if flag <= flags]


def available_isas() -> list[str]:
    """Return the instruction sets the library must offer here, going by the processor."""
    return ["plain", *_offered(FLAGS[platform.machine()])]


def integer_isas() -> list[str]:
    """Return those that fixed16 has code for here; the library takes the first that it names."""
    return available_isas() + _offered(INTEGER_FLAGS[platform.machine()])


@cache
def library() -> Library:
    return Library()


def export_calls(methods: dict[str, dict[str, list]]) -> Program:
    """Export methods of operator calls (name -> arguments in schema order) and load them."""
    library()  # the operators must be registered before a method that calls them is loaded
    return Runtime.get().load_program(lower_calls(methods).buffer)


def execute(program: Program, method: str, calls: dict[str, list]) -> dict[str, list[Tensor]]:
    """Run a method; outputs by operator.

    What was computed is overwritten where it lies: the next run's outputs often lie there, and an
    element that it does not write must not be the right one.
    """
    loaded = program.load_method(method)
    results = loaded._method(tensors_of(calls), clone_outputs=False)
    own = iter([result.clone() for result in results])
    for result in results:
        result.fill_(math.nan if result.is_floating_point() else -1)
    return {name: [next(own) for _ in OPERATORS[name].outputs] for name in calls}


def chain_length(name: str, s: Sizes) -> int:
    """How many roundings in a row an output element of an operator sees, at most."""
    linear = s.d + s.f + s.t + s.rank
    softmax = s.t + 2 * s.head_dim
    lengths: dict[str, Callable[[], int]] = {
        "quantized_linear": lambda: linear,
        "lora_linear": lambda: linear,
        "lora_linear_saved": lambda: linear,
        "swiglu_mlp": lambda: 2 * linear,
        "geglu_mlp": lambda: 2 * linear,
        "fused_swiglu_mlp": lambda: 2 * linear,
        "rms_norm": lambda: s.d,
        "rms_norm_saved": lambda: s.d,
        "attention": lambda: softmax,
        "attention_saved": lambda: softmax,
        "attention_cached": lambda: softmax + 600,
        # The angle is rounded by eps relative: the error grows with the position, not its root.
        "rope": lambda: s.t**2,
        "split_rope": lambda: s.t**2,
        "linear_cross_entropy": lambda: s.d + s.vocab,
        "linear_cross_entropy_loss": lambda: s.d + s.vocab,
    }
    forward = name.removesuffix("_backward")
    return lengths.get(forward, lambda: 1)() * (1 if forward == name else 2)


def assert_close(name: str, actual: list[Tensor], expected: list[Tensor], sizes: Sizes) -> None:
    """Compare an operator's outputs with a float64 reference.

    Rounding errors of a chain of n operations on terms of mixed sign grow like sqrt(n) eps,
    relative to the largest element; the factor 8 covers products in sequence and the exponential.
    In the backward of attention dq and dk are differences of terms as large as dv.
    """
    largest = [e.abs().max().item() if e.numel() else 0.0 for e in expected]
    if name.startswith("attention") and name.endswith("backward"):
        largest = [max(largest)] * len(largest)
    factor = 8 * EPSILON * math.sqrt(chain_length(name, sizes))
    for output, a, e, scale in zip(OPERATORS[name].outputs, actual, expected, largest, strict=True):
        assert_within(f"{name}.{output}", a, e, factor * scale)


def assert_within(what: str, actual: Tensor, expected: Tensor, bound: float) -> None:
    """Compare elements with an absolute bound; name the worst."""
    assert actual.shape == expected.shape, f"{what} is {actual.shape}, not {expected.shape}"
    if expected.numel() == 0:
        return
    error = (actual.double() - expected.double()).abs().nan_to_num(nan=math.inf)
    worst = int(error.argmax())
    at = [int(i) for i in torch.unravel_index(torch.tensor(worst), expected.shape)]
    assert error.flatten()[worst] <= bound, (
        f"{what}{at} is {actual.flatten()[worst]:.9g}, expected "
        f"{expected.flatten()[worst]:.9g} within {bound:.3g}"
    )
