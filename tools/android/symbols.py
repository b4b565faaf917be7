"""Compares what libtoolkit_jni.so needs of ExecuTorch with what a bionic libexecutorch.so exports.

Upstream publishes no C++ library for Android; npm react-native-executorch carries one (about
ExecuTorch 1.2) for both of the app's ABIs. That all of our imports are there shows that the app's
native side asks for nothing that an Android build of ExecuTorch lacks. It is not what the app
ships: README.md of android_app says how to build the matching version.

    python tools/android/symbols.py [build/android/native/libtoolkit_jni.so]
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/android"
ABIS = ("arm64-v8a", "x86_64")
_VLOGF = "_ZN10executorch7runtime8internal5vlogfENS0_8LogLevelEmPKcS4_mS4_"
_VLOGF_HERE, _VLOGF_ARM = f"{_VLOGF}P13__va_list_tag", f"{_VLOGF}St9__va_list"
ACCEPTED = {
    "_ZSt28__throw_bad_array_new_lengthv": "belongs to this machine's libstdc++, which "
    "libexecutorch.so happens to export; the NDK's libc++ has its own",
    _VLOGF_HERE: "the name holds the type of va_list, which is std::__va_list on arm64; "
    "the same function is there",
}
"""Names that may be missing, and why."""
_SAME_ELSEWHERE = {_VLOGF_HERE: _VLOGF_ARM}


def main() -> int:
    """Print the comparison; 1 if something is missing without a reason."""
    library = (
        Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/android/native/libtoolkit_jni.so"
    )
    imported = symbols(library, defined=False) & symbols(executorch_library(), defined=True)
    print(f"{library.name} imports {len(imported)} symbols from ExecuTorch")
    failed = False
    for abi in ABIS:
        exported = symbols(CACHE / abi / "libexecutorch.so", defined=True)
        missing = sorted(imported - exported)
        print(f"{abi}: {len(imported) - len(missing)} exported, {len(missing)} not")
        for name in missing:
            same = _SAME_ELSEWHERE.get(name)
            reason = ACCEPTED.get(name) if same is None or same in exported else None
            failed = failed or reason is None
            print(f"  {demangled(name)}\n    {reason or 'NOT EXPECTED: the app would not link'}")
    return int(failed)


def executorch_library() -> Path:
    """The library of the installed wheel, to tell ExecuTorch's symbols from others."""
    spec = importlib.util.find_spec("executorch")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("error: the executorch package is not installed")
    return Path(spec.submodule_search_locations[0]) / "lib/libexecutorch.so"


def symbols(library: Path, *, defined: bool) -> set[str]:
    """Dynamic symbols that a library defines or leaves undefined, without versions."""
    if not library.is_file():
        sys.exit(f"error: {library} is missing")
    command = ["readelf", "--dyn-syms", "-W", str(library)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in table.splitlines())
    return {
        row[7].split("@")[0]
        for row in rows
        if len(row) > 7 and row[0][:-1].isdigit() and (row[6] != "UND") == defined
    }


def demangled(name: str) -> str:
    """The C++ name."""
    return subprocess.run(
        ["c++filt", name], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
