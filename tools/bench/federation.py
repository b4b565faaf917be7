"""What a round of a federation costs beside the nodes' own training.

    overhead  seconds of a round without those of the slowest node's steps: folders of this machine,
              a tiny model; the same over Flower's SuperLink and SuperNodes with TLS
    traffic   bytes to and from a node in a round: Qwen2.5-0.5B's shape, rank 8
    servers   memory of Flower's SuperLink and our ServerApp with N and ten times N nodes, which
              answer with adapters of that size and train nothing

What goes over Flower needs the environment that `tools/check_flower` makes, else it is left out.
A SuperNode of Flower looks for messages every 3 s; a round has one to every node, so up to 3 s of
its overhead over Flower are that.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.bench import harness

FLOWER = harness.ROOT / "build/flower/venv/bin/python"
POLL_SECONDS = 3.0


def main() -> int:
    """Measure, print tables, write JSON; return the exit code."""
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="of overhead (%(default)s)")
    parser.add_argument("--nodes", type=int, default=10, help="and ten times as many (%(default)s)")
    parser.add_argument(
        "--together", type=int, default=4, help="nodes that answer at the same time (%(default)s)"
    )
    measures = {"overhead": _overhead, "traffic": _traffic, "servers": _servers}
    parser.add_argument("parts", nargs="*", default=list(measures), help="(default: all three)")
    options = parser.parse_args()
    machine, bars, results = harness.Machine(), [], {}
    for part in options.parts:
        results[part], own = measures[part](options)
        bars += own
    return harness.finish(options, machine, results, bars)


def _overhead(options: Any) -> tuple[dict[str, Any], list[harness.Bar]]:
    """Return seconds of rounds beside their training, and the bars."""
    from tests.federation.conftest import Lab
    from tests.support.bundles import export_with_tokenizer
    from toolkit import federate

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab = Lab(folder, folder / "bundle")
        export_with_tokenizer(lab.bundle, seq_len=64)
        for node, topic in (("a", "ships"), ("b", "trees")):
            lab.add(node, topic=topic)
        config = lab.config(folder / "lab.yaml", "a", "b", rounds=options.rounds, local_steps=300)
        found = {"lab": federate(config, folder / "lab-out").rounds}
        if FLOWER.exists():
            found["flower"] = _over_flower("overhead", str(config))["rounds"]
    results = {name: [_beside(record) for record in rounds] for name, rounds in found.items()}
    columns = ("", "round s", "training s", "overhead s")
    rows = [
        (name, *(statistics.median(column) for column in zip(*rounds, strict=True)))
        for name, rounds in results.items()
    ]
    harness.print_table(f"rounds of 300 steps, medians of {options.rounds}", columns, rows)
    bars = []
    for name, _, training, overhead in rows:
        told = POLL_SECONDS if name == "flower" else 0.0
        label = f"overhead, {name}: s" + " without polling" * (told > 0)
        most = max(5.0, 0.1 * training)
        bars.append(harness.Bar(label, overhead - told, most, most))
    return results, bars


def _beside(record: dict[str, Any]) -> tuple[float, float, float]:
    training = max(node["train_seconds"] for node in record["nodes"])
    return record["seconds"], training, record["seconds"] - training


def _traffic(options: Any) -> tuple[dict[str, Any], list[harness.Bar]]:
    """Return bytes of a node in its second round, when an adapter goes both ways."""
    import toolkit

    case = harness.case("qwen2.5-0.5b", 256)
    with tempfile.TemporaryDirectory(dir=harness.CACHE) as name:
        folder = Path(name)
        with toolkit.open_device(f"{folder}/node") as device:
            device.deploy(case.bundle, case.data.parent)
        config = folder / "lab.yaml"
        content = {"bundle": str(case.bundle), "rounds": 2, "local-steps": 2, "evaluate": "off"}
        content["nodes"] = [{"device": f"{folder}/node", "name": "node"}]
        config.write_text(json.dumps(content))
        node = toolkit.federate(config, folder / "out").rounds[1]["nodes"][0]
    sent, received = node["sent_bytes"] / 1e6, node["received_bytes"] / 1e6
    harness.print_table(
        "Qwen2.5-0.5B, rank 8, a node's second round",
        ("", "to it MB", "from it MB"),
        [("float32", sent, received)],
    )
    bar = harness.Bar("bytes of a round and node: MB", sent + received, 36.0, 36.0)
    return {"sent_mb": sent, "received_mb": received}, [bar]


def _servers(options: Any) -> tuple[dict[str, Any], list[harness.Bar]]:
    """Return peaks with N and ten times N nodes, and the bars."""
    if not FLOWER.exists():
        print("servers: left out, tools/check_flower has not been run", file=sys.stderr)
        return {}, []
    bundle = str(harness.case("qwen2.5-0.5b", 256).bundle)
    words = ["--together", str(options.together)]
    few, many = (
        _over_flower("servers", bundle, "--nodes", str(nodes), *words)
        for nodes in (options.nodes, 10 * options.nodes)
    )
    columns = ("nodes", "peak MB", "MB of a node", "round s", "failed")
    rows = [
        (
            str(found["nodes"]),
            found["peak_mb"],
            found["node_mb"],
            found["seconds"],
            sum(map(len, found["failures"])),
        )
        for found in (few, many)
    ]
    harness.print_table("Flower's SuperLink and our ServerApp", columns, rows)
    ratio = many["peak_mb"] / few["peak_mb"]
    failed = sum(map(len, many["failures"])) + sum(map(len, few["failures"]))
    bars = [
        harness.Bar(f"servers' memory, {many['nodes']} / {few['nodes']} nodes", ratio, 1.2, 1.1),
        harness.Bar("over Flower, bytes of a round and node: MB", many["node_mb"], 36.0, 36.0),
        harness.Bar("nodes that failed", failed, 0, 0),
    ]
    return {"few": few, "many": many}, bars


def _over_flower(what: str, *words: str) -> Any:
    """Return what `flower_worker.py` measures in Flower's environment."""
    from toolkit.runtime import native_directory

    command = [str(FLOWER), str(Path(__file__).with_name("flower_worker.py")), what, *words]
    more = {"OMP_NUM_THREADS": "1", "TOOLKIT_NATIVE_DIR": str(native_directory())}
    environment = harness.environment(**more)
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
