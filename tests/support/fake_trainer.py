"""A stand-in for the trainer: a shell script with its command line, run files and trace, that
trains nothing.

It takes the options that the trainer describes, and refuses others as the trainer does.
What it does is steered by the learning rate: 1 fails at once, 2 dies in step 3, 3 is killed in step
3. An evaluation never ends.
"""

import json
import struct
import subprocess
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from toolkit import BUNDLE_FORMAT_VERSION
from toolkit.bundle.manifest import REQUIRED_FILES, write_manifest
from toolkit.data.fingerprint import DATA_FORMAT_VERSION
from toolkit.files import sha256_file
from toolkit.runtime import native_directory
from toolkit.sealed_json import seal

_SCRIPT = r"""#!/bin/sh
if [ "$1" = info ]; then
    echo '{"version": "VERSION", "format_version": FORMAT, "abi": "x86_64", "isa": "plain"}'
    exit 0
fi
if [ "$1" = evaluate ]; then
    echo '{"type": "progress", "samples": 1, "total": 9}'
    sleep 600
    exit 0
fi
shift
echo "$*"
resume=
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift ;;
        --steps) steps=$2; shift ;;
        --lr) lr=$2; shift ;;
        --resume) resume=1 ;;
        --bundle | --data | --eval-data | --adapter) [ -e "$2" ] || exit 9; shift ;;
        OPTIONS) shift ;;
        *) echo "error: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
if [ "$lr" = 1.0 ]; then
    echo "error: the bundle is for sequences of 16. Make data of that length" >&2
    exit 1
fi
step=0
[ -n "$resume" ] && step=$(cat "$out/state.bin" 2>/dev/null || echo 0)
echo "{\"type\":\"run\",\"version\":1,\"settings\":{\"steps\":$steps}}" >>"$out/trace.jsonl"
status=completed
while [ $step -lt $steps ]; do
    step=$((step + 1))
    if [ $step = 3 ]; then
        [ "$lr" = 2.0 ] && { echo "error: storage is full. Free some space" >&2; exit 1; }
        [ "$lr" = 3.0 ] && kill -9 $$
    fi
    sleep PAUSE
    printf '{"type":"step","step":%d,"seconds":0.5,"loss":%d.25,"tokens":100,"peak":2000}\n' \
        $step $((9 - step)) >>"$out/trace.jsonl"
    if [ -e "$out/stop" ] && [ $step -lt $steps ]; then
        status=stopped
        break
    fi
done
echo $step >"$out/state.bin"
printf 'ADAPTER' >"$out/adapter_model.safetensors"
printf '{"type":"end","status":"%s","steps":%d,"peak":2000,"seconds":1.5}\n' \
    $status $step >>"$out/trace.jsonl"
"""


def _adapter() -> bytes:
    header = b'{"__metadata__":{"toolkit_crc32":"00000000"}}'
    data = struct.pack("<Q", len(header)) + header
    return data.replace(b"0" * 8, b"%08x" % zlib.crc32(data))


ADAPTER = _adapter()
"""The adapter that the stand-in leaves: of no tensors, with its checksum."""


@cache
def trainer_options() -> dict[str, Any]:
    """Return the options of `train` with their defaults by the trainer's own description."""
    command = [native_directory("trainer") / "trainer", "describe", "--json"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = json.loads(text)["options"]
    return {row["name"]: row["default"] for row in rows if "train" in row["commands"]}


def write_fake_runtime(folder: Path, *, version: str, pause: float = 0.05) -> Path:
    """Write a runtime folder with the stand-in; `pause` is the seconds a step takes."""
    folder.mkdir(parents=True)
    trainer = folder / "trainer"
    values = {"VERSION": version, "FORMAT": str(BUNDLE_FORMAT_VERSION), "PAUSE": str(pause)}
    values["ADAPTER"] = "".join(f"\\{byte:03o}" for byte in ADAPTER)
    values["OPTIONS"] = " | ".join(f"--{name}" for name in sorted(trainer_options()))
    script = _SCRIPT
    for name, value in values.items():
        script = script.replace(name, value)
    trainer.write_text(script)
    trainer.chmod(0o755)
    return folder


def write_fake_bundle(
    folder: Path, *, content: bytes = b"", sequences: int | None = None
) -> tuple[Path, Path]:
    """Write a bundle and a data folder that deploy takes for such, their digests right.

    Args:
        content: Changes both.
        sequences: What data.json says there are to train on.
    """
    bundle, data = folder / "bundle", folder / "data"
    bundle.mkdir(parents=True)
    data.mkdir()
    (bundle / "base.ptd").write_bytes(bytes(range(256)) * 1000 + content)
    (data / "train.ptd").write_bytes(b"tokens" + content)
    write_digests(bundle / "manifest.json", {"tokenizer": None})
    facts = {} if sequences is None else {"train": {"sequences": sequences}}
    write_digests(data / "data.json", {"version": DATA_FORMAT_VERSION, **facts})
    return bundle, data


def write_whole_bundle(bundle: Path) -> Path:
    """Write a bundle whose manifest is whole, so that it opens; its files hold nothing."""
    bundle.mkdir(parents=True)
    for name in REQUIRED_FILES:
        (bundle / name).write_bytes(name.encode())
    objects = ("model", "shape", "blocks", "lora", "quantization", "base", "methods")
    content = {"family": "llama", "seq_lens": [16], "lowering": "mesp", "tokenizer": None}
    write_manifest(bundle, {**content, **{name: {} for name in objects}})
    return bundle


def write_digests(manifest: Path, content: dict) -> None:
    """Write manifest.json or data.json with the digests of the files beside it."""
    files = {
        path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(manifest.parent.iterdir())
        if path != manifest
    }
    manifest.write_text(json.dumps(seal({**content, "files": files})))
