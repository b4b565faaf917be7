"""README.md of a federation's folder: what the adapter is, its rounds and its nodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.bundle.bundle import Bundle
from toolkit.choices import APPROXIMATE_LOWERINGS
from toolkit.exchange.card import CARD, front, loading, lora_rows, named_base, plain, table
from toolkit.exchange.output import MARK, is_ours
from toolkit.federation.settings import FederationSettings
from toolkit.files import atomic_file
from toolkit.settings.methods import METHODS
from toolkit.trace.units import count, duration, megabytes, number, plural

_TOLD = (
    *("method", "freeze", "optimizer", "lr", "schedule", "batch-size", "grad-accum", "seed"),
    "arithmetic",
)
_BYTES = {
    "sent_bytes": "to it",
    "received_bytes": "from it",
    "down_bytes": "from the server",
    "up_bytes": "to the server",
}
_MEANS = {
    "fedavg": "the mean of A and of B, weighted by labelled tokens; the mean of the products "
    "would be another adapter, by the bias below",
    "ffa": "the mean of B, weighted by labelled tokens, with A as it began: the mean of the "
    "products",
    "scalars": "the steps of all nodes, by directions and slopes alone, one after the other with "
    "rates in proportion to labelled tokens",
    "stack": "the mean of the products, weighted by labelled tokens, brought back to the rank",
}


def write_card(
    folder: Path,
    model: str,
    settings: FederationSettings,
    records: Sequence[Mapping[str, Any]],
    final: Mapping[str, Any],
) -> None:
    """Write the card; one that somebody else wrote stays."""
    card = folder / CARD
    if card.exists() and not is_ours(card):
        return
    base, name = named_base(folder), plain(model) or "a language model"
    parts = [
        front({"library_name": "peft", "pipeline_tag": "text-generation"}, base, ["lora"]),
        MARK,
        f"# LoRA adapter of {name}",
        "Trained with `toolkit` by a federation of devices, whose data stayed on them, against "
        "quantized weights of the base model.",
        "## Load it",
        loading(folder, base, model),
        "## Adapter and training",
        table([*lora_rows(folder), *_training(settings, records)]),
        "## Rounds",
        rounds_table(records, final),
        "## Nodes",
        _nodes_table(records),
    ]
    with atomic_file(card, "w") as file:
        file.write("\n\n".join(part.rstrip("\n") for part in parts) + "\n")


def held_out_after(
    records: Sequence[Mapping[str, Any]], final: Mapping[str, Any]
) -> list[float | None]:
    """Return the held-out loss of the adapter before the first round and after every one."""
    return [record["held_out_loss"] for record in (*records, final)]


def rounds_table(records: Sequence[Mapping[str, Any]], final: Mapping[str, Any]) -> str:
    """Return a line for every round, in markdown."""
    lines = [
        "| round | nodes | loss while training | held-out loss after | bias | time | failures |",
        "|---|---|---|---|---|---|---|",
    ]
    after = held_out_after(records, final)
    if after[0] is not None:
        lines.append(f"| 0 | | | {_loss(after[0])} | | | |")
    for record, held_out in zip(records, after[1:], strict=True):
        failures = ", ".join(f"{k}: {plain(why)}" for k, why in record["failures"].items())
        cells = [
            str(record["round"]),
            str(len(record["nodes"])),
            _loss(record["loss"]),
            _loss(held_out),
            _percent(record["product_bias"]),
            duration(record["seconds"]),
            failures,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _nodes_table(records: Sequence[Mapping[str, Any]]) -> str:
    told = [each for record in records for each in record["nodes"]]
    spent = [*told, *(each for record in records for each in record.get("failed", ()))]
    carried = {key: name for key, name in _BYTES.items() if any(e.get(key) for e in spent)}
    hot = any(each.get("hot_seconds") for each in spent)
    head = ["node", "rounds", "tokens learned", "time of its steps", "peak memory"]
    head += ["too hot for"] * hot
    lines = [f"| {' | '.join([*head, *carried.values()])} |"]
    lines += ["|" + "---|" * (len(head) + len(carried))]
    for node in _names(records):
        own = [each for each in told if each["node"] == node]
        all_own = [each for each in spent if each["node"] == node]
        sums = {
            key: sum(each.get(key, 0) for each in all_own)
            for key in ("labelled", "train_seconds", "hot_seconds", *carried)
        }  # earlier versions had not all of them
        peak = max((each["peak_bytes"] for each in own), default=0)
        cells = [plain(node), str(len(own)), count(sums["labelled"])]
        cells += [duration(sums["train_seconds"]), megabytes(peak)]
        cells += [duration(sums["hot_seconds"]) if sums["hot_seconds"] else ""] * hot
        cells += [megabytes(sums[key]) for key in carried]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the nodes that there were, those of the first round first."""
    return list(
        dict.fromkeys(
            name
            for record in records
            for name in (*(node["node"] for node in record["nodes"]), *record["failures"])
        )
    )


def _training(
    settings: FederationSettings, records: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    kept = "keep what the optimizer remembers" if settings.state == "keep" else "begin anew"
    rows = [
        ("rounds", f"{plural(len(records), 'round')} of {plural(settings.local_steps, 'step')}"),
        ("nodes", str(len(_names(records)))),
        ("aggregate", f"{settings.aggregate}: {_MEANS[settings.aggregate]}"),
        ("between rounds", f"nodes {kept}"),
    ]
    lowering = Bundle.open(settings.bundle).manifest["lowering"]
    if lowering in APPROXIMATE_LOWERINGS and METHODS[settings.train.method].backward:
        rows.append(("gradients", f"approximate, by the lowering {lowering} of the bundle"))
    flags = settings.train.flags()
    return rows + [(flag, plain(str(flags[flag]))) for flag in _TOLD if flag in flags]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2g} %"


def _loss(value: float | None) -> str:
    return "" if value is None else number(value)
