"""Everything adb, against the real daemon of Debian 13, each case alone in a network namespace:
directly, and through a real adb server.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.device import adb_daemon
from tests.device.adb_cases import CASES

_missing = cache(adb_daemon.missing)


def run_case(case, folder, module="tests.device.adb_cases", **environment):
    """Run a case in its own namespaces; skip (in CI: fail) where the machine lacks something."""
    if reason := _missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    command = [*adb_daemon.namespace_command(), sys.executable, "-m", module]
    result = subprocess.run(
        [*command, case, str(folder)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


_TRAIN = {"real_training", "split_training"}  # tests/device/test_runtime.py
_ALONE = {*_TRAIN, "refusals", "server_states"}


@pytest.mark.parametrize("case", sorted(CASES.keys() - _TRAIN))
def test_adb(case, tmp_path):
    run_case(case, tmp_path)


@pytest.mark.parametrize("case", sorted(CASES.keys() - _ALONE))
def test_through_an_adb_server(case, tmp_path):
    """The same, with Android's own server between: what Android Studio leaves running."""
    run_case(case, tmp_path, TOOLKIT_TEST_ADB_SERVER="1")
