"""Everything adb, against the real daemon of Debian 13, each case alone in a network namespace."""

import os
import subprocess
import sys
from functools import cache

import pytest

from tests.device import adb_daemon
from tests.device.adb_cases import CASES

_missing = cache(adb_daemon.missing)


@pytest.mark.parametrize("case", CASES)
def test_adb(case, tmp_path):
    if reason := _missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    command = [*adb_daemon.namespace_command(), sys.executable, "-m", "tests.device.adb_cases"]
    result = subprocess.run(
        [*command, case, str(tmp_path)],
        cwd=adb_daemon.__file__.rpartition("/tests/")[0],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
