"""Eight people who keep their chats: a federation beside each alone, and all data in one place.

Every node has the chats of one person of chitchat-dataset, who is the assistant of them; no chat is
in two nodes' data, but a person may be in chats of two. Of equal steps, rate and optimizer:

    federation  rounds of some local steps on every node, FedAvg of A and of B between them
    alone       a node's steps without the others
    together    the same number of steps on the data of all, each of as many samples as nodes

Reported is the loss on what all hold out, and on what a node itself holds out.
"""

import argparse
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import toolkit
from tools.bench import harness
from tools.fetch_demo_assets import CHITCHAT
from tools.reproduce import common

EVERYBODY = "everybody"


def main(words: list[str] | None = None) -> int:
    """Measure what is not known yet, print tables, draw."""
    options = _options(words)
    results = common.Results(options.output, "federation")
    people = _people(options)
    names = list(people)
    found = {"as exported": _losses(results, options, people, "as exported", names)}
    found["federation"] = _losses(results, options, people, "federation", names)
    found["together"] = _losses(results, options, people, "together", names)
    for name in names:
        found[f"{name} alone"] = _losses(results, options, people, f"{name} alone", names)
    _print(found, names)
    _draw(found, names, results.picture)
    shutil.rmtree(_work(options), ignore_errors=True)
    return 0


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default=harness.REAL_WEIGHTS, help="(%(default)s)")
    parser.add_argument("--dataset", type=Path, default=CHITCHAT.path, help="(%(default)s)")
    parser.add_argument("--people", type=int, default=8, help="nodes (%(default)s)")
    parser.add_argument("--chats", type=int, default=60, help="of a person (%(default)s)")
    parser.add_argument("--seq-len", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--local-steps", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--lr", type=float, default=3e-4, help="(%(default)s)")
    parser.add_argument("--held-out", type=int, default=16, help="sequences of each (%(default)s)")
    return parser.parse_args(words)


def _work(options: argparse.Namespace) -> Path:
    folder: Path = options.output / "federation"
    return folder


def _people(options: argparse.Namespace) -> dict[str, list[list[dict[str, str]]]]:
    """Return the chats of those who wrote most, by name; a chat of two of them is the first's."""
    if options.dataset.suffix == ".whl":
        with zipfile.ZipFile(options.dataset) as archive:
            content = json.loads(archive.read("chitchat_dataset/dataset.json"))
    else:
        content = json.loads(options.dataset.read_text())
    chats = [(_senders(chat), chat["messages"]) for chat in content.values()]
    count = Counter(sender for senders, _ in chats for sender in senders)
    found: dict[str, list[list[dict[str, str]]]] = {}
    taken: set[int] = set()
    for number, (person, _) in enumerate(count.most_common(options.people), 1):
        own = [i for i, (senders, _) in enumerate(chats) if person in senders and i not in taken]
        taken.update(own)
        told = [messages for i in own if len(messages := _messages(chats[i][1], person)) > 1]
        found[f"person-{number}"] = told[: options.chats]
    return found


def _senders(chat: dict[str, Any]) -> set[str]:
    return {part["sender"] for turn in chat["messages"] for part in turn}


def _messages(turns: list[list[dict[str, str]]], person: str) -> list[dict[str, str]]:
    """Return a chat in which a person is the assistant."""
    messages: list[dict[str, str]] = []
    for turn in turns:
        text = "\n".join(part["text"].strip() for part in turn if part["text"].strip())
        role = "assistant" if turn and turn[0]["sender"] == person else "user"
        if not text or (not messages and role == "assistant"):
            continue  # templates want the user to begin
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + text
        else:
            messages.append({"role": role, "content": text})
    return messages


def _losses(
    results: common.Results, options: argparse.Namespace, people: Any, way: str, names: list[str]
) -> dict[str, float]:
    """Return the loss of what a way of training makes, on what every person holds out and all."""
    given = f"{options.model}, {options.people} people, {options.chats} chats, {options.seq_len} "
    given += f"tokens, {options.rounds} x {options.local_steps} steps, rate {options.lr:g}, "
    given += f"{options.held_out} held out"

    def measure() -> dict[str, float]:
        adapter = None if way == "as exported" else _train(options, people, way, names)
        parts = {name: _evaluate(options, people, name, adapter) for name in names}
        tokens = sum(part["tokens"] for part in parts.values())
        whole = sum(part["loss"] * part["tokens"] for part in parts.values()) / tokens
        return {EVERYBODY: whole} | {name: part["loss"] for name, part in parts.items()}

    found: dict[str, float] = results.of(f"{given}: {way}", measure)
    return found


def _train(options: argparse.Namespace, people: Any, way: str, names: list[str]) -> Path:
    """Return the folder of the adapter that a way of training makes."""
    out = _work(options) / "runs" / way.replace(" ", "-")
    settings = {"lr": options.lr, "threads": options.threads}
    rounds, steps = 1, options.rounds * options.local_steps
    members = [way.removesuffix(" alone")]
    if way == "together":
        members, settings["grad-accum"] = [EVERYBODY], len(names)
    if way == "federation":
        members, rounds, steps = names, options.rounds, options.local_steps
    config = {
        "bundle": str(_bundle(options)),
        "rounds": rounds,
        "local-steps": steps,
        "evaluate": "off",
        "at-once": 1,
        "nodes": [{"device": str(_node(options, people, name)), "name": name} for name in members],
        "train": settings,
    }
    path = _work(options) / "federation.yaml"
    path.write_text(json.dumps(config))
    resume = (out / "federation.json").exists()
    toolkit.federate(path, out, resume=resume)
    return out


def _bundle(options: argparse.Namespace) -> Path:
    return harness.case(options.model, options.seq_len).bundle


def _data(options: argparse.Namespace, people: Any, name: str, part: str) -> Path:
    """Return what a person, or everybody, learns ("train") or holds out ("held-out")."""
    folder = _work(options) / "data" / f"{name}-{part}"
    if not (folder / "data.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_suffix(".jsonl")
        own = people.values() if name == EVERYBODY else [people[name]]
        with file.open("w") as lines:
            for chats in own:
                cut = len(chats) - len(chats) // 5
                for chat in chats[:cut] if part == "train" else chats[cut:]:
                    lines.write(json.dumps({"messages": chat}) + "\n")
        toolkit.prepare_data(
            [file], bundle=_bundle(options), output=folder, validation=0.0, seq_len=options.seq_len
        )
    return folder


def _node(options: argparse.Namespace, people: Any, name: str) -> Path:
    """Return the folder that is a person's device."""
    folder = _work(options) / "nodes" / name
    if not (folder / "ready").exists():
        with toolkit.open_device(str(folder)) as device:
            device.deploy(_bundle(options), _data(options, people, name, "train"))
        (folder / "ready").touch()
    return folder


def _evaluate(
    options: argparse.Namespace, people: Any, name: str, adapter: Path | None
) -> dict[str, float]:
    """Return loss and tokens of what a person holds out."""
    from toolkit.bundle.adapter import peft_weights
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.flat_tensor import write_flat_tensor
    from toolkit.runtime import native_directory

    bundle = Bundle.open(str(_bundle(options)))
    words = ["--bundle", str(bundle.path), "--threads", str(options.threads)]
    words += ["--data", str(_data(options, people, name, "held-out") / "train.ptd")]
    words += ["--max-samples", str(options.held_out)]
    if adapter is not None:
        specs, file = bundle.adapter.specs(), _work(options) / "adapter.ptd"
        write_flat_tensor(file, specs, peft_weights(adapter, specs))
        words += ["--adapter", str(file)]
    program = str(native_directory("trainer") / "trainer")
    done = subprocess.run([program, "evaluate", *words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit("error: the trainer could not evaluate")
    said = json.loads(done.stdout.splitlines()[-1])
    return {"loss": said["loss"], "tokens": said["tokens"]}


def _print(found: dict[str, dict[str, float]], names: list[str]) -> None:
    rows = [
        (way, f"{losses[EVERYBODY]:.4f}", *(f"{losses[name]:.3f}" for name in names))
        for way, losses in found.items()
    ]
    harness.print_table("held-out loss", ("", EVERYBODY, *names), rows)
    federation = found["federation"]
    alone = {name: found[f"{name} alone"] for name in names}
    best = min(losses[EVERYBODY] for losses in alone.values())
    own = sum(federation[name] < alone[name][name] for name in names)
    gap = federation[EVERYBODY] - found["together"][EVERYBODY]
    print(
        f"\nthe federation on what everybody holds out: {best - federation[EVERYBODY]:.4f} below "
        f"the best node alone, {gap:.4f} above all data in one place"
        f"\non what a node itself holds out it is below the node alone for {own} of {len(names)}",
        file=sys.stderr,
    )


def _draw(found: dict[str, dict[str, float]], names: list[str], path: Path) -> None:
    figure, [[axis]] = common.axes(1, 1, (10, 4.5))
    places = range(len(names) + 1)
    lines = {way: losses for way, losses in found.items() if not way.endswith(" alone")}
    for number, (way, losses) in enumerate(lines.items()):
        values = [losses[name] for name in (EVERYBODY, *names)]
        axis.plot(places, values, "o", color=f"C{number}", label=way)
    alone = [found[f"{name} alone"] for name in names]
    axis.plot([0] * len(alone), [each[EVERYBODY] for each in alone], "_", color="black", ms=14)
    own = [each[name] for each, name in zip(alone, names, strict=True)]
    axis.plot(list(places)[1:], own, "_", color="black", ms=14, label="a node alone")
    axis.set_xticks(list(places), [EVERYBODY, *names], rotation=20)
    axis.set(ylabel="held-out loss")
    axis.grid(alpha=0.3)
    axis.legend()
    common.save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
