"""Makes the model that the app brings along: android_app/app/src/main/assets/sample.zip.

A Llama of 0.7 million weights, trained here from nothing on the six novels of Jane Austen (1811
to 1818, in the public domain; the text is that of Project Gutenberg as the Debian package
r-cran-janeaustenr has it), exported as any model is. Then it learns assets/sample.txt, which was
written for this app, with the settings of the app's first run, and what came of it is printed:
the loss on held-out text and what it writes before and after. Ends with 1 where the loss falls by
less than a tenth or nothing it writes changes.

    python tools/android/make_sample.py [--steps 3000]        # a quarter of an hour
    python tools/android/make_sample.py --measure             # only what the committed one does

What is made differs in its last bits from machine to machine, so the one in the app is committed.
It was ended after 2,500 of 3,000 steps of 12 sequences, at a held-out loss of 3.07 nats a piece.
"""

import argparse
import gzip
import hashlib
import json
import math
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from toolkit.api.generating import generate
from toolkit.api.making import export
from toolkit.api.preparing import prepare_data
from toolkit.bundle.archive import write_archive
from toolkit.bundle.bundle import Bundle
from toolkit.runtime import native_directory
from toolkit.settings.generation import ReplySettings

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "android_app/app/src/main/assets"
CACHE = ROOT / ".cache/android/sample"
WORK = ROOT / "build/android/sample"
PACKAGE, SHA256 = (
    "r-cran-janeaustenr=1.0.0-1",
    "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
)
NAME = "sample"  # of the bundle
LARGEST = 3_000_000
PIECES, LENGTH, BATCH = 1024, 96, 12
RATE, WARM_UP, DECAY = 4e-3, 200, 0.1
SEQUENCE = 48
PROMPT = "Monday. The garden"
SETTINGS = {
    "steps": 160,
    "lr": 5e-3,
    "optimizer": "adamw",
    "grad-accum": 4,
    "schedule": "cosine",
    "warmup-steps": 8,
    "max-grad-norm": 1.0,
    "eval-every": 20,
    "keep": "best",
}
"""Of the first run, as store/Sample.kt has them; tools/android/check_first_run.py compares."""
LEAST = 0.1  # by which the loss falls
STRING, STRINGS = 0x00040009, 16  # R's type words


def main() -> int:
    """Make what is asked for; 1 if the sample does not show what it is for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--measure", action="store_true", help="leave the model as it is")
    options = parser.parse_args()
    torch.manual_seed(0)
    if not options.measure:
        paragraphs = novels()
        tokenizer = make_tokenizer(paragraphs)
        train(tokenizer, paragraphs, options.steps)
        pack()
    return measure()


def novels() -> list[str]:
    """Return the paragraphs of all novels, headings left out."""
    package = CACHE / "janeaustenr.deb"
    if not package.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "download", "-q", PACKAGE], cwd=folder, check=True)
            shutil.move(next(Path(folder).glob("*.deb")), package)
    if hashlib.sha256(package.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"error: {package} is not the package this was written for. Delete it")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        data = next(Path(folder).glob("usr/lib/R/site-library/janeaustenr/data"))
        index = gzip.decompress((data / "Rdata.rdx").read_bytes())
        packed = (data / "Rdata.rdb").read_bytes()
    places = re.findall(rb"\x00\x00\x00\x0d\x00\x00\x00\x02(.{8})", index, re.DOTALL)
    books = []
    for place in places:
        offset, size = struct.unpack(">II", place)
        # Four bytes say how long it becomes.
        books.append(strings(zlib.decompress(packed[offset + 4 : offset + size])))
    text = "\n\n\n".join("\n".join(book) for book in books).replace("_", "")
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return [part for part in found if part.endswith((".", "!", "?", '"')) and len(part) > 40]


def strings(serialized: bytes) -> list[str]:
    """Return the one vector of strings in what R serialized."""
    begin = re.search(rb"\x00\x00\x00\x10(.{4})\x00\x04\x00\x09", serialized, re.DOTALL)
    if begin is None:
        sys.exit("error: the package holds no text")
    at, lines = begin.start() + 8, []
    for _ in range(struct.unpack(">I", begin[1])[0]):
        kind, size = struct.unpack_from(">II", serialized, at)
        if kind & 0xFF != STRING & 0xFF:
            sys.exit("error: the package's text is not as this was written for")
        lines.append(serialized[at + 8 : at + 8 + size].decode())
        at += 8 + size
    return lines


def make_tokenizer(paragraphs: list[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of the novels."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)


def train(tokenizer: PreTrainedTokenizerFast, paragraphs: list[str], steps: int) -> None:
    """Train the model and write it below build/android/sample; a fiftieth is held out."""
    lines = tokenizer("\n\n".join(paragraphs))["input_ids"]
    tokens = torch.tensor(lines)
    held = tokens[-len(tokens) // 50 :]
    tokens = tokens[: -len(tokens) // 50]
    config = LlamaConfig(
        vocab_size=PIECES,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rope_theta=10000.0,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    print(f"{len(tokens):,} tokens, {model.num_parameters():,} weights", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), RATE, (0.9, 0.95), weight_decay=DECAY, fused=True
    )
    generator = torch.Generator().manual_seed(0)
    began = time.monotonic()
    for step in range(1, steps + 1):
        share = (step - WARM_UP) / max(1, steps - WARM_UP)
        rate = RATE * (
            step / WARM_UP if step < WARM_UP else 0.05 + 0.475 * (1 + math.cos(math.pi * share))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = batch(tokens, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 200 == 0:
            model.eval()
            with torch.no_grad():
                rows = held[: len(held) // LENGTH * LENGTH].view(-1, LENGTH)[:64]
                seen = float(model(input_ids=rows, labels=rows).loss)
            model.train()
            seconds = time.monotonic() - began
            print(f"step {step}: {loss:.3f}, held out {seen:.3f}, {seconds:.0f} s", flush=True)
            model.save_pretrained(WORK / "little-austen")
            tokenizer.save_pretrained(WORK / "little-austen")


def batch(tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return rows from random places."""
    starts = torch.randint(len(tokens) - LENGTH, (BATCH, 1), generator=generator)
    return tokens[starts + torch.arange(LENGTH)]


def pack() -> None:
    """Write the model's bundle as one file into the app's assets."""
    export(WORK / "little-austen", WORK / NAME, seq_lens=[SEQUENCE], quantization="int8", rank=8)
    write_archive(Bundle.open(WORK / NAME), ASSETS / f"{NAME}.zip")


def measure() -> int:
    """Train the committed model on the committed text; 1 if it does not show what it is for."""
    archive = ASSETS / f"{NAME}.zip"
    if archive.stat().st_size > LARGEST:
        sys.exit(f"error: {archive} has {archive.stat().st_size} bytes, more than {LARGEST}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(place)
        text = [ASSETS / f"{NAME}.txt"]
        data = prepare_data(text, bundle=place / NAME, output=place / "data", loss="all")
        seconds = learn(place, data.path)
        losses = [
            record["loss"]
            for record in map(json.loads, (place / "run/trace.jsonl").read_text().splitlines())
            if record["type"] == "evaluation"
        ]
        best = next((place / "run/best").iterdir())
        shutil.copy(place / "run/adapter_config.json", best)
        settings = ReplySettings(max_tokens=60)
        found = generate(
            *(place / NAME, PROMPT, settings), compare=True, adapter=best, plain=True, threads=1
        )
        after, before = (reply.text for reply in found)
    fall = 1 - min(losses) / losses[0]
    print(f"{archive.name}: {archive.stat().st_size:,} bytes, {seconds:.0f} s of training")
    print(f"loss on held-out text {losses[0]:.3f} to {min(losses):.3f}, {fall:.0%} less")
    print(f"before: {PROMPT}{before}\nafter:  {PROMPT}{after}")
    if fall < LEAST or after == before:
        print("error: the sample does not show what it is for", file=sys.stderr)
        return 1
    return 0


def learn(place: Path, data: Path) -> float:
    """Run the command line's trainer with the settings of a first run; return its seconds."""
    options = {
        **{f"--{name}": value for name, value in SETTINGS.items()},
        "--bundle": place / NAME,
        "--data": data / "train.ptd",
        "--eval-data": data / "validation.ptd",
        "--out": place / "run",
        "--threads": 1,
    }
    words = [str(word) for pair in options.items() for word in pair]
    began = time.monotonic()
    subprocess.run(
        [native_directory("trainer") / "trainer", "train", *words],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
