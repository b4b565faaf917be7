"""Stand-ins for the phone's `atrace` and `perfetto`: scripts that answer as these do."""

from pathlib import Path

FAKE_SYSTEM_TRACE = b"TRACE:\nall of the system\n"

_ATRACE = r"""#!/bin/sh
case $1 in
    --list_categories)
        echo "         gfx - Graphics"
        echo "       sched - CPU Scheduling"
        echo "        freq - CPU Frequency"
        echo "        disk - Disk I/O"
        exit 0 ;;
    --async_stop) printf 'TRACE:\nall of the system\n' > "$4" ;;
esac
echo "$*" >> LOG
"""

# Leaves a process that writes the trace when it is asked to end, as traced's consumer does.
_PERFETTO = r"""#!/bin/sh
cat > LOG
[ -n "REFUSES" ] && { echo "connection to traced failed: Permission denied"; exit 1; }
while [ "$1" != -o ]; do shift; done
out=$2
sh -c 'trap "printf \"TRACE:\\nall of the system\\n\" > \"$0\"; exit 0" TERM
while :; do sleep 0.1; done' "$out" > /dev/null 2>&1 &
echo $!
"""


def write_fake_atrace(folder: Path, log: Path) -> None:
    """Put an `atrace` into a folder for PATH; it notes its arguments in `log`."""
    _write(folder / "atrace", _ATRACE.replace("LOG", str(log)))


def write_fake_perfetto(folder: Path, log: Path, *, refuses: bool = False) -> None:
    """Put a `perfetto` into a folder for PATH; it notes its configuration in `log`."""
    text = _PERFETTO.replace("LOG", str(log)).replace("REFUSES", "yes" if refuses else "")
    _write(folder / "perfetto", text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
