"""A plan in words, as tables and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolkit.choices import ARITHMETICS, lowering_label
from toolkit.planning.commands import commands
from toolkit.planning.model import Model
from toolkit.planning.predict import Prediction
from toolkit.planning.search import RESERVE, Proposal
from toolkit.trace.analysis.memory import LABELS
from toolkit.trace.units import count, duration, megabytes, percent

_RELAXED = {
    "optimizer": "optimizer",
    "seq_len": "sequence length",
    "rank": "rank",
    "state": "state",
}
_NIGHT = 8 * 3600  # seconds


def print_prediction(
    console: Console, model: Model, prediction: Prediction, device: str | None
) -> None:
    """Print what one step will take and how to run it."""
    _say(console, headline(model, prediction), "bold")
    _say(console, speed_sentence(prediction))
    _memory(console, prediction)
    _phases(console, prediction)
    _commands(console, model, prediction, device)


def print_proposal(console: Console, model: Model, proposal: Proposal, device: str | None) -> None:
    """Print what fits a budget, or why nothing does."""
    answer, *details = verdict(model, proposal)
    _say(console, answer, "bold")
    for line in details:
        _say(console, line)
    shown = proposal.best or proposal.smallest
    _say(console, speed_sentence(shown))
    _memory(console, shown)
    if proposal.best is None:
        return
    if proposal.others:
        _say(console, "\nFits, with the same result", "bold")
        table = _table("lowering", "checkpoints", "clipping", "peak", "step", "flash a step")
        for other in (proposal.best, *proposal.others):
            settings = other.settings
            table.add_row(
                lowering_label(settings.lowering),
                settings.checkpoints,
                settings.clipping if settings.max_grad_norm else "-",
                megabytes(other.peak),
                duration(other.seconds),
                megabytes(other.written) if other.written else "0",
            )
        console.print(Padding(table, (0, 0, 0, 1)))
    _commands(console, model, proposal.best, device)


def headline(model: Model, prediction: Prediction) -> str:
    """Return the answer in one sentence."""
    memory = prediction.memory.items()
    largest = sorted(memory, key=lambda item: -item[1])[:3]
    parts = ", ".join(f"{percent(size / prediction.peak)} {LABELS[name]}" for name, size in largest)
    return (
        f"{model.name} needs {megabytes(prediction.peak)} to train, in the "
        f"{prediction.highest.name}: {parts}."
    )


def speed_sentence(prediction: Prediction) -> str:
    """Return how long a step takes, and where that is known from."""
    machine = prediction.machine
    origin = (
        f"measured on {machine.name}"
        if machine.measured
        else f"assuming {machine.speed.products / 1e9:.0f} GFLOP/s, which nobody has measured; "
        "--device measures it"
    )
    text = (
        f"A step of {count(prediction.settings.seq_len * prediction.settings.sequences)} tokens "
        f"takes about {duration(prediction.seconds)} "
        f"({count(prediction.tokens_per_second)} tokens/s, {origin})."
    )
    if prediction.settings.cut:
        text += " The layers above the cut and the connection to them come on top."
    if prediction.settings.arithmetic != machine.kernels.arithmetic:
        text += f" That is of {machine.kernels.arithmetic}: nobody has measured the time of "
        text += f"{prediction.settings.arithmetic} here."
    if prediction.written:
        text += f" It writes up to {megabytes(prediction.written)} to flash."
    if prediction.state.spilled:
        night = prediction.state.written * _NIGHT / prediction.seconds
        backward = prediction.settings.how.backward
        what = "adapter, gradients and optimizer state" if backward else "the adapter"
        text += (
            f" {megabytes(prediction.state.written)} of it are {what}, "
            f"{megabytes(night)} in a night of eight hours"
        )
        if prediction.settings.optimizer == "adamw":
            text += "; --optimizer adamw-8bit or apollo-mini keep far less, in RAM"
        text += "."
    if prediction.settings.keep_checkpoints:
        text += f" A save writes {megabytes(prediction.saved)}, the kept adapter included."
    return text


def verdict(model: Model, proposal: Proposal) -> list[str]:
    """Return what the budget comes to, in sentences."""
    budget, reserve = megabytes(proposal.budget), percent(RESERVE)
    asked = proposal.asked
    if proposal.best is None:
        smallest = proposal.smallest
        largest = max(smallest.memory.items(), key=lambda item: item[1])
        return [
            f"Nothing fits {budget}: {model.name} needs at least {megabytes(smallest.peak)}, "
            f"{megabytes(proposal.missing)} too much with a reserve of {reserve}. A budget of "
            f"{megabytes(smallest.peak / (1 - RESERVE))} would do.",
            f"That is with {describe(smallest)}; most of it is {LABELS[largest[0]]} "
            f"({megabytes(largest[1])}).",
            _advice(largest[0]),
        ]
    best = proposal.best
    lines = [
        f"{model.name} fits {budget}: {megabytes(best.peak)} with {describe(best)} "
        f"(a reserve of {reserve} is left)."
    ]
    if proposal.relaxed:
        changes = ", ".join(
            f"{_RELAXED[name]} {getattr(asked.settings, name)} to {getattr(best.settings, name)}"
            for name in proposal.relaxed
        )
        lines.append(
            f"As asked for it would need {megabytes(asked.peak)} or more. Changed: {changes}."
        )
    return lines


def describe(prediction: Prediction) -> str:
    """Return the settings that decide memory, in words."""
    s = prediction.settings
    rule = s.method if s.how.updates else s.optimizer
    text = f"{lowering_label(s.lowering)}, {rule}, length {s.seq_len}, rank {s.rank}"
    if s.how.backward:
        place = "on flash" if prediction.checkpoints.spilled else "in RAM"
        text += f", checkpoints {place}"
    if s.cut:
        text += f", {s.cut} layers on the device"
    if s.freeze == "a":
        text += ", B alone"
    if s.max_grad_norm:
        text += f", clipping {s.clipping}"
    if s.arithmetic != ARITHMETICS[0]:
        text += f", {s.arithmetic}"
    return f"{text}, state on flash" if prediction.state.spilled else text


def prediction_to_json(
    model: Model, prediction: Prediction, device: str | None = None
) -> dict[str, Any]:
    """Return a prediction as JSON values: bytes and seconds."""
    machine = prediction.machine
    return {
        "model": model.name,
        "settings": asdict(prediction.settings),
        "machine": {
            "name": machine.name,
            "isa": machine.kernels.isa,
            "threads": machine.kernels.threads,
            "measured": machine.measured,
            "products_per_second": machine.speed.products,
            "available_bytes": machine.available,
        },
        "peak": {
            "bytes": prediction.peak,
            "phase": prediction.highest.name,
            "memory": prediction.memory,
        },
        "phases": [
            {"phase": p.name, "peak_bytes": p.peak, "seconds": p.seconds} for p in prediction.phases
        ],
        "seconds": prediction.seconds,
        "tokens_per_second": prediction.tokens_per_second,
        "written_bytes": prediction.written,
        "saved_bytes": prediction.saved,
        "checkpoints_spilled": prediction.checkpoints.spilled,
        "state_spilled": prediction.state.spilled,
        "state_written_bytes": prediction.state.written,
        "base_bytes": prediction.base_bytes,
        "adapter_parameters": prediction.adapter_parameters,
        "commands": commands(model, prediction.settings, device),
    }


def proposal_to_json(model: Model, proposal: Proposal, device: str | None) -> dict[str, Any]:
    """Return a proposal as JSON values."""
    best = proposal.best
    return {
        "budget_bytes": proposal.budget,
        "reserve": RESERVE,
        "fits": best is not None,
        "missing_bytes": proposal.missing,
        "relaxed": proposal.relaxed,
        "asked": prediction_to_json(model, proposal.asked, device),
        "best": None if best is None else prediction_to_json(model, best, device),
        "others": [prediction_to_json(model, other, device) for other in proposal.others],
        "smallest": prediction_to_json(model, proposal.smallest, device),
    }


def _advice(category: str) -> str:
    texts = {
        "adapters": "Adapt fewer projections (--targets q_proj,v_proj), or use --state spill.",
        "optimizer": "Use --optimizer adamw-8bit or sgd, --state spill, or fewer --targets.",
        "checkpoints": "Use fewer sequences a step or a shorter length.",
        "runtime": "The runtime itself is the floor under every run.",
    }
    return texts.get(category, "Use a shorter length, fewer threads or a smaller model.")


def _memory(console: Console, prediction: Prediction) -> None:
    console.print()
    table = _table("category", "size", "share")
    for name, size in sorted(prediction.memory.items(), key=lambda item: -item[1]):
        if size:
            table.add_row(LABELS[name], megabytes(size), percent(size / prediction.peak))
    table.add_row("peak", megabytes(prediction.peak), percent(1.0), style="bold")
    console.print(Padding(table, (0, 0, 0, 1)))


def _phases(console: Console, prediction: Prediction) -> None:
    console.print()
    table = _table("phase", "peak", "time")
    for phase in prediction.phases:
        table.add_row(phase.name, megabytes(phase.peak), duration(phase.seconds))
    console.print(Padding(table, (0, 0, 0, 1)))


def _commands(console: Console, model: Model, prediction: Prediction, device: str | None) -> None:
    console.print()
    for line in commands(model, prediction.settings, device):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if device is None:
        _say(console, "These are for this machine; --device SERIAL names a phone.", "dim")


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style))
