"""A long run at full detail is analyzed in seconds and in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trace.synthetic import Recipe, write_trace

MEASURE = """
import json, resource, sys
from pathlib import Path
from toolkit.trace.analysis import read_analysis
from toolkit.trace.report import write_report
report = write_report(read_analysis(sys.argv[1]), Path(sys.argv[1]).with_name("report.html"))
usage = resource.getrusage(resource.RUSAGE_SELF)
status = Path("/proc/self/status").read_text()
# ru_maxrss would include what the parent had before exec.
peak = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps([usage.ru_utime + usage.ru_stime, peak, report.stat().st_size]))
"""


@pytest.mark.slow
def test_five_thousand_steps(tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "trace.jsonl", Recipe(steps=5000, layers=30, phone=True))
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(trace)], capture_output=True, text=True, check=True
    )
    # Processor time, because a busy machine takes any wall time it likes.
    seconds, kib, size = json.loads(run.stdout)
    assert seconds < 10
    assert kib * 1024 < 300e6
    assert size < 3e6
