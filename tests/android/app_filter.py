"""Runs a program under the system call filter of Android's apps.

    python tests/android/app_filter.py PROGRAM ARGUMENTS

Applied before exec and trapping, as the zygote's: a call that is not in app_syscalls.txt ends the
process with SIGSYS. Only what every release from 9 on allows is allowed.
"""

import ctypes
import os
import re
import struct
import sys
from pathlib import Path

LIST = Path(__file__).with_name("app_syscalls.txt")
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_RELEASES = 8
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_TRAP, _ALLOW = 0x00030000, 0x7FFF0000


def allowed(abi: str) -> set[str]:
    """Return the names of the calls that every release allows on an ABI (arm64, x86_64)."""
    rows = [line.split() for line in LIST.read_text().splitlines() if line[0] != "#"]
    return {row[0] for row in rows if row[1] == abi and len(row) == 2 + _RELEASES}


def numbers() -> dict[str, int]:
    """Return x86-64's system calls by name."""
    found = re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())
    return {name: int(number) for name, number in found}


def program(calls: list[int]) -> bytes:
    """Return a BPF program that traps all other calls than these."""
    lines = [(_LOAD, 0, 0, 0)]
    for number in calls:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    lines.append((_RETURN, 0, 0, _TRAP))
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def apply(code: bytes) -> None:
    """Put this process and all it starts under the filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SET_SECCOMP, _FILTER, described):
        raise OSError(ctypes.get_errno(), "no seccomp filter")


if __name__ == "__main__":
    known = numbers()
    apply(program(sorted(known[name] for name in allowed("x86_64") if name in known)))
    os.execv(sys.argv[1], sys.argv[1:])
