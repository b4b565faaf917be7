"""Feed mutated traces to the analysis; nothing but a ToolkitError may come out.

    python tools/fuzz_traces.py                     100,000 traces, about half an hour
    python tools/fuzz_traces.py --count 2000 --seed 7

Every trace is read, analyzed and turned into JSON; every tenth is also rendered as report, terminal
summary, Perfetto trace and comparison. A trace that breaks something is kept in --keep, and the
exit code is 1. Trace i of a seed is always the same.
"""

import argparse
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from tests.trace.synthetic import Recipe, records, to_line  # noqa: E402
from toolkit.errors import ToolkitError  # noqa: E402
from toolkit.trace.analysis import Analysis, read_analysis  # noqa: E402
from toolkit.trace.comparison import compare_runs  # noqa: E402
from toolkit.trace.comparison_summary import print_comparison  # noqa: E402
from toolkit.trace.perfetto import write_perfetto  # noqa: E402
from toolkit.trace.report import render_report  # noqa: E402
from toolkit.trace.summary import print_overview, print_summary  # noqa: E402

RENDER_EVERY = 10
TOO_SLOW = 5.0
"""Seconds of processor time for one small trace, after which it counts as a hang."""
NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**40,
    2**50,
    2**55,
    2**63,
    2**64,
    10**400,
    -(2**63),
    0.5,
    1e308,
    -1e-308,
)
WORDS = (
    "",
    "backward",
    "\x1b[31m",
    "</script><b>",
    "../../etc/passwd",
    "é\u202e",
    "\ud800",
    "x" * 5000,
)
TOKENS = (
    b"NaN",
    b"Infinity",
    b"-",
    b"1e999",
    b'"',
    b"{",
    b"]",
    b"\\",
    b"\x00",
    b"\xff\xfe",
    b"null",
)


class Mutator:
    """Makes traces out of the lines of good ones."""

    def __init__(self) -> None:
        recipes = (
            Recipe(steps=26, layers=2, phone=True, swap=True),
            Recipe(steps=4, layers=1, hwm_reset=False, cold_cache=True),
            Recipe(steps=6, detail="steps", status="failed"),
        )
        self.files = [[to_line(record) for record in records(recipe)] for recipe in recipes]
        every = [json.loads(line) for lines in self.files for line in lines]
        kinds = {(record["type"], record.get("phase")): record for record in every}
        self.kinds = list(kinds.values())

    def trace(self, seed: int, index: int) -> bytes:
        """Return trace `index` of a seed."""
        rng = random.Random(f"{seed}:{index}")
        lines = self._lines(rng)
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            self._change_line(rng, lines)
        content = bytearray(b"".join(lines))
        for _ in range(rng.choice((0, 0, 1, 3, 20))):
            self._change_bytes(rng, content)
        return bytes(content)

    def _lines(self, rng: random.Random) -> list[bytes]:
        lines = list(rng.choice(self.files))
        begin = rng.randrange(len(lines))
        chosen = lines[begin : begin + rng.choice((3, 20, 60))]
        if rng.random() < 0.95:
            chosen.insert(0, lines[0])
        if rng.random() < 0.5:
            chosen.append(lines[-1])
        match rng.randrange(5):
            case 0:
                rng.shuffle(chosen)
            case 1:
                chosen += chosen
            case 2:
                chosen += list(rng.choice(self.files))[:30]
        return chosen

    def _change_line(self, rng: random.Random, lines: list[bytes]) -> None:
        record = json.loads(json.dumps(rng.choice(self.kinds)))
        for _ in range(rng.choice((1, 1, 2, 4))):
            place = record
            while nested := [v for v in place.values() if isinstance(v, dict) and v]:
                if rng.random() < 0.5:
                    break
                place = rng.choice(nested)
            key = rng.choice(sorted(place))
            chance = rng.random()
            if chance < 0.1:
                del place[key]
            elif chance < 0.25:
                place[rng.choice(WORDS)] = place[key]
            else:
                place[key] = self._value(rng)
            if not place:
                break
        text = json.dumps(record, ensure_ascii=rng.random() < 0.5)
        lines.insert(rng.randrange(len(lines) + 1), text.encode("utf-8", "surrogatepass") + b"\n")

    def _value(self, rng: random.Random) -> object:
        match rng.randrange(7):
            case 0 | 1 | 2:
                return rng.choice(NUMBERS)
            case 3:
                return rng.choice(WORDS)
            case 4:
                return rng.choice((None, True, False, float("nan"), float("inf")))
            case 5:
                return [self._value(rng) for _ in range(rng.randrange(4))]
            case _:
                return {rng.choice(WORDS): self._value(rng) for _ in range(rng.randrange(3))}

    def _change_bytes(self, rng: random.Random, content: bytearray) -> None:
        at = rng.randrange(len(content) + 1)
        match rng.randrange(5):
            case 0 if content:
                content[at % len(content)] = rng.randrange(256)
            case 1:
                del content[at : at + rng.choice((1, 10, 1000))]
            case 2:
                content[at:at] = rng.choice(TOKENS)
            case 3:
                content[at:at] = b"[" * rng.choice((10, 3000))
            case _:
                del content[at:]


def check(content: bytes, folder: Path, render: bool, other: Analysis) -> str:
    """Analyze one trace; return "analyzed" or "refused"."""
    path = folder / "trace.jsonl"
    path.write_bytes(content)
    try:
        analysis = read_analysis(path, budget=1_000_000)
    except ToolkitError:
        return "refused"
    json.dumps(analysis.to_json(), allow_nan=False)
    if render:
        report = render_report(analysis).encode()
        assert len(report) < 3_000_000, f"the report has {len(report)} bytes"
        console = Console(width=100, color_system=None, file=io.StringIO())
        print_summary(console, analysis)
        print_overview(console, [analysis, other])
        for comparison in (compare_runs(analysis, other), compare_runs(other, analysis)):
            json.dumps(comparison.to_json(), allow_nan=False)
            print_comparison(console, comparison)
        assert "\x1b" not in console.file.getvalue(), "an escape reached the terminal"
        write_perfetto([analysis], folder / "out.pftrace").unlink()
    left = [entry.name for entry in folder.iterdir()]
    assert left == ["trace.jsonl"], f"files were left: {left}"
    return "analyzed"


def main() -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000, help="traces (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_failures"), help="(%(default)s)")
    options = parser.parse_args()
    mutator = Mutator()
    outcomes: Counter[str] = Counter()
    slowest, slowest_index = 0.0, 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        folder.mkdir()
        good = Path(temporary) / "good.jsonl"
        good.write_bytes(b"".join(mutator.files[0]))
        other = read_analysis(good)
        for index in range(options.count):
            content = mutator.trace(options.seed, index)
            begin = time.process_time()
            try:
                outcome = check(content, folder, index % RENDER_EVERY == 0, other)
                seconds = time.process_time() - begin
                assert seconds < TOO_SLOW, f"it took {seconds:.1f} s"
                outcomes[outcome] += 1
            except Exception:
                outcomes["unhandled"] += 1
                options.keep.mkdir(parents=True, exist_ok=True)
                kept = options.keep / f"{options.seed}-{index}.jsonl"
                kept.write_bytes(content)
                print(f"trace {index} of seed {options.seed}, kept as {kept}:")
                traceback.print_exc(file=sys.stdout)
            slowest, slowest_index = max(
                (slowest, slowest_index), (time.process_time() - begin, index)
            )
            if index % 10_000 == 9_999:
                print(f"{index + 1:,}: {dict(outcomes)}", flush=True)
    minutes = (time.monotonic() - started) / 60
    print(
        f"{options.count:,} traces in {minutes:.1f} min, "
        f"slowest {slowest:.2f} s of processor time (trace {slowest_index}): "
        + ", ".join(f"{count:,} {name}" for name, count in outcomes.items())
    )
    return 1 if outcomes["unhandled"] else 0


if __name__ == "__main__":
    sys.exit(main())
