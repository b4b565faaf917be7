"""Cycles of the NEON micro-kernels' inner loops on ARM cores, by llvm-mca's models of them.

No phone is needed and none is measured: the kernels are compiled as the build compiles them, by GCC
and by Clang, their innermost loops are found in the compilers' output, and llvm-mca says how many
cycles a turn takes when nothing misses the L1 cache. The share is that of the most instructions of
the loop's unit (fmla, sdot, smmla) that the same model issues in that time if there is no other.
"""

import argparse
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench import harness

RUNTIME = harness.ROOT / "toolkit" / "runtime"
TARGET = "aarch64-linux-gnu"
CORES = ("cortex-a55", "cortex-a510", "cortex-a76", "neoverse-n1", "cortex-x2", "neoverse-v2")
TURNS = 100
"""Of a loop; long enough that its first ones do not matter."""
UNITS = {
    "fmla": "fmla v{0}.4s, v24.4s, v25.s[1]",
    "sdot": "sdot v{0}.4s, v24.16b, v25.4b[1]",
    "smmla": "smmla v{0}.4s, v24.16b, v25.16b",
}
BARS = {
    "fmla": (("neoverse-n1", "neoverse-v2"), 0.85, 0.95),
    "sdot": (("neoverse-n1", "neoverse-v2"), 0.80, 0.90),
    "smmla": (("neoverse-v2",), 0.75, 0.85),
}
"""Cores, must and aim."""


@dataclass(frozen=True)
class Kernel:
    """A micro-kernel: its source, the set it is compiled for, its name with template arguments."""

    title: str
    isa: str
    source: str
    function: str
    unit: str


def _kernels() -> Iterator[Kernel]:
    yield Kernel("float32 products", "neon", "gemm", "micro_kernel<6, 4>", "fmla")
    yield Kernel("float32, one row", "neon", "few_rows", "multiply_panel", "fmla")
    for isa, unit in (("neon_dotprod", "sdot"), ("neon_i8mm", "smmla")):
        for title, function in (
            ("x Wᵀ", "forward_through<6, 1, true>"),
            ("x Wᵀ, symmetric", "forward_through<6, 1, false>"),
            ("dy W", "backward<6, 1>"),
        ):
            yield Kernel(f"fixed16 {title}", isa, "fixed16", function, unit)


@dataclass(frozen=True)
class Result:
    """A loop on a core: instructions of a turn, those of the unit, cycles, share of its peak."""

    kernel: str
    unit: str
    compiler: str
    core: str
    instructions: int
    unit_instructions: int
    cycles: float
    share: float


def main() -> int:
    """Compile, ask llvm-mca, print a table and JSON; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cores", nargs="*", default=list(CORES), help=f"(default: {' '.join(CORES)})"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results here")
    options = parser.parse_args()
    mca = _newest("llvm-mca", "llvm-19")
    unknown = set(options.cores) - set(_known_cores(mca))
    if unknown:
        return _fail(f"{mca} has no model of {', '.join(sorted(unknown))} (Debian: llvm-19)")
    results = []
    for compiler in (_newest(f"{TARGET}-g++", f"g++-{TARGET}"), _newest("clang++", "clang-19")):
        with tempfile.TemporaryDirectory() as folder:
            build = Path(folder)
            commands = _configure(build, compiler)
            for kernel in _kernels():
                body = _loop(_assembly(commands, build, kernel), kernel)
                for core in options.cores:
                    results.append(_result(mca, core, kernel, compiler, body))
    _print(results)
    machine = harness.Machine()
    return harness.finish(options, machine, [asdict(r) for r in results], _bars(results))


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def _newest(program: str, package: str) -> str:
    """Return a program's newest installed version: Debian's default is older than some cores."""
    for name in (*(f"{program}-{version}" for version in range(30, 15, -1)), program):
        if shutil.which(name):
            return name
    raise SystemExit(f"error: {program} is missing. Install it: apt-get install {package}")


def _known_cores(mca: str) -> list[str]:
    words = [mca, f"-mtriple={TARGET}", "-mcpu=help"]
    listed = subprocess.run(words, capture_output=True, text=True, input="")
    return _cores_in(listed.stdout + listed.stderr)


def _cores_in(help_text: str) -> list[str]:
    return re.findall(r"^\s+([\w-]+)\s+- Select", help_text, re.MULTILINE)


def _configure(build: Path, compiler: str) -> list[list[str]]:
    """Return the words that the build itself compiles its sources with."""
    import executorch

    clang = "clang" in compiler
    words: list[str | Path] = ["cmake", "-S", RUNTIME, "-B", build, "-DCMAKE_SYSTEM_NAME=Linux",
             "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={compiler}",
             "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCMAKE_BUILD_TYPE=Release",
             f"-DEXECUTORCH_ROOT={next(iter(executorch.__path__))}"]  # fmt: skip
    if clang:
        words.append(f"-DCMAKE_CXX_COMPILER_TARGET={TARGET}")
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: cmake does not configure with {compiler}\n{done.stderr}")
    commands = json.loads((build / "compile_commands.json").read_text())
    return [shlex.split(command["command"]) for command in commands]


def _assembly(commands: list[list[str]], build: Path, kernel: Kernel) -> str:
    source = str(RUNTIME / "kernels" / "isa" / f"{kernel.source}.cc")
    isa = f"-DTOOLKIT_ISA={kernel.isa}"
    words = next(list(words) for words in commands if source in words and isa in words)
    words[words.index("-o") + 1] = out = str(build / "kernel.s")
    words[words.index("-c")] = "-S"
    subprocess.run([*words, "-fno-asynchronous-unwind-tables"], cwd=build, check=True)
    demangled = subprocess.run(["c++filt"], input=Path(out).read_text(), capture_output=True,
                               text=True, check=True)  # fmt: skip
    return demangled.stdout


def _loop(assembly: str, kernel: Kernel) -> list[str]:
    """Return the instructions of the innermost loop with most of the unit's."""
    found: list[list[str]] = []
    for text in re.split(
        r"^(?=(?:void )?toolkit::[^\n]*:\s*(?://.*)?$)", assembly, flags=re.MULTILINE
    ):
        if re.match(rf"(?:void )?toolkit::{kernel.isa}::.*\b{re.escape(kernel.function)}\(", text):
            found += _innermost_loops(text.split("\n"))
    body = max(found, key=lambda loop: _count(loop, kernel.unit), default=[])
    if _count(body, kernel.unit) < 4:
        raise SystemExit(f"error: {kernel.function} of {kernel.isa} has no inner loop with "
                         f"{kernel.unit}: is it still unrolled?")  # fmt: skip
    return body


def _innermost_loops(lines: list[str]) -> Iterator[list[str]]:
    """Yield what lies between a label and a jump back to it, where no other such pair lies."""
    labels, loops = {}, []
    for i, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = i
        elif jump := re.match(r"\s+(?:b|b\.\w+|b\w\w|cbn?z|tbn?z)\s+(?:.*,\s*)?(\.L\w+)\b", line):
            loops += [(labels[name], i) for name in jump.groups() if name in labels]
    for first, last in loops:
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in loops):
            yield [line for line in lines[first : last + 1] if re.match(r"\s+[a-z]", line)]


def _count(body: list[str], mnemonic: str) -> int:
    return sum(line.split()[0] == mnemonic for line in body)


def _cycles(mca: str, core: str, body: list[str]) -> float:
    words = [mca, f"-mtriple={TARGET}", f"-mcpu={core}", "-mattr=+dotprod,+i8mm",
             f"-iterations={TURNS}", "-instruction-info=0", "-resource-pressure=0"]  # fmt: skip
    done = subprocess.run(words, input="\n".join(body), capture_output=True, text=True)
    cycles = _total_cycles(done.stdout)
    if done.returncode != 0 or cycles is None:
        raise SystemExit(f"error: {mca} does not understand a loop\n{done.stderr}")
    return cycles / TURNS


def _total_cycles(report: str) -> int | None:
    cycles = re.search(r"^Total Cycles:\s+(\d+)$", report, re.MULTILINE)
    return None if cycles is None else int(cycles[1])


@functools.cache
def _peak(mca: str, core: str, unit: str) -> float:
    """Return how many of a unit's instructions a core takes in a cycle, with sums of their own."""
    body = ["\t" + UNITS[unit].format(register) for register in range(24)]
    return len(body) / _cycles(mca, core, body)


def _result(mca: str, core: str, kernel: Kernel, compiler: str, body: list[str]) -> Result:
    cycles, count = _cycles(mca, core, body), _count(body, kernel.unit)
    share = count / cycles / _peak(mca, core, kernel.unit)
    return Result(kernel.title, kernel.unit, compiler, core, len(body), count, cycles, share)


def _bars(results: list[Result]) -> list[harness.Bar]:
    bars = []
    for r in results:
        cores, must, aim = BARS[r.unit]
        if r.core in cores and r.kernel != "float32, one row":  # it waits for memory
            name = f"{r.kernel}, {r.unit}, {r.compiler}, {r.core}"
            bars.append(harness.Bar(name, r.share, must, aim, at_least=True))
    return bars


def _print(results: list[Result]) -> None:
    columns = ("", "unit", "compiler", "core", "instructions", "of the unit", "cycles", "share")
    rows = [
        (r.kernel, r.unit, r.compiler, r.core, r.instructions, r.unit_instructions,
         f"{r.cycles:.1f}", f"{r.share:.0%}")
        for r in results
    ]  # fmt: skip
    harness.print_table("a turn of the inner loop, by llvm-mca", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
