"""The phone's system trace: commands and answers as pure functions, then with stand-ins."""

import pytest
from google.protobuf import text_format
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

from tests.support.fake_system_trace import (
    FAKE_SYSTEM_TRACE,
    write_fake_atrace,
    write_fake_perfetto,
)
from toolkit.device import system_trace
from toolkit.device.local import LocalDevice
from toolkit.device.system_trace import (
    Recording,
    begin_recording,
    end_recording,
    parse_pid,
    parse_tools,
    perfetto_config,
    start_command,
    stop_command,
    why_not,
)
from toolkit.errors import ToolkitError


@pytest.mark.parametrize(
    ("output", "tools"),
    [
        ("/system/bin/perfetto\n/system/bin/atrace\n", ["perfetto", "atrace"]),
        ("/system/bin/atrace\r\n", ["atrace"]),
        ("", []),
        ("/system/bin/sh: perfetto: not found\n", []),
    ],
)
def test_tools(output, tools):
    assert parse_tools(output) == tools


@pytest.mark.parametrize(
    ("output", "pid"),
    [
        ("12345\n", 12345),
        ("[123.456] perfetto_cmd.cc:1 Connected to traced\n4711\r\n", 4711),
        ("", None),
        ("12345\nfailed\n", None),
        ("0\n", None),
        ("99999999999\n", None),
    ],
)
def test_pid(output, pid):
    assert parse_pid(output) == pid


def test_a_reason_is_one_printable_line():
    assert why_not("hello\nerror: \x1b[31mno\n bye\n") == "error: ?[31mno"
    assert why_not("one\ntwo\n") == "two"
    assert why_not("") == "it says nothing"
    assert len(why_not("error" * 1000)) == 200


def test_perfetto_understands_the_configuration():
    config = text_format.Parse(perfetto_config(5 << 20), protos.TraceConfig())
    assert [source.config.name for source in config.data_sources] == [
        "linux.ftrace",
        "linux.process_stats",
        "linux.sys_stats",
    ]
    assert "sched/sched_switch" in config.data_sources[0].config.ftrace_config.ftrace_events
    assert config.write_into_file and config.max_file_size_bytes == 5 << 20


def test_paths_are_quoted():
    for command in (start_command("perfetto", "/a b"), stop_command("atrace", "/a b", None)):
        assert "'/a b'" in command


@pytest.fixture
def device(tmp_path, monkeypatch):
    """This machine with only the basic tools and what a test puts into `bin`."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(system_trace, "_FOLDER", str(tmp_path / "traces"))
    (tmp_path / "traces").mkdir()
    with LocalDevice(tmp_path / "root") as device:
        device.make_directory(device.root)
        yield device


def test_a_device_without_tools_says_so(device):
    assert begin_recording(device, "run1") == "device local offers neither perfetto nor atrace"


def test_perfetto_records_and_ends(device, tmp_path):
    write_fake_perfetto(tmp_path / "bin", tmp_path / "config")
    write_fake_atrace(tmp_path / "bin", tmp_path / "log")
    recording = begin_recording(device, "run1")
    assert isinstance(recording, Recording) and recording.tool == "perfetto"
    path = end_recording(recording, tmp_path / "runs" / "run1")
    assert path == tmp_path / "runs/run1.system.pftrace"
    assert path.read_bytes() == FAKE_SYSTEM_TRACE
    assert (tmp_path / "config").read_text() == perfetto_config()
    assert not list((tmp_path / "traces").iterdir())
    assert not (tmp_path / "log").exists()


def test_atrace_steps_in_where_perfetto_is_refused(device, tmp_path):
    write_fake_perfetto(tmp_path / "bin", tmp_path / "config", refuses=True)
    assert begin_recording(device, "run1") == (
        "perfetto on device local does not record: connection to traced failed: Permission denied"
    )
    write_fake_atrace(tmp_path / "bin", tmp_path / "log")
    recording = begin_recording(device, "run1")
    path = end_recording(recording, tmp_path / "run1")
    assert path == tmp_path / "run1.system.atrace" and path.read_bytes() == FAKE_SYSTEM_TRACE


def test_a_trace_that_is_missing_or_too_long_is_not_brought(device, tmp_path, monkeypatch):
    write_fake_atrace(tmp_path / "bin", tmp_path / "log")
    recording = begin_recording(device, "run1")
    monkeypatch.setattr(system_trace, "_LIMIT", 5)
    with pytest.raises(ToolkitError, match="more than is brought here"):
        end_recording(recording, tmp_path / "run1")
    (tmp_path / "bin/atrace").write_text("#!/bin/sh\necho error: busy\nexit 1\n")
    gone = Recording(device, "atrace", f"{device.root}/none")
    with pytest.raises(ToolkitError, match="left no system trace: error: busy"):
        end_recording(gone, tmp_path / "run1")
    assert not list(tmp_path.glob("run1*"))
