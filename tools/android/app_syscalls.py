"""Writes tests/android/app_syscalls.txt: which system calls Android lets an app make.

Every process that the zygote starts has a seccomp filter; another call than those in bionic's lists
ends it. The lists of a release are libc/SYSCALLS.TXT without the block lists and with the allow
lists, the common ones and those for apps. Only names and releases are kept.

    python tools/android/app_syscalls.py CLONE_OF_BIONIC
"""

import re
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parents[2] / "tests/android/app_syscalls.txt"
RELEASES = {
    "9": "android-9.0.0_r1",
    "10": "android-10.0.0_r1",
    "11": "android-11.0.0_r1",
    "12": "android-12.0.0_r1",
    "13": "android-13.0.0_r1",
    "14": "android-14.0.0_r1",
    "15": "android-15.0.0_r1",
    "main": "HEAD",
}
ABIS = ("arm64", "x86_64")
_ALLOW = ("WHITELIST", "ALLOWLIST")  # older and newer names of the files
_BLOCK = ("BLACKLIST", "BLOCKLIST")
_LINE = re.compile(r"^(?:[\w ]+[ *\t]+)?(\w+)(?:\|[\w,|]+)?(?::(\w+)(?::\w+)?)?\(.*\)\s*(\S+)\s*$")


def main() -> int:
    """Write the table."""
    clone = Path(sys.argv[1])
    allowed = {
        (abi, release): app_calls(clone, revision, abi)
        for abi in ABIS
        for release, revision in RELEASES.items()
    }
    head = git(clone, "log", "-1", "--format=%H of %cs", "HEAD").strip()
    lines = [
        "# System calls that the seccomp filter of Android's apps allows: name, ABI, releases.",
        "# Source: https://android.googlesource.com/platform/bionic,",
        "# libc/SYSCALLS.TXT and libc/SECCOMP_*.TXT,",
        f"# tags {', '.join(tag for tag in RELEASES.values() if tag != 'HEAD')};",
        f"# main is {head}.",
        "# Written by tools/android/app_syscalls.py.",
    ]
    for abi in ABIS:
        for name in sorted(set().union(*(allowed[abi, release] for release in RELEASES))):
            where = [release for release in RELEASES if name in allowed[abi, release]]
            lines.append(f"{name} {abi} {' '.join(where)}")
    TARGET.write_text("\n".join(lines) + "\n")
    return 0


def app_calls(clone: Path, revision: str, abi: str) -> set[str]:
    """Return the names that a release allows an app on an ABI."""
    base = names(show(clone, revision, "SYSCALLS.TXT"), abi)
    allow, block = (
        set().union(
            *(
                names(show(clone, revision, f"SECCOMP_{word}_{part}.TXT"), abi)
                for word in words
                for part in ("COMMON", "APP")
            )
        )
        for words in (_ALLOW, _BLOCK)
    )
    if not allow or not block:
        sys.exit(f"error: {revision} has no lists for apps. Look for their new names")
    return (base - block) | allow


def names(text: str, abi: str) -> set[str]:
    """Return the system calls of a file's lines that are meant for an ABI."""
    found = set()
    for line in text.splitlines():
        match = _LINE.match(line.split("#")[0].strip())
        if match and {abi, "lp64", "all"} & set(match[3].split(",")):
            found.add(match[2] or match[1])
    return found


def show(clone: Path, revision: str, name: str) -> str:
    """Return a file's text, empty where the revision has no such file."""
    listed = git(clone, "ls-tree", "--name-only", revision, f"libc/{name}")
    return git(clone, "show", f"{revision}:libc/{name}") if listed else ""


def git(clone: Path, *words: str) -> str:
    """Run git in the clone."""
    command = ["git", "-C", str(clone), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
