"""A node over a real adbd, in a namespace of its own: `python -m tests.federation.adb_cases`."""

import os
import sys
import threading
import time
from pathlib import Path

import toolkit
from tests.device.adb_daemon import ADDRESS, Daemon
from tests.federation.test_failures import Seen
from tests.support.processes import processes_with, wait_for


def trainers(folder: Path) -> dict[int, str]:
    """Return the trainers that train on the phone, which its own loader starts."""
    there = processes_with(f"{folder}/root")
    return {pid: line for pid, line in there.items() if "trainer train " in line}


def cut_rounds(daemon: Daemon, folder: Path) -> None:
    """In every round adbd is killed while the trainer trains, and started again a second later."""
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    with toolkit.open_device(ADDRESS) as device:
        device.deploy(folder / "bundle", folder / "data", name="lab")
    cuts: list[threading.Thread] = []
    done: list[int] = []

    def cut() -> None:
        wait_for(lambda: trainers(folder), 60)
        daemon.kill()
        assert trainers(folder), "it trains on without a connection"
        done.append(len(done))
        time.sleep(1)
        daemon.start()

    def begins(number: int) -> None:
        cuts.append(threading.Thread(target=cut))
        cuts[-1].start()

    result = toolkit.federate(folder / "lab.yaml", folder / "out", shown=Seen(begins))
    for thread in cuts:
        thread.join()
    assert len(done) == len(result.rounds) == 2
    for record in result.rounds:
        assert not record["failures"], record
        assert [node["lost"] > 0 for node in record["nodes"]] == [True, False], record


def main() -> None:
    folder = Path(sys.argv[2])
    os.environ["ANDROID_USER_HOME"] = str(folder / "android")
    daemon = Daemon()
    daemon.start()
    try:
        {"cut_rounds": cut_rounds}[sys.argv[1]](daemon, folder)
    finally:
        daemon.kill()


if __name__ == "__main__":
    main()
