"""The commands that carry a plan out: each runs as it is printed, on this machine."""

import re
import shlex
from dataclasses import replace

from toolkit.lora import PROJECTIONS
from toolkit.planning.model import Model
from toolkit.planning.settings import EXPORTED, Settings
from toolkit.settings.methods import METHOD_OPTIONS
from toolkit.settings.optimizers import OPTIMIZERS, OPTIONS
from toolkit.settings.training import SETTINGS

TEXT = "chats.jsonl"
"""Stands for the user's own file."""
_RANDOM_ROWS = 64
_ALWAYS = ("optimizer", "checkpoints")
"""Settings that are named even if they are the default: a plan is about them."""


def commands(model: Model, settings: Settings, device: str | None) -> list[str]:
    """Return the commands from the model to the run; a bundle that will do is not made again.

    Without a device they are for this machine. Two words are the user's to fill in: the text to
    learn, `chats.jsonl`, and MODEL where a bundle's model is not known any more.
    """
    where = [] if device is None else ["--device", device]
    lines = []
    if _serves(model, settings):
        bundle = str(model.bundle)
    else:
        bundle = _folder(model, settings)
        lines.append(_export(model, settings, bundle))
    data = f"{bundle.rstrip('/')}-data"
    lines.append(_data(model, settings, bundle, data))
    lines.append(["toolkit", "deploy", bundle, "--data", data, *where])
    lines.append(_train(settings, where))
    return [shlex.join(map(str, words)) for words in lines]


def _serves(model: Model, settings: Settings) -> bool:
    """Whether the model is a bundle with the programs that the settings need."""
    wanted = replace(settings, seq_len=model.settings.seq_len)
    return (
        model.bundle is not None
        and {settings.seq_len, settings.row_tokens} <= set(model.seq_lens)
        and all(
            getattr(wanted, name) == getattr(model.settings, name)
            for name in EXPORTED
            if name not in ("targets", "layers")
        )
        and _same_modules(model, wanted)
    )


def _same_modules(model: Model, wanted: Settings) -> bool:
    """Whether targets and layers, which can be written in several ways, are a bundle's own."""
    own = model.settings
    if (own.targets, own.layers) == (wanted.targets, wanted.layers):
        return True
    from toolkit.families import family_of

    family = family_of(model.config)
    mine, asked = (family.resolve(model.config, settings.lora) for settings in (own, wanted))
    return (set(mine.targets), mine.layers) == (set(asked.targets), asked.layers)


def _export(model: Model, settings: Settings, folder: str) -> list[object]:
    words: list[object] = ["toolkit", "export", *(model.export or ("MODEL",)), "-o", folder]
    for length in sorted({settings.seq_len, settings.row_tokens}):
        words += ["--seq-len", length]
    words += ["--rank", settings.rank]
    words += ["--alpha", f"{settings.alpha:g}", "--lowering", settings.lowering]
    if settings.targets != PROJECTIONS:
        words += ["--targets", ",".join(settings.targets)]
    if settings.rslora:
        words.append("--rslora")
    for name, rank in settings.rank_pattern:
        words += ["--rank-pattern", f"{name}={rank}"]
    for name, alpha in settings.alpha_pattern:
        words += ["--alpha-pattern", f"{name}={alpha:g}"]
    if settings.layers:
        words += ["--layers", settings.layers]
    return [
        *words,
        *("--quantization", settings.linear),
        *("--embedding-quantization", settings.embedding),
    ]


def _data(model: Model, settings: Settings, bundle: str, folder: str) -> list[object]:
    text = [TEXT] if model.has_tokenizer and not _is_random(model) else ["--random", _RANDOM_ROWS]
    length = ["--seq-len", settings.seq_len]
    return ["toolkit", "data", *text, "--bundle", bundle, *length, "-o", folder]


def _is_random(model: Model) -> bool:
    return model.export is not None and model.export[0] == "--random-weights"


def _train(settings: Settings, where: list[str]) -> list[object]:
    words: list[object] = ["toolkit", "train", *where, "--steps", 100]
    others = set(OPTIONS) - OPTIMIZERS[settings.optimizer].options.keys()
    others |= set(METHOD_OPTIONS) - settings.how.options.keys()
    if settings.how.updates:
        others.add("optimizer")
    for known in SETTINGS:
        value = getattr(settings, known.name, None)
        if not known.plan or known.flag in others:
            continue
        if known.name in _ALWAYS or value != (known.default or 0):
            words += [f"--{known.flag}", f"{value:g}" if isinstance(value, float) else value]
    if settings.rows > 1:
        words += ["--grad-accum", settings.rows]
    return [*words, "--out", "run1"]


def _folder(model: Model, settings: Settings) -> str:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", model.name.rpartition("/")[2]).strip("-.").lower()
    return f"{name or 'bundle'}-{settings.lowering}-{settings.seq_len}"
