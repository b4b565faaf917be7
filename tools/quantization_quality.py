"""Perplexity of a quantized model against full precision, one row for every way to quantize it.

    .venv/bin/python tools/quantization_quality.py              # SmolLM2-135M in .cache/assets
    .venv/bin/python tools/quantization_quality.py MODEL --windows 32

The model runs in `transformers` in float32; only its weights are replaced by what quantized tensors
stand for. Two fixed texts: chats from .cache/assets, in the model's chat format, and Python's own
documentation (pydoc_data.topics), in windows of 512 tokens. Bits are those of codes, scales and
offsets for each weight that is quantized in a row, error is the norm of the error over the norm of
these weights.

Rows: the schemes of an export, for linear layers and for embedding and head; int4 with scale and
offset from each group's range alone, as against the search that an export makes; groups of other
sizes, which the bundle's format does not have.

A model that is already quantized in groups of 32 hides what a scheme costs: its values lie on 16
levels that quantizing again finds back. Its rows are therefore measured with groups moved by 16
columns, so that every group straddles two of the model's own, and marked "shifted". This still
flatters: half of a shifted group lies on one line. A model with its original weights is better.
docs/quantization.md has the table of the default model, which takes some 20 minutes.
"""

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from toolkit.bundle.layout import Part, base_parts
from toolkit.bundle.weights import choose_schemes, quantize_part
from toolkit.choices import SCHEMES
from toolkit.quantization.layout import LAYOUTS
from toolkit.quantization.packing import GROUP
from toolkit.quantization.schemes import quantize, search
from toolkit.sources import Source, open_source

ASSETS = Path(__file__).resolve().parents[1] / ".cache" / "assets"
WINDOW = 512
BITS = {
    scheme: layout.bits + (32 if layout.has_offset else 16) / GROUP
    for scheme, layout in LAYOUTS.items()
}

Change = Callable[[Part, Tensor], Tensor]
"""Returns what a weight becomes."""


def main() -> None:
    """Print the table."""
    arguments = parse_arguments()
    torch.set_grad_enabled(False)
    source = open_source(arguments.model)
    parts = [part for part in base_parts(source.config) if part.kind != "vector"]
    model = load_model(source)
    texts = load_texts(source, arguments.windows)
    print(f"{source.name}: {arguments.windows} windows of {WINDOW} tokens of each text")
    print(f"{'weights':<44}{'bits':>6}{'error':>8}" + "".join(f"{name:>16}" for name in texts))
    baseline: list[float] = []
    for name, bits, change in variants(source, parts):
        error = set_weights(model, source, parts, change)
        row = f"{name:<44}{bits:>6}{error:>8.4f}"
        for index, windows in enumerate(texts.values()):
            value = perplexity(model, windows)
            if len(baseline) <= index:
                baseline.append(value)
            row += f"{value:>9.3f} {100 * (value / baseline[index] - 1):>+5.1f}%"
        print(row, flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=str(ASSETS / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--windows", type=int, default=8, help="windows of each text")
    return parser.parse_args()


def variants(source: Source, parts: list[Part]) -> list[tuple[str, str, Change]]:
    """Return name, bits a weight and change of every way to quantize, full precision first."""
    schemes = choose_schemes(source, parts, "auto", "auto")
    stored = ", ".join(f"{kind} {schemes[kind]}" for kind in ("linear", "embedding"))
    is_quantized = any(source.can_take_over(p.source, s) for p in parts for s in SCHEMES)
    shift, note = (GROUP // 2, ", shifted") if is_quantized else (0, "")

    def as_exported(part: Part, _weight: Tensor) -> Tensor:
        quantized, _ = quantize_part(source, part, schemes[part.kind])
        return quantized.dequantize()[: part.shape[0]]

    def only(linear: bool, change: Callable[[Tensor], Tensor]) -> Change:
        return lambda part, weight: (
            change(weight.roll(shift, 1)).roll(-shift, 1)
            if (part.kind == "linear") == linear
            else weight
        )

    rows: list[tuple[str, str, Change]] = [
        ("the source's values", "", lambda _part, weight: weight),
        (f"as exported: {stored}", f"{exported_bits(source, parts, schemes):.2f}", as_exported),
    ]
    for linear, what in ((True, "linear"), (False, "embedding and head")):
        rows += [
            (
                f"{what} {scheme}{note}",
                f"{BITS[scheme]:.2f}",
                only(linear, partial(stored_as, scheme)),
            )
            for scheme in SCHEMES
        ]
    widths = [part.shape[1] for part in parts if part.kind == "linear"]
    for size in (size for size in (16, 32, 64, 128) if not any(k % size for k in widths)):
        for searched in (False, True):
            how = "search" if searched else "range alone"
            change = partial(in_groups, size, searched)
            bits = f"{4 + 32 / size:.2f}"
            rows.append((f"linear int4, groups of {size}, {how}{note}", bits, only(True, change)))
    return rows


def exported_bits(source: Source, parts: list[Part], schemes: dict[str, str]) -> float:
    """Return the mean bits of a weight in a bundle, tensors that share a scheme being as large."""
    sizes = [math.prod(part.shape) for part in parts]
    bits = sum(n * BITS[schemes[part.kind]] for n, part in zip(sizes, parts, strict=True))
    return bits / sum(sizes)


def stored_as(scheme: str, weight: Tensor) -> Tensor:
    """Return what a scheme makes of a weight [N, K]."""
    return quantize(weight, scheme).dequantize()[: len(weight)]


def in_groups(size: int, searched: bool, weight: Tensor) -> Tensor:
    """Return what int4 makes of a weight [N, K] with groups of another size."""
    groups = weight.unflatten(1, (-1, size))
    low, high = groups.amin(-1, True), groups.amax(-1, True)
    scale, offset = ((high - low) / 15).half().float(), low.half().float()
    if searched:
        scale, offset = search(groups, (high - low) / 15, low, (0, 15))
    codes = ((groups - offset) / scale).nan_to_num_(0).round_().clamp_(0, 15)
    return (codes * scale + offset).flatten(1)


def load_model(source: Source) -> torch.nn.Module:
    """Return the model with the source's values in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(source.config, attn_implementation="sdpa").eval()
    for name, parameter in model.named_parameters():
        parameter.copy_(source.read(name))
    return model


def set_weights(model: torch.nn.Module, source: Source, parts: list[Part], change: Change) -> float:
    """Replace all quantizable weights; return the relative error over all of them."""
    parameters = dict(model.named_parameters())
    error = norm = 0.0
    for part in parts:
        weight = source.read(part.source)
        changed = change(part, weight)
        parameters[part.source].copy_(changed)
        error += (changed - weight).double().square().sum().item()
        norm += weight.double().square().sum().item()
    return math.sqrt(error / norm)


def perplexity(model: torch.nn.Module, windows: Tensor) -> float:
    """Return the exponential of the mean loss over all tokens but the first of every window."""
    losses = [model(window[None], labels=window[None]).loss.item() for window in windows]
    return math.exp(sum(losses) / len(losses))


def load_texts(source: Source, count: int) -> dict[str, Tensor]:
    """Return `count` windows of tokens, int64 [count, 512], of every text."""
    import pydoc_data.topics
    import tempfile

    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        source.save_tokenizer(Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    topics = pydoc_data.topics.topics
    texts = {"documentation": "\n\n".join(topics[name] for name in sorted(topics))}
    chats = ASSETS / "chats.jsonl"
    if chats.exists():
        messages = [json.loads(line)["messages"] for line in chats.read_text().splitlines()[:4000]]
        texts["chats"] = "".join(
            tokenizer.apply_chat_template(chat, tokenize=False) for chat in messages
        )
    windows = {}
    for name, text in texts.items():
        tokens = tokenizer(text[: 10 * WINDOW * count], return_tensors="pt").input_ids[0]
        if len(tokens) < count * WINDOW:
            raise SystemExit(f"the text '{name}' has only {len(tokens)} tokens")
        windows[name] = tokens[: count * WINDOW].reshape(count, WINDOW)
    return windows


if __name__ == "__main__":
    main()
