"""Puts the self-contained engine into the APK's library folders: build/android/jniLibs/ABI.

Apps may start programs only from their library folder, the installer unpacks there only what is
named lib*.so, and Android's filter ends an app's process at system calls that glibc makes. So the
engine's files get such names, in them and among them, and in the copies of glibc's loader and
library those calls answer "no such call" instead, with which glibc is content.

    python tools/android/engine.py
"""

import re
import shutil
import struct
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from toolkit.device import runtime_build
from toolkit.errors import ToolkitError

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "build/android/jniLibs"
LICENCES = ROOT / "build/android/assets/licences"
_TEXTS = {
    "Toolkit Trainer": ROOT / "LICENSE",
    "GNU C library": Path("/usr/share/doc/libc6-arm64-cross/copyright"),
    "GCC's runtime libraries": Path("/usr/share/doc/libstdc++6-arm64-cross/copyright"),
    "LGPL 2.1 (GNU C library)": Path("/usr/share/common-licenses/LGPL-2.1"),
    "GPL 3 (GCC)": Path("/usr/share/common-licenses/GPL-3"),
    "Apache 2.0 (Kotlin)": Path("/usr/share/common-licenses/Apache-2.0"),
}
"""Of what is in the APK; ExecuTorch's is in its package."""
ENOSYS = 38
REFUSED = {
    "arm64-v8a": {"set_robust_list": 99, "rseq": 293, "clone3": 435},
    "x86_64": {"set_robust_list": 273, "rseq": 334, "clone3": 435, "access": 21},
}
"""Calls of glibc that not every Android allows an app (tests/android/app_syscalls.txt)."""
ALWAYS = ("set_robust_list", "rseq")
"""Without these the glibc is another one than this was made for."""
PROGRAM = "libtrainer.so"
_WINDOW = 12  # instructions from a call's number to the call
_SVC, _MOVE_ENOSYS = 0xD4000001, 0x92800000 | (ENOSYS - 1) << 5  # svc #0; mov x0, #-38
_SYSCALL, _SIGN_EXTEND = b"\x0f\x05", b"\x48\x98"  # syscall; cdqe


def main() -> int:
    """Build and pack the engine of every ABI."""
    try:
        for abi in REFUSED:
            pack(runtime_build.build(abi), TARGET / abi, abi)
        write_licences(LICENCES)
    except ToolkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def pack(runtime: Path, target: Path, abi: str) -> None:
    """Write the engine's files under the names and with the calls that an app may have.

    Raises:
        ToolkitError: a place in glibc's code was not found or not mended.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = sorted(path for path in runtime.iterdir() if path.is_file() and path.name[0] != ".")
    names = {path.name: app_name(path.name) for path in files}
    total: dict[str, int] = {}
    for path in files:
        code = path.read_bytes()
        if re.match(r"ld-linux|libc\.so", path.name):
            code, found = patch(code, abi)
            check_places(path, abi, found)
            total = {name: total.get(name, 0) + count for name, count in found.items()}
        written = target / names[path.name]
        written.write_bytes(renamed(code, names))
        written.chmod(0o755)
        if left := places(written, abi):
            raise ToolkitError(f"{path.name} still makes {left}", "Mend tools/android/engine.py")
    if missing := [name for name in ALWAYS if not total.get(name)]:
        raise ToolkitError(
            f"glibc's code has no {', '.join(missing)} on {abi}", "Mend tools/android/engine.py"
        )


def write_licences(target: Path) -> None:
    """Write the licences of what the APK contains, a text each under the name that is shown.

    Raises:
        ToolkitError: one of them is not on this machine.
    """
    texts = {name: path.read_text() for name, path in _TEXTS.items() if path.is_file()}
    executorch = distribution("executorch")
    found = [file for file in executorch.files or () if file.name == "LICENSE"]
    if found:
        texts["ExecuTorch"] = found[0].read_text()
    if missing := {*_TEXTS, "ExecuTorch"} - texts.keys():
        raise ToolkitError(
            f"no licence is found of {', '.join(sorted(missing))}",
            "Install Debian's libc6-arm64-cross and libstdc++6-arm64-cross with their copyright",
        )
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, text in texts.items():
        (target / f"{name}.txt").write_text(text)


def app_name(name: str) -> str:
    """Return a name that the installer unpacks, no longer than the one it replaces in the files."""
    if name == "trainer":
        return PROGRAM
    versioned = re.fullmatch(r"(?:lib|(ld)-linux-)([\w+-]+)\.so\.(\d+)", name)
    if versioned is None:
        return name
    stem = f"ld-{versioned[2]}" if versioned[1] else versioned[2]
    return f"lib{stem}.{versioned[3]}.so"


def renamed(code: bytes, names: dict[str, str]) -> bytes:
    """Replace the files' names where they stand as whole strings in an ELF file."""
    for old, new in names.items():
        if "." in old and old != new:
            padded = new.encode().ljust(len(old), b"\0")
            code = re.sub(rb"(?<=\0)" + re.escape(old.encode()) + rb"(?=\0)", padded, code)
    return code


def patch(code: bytes, abi: str) -> tuple[bytes, dict[str, int]]:
    """Return a library's bytes whose refused calls answer ENOSYS, and how often each was found."""
    return (_patch_arm64 if abi == "arm64-v8a" else _patch_x86_64)(code, REFUSED[abi])


def _patch_arm64(code: bytes, refused: dict[str, int]) -> tuple[bytes, dict[str, int]]:
    words = list(struct.unpack_from(f"<{len(code) // 4}I", code))
    found = dict.fromkeys(refused, 0)
    for name, number in refused.items():
        moves = (0xD2800008 | number << 5, 0x52800008 | number << 5)  # mov x8, #n; mov w8, #n
        for i in [i for i, word in enumerate(words) if word in moves]:
            at = next((j for j in range(i + 1, i + _WINDOW) if words[j] == _SVC), None)
            if at is not None:
                words[at] = _MOVE_ENOSYS
                found[name] += 1
    return struct.pack(f"<{len(words)}I", *words) + code[len(words) * 4 :], found


def _patch_x86_64(code: bytes, refused: dict[str, int]) -> tuple[bytes, dict[str, int]]:
    # mov $number, %eax becomes mov $-38, %eax, and the call what extends its sign to %rax.
    out, found = bytearray(code), dict.fromkeys(refused, 0)
    for name, number in refused.items():
        move, i = b"\xb8" + number.to_bytes(4, "little"), -1
        while (i := out.find(move, i + 1)) >= 0:
            at = out.find(_SYSCALL, i, i + 4 * _WINDOW)
            if at >= 0:
                out[i + 1 : i + 5] = (-ENOSYS).to_bytes(4, "little", signed=True)
                out[at : at + 2] = _SIGN_EXTEND
                found[name] += 1
    return bytes(out), found


def check_places(path: Path, abi: str, found: dict[str, int]) -> None:
    """Raise unless the disassembly shows as many places as were found."""
    wanted = places(path, abi)
    if wanted != {name: count for name, count in found.items() if count}:
        raise ToolkitError(
            f"{path.name} ({abi}) makes {wanted}, found were {found}",
            "Mend tools/android/engine.py",
        )


def places(path: Path, abi: str) -> dict[str, int]:
    """Count the refused calls in a file's disassembly, by name."""
    arm = abi == "arm64-v8a"
    tool = f"{runtime_build.compiler_prefix(runtime_build.target_of(abi))}objdump"
    text = subprocess.run([tool, "-d", str(path)], capture_output=True, text=True, check=True)
    number = re.compile(r"\bmov\s+[xw]8, #(0x\w+)" if arm else r"\bmov\s+\$(0x\w+),%eax")
    name_of = {value: name for name, value in REFUSED[abi].items()}
    count: dict[str, int] = {}
    last, age = None, 0
    for line in text.stdout.splitlines():
        age += 1
        if match := number.search(line):
            last, age = int(match[1], 16), 0
        elif re.search(r"\bsvc\b" if arm else r"\bsyscall\b", line):
            if last in name_of and age < _WINDOW:
                count[name_of[last]] = count.get(name_of[last], 0) + 1
            last = None
    return count


if __name__ == "__main__":
    sys.exit(main())
