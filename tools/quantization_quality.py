"""Perplexity of a quantized model against full precision, one row for every way to quantize it.

    .venv/bin/python tools/quantization_quality.py              # SmolLM2-135M in .cache/assets
    .venv/bin/python tools/quantization_quality.py MODEL --windows 32

The model runs in `transformers` in float32; only its weights are replaced by what the bundle's
quantized tensors stand for. Two fixed texts: chats from .cache/assets, in the model's chat format,
and Python's own documentation (pydoc_data.topics), in windows of 512 tokens.

A model that is already quantized in groups of 32 hides what a scheme costs: its values lie on 16
levels that quantizing again finds back. Rows marked "shifted" quantize with groups moved by 16
columns, so that every group straddles two of the model's own.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from toolkit.bundle.layout import Part, base_parts
from toolkit.bundle.weights import choose_schemes, quantize_part
from toolkit.choices import SCHEMES
from toolkit.quantization.packing import GROUP
from toolkit.quantization.schemes import quantize
from toolkit.sources import Source, open_source

ASSETS = Path(__file__).resolve().parents[1] / ".cache" / "assets"
WINDOW = 512

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
    print(f"{'weights':<44}{'error':>8}" + "".join(f"{name:>16}" for name in texts))
    baseline: list[float] = []
    for name, change in variants(source, parts):
        error = set_weights(model, source, parts, change)
        row = f"{name:<44}{error:>8.4f}"
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


def variants(source: Source, parts: list[Part]) -> list[tuple[str, Change]]:
    """Return every way to quantize, full precision first."""
    schemes = choose_schemes(source, parts, "auto", "auto")
    stored = ", ".join(f"{kind} {schemes[kind]}" for kind in ("linear", "embedding"))

    def as_exported(part: Part, _weight: Tensor) -> Tensor:
        quantized, _ = quantize_part(source, part, schemes[part.kind])
        return quantized.dequantize()[: part.shape[0]]

    def only(linear: bool, scheme: str, shift: int = 0) -> Change:
        return lambda part, weight: (
            requantized(weight, scheme, shift) if (part.kind == "linear") == linear else weight
        )

    rows: list[tuple[str, Change]] = [
        ("full precision", lambda _part, weight: weight),
        (f"as exported: {stored}", as_exported),
    ]
    rows += [(f"linear {scheme}", only(True, scheme)) for scheme in SCHEMES]
    rows += [(f"linear {scheme}, shifted", only(True, scheme, GROUP // 2)) for scheme in SCHEMES]
    rows += [(f"embedding and head {scheme}", only(False, scheme)) for scheme in SCHEMES]
    return rows


def requantized(weight: Tensor, scheme: str, shift: int) -> Tensor:
    """Return what a scheme makes of a weight [N, K], its groups moved by `shift` columns."""
    values = quantize(weight.roll(shift, 1), scheme).dequantize()[: len(weight)]
    return values.roll(-shift, 1)


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
