"""Cases against a real daemon, one per process: `python -m tests.device.adb_cases CASE FOLDER`."""

import os
import sys
from pathlib import Path

from tests.device import adb_files, adb_runs, adb_users
from tests.device.adb_daemon import Daemon, Server
from tests.device.adb_phone import THROUGH_SERVER, mount_small

CASES = {
    function.__name__: function
    for function in (
        adb_files.shell,
        adb_files.files,
        adb_files.push,
        adb_files.cut_push,
        adb_files.cut_pull,
        adb_files.full,
        adb_runs.full_start,
        adb_files.hostile,
        adb_runs.train,
        adb_users.commands,
        adb_runs.evaluate_cut,
        adb_runs.system_trace,
        adb_users.refusals,
        adb_users.server_states,
        adb_runs.real_training,
        adb_runs.split_training,
    )
}


def main() -> None:
    case, folder = CASES[sys.argv[1]], Path(sys.argv[2])
    os.environ["ANDROID_USER_HOME"] = str(folder / "android")
    os.environ["HOME"] = str(folder)  # a server writes its key there
    daemon, server = Daemon(), Server()
    if case in (adb_files.full, adb_runs.full_start):
        mount_small(folder)
    daemon.start()
    try:
        if THROUGH_SERVER:
            server.start()
        case(daemon, folder)
    finally:
        daemon.kill()
        if THROUGH_SERVER:
            server.stop()


if __name__ == "__main__":
    main()
