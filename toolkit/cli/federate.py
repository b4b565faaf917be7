"""`toolkit federate`: one adapter from many devices."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.common import say, say_next
from toolkit.cli.units import bytes_text, seconds_text
from toolkit.errors import ToolkitError
from toolkit.federation.orders import NodeReport
from toolkit.federation.shown import Shown
from toolkit.trace.units import plural


def federate(
    config: Annotated[
        Path, typer.Argument(help="YAML or TOML file of the federation.", metavar="CONFIG")
    ],
    output: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder to write: the adapter, its card and its rounds."),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last round that was finished.")
    ] = False,
    flower: Annotated[
        Path | None,
        typer.Option(
            help="Write the federation as a Flower app to this folder instead, for `flwr run`.",
            metavar="FOLDER",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            help="Show every round in TensorBoard, too: in FOLDER/NAME, by the name of --out.",
            metavar="FOLDER",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what happens as JSON lines.")
    ] = False,
) -> None:
    """Train one adapter on many devices, whose data stays on them.

    Every node has bundle and data already (`toolkit deploy`). In a round each gets the adapter,
    trains some steps and hands its adapter back; the mean of all, weighted by labelled tokens, is
    what the next round begins with. A node that is lost, late, hot, full or out of memory is left
    out of the round, with its reason. With `state: keep` nodes keep what their optimizer remembers
    and their place in the data.

    Ctrl-C leaves the nodes at the end of their round; --resume goes on from the last round that was
    finished, and trains nothing of the broken one twice. It may have more rounds and other nodes;
    local-steps, aggregate, state and train stay.

    \b
    A file, with every node's device as the other commands take it:
      bundle: bundle              # here, relative to this file; the nodes have the same
      rounds: 10
      local-steps: 20
      aggregate: fedavg           # ffa (freeze: a), stack (state: drop) or scalars (method: mezo)
      state: keep                 # or drop
      min-nodes: 2
      at-once: 0                  # nodes that train at the same time; 0: all
      round-minutes: 60           # who takes longer is left out
      nodes:
        - device: SERIAL
          name: anna              # in reports
          data: chats             # on the device; default: the last sent
        - device: 192.168.1.20:5555
        - device: ./bert          # a folder of this machine
      train:                      # as toolkit train --config
        lr: 5e-4

    \b
    Examples:
      toolkit federate lab.yaml -o runs/lab
      toolkit federate lab.yaml -o runs/lab --resume --json
      toolkit federate lab.yaml -o runs/lab --tensorboard tensorboard
      toolkit federate study.yaml -o runs/study --flower study
    """
    from toolkit.federation.settings import read_federation

    if flower is not None:
        from toolkit.federation.flower.project import write_project

        _refuse_with_flower(resume, as_json)
        write_project(read_federation(config), output, flower, tensorboard)
        say_next(f"flwr run {flower} --stream  (with `toolkit[flower]`; see docs/federation.md)")
        return
    from toolkit import federate as carry_out

    shown: Shown = _Json() if as_json else Lines()
    settings = read_federation(config)
    result = carry_out(settings, output, resume=resume, shown=shown, tensorboard=tensorboard)
    say(f"adapter: {result.path}; what every round came to: {result.path / 'README.md'}")
    say_next(f"toolkit generate {settings.bundle} --adapter {result.path} --prompt TEXT")


def _refuse_with_flower(resume: bool, as_json: bool) -> None:
    """Raise ToolkitError where an option is of rounds, and an app is all that is written."""
    for given, name, remedy in (
        (resume, "--resume", "Leave it away; `flwr run FOLDER -c resume=true` goes on"),
        (as_json, "--json", "Leave it away; `flwr run FOLDER --stream` shows what happens"),
    ):
        if given:
            raise ToolkitError(
                f"--flower has a ServerApp go through the rounds, and {name} is not for it", remedy
            )


class Lines(Shown):
    """Lines for people, on standard error."""

    def begins(self, number: int, rounds: int, nodes: int) -> None:
        say(f"round {number}/{rounds} on {nodes} node{'s' * (nodes != 1)}")

    def came(self, number: int, report: NodeReport) -> None:
        words = []
        if report.held_out_loss is not None:
            words.append(f"held-out loss before {report.held_out_loss:.4f}")
        if report.held_out_error is not None:
            words.append(f"held-out loss not measured ({report.held_out_error})")
        if report.loss is not None:
            words.append(f"loss {report.loss:.4f} over {report.labelled} tokens")
            words.append(f"peak {bytes_text(report.peak_bytes)}")
        words.append(seconds_text(report.seconds))
        if report.lost:
            words.append(f"connection lost {report.lost} times")
        if report.hot_seconds:
            words.append(f"waited {seconds_text(report.hot_seconds)} to cool down")
        say(f"  {report.node}: {', '.join(words)}")

    def failed(self, node: str, reason: str) -> None:
        say(f"  {node}: left out: {reason}")

    def finished(self, record: Mapping[str, Any]) -> None:
        bias, apart = record["product_bias"], ""
        if bias is not None:
            apart = (
                f"; A and B averaged apart are {100 * bias:.2g} % off the mean of their products"
            )
        say(f"  loss {record['loss']:.4f}{apart}")

    def ended(self, records: Sequence[Mapping[str, Any]], final: Mapping[str, Any]) -> None:
        if records and records[0]["held_out_loss"] is not None and final["held_out_loss"]:
            first, last = records[0]["held_out_loss"], final["held_out_loss"]
            rounds = plural(len(records), "round")
            say(f"held-out loss {first:.4f} before, {last:.4f} after {rounds}")

    def say(self, line: str) -> None:
        say(line)


class _Json(Shown):
    """JSON lines on standard output, an object each, nothing else."""

    def begins(self, number: int, rounds: int, nodes: int) -> None:
        _print({"type": "begin", "round": number, "rounds": rounds, "nodes": nodes})

    def came(self, number: int, report: NodeReport) -> None:
        _print({"type": "node", "round": number, **report.to_json()})

    def failed(self, node: str, reason: str) -> None:
        _print({"type": "failure", "node": node, "reason": reason})

    def finished(self, record: Mapping[str, Any]) -> None:
        _print({"type": "round", **{k: v for k, v in record.items() if k != "nodes"}})

    def ended(self, records: Sequence[Mapping[str, Any]], final: Mapping[str, Any]) -> None:
        _print({"type": "end", "rounds": len(records), "held_out_loss": final["held_out_loss"]})

    def say(self, line: str) -> None:
        say(line)


def _print(record: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()
