"""Has the APK's own files do the first run that the app's test did, and compares what came of it.

For x86-64 and, under qemu, for arm64: the engine and the sample model as they lie in the APK, the
loader started as the app starts it, from the sample's text to the last step. The x86-64 adapter
is the one of the app and of the command line bit by bit, the arm64 one that of the engine that
`toolkit train --device` sends to phones. FirstRunTest left data and run in build/android/results.

    python tools/android/check_first_run.py [--abi arm64-v8a] [--steps 3]   # of arm64, else all
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from toolkit.device import runtime_build  # noqa: E402
from toolkit.runtime import native_directory  # noqa: E402

APK = ROOT / "build/android/toolkit-trainer-debug.apk"
RESULT = ROOT / "build/android/results/first-run"
ADAPTER = "adapter_model.safetensors"
SHOWN_STEPS = 20
LOADERS = {"arm64-v8a": "libld-aarch64.1.so", "x86_64": "libld-x86-64.2.so"}


def main() -> int:
    """Print what was compared; 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, help="steps of the arm64 engine, which qemu slows")
    parser.add_argument("--abi", choices=sorted(LOADERS), help="only this one")
    chosen = parser.parse_args()
    if not (RESULT / "run" / ADAPTER).is_file():
        sys.exit(f"error: {RESULT} has no adapter: FirstRunTest writes it")
    settings = json.loads((RESULT / "run/run.json").read_text())["settings"]
    with tempfile.TemporaryDirectory() as folder:
        apk = Path(folder) / "apk"
        with zipfile.ZipFile(APK) as archive:
            archive.extractall(apk)
        with zipfile.ZipFile(apk / "assets/sample.zip") as archive:
            archive.extractall(apk)
        if chosen.abi != "arm64-v8a":
            check_x86_64(apk, settings)
        if chosen.abi != "x86_64":
            check_arm64(apk, {**settings, **({"steps": chosen.steps} if chosen.steps else {})})
    return 0


def check_x86_64(apk: Path, settings: dict[str, object]) -> None:
    """Compare the packed engine, the command line's and the app that FirstRunTest was."""
    app = (RESULT / "run" / ADAPTER).read_bytes()
    command = trained([native_directory("trainer") / "trainer"], apk, settings, "command")
    same(command, app, "the app's and the command line's")
    same(trained(engine(apk, "x86_64"), apk, settings, "x86_64"), app, "x86_64's")


def check_arm64(apk: Path, settings: dict[str, object]) -> None:
    """Compare the packed engine with the one as it was built, both under qemu."""
    if shutil.which("qemu-aarch64") is None:
        if os.environ.get("CI") == "true":
            sys.exit("error: qemu-aarch64 is missing")
        print("no qemu-aarch64: the arm64 engine is left out")
        return
    built = runtime_build.build("arm64-v8a")
    loader = next(built.glob("ld-linux-*"))
    own = [loader, "--library-path", built, built / "trainer"]
    starts = {"built": own, "packed": engine(apk, "arm64-v8a")}
    with ThreadPoolExecutor() as pool:
        wanted, packed = pool.map(
            lambda name: trained(["qemu-aarch64", *starts[name]], apk, settings, name), starts
        )
    same(packed, wanted, f"arm64's over {settings['steps']} steps")


def engine(apk: Path, abi: str) -> list[object]:
    """Return how the app starts its engine."""
    folder = apk / "lib" / abi
    for file in folder.iterdir():
        file.chmod(0o755)  # as the installer unpacks them
    return [folder / LOADERS[abi], "--library-path", folder, folder / "libtrainer.so"]


def trained(start: list[object], apk: Path, settings: dict[str, object], name: str) -> bytes:
    """Train as the app does, line by line, and return the adapter of the last step."""
    options = {
        **settings,
        "bundle": apk / "sample",
        "data": RESULT / "data/train.ptd",
        "eval-data": RESULT / "data/validation.ptd",
        "out": apk / name,
        "threads": 1,
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [*map(str, start), "train", "--driven"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={},
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("".join(f"option {key} {value}\n" for key, value in options.items()))
    answer: list[str] = []
    while not answer or (answer[0] == "progress" and answer[9] == "1"):
        if answer and int(answer[1]) % SHOWN_STEPS == 0:
            print(f"{name}: step {answer[1]} after {time.monotonic() - began:.0f} s", flush=True)
        process.stdin.write("step\n" if answer else "open\n")
        process.stdin.flush()
        answer = process.stdout.readline().split()
    # It ends by itself; without an input it would think that the app is gone.
    if process.wait(60) or answer[:2] != ["progress", str(settings["steps"])]:
        sys.exit(f"error: {name} ended with {' '.join(answer)}")
    print(f"{name}: {answer[1]} steps in {time.monotonic() - began:.1f} s")
    return (apk / name / ADAPTER).read_bytes()


def same(one: bytes, two: bytes, what: str) -> None:
    """Exit unless two adapters are equal."""
    if one != two:
        sys.exit(f"error: {what} adapter of the first run differs")
    print(f"{what} adapter: the same bits")


if __name__ == "__main__":
    sys.exit(main())
