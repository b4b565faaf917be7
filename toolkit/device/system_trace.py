"""The phone's own system trace beside a run: scheduling, frequencies and memory of all processes.

Android's `perfetto` records it (10 and later), else `atrace`; both run from the adb shell without
root. Which commands that takes and what their answers mean is here, apart from the sending, so that
it can be tested without a phone. Both kinds of file open in ui.perfetto.dev.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from toolkit.device.base import Device
from toolkit.device.errors import DeviceCommandError
from toolkit.device.shell import command_line, quote
from toolkit.files import atomic_file

_FOLDER = "/data/misc/perfetto-traces"
"""The only place that Android's policy lets `perfetto` write to and the shell read from."""

_LIMIT = 1 << 30
_FILE_BYTES = 256 << 20
_STOP_SECONDS = 60.0
_CATEGORIES = ("sched", "freq", "idle", "disk", "memreclaim", "thermal")
_KNOWN = rf"s/^ *({'|'.join(_CATEGORIES)}) - .*/\1/p"
_EVENTS = (
    "sched/sched_switch",
    "sched/sched_blocked_reason",
    "power/cpu_frequency",
    "power/cpu_idle",
    "thermal/thermal_temperature",
    "vmscan/mm_vmscan_direct_reclaim_begin",
    "vmscan/mm_vmscan_direct_reclaim_end",
    "lowmemorykiller/lowmemory_kill",
    "oom/oom_score_adj_update",
)


@dataclass(frozen=True)
class Recording:
    """A system trace that is being recorded.

    Attributes:
        tool: perfetto or atrace.
        path: Where it will be on the device.
        pid: Process of perfetto; atrace leaves it to the kernel.
    """

    device: Device
    tool: str
    path: str
    pid: int | None = None

    @property
    def suffix(self) -> str:
        """How a file of this kind ends."""
        return ".system.pftrace" if self.tool == "perfetto" else ".system.atrace"


def perfetto_config(file_bytes: int = _FILE_BYTES) -> str:
    """Return what perfetto is to record, in its text format; the file is bounded, so that a trace
    whose end nobody sees does not fill the phone."""
    events = " ".join(f'ftrace_events: "{event}"' for event in _EVENTS)
    ftrace = f'name: "linux.ftrace" ftrace_config {{ {events} }}'
    processes = (
        'name: "linux.process_stats" '
        "process_stats_config { scan_all_processes_on_start: true proc_stats_poll_ms: 1000 }"
    )
    system = (
        'name: "linux.sys_stats" '
        "sys_stats_config { meminfo_period_ms: 1000 vmstat_period_ms: 1000 }"
    )
    sources = "".join(
        f"data_sources {{ config {{ {source} }} }}\n" for source in (ftrace, processes, system)
    )
    return (
        "buffers { size_kb: 16384 fill_policy: RING_BUFFER }\n"
        f"{sources}"
        "write_into_file: true\nfile_write_period_ms: 2500\nflush_period_ms: 10000\n"
        f"max_file_size_bytes: {file_bytes}\n"
    )


def start_command(tool: str, path: str) -> str:
    """Return the shell line that begins to record and comes back at once."""
    if tool == "perfetto":
        # Older Androids let perfetto read its configuration from standard input only.
        start = command_line("perfetto", "--background", "--txt", "-c", "-", "-o", path)
        return f"printf %s {quote(perfetto_config())} | {start}"
    # Any category that the device does not have would make atrace refuse all. -c: a ring of 16 MB a
    # core, which keeps the last part of a long run.
    known = f"$(atrace --list_categories | sed -nE {quote(_KNOWN)})"
    return f"{command_line('atrace', '--async_start', '-c', '-b', 16384)} {known}"


def stop_command(tool: str, path: str, pid: int | None) -> str:
    """Return the shell line that ends the recording and leaves the file at `path`."""
    if tool == "atrace":
        return command_line("atrace", "--async_stop", "-z", "-o", path)
    # perfetto writes the rest and ends; seconds pass until the file is whole.
    return (
        f"kill -TERM {pid} || exit 1; "
        f"for i in {' '.join(map(str, range(int(_STOP_SECONDS / 2))))}; do "
        f"kill -0 {pid} 2>/dev/null || exit 0; sleep 1; done; exit 1"
    )


def parse_tools(output: str) -> list[str]:
    """Return the tools that `command -v perfetto; command -v atrace` found, the better first."""
    names = {line.strip().rpartition("/")[2] for line in output.splitlines()}
    return [tool for tool in ("perfetto", "atrace") if tool in names]


def parse_pid(output: str) -> int | None:
    """Return the process that `perfetto --background` says it left, which its last line is."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return int(lines[-1]) if lines and re.fullmatch(r"[1-9]\d{0,9}", lines[-1]) else None


def why_not(output: str) -> str:
    """Return the tool's own words about why it does not record, in one printable line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    chosen = next((line for line in lines if "error" in line.lower() or "denied" in line), "")
    text = chosen or (lines[-1] if lines else "it says nothing")
    return "".join(char if char.isprintable() else "?" for char in text)[:200]


def begin_recording(device: Device, name: str) -> Recording | str:
    """Begin a system trace for run `name`; where the device has none to offer, say why."""
    tools = parse_tools(device.shell("command -v perfetto; command -v atrace").text)
    if not tools:
        return f"device {device.spec} offers neither perfetto nor atrace"
    reason = ""
    for tool in tools:
        folder = _FOLDER if tool == "perfetto" else device.root
        path = f"{folder}/toolkit-{name}-{int(time.time())}"
        result = device.shell(start_command(tool, path))
        pid = parse_pid(result.text)
        if result.code == 0 and (tool == "atrace" or pid is not None):
            return Recording(device, tool, path, pid)
        reason = f"{tool} on device {device.spec} does not record: {why_not(result.text)}"
    return reason


def end_recording(recording: Recording, beside: Path) -> Path:
    """Stop recording, bring the trace here and remove it there; return where it is.

    Args:
        beside: The run's folder on this machine, which need not exist: the file stands next to it.

    Raises:
        DeviceLost: The connection broke.
        DeviceCommandError: The trace did not become whole, or is out of bounds.
    """
    device, path = recording.device, recording.path
    stop = device.shell(stop_command(recording.tool, path, recording.pid), _STOP_SECONDS)
    entry = device.stat(path)
    if stop.code != 0 or entry is None or entry.kind != "file" or not entry.size:
        raise DeviceCommandError(
            f"{recording.tool} on device {device.spec} left no system trace: {why_not(stop.text)}"
        )
    if entry.size > _LIMIT:
        raise DeviceCommandError(
            f"the system trace {path} has {entry.size / 1e9:.1f} GB, more than is brought here",
            "Fetch it with adb pull, or remove it",
        )
    target = beside.with_name(beside.name + recording.suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as file:
        device.pull(path, file, 0, entry.size, lambda _: None)
    device.shell(command_line("rm", "-f", path))
    return target
