"""Replies beside llama.cpp's on the same weights, in turns: prompt and decoded tokens a second.

Also the bytes of weights that a decoded token reads, beside what copying moves through memory
(behind a prompt of 16 tokens; behind longer ones a token reads as many bytes of the cache as well,
so there both count); the time to the first token beside that of its products alone; and the memory
of a long reply. llama.cpp (tools/fetch_llama_cpp.py) is called in this process by its own library,
with the settings that it has by default; it rounds activations to 8 bits. The shape of Qwen2.5-0.5B
has random weights, so there llama.cpp is left out.
"""

import ctypes
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from tests.support import llama_cpp
from tests.support.generation import Replier
from toolkit.quantization.schemes import quantize
from toolkit.recipes import get_recipe
from toolkit.runtime import operators_library
from tools import fetch_llama_cpp
from tools.bench import harness
from tools.bench.gemm import SHAPES
from tools.fetch_demo_assets import MODEL

MEMORY_MODEL = "qwen2.5-0.5b"
SHORT = 16
PROMPTS = (256, 512)
DECODED = 64
LONG = 1000
# What is told of a ratio to llama.cpp or to copying: its name, at least; then at best.
RATIOS = {
    **{f"ratio prompt {tokens}": (1.5, 2.5) for tokens in PROMPTS},
    "ratio decode": (1.0, 1.5),
    "share of copy": (0.7, 0.85),
}
# Time to the first token behind `PROMPTS[0]` tokens of that shape, of the time of its products.
FIRST = (1.2, 1.1)
# Anonymous memory of a reply of `LONG` tokens of Qwen2.5-0.5B, cache included, adapter not.
MEMORY_MB = (40.0, 34.0)


def main() -> int:
    """Measure, print tables and JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("--turns", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--only", choices=["speed", "first", "memory"])
    options = parser.parse_args()
    machine = harness.Machine()
    results: dict[str, Any] = {}
    bars = []
    if options.only in (None, "speed"):
        found = results["speed"] = speed(options.threads, options.turns)
        for name, limits in RATIOS.items():
            if name in found:
                bars.append(harness.Bar(name, found[name], *limits, at_least=True))
    if options.only in (None, "first"):
        ratio = results["first"] = first_token(options.threads, options.turns)
        bars.append(harness.Bar("first token / its products", ratio, *FIRST))
    if options.only in (None, "memory"):
        results["memory"] = memory(options.threads)
        anonymous = results["memory"]["anonymous_mb"]
        bars.append(harness.Bar(f"{LONG} tokens: anonymous MB", anonymous, *MEMORY_MB))
        name, limits = f"share of copy, {MEMORY_MODEL}", RATIOS["share of copy"]
        share = results["memory"]["share_of_copy"]
        bars.append(harness.Bar(name, share, *limits, at_least=True))
    return harness.finish(options, machine, results, bars)


def speed(threads: int, turns: int) -> dict[str, Any]:
    """Return medians of tokens a second of both, on SmolLM2-135M."""
    made = harness.case(harness.REAL_WEIGHTS)
    found: dict[str, list[float]] = {}
    theirs = Llama(MODEL, threads) if has_llama() else None
    draw = np.random.default_rng(0)
    with Replier(made.bundle, threads=threads, adapter="none", max_tokens=DECODED) as ours:
        for _ in range(turns):
            for tokens in (SHORT, *PROMPTS):
                prompt = draw.integers(0, 40000, tokens).tolist()
                _, report = ours.reply(prompt)
                assert report["reused_tokens"] == 0, report
                note(found, f"ours prompt {tokens}", tokens / report["prompt_seconds"])
                rate = (report["tokens"] - 1) / report["seconds"]
                row = report["cache_bytes"] / (tokens + report["tokens"] - 1)
                read = made.base_bytes + row * (tokens + report["tokens"] / 2)
                note(found, f"ours read behind {tokens} GB/s", rate * read / 1e9)
                if tokens == SHORT:
                    note(found, "weights GB/s", rate * made.base_bytes / 1e9)
                    continue
                note(found, "ours decode", rate)
                if theirs is None:
                    continue
                prompt_rate, decode_rate = theirs.reply(prompt, DECODED)
                note(found, f"llama.cpp prompt {tokens}", prompt_rate)
                note(found, "llama.cpp decode", decode_rate)
            note(found, "copy GB/s", copy_bandwidth(threads) / 1e9)
    medians = {name: statistics.median(values) for name, values in found.items()}
    if theirs is not None:
        for what in (*(f"prompt {tokens}" for tokens in PROMPTS), "decode"):
            medians[f"ratio {what}"] = medians[f"ours {what}"] / medians[f"llama.cpp {what}"]
    medians["share of copy"] = medians["weights GB/s"] / medians["copy GB/s"]
    harness.print_table("tokens a second", ("", "median"), list(medians.items()))
    return medians


def has_llama() -> bool:
    """Fetch llama.cpp; tell whether it is there, which it is not for every machine."""
    if fetch_llama_cpp.main() != 0:
        raise SystemExit(1)
    return fetch_llama_cpp.complete()


def memory(threads: int) -> dict[str, float]:
    """Return what a long reply of the shape of Qwen2.5-0.5B takes, in MB."""
    made = harness.case(MEMORY_MODEL)
    with Replier(made.bundle, threads=threads, adapter="none", max_tokens=LONG - 16) as ours:
        _, report = ours.reply(list(range(16)))
    sizes = {name: report[f"{name}_kib"] * 1024 / 1e6 for name in ("anonymous", "file", "peak")}
    found = {f"{name}_mb": size for name, size in sizes.items()}
    found["cache_mb"] = report["cache_bytes"] / 1e6
    found["tokens_per_second"] = (report["tokens"] - 1) / report["seconds"]
    found["share_of_copy"] = found["tokens_per_second"] * made.base_bytes / copy_bandwidth(threads)
    harness.print_table(f"{LONG} tokens of {MEMORY_MODEL}", ("", ""), list(found.items()))
    return found


def note(found: dict[str, list[float]], name: str, value: float) -> None:
    """Add a value to those of a name."""
    found.setdefault(name, []).append(value)


def copy_bandwidth(threads: int) -> float:
    """Return bytes read and written a second while memory is copied, the best of some times."""
    size = 128 << 20
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]

    def copy(source: np.ndarray, target: np.ndarray) -> None:
        np.copyto(target, source)

    def once() -> float:
        workers = [threading.Thread(target=copy, args=pair) for pair in pairs]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - begin

    return 2 * size * threads / min(once() for _ in range(5))


def first_token(threads: int, turns: int) -> float:
    """Return the time to the first token of a warm model beside that of the products it takes."""
    tokens = PROMPTS[0]
    made = harness.case(MEMORY_MODEL)
    draw = np.random.default_rng(1)
    products = Products(MEMORY_MODEL, tokens, threads)
    seconds: list[float] = []
    alone: list[float] = []
    with Replier(made.bundle, threads=threads, adapter="none", max_tokens=1) as ours:
        for turn in range(turns + 1):
            _, report = ours.reply(draw.integers(0, 40000, tokens).tolist())
            assert report["reused_tokens"] == 0, report
            spent = products.seconds()
            if turn > 0:
                seconds.append(report["prompt_seconds"])
                alone.append(spent)
    ratio = statistics.median(a / b for a, b in zip(seconds, alone, strict=True))
    rows = [("first token, s", statistics.median(seconds))]
    rows += [("its products, s", statistics.median(alone)), ("ratio", ratio)]
    harness.print_table(f"{tokens} tokens of {MEMORY_MODEL}", ("", ""), rows)
    return ratio


class Products:
    """The products with weights of a prompt, and with the head's of its last token."""

    def __init__(self, model: str, tokens: int, threads: int) -> None:
        self._library = ctypes.CDLL(str(operators_library()))
        self._library.toolkit_set_threads(threads)
        config = get_recipe(model).model_config()
        attention, keys, up, down = SHAPES[model]
        # q and o, k and v, gate and up; weights of their own, as a model's are.
        shapes = [attention, keys, keys, attention, up, up, down] * config.num_hidden_layers
        made = {shape: quantize(torch.randn(*reversed(shape)), "int4") for shape in set(shapes)}
        self._calls = [(tokens, made[shape], made[shape].codes.clone()) for shape in shapes]
        head = quantize(torch.randn(config.vocab_size, config.hidden_size), "int8")
        self._calls.append((1, head, head.codes))
        widest = max(tokens * up[1], config.vocab_size)
        self._x, self._y = torch.randn(widest), torch.empty(widest)

    def seconds(self) -> float:
        """Return the time that they take, one after the other."""
        begin = time.perf_counter()
        for tokens, weight, codes in self._calls:
            offset = None if weight.offset is None else weight.offset.data_ptr()
            self._library.toolkit_multiply(
                ctypes.c_void_p(self._x.data_ptr()),
                ctypes.c_int64(tokens),
                *map(ctypes.c_void_p, (codes.data_ptr(), weight.scale.data_ptr(), offset)),
                *map(ctypes.c_int64, weight.shape),
                *(weight.bits, 0),
                ctypes.c_void_p(self._y.data_ptr()),
            )
        return time.perf_counter() - begin


class Llama:
    """A model in llama.cpp with a context of its own defaults."""

    def __init__(self, model: Path, threads: int) -> None:
        self._library = library = llama_cpp.load_library()
        self._model = library.llama_model_load_from_file(
            str(model).encode(), library.llama_model_default_params()
        )
        self._threads = threads
        library.llama_set_n_threads.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]

    def reply(self, prompt: list[int], count: int) -> tuple[float, float]:
        """Return tokens a second of a prompt, and of decoding some tokens behind it."""
        library = self._library
        settings = library.llama_context_default_params()
        settings.words[llama_cpp.CONTEXT] = len(prompt) + count
        context = library.llama_init_from_model(self._model, settings)
        library.llama_set_n_threads(context, self._threads, self._threads)
        try:
            begin = time.perf_counter()
            self._decode(context, prompt, 0)
            middle = time.perf_counter()
            for place in range(count):
                self._decode(context, [prompt[place]], len(prompt) + place)
            end = time.perf_counter()
        finally:
            library.llama_free(context)
        return len(prompt) / (middle - begin), count / (end - middle)

    def _decode(self, context: int, tokens: list[int], first: int) -> None:
        library = self._library
        batch = library.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        integers = ctypes.POINTER(ctypes.c_int32)
        token, position = (ctypes.cast(p, integers) for p in (batch.token, batch.pos))
        count = ctypes.cast(batch.n_seq_id, integers)
        sequence = ctypes.cast(batch.seq_id, ctypes.POINTER(integers))
        wanted = ctypes.cast(batch.logits, ctypes.POINTER(ctypes.c_int8))
        for i, value in enumerate(tokens):
            token[i], position[i], count[i] = int(value), first + i, 1
            sequence[i][0], wanted[i] = 0, int(i + 1 == len(tokens))
        try:
            assert library.llama_decode(context, batch) == 0
            library.llama_get_logits(context)[0]  # waits for what is computed
        finally:
            library.llama_batch_free(batch)


if __name__ == "__main__":
    sys.exit(main())
