"""A node over a real adbd, in a namespace of its own: `python -m tests.federation.adb_cases`."""

import os
import sys
import threading
import time
from pathlib import Path

import toolkit
from tests.device.adb_daemon import ADDRESS, Daemon
from tests.federation.test_failures import Seen
from tests.support.fake_dumpsys import FakeDumpsys
from tests.support.processes import processes_with, wait_for
from toolkit.federation import cooling


def trainers(folder: Path) -> dict[int, str]:
    """Return the trainers that train on the phone, which its own loader starts."""
    there = processes_with(f"{folder}/root")
    return {pid: line for pid, line in there.items() if "trainer train " in line}


def cut_rounds(daemon: Daemon, folder: Path) -> None:
    """In every round adbd is killed while the trainer trains, and started again a second later. At
    first the phone is too hot, by what it has for `dumpsys`.
    """
    os.environ["TOOLKIT_DEVICE_ROOT"] = f"{folder}/root"
    phone = FakeDumpsys(folder)
    daemon.kill()
    daemon.environment = {"PATH": f"{phone.bin}:{os.environ['PATH']}"}
    daemon.start()
    cooling._LOOK_SECONDS = 0.5
    with toolkit.open_device(ADDRESS) as device:
        device.deploy(folder / "bundle", folder / "data", name="lab")
    threads: list[threading.Thread] = []
    done: list[int] = []

    def cut() -> None:
        wait_for(lambda: trainers(folder), 60)
        daemon.kill()
        assert trainers(folder), "it trains on without a connection"
        done.append(len(done))
        time.sleep(1)
        daemon.start()

    def begins(number: int) -> None:
        threads.append(threading.Thread(target=cut))
        threads[-1].start()

    phone.says(celsius=43.1)
    shown, said = Seen(begins), []
    shown.say = said.append

    def cools_down() -> None:
        wait_for(lambda: any("waits to cool down" in line for line in said), 60)
        phone.says()

    threads.append(threading.Thread(target=cools_down))
    threads[-1].start()
    result = toolkit.federate(folder / "lab.yaml", folder / "out", shown=shown)
    for thread in threads:
        thread.join()
    assert len(done) == len(result.rounds) == 2
    for record in result.rounds:
        assert not record["failures"], record
        assert [node["lost"] > 0 for node in record["nodes"]] == [True, False], record
    hot = [node["hot_seconds"] > 0 for record in result.rounds for node in record["nodes"]]
    assert hot == [True, False, False, False]
    assert any("battery has 43.1 degrees" in line for line in said), said


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
