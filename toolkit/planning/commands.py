"""The commands that carry a plan out, to be copied."""

import re
import shlex

from toolkit.planning.model import Model
from toolkit.planning.settings import Settings
from toolkit.recipes import PROJECTIONS


def commands(model: Model, settings: Settings, device: str | None) -> list[str]:
    """Return the commands from the model to the run; a bundle that will do is not made again."""
    where = device or "SERIAL"
    bundle = str(model.bundle) if _serves(model, settings) else None
    lines = []
    if bundle is None:
        bundle = _folder(model, settings)
        lines.append(_export(model, settings, bundle))
    lines.append(f"toolkit deploy {shlex.quote(bundle)} --data DATA --device {where}")
    lines.append(_train(settings, where))
    return lines


def _serves(model: Model, settings: Settings) -> bool:
    exported = ("rank", "alpha", "targets", "method", "linear", "embedding", "head")
    return (
        model.bundle is not None
        and {settings.seq_len, settings.row_tokens} <= set(model.seq_lens)
        and all(getattr(settings, name) == getattr(model.settings, name) for name in exported)
    )


def _export(model: Model, settings: Settings, folder: str) -> str:
    words = ["toolkit", "export", model.source, "-o", folder]
    for length in sorted({settings.seq_len, settings.row_tokens}):
        words += ["--seq-len", length]
    words += ["--rank", settings.rank]
    words += ["--alpha", f"{settings.alpha:g}", "--method", settings.method]
    if settings.targets != PROJECTIONS:
        words += ["--targets", ",".join(settings.targets)]
    words += ["--quantization", settings.linear, "--embedding-quantization", settings.embedding]
    return shlex.join(map(str, words))


def _train(settings: Settings, device: str) -> str:
    words = f"toolkit train --device {device} --steps 100 --optimizer {settings.optimizer}"
    words += f" --checkpoints {settings.checkpoints}"
    if settings.momentum:
        words += f" --momentum {settings.momentum:g}"
    if settings.max_grad_norm:
        words += f" --max-grad-norm {settings.max_grad_norm:g}"
    if settings.batch_size > 1:
        words += f" --batch-size {settings.batch_size}"
    if settings.rows > 1:
        words += f" --grad-accum {settings.rows}"
    return f"{words} --out run1"


def _folder(model: Model, settings: Settings) -> str:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", model.name.rpartition("/")[2]).strip("-.").lower()
    return f"{name or 'bundle'}-{settings.method}-{settings.seq_len}"
