"""What tools/bench/arm_throughput.py finds in compilers' and llvm-mca's output."""

import pytest

from tools.bench import arm_throughput
from tools.bench.arm_throughput import Kernel, Result

KERNEL = Kernel("x Wᵀ", "neon_dotprod", "fixed16", "forward<6, 1, true>", "sdot")
# As GCC has it behind c++filt: two loops within a third, and functions of other names and sets.
ASSEMBLY = """\
\t.weak\tvoid toolkit::neon_dotprod::forward<6, 1, true>(float const*)
void toolkit::neon_dotprod::forward<6, 1, false>(float const*):
.L1:
\tsdot\tv9.4s, v1.16b, v2.4b[0]
\tb.ne\t.L1
void toolkit::neon_i8mm::forward<6, 1, true>(float const*):
.L2:
\tsdot\tv9.4s, v1.16b, v2.4b[0]
\tb.ne\t.L2
void toolkit::neon_dotprod::(anonymous namespace)::forward<6, 1, true>(float const*):
.LFB1:
\t.cfi_startproc
\tcmp\tx3, 0
.L4:
\tsdot\tv0.4s, v1.16b, v2.4b[0]
.L5:
\tldr\tq1, [x1], 16
\tsdot\tv0.4s, v1.16b, v2.4b[0]
\tsdot\tv3.4s, v1.16b, v2.4b[1]
\tsdot\tv4.4s, v1.16b, v2.4b[2]
\tsdot\tv5.4s, v1.16b, v2.4b[3]
\tsubs\tx2, x2, 1
\tbne\t.L5
.L6:
\tfmul\tv0.4s, v0.4s, v1.4s
\tcbnz\tx4, .L6
\ttbnz\tx3, #2, .L4
\tret
"""
# llvm-mca 19 on a loop of one fmla and one subs.
REPORT = """\
Iterations:        100
Instructions:      200
Total Cycles:      403
Total uOps:        200

Dispatch Width:    8
uOps Per Cycle:    0.50
IPC:               0.50
Block RThroughput: 0.5
"""
HELP = """\
Available CPUs for this target:

  apple-a10       - Select the apple-a10 processor.
  cortex-a55      - Select the cortex-a55 processor.

Available features for this target:

  aes             - Enable AES support (FEAT_AES, FEAT_PMULL).
"""


def test_the_innermost_loop_of_the_kernel_is_found():
    body = arm_throughput._loop(ASSEMBLY, KERNEL)
    assert [line.split()[0] for line in body] == ["ldr", *4 * ["sdot"], "subs", "bne"]
    assert [line.split()[1] for line in body if "sdot" in line] == [
        "v0.4s,", "v3.4s,", "v4.4s,", "v5.4s,",
    ]  # fmt: skip


def test_a_kernel_without_its_loop_is_an_error():
    other = Kernel("dy W", "neon_dotprod", "fixed16", "backward<6, 1>", "sdot")
    with pytest.raises(SystemExit, match="backward<6, 1> of neon_dotprod has no inner loop"):
        arm_throughput._loop(ASSEMBLY, other)
    rolled = ASSEMBLY.replace("\tsdot\tv5.4s, v1.16b, v2.4b[3]\n", "")
    with pytest.raises(SystemExit, match="is it still unrolled"):
        arm_throughput._loop(rolled, KERNEL)


def test_cycles_and_cores_are_read():
    assert arm_throughput._total_cycles(REPORT) == 403
    assert arm_throughput._total_cycles("error: found an unsupported instruction") is None
    assert arm_throughput._cores_in(HELP) == ["apple-a10", "cortex-a55"]


def test_bars_are_of_the_cores_they_name():
    results = [
        Result(name, "sdot", "g++", core, 40, 24, 20.0, share)
        for name, core, share in (
            ("fixed16 x Wᵀ", "neoverse-n1", 0.76),
            ("fixed16 x Wᵀ", "cortex-a55", 0.1),
        )
    ]
    [bar] = arm_throughput._bars(results)
    assert (bar.value, bar.must, bar.aim, bar.at_least) == (0.76, 0.80, 0.90, True)
