"""Hosts that are no Linux: nothing that only Linux has is used where no trainer runs."""

import os
import subprocess
import sys

from tests.api.conftest import Workplace

# What Linux alone has is taken away; a Python program that opens a file of /proc or /sys fails.
WITHOUT_LINUX = """
import os, sys
for name in ("sched_getaffinity", "sched_setaffinity", "memfd_create", "posix_fallocate",
             "pidfd_open", "posix_fadvise", "splice", "copy_file_range", "eventfd"):
    if hasattr(os, name):
        delattr(os, name)
ours = os.path.realpath("PACKAGE")
def refuse(event, arguments):
    if event != "open" or not str(arguments[0]).startswith(("/proc", "/sys")):
        return
    frame = sys._getframe(1)
    while frame is not None:
        if os.path.realpath(frame.f_code.co_filename).startswith(ours):
            raise FileNotFoundError(2, "no such file", arguments[0])
        frame = frame.f_back
sys.addaudithook(refuse)
"""


def without_linux(folder, code: str) -> None:
    import toolkit

    package = os.path.dirname(os.path.realpath(toolkit.__file__))  # noqa: PTH120
    script = WITHOUT_LINUX.replace("PACKAGE", package) + code
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "TOOLKIT_HOME": str(folder / "home")},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_host_works_without_what_only_linux_has(workplace: Workplace):
    """All but the trainer itself, which runs on the device."""
    without_linux(
        workplace.folder,
        """
import toolkit
bundle = toolkit.export("model", "elsewhere", seq_lens=[64], rank=2)
data = toolkit.prepare_data(["chats.jsonl"], tokenizer=bundle, output="elsewhere-data")
assert toolkit.plan(bundle).peak_bytes > 0
with toolkit.open_device("local") as device:
    device.deploy(bundle, data)
    result = device.run("run1").pull("runs/elsewhere")
assert result.analysis.peak.bytes > 0
assert toolkit.compare("runs/run1", "runs/elsewhere").peak.difference == 0
""",
    )


def test_the_test_takes_them_away(workplace: Workplace):
    without_linux(
        workplace.folder,
        """
assert not hasattr(os, "sched_getaffinity")
from toolkit.files import sha256_file
try:
    sha256_file("/proc/self/status")
except FileNotFoundError:
    sys.exit(0)
sys.exit("it is still there")
""",
    )
