"""Model cards: what a pulled run and a merged model say of themselves, and how to load them.

What a device says is shown as text: no markup of its own gets into a card.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.peft_config import peft_base_model, peft_revision, read_peft_config
from toolkit.bundle.peft_files import read_peft_settings
from toolkit.choices import APPROXIMATE_LOWERINGS, lowering_label
from toolkit.errors import ToolkitError
from toolkit.exchange.output import MARK, is_ours
from toolkit.exchange.run_record import read_run_record
from toolkit.files import atomic_file
from toolkit.modalities import parts_text
from toolkit.settings.methods import METHODS
from toolkit.sources import find_gguf
from toolkit.sources.gguf_names import read_by_transformers
from toolkit.sources.hub import is_hub_id
from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.schema import Run
from toolkit.trace.units import count, duration, megabytes, number, plural

if TYPE_CHECKING:
    from toolkit.exchange.base import Base

CARD = "README.md"
_SETTINGS = (
    *("method", "optimizer", "lr", "schedule", "warmup_steps", "weight_decay"),
    *("batch_size", "grad_accum", "max_grad_norm", "lora_plus_ratio", "seed"),
)
_UNSAFE = re.compile(r"[^\w .,:;/()+=@%?!'-]")
_LONGEST = 200
_UNREAD = (
    "`transformers` does not read this GGUF model as llama.cpp does (its architecture, or how its "
    "positions turn): merge, or load the model's own directory and the adapter with `PeftModel`."
)


def write_run_card(run: Path) -> Path | None:
    """Write README.md of a pulled run; one that somebody else wrote stays.

    Returns:
        The card; None where there is no adapter to tell of, or another card.
    """
    card = run / CARD
    if card.exists() and not is_ours(card):
        return None
    if not (run / "adapter_model.safetensors").exists() or not (run / "trace.jsonl").exists():
        card.unlink(missing_ok=True)
        return None
    try:
        text = run_card(run)
    except ToolkitError:  # of a damaged run: what is wrong with it others say
        card.unlink(missing_ok=True)
        return None
    with atomic_file(card, "w") as file:
        file.write(text)
    return card


def run_card(run: Path) -> str:
    """Return the card of a pulled run.

    Raises:
        ToolkitError: Trace or adapter cannot be read.
    """
    analysis = read_analysis(run)
    base = named_base(run)
    name = plain(analysis.trace.run.model) or "a language model"
    settings = lora_rows(run)
    head = front({"library_name": "peft", "pipeline_tag": "text-generation"}, base, ["lora"])
    parts = [
        head,
        MARK,
        f"# LoRA adapter of {name}",
        "Trained with `toolkit` on a device, against quantized weights of the base model."
        + _gradients_note(analysis.trace.run),
        "## Load it",
        loading(run, base, analysis.trace.run.model),
        "## Base model",
        _base_table(run, base, analysis),
        "## Adapter and training",
        table([*settings, *_training(analysis)]),
        "## Before and after",
        _before_and_after(analysis),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def write_merged_card(
    directory: Path, output: Path, adapter: Path, base: "Base", dtype: str
) -> None:
    """Write README.md of a directory with a merged model, which is to become `output`."""
    source = base.source
    named = "" if base.chosen else peft_base_model(adapter)
    fields = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if source.license:
        fields["license"] = source.license
    rows = [
        ("base model", plain(source.name)),
        ("revision", plain(source.revision)),
        ("weights", plain(base.describe())),
        ("adapter", plain(adapter.absolute().name)),
        ("numbers", dtype),
        ("left out", plain(parts_text(source.left_out))),
    ]
    load = f"AutoModelForCausalLM.from_pretrained({json.dumps(output.as_posix())})"
    load = "from transformers import AutoModelForCausalLM\n\nmodel = " + load
    parts = [
        front(fields, named or source.origin, ["lora", "merged"]),
        MARK,
        f"# {plain(source.name)} with the adapter {plain(adapter.absolute().name)}",
        "The adapter is folded into the weights: nothing but `transformers` is needed."
        + (" This is the text part of the base model." if source.left_out else ""),
        _code(load),
        table([row for row in rows if row[1]]),
    ]
    with atomic_file(directory / CARD, "w") as file:
        file.write("\n\n".join(parts) + "\n")


def _gradients_note(run: Run) -> str:
    """Return a sentence where what a run was trained by are not the model's gradients, or ""."""
    method = METHODS.get(str(run.settings.get("method")))
    if run.lowering not in APPROXIMATE_LOWERINGS or (method and not method.backward):
        return ""
    return (
        f" Its gradients were approximate: lowering {run.lowering} takes one of four numbers for "
        "the derivative of the MLP's activation."
    )


def named_base(run: Path) -> str:
    """Return what the adapter names as its base model; nothing where that can be no path."""
    base = peft_base_model(run)
    try:
        Path(base).exists()
    except (OSError, ValueError):
        return ""
    return base


def front(fields: dict[str, str], base: str, tags: list[str]) -> str:
    """Return the lines that the hub reads."""
    lines = [f"{key}: {json.dumps(plain(value))}" for key, value in fields.items()]
    if is_hub_id(base) and not Path(base).exists():
        lines.append(f"base_model: {base}")
    lines += ["tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def loading(run: Path, base: str, model: str) -> str:
    folder = Path(base)
    words = json.dumps(run.as_posix())
    note = ""
    if base and folder.is_dir() and not (folder / "config.json").exists():
        try:
            file = find_gguf(folder, model)
            words += f", gguf_file={json.dumps(file.name)}"
            note = "" if read_by_transformers(file) else _UNREAD
        except ToolkitError:
            note = _unresolved(base)
    elif not base or (not folder.exists() and not is_hub_id(base)):
        note = _unresolved(base)
    name = "AutoPeftModelForCausalLM"
    code = f"from peft import {name}\n\nmodel = {name}.from_pretrained({words})"
    tools = f"toolkit merge {run.as_posix()} -o merged\ntoolkit convert {run.as_posix()} --to gguf"
    texts = [note] if note else [_code(code)]
    texts.append("Without peft, or in llama.cpp:")
    return "\n\n".join([*texts, _code(tools, "sh")])


def _unresolved(base: str) -> str:
    return (
        f"`peft` finds no base model by the name {plain(base) or '(none)'}: load the model that "
        "was exported, then `PeftModel.from_pretrained(model, FOLDER)`."
    )


def _base_table(run: Path, base: str, analysis: Analysis) -> str:
    bundle = read_run_record(run).bundle
    rows = [
        ("name", plain(analysis.trace.run.model)),
        ("from", plain(base)),
        ("revision", plain(peft_revision(run))),
        ("SHA-256 of the quantized weights", plain(bundle.base_sha256 or "")),
        ("their size", megabytes(bundle.base_bytes) if bundle.base_bytes else ""),
    ]
    return table([row for row in rows if row[1]])


def lora_rows(run: Path) -> list[tuple[str, str]]:
    config, adapter = read_peft_config(run), read_peft_settings(run)
    rows = [("rank", config.get("r")), ("alpha", config.get("lora_alpha"))]
    rows.append(("targets", ", ".join(adapter.targets)))
    if isinstance(config.get("target_modules"), str):  # a pattern that names the layers, too
        rows.append(("layers", adapter.layers))
    patterns = ("rank_pattern", "alpha_pattern", "layers_to_transform", "use_rslora")
    rows += [(name.replace("_", " "), config.get(name)) for name in patterns if config.get(name)]
    return [(name, plain(str(value))) for name, value in rows]


def _training(analysis: Analysis) -> Iterable[tuple[str, str]]:
    run, training, trace = analysis.trace.run, analysis.training, analysis.trace
    yield "parameters", count(run.bundle.adapter_parameters)
    yield "data", f"{count(run.data.sequences)} sequences of {count(run.bundle.seq_len)} tokens"
    if run.data.sha256:
        yield "SHA-256 of the data", plain(run.data.sha256)
    steps = len(trace.steps)
    seen = count(float(trace.steps["tokens"].sum())) if steps else "0"
    if run.lowering:
        yield "lowering", plain(lowering_label(run.lowering))
    yield "steps", f"{plural(steps, 'step')} over {seen} tokens, {analysis.status}"
    if training.kept_step is not None:
        yield "kept", f"the adapter of step {training.kept_step}, the best on held-out data"
    if run.settings.get("freeze") == "a":
        yield "trained", "B alone; A is as it began"
    for name in _SETTINGS:
        value = run.settings.get(name)
        if isinstance(value, float):
            yield name.replace("_", " "), number(value)
        elif isinstance(value, str | int):
            yield name.replace("_", " "), plain(str(value))
    device = ", ".join(plain(word) for word in (run.device.model, run.device.abi) if word)
    yield "device", device or "this machine"
    yield "time", duration(float(trace.steps["seconds"].sum()) if steps else None)
    if analysis.peak:
        yield "peak memory", megabytes(analysis.peak.bytes)


def _before_and_after(analysis: Analysis) -> str:
    training = analysis.training
    lines = []
    known = [e for e in training.evaluations if e.loss is not None]
    if known:
        last = next((e for e in known if e.step == training.kept_step), known[-1])
        shown = [known[0], last] if last is not known[0] else [last]
        lines = [
            "| held-out data | loss | perplexity |",
            "|---|---|---|",
            *(
                f"| after step {e.step} | {number(e.loss)} | {number(e.perplexity)} |"
                for e in shown
            ),
        ]
    if training.first_loss is not None:
        lines += [""] if lines else []
        lines.append(
            f"Training loss {number(training.first_loss)} at the start, "
            f"{number(training.last_loss)} at the end (means of {plural(training.window, 'step')})."
        )
    return "\n".join(lines) or "Nothing was measured."


def table(rows: Iterable[tuple[str, str]]) -> str:
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


def _code(text: str, language: str = "python") -> str:
    return f"```{language}\n{text}\n```"


def plain(text: str) -> str:
    """Return a text of somebody else's without what markdown or YAML would read in it."""
    return " ".join(_UNSAFE.sub(" ", text).split())[:_LONGEST]
