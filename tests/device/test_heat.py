"""When a phone is too hot: the rules that the app has, on what phones print."""

import re
from pathlib import Path

import pytest

from tests.support.fake_dumpsys import BATTERY, THERMAL, FakeDumpsys
from toolkit.device import heat
from toolkit.device.heat import Heat, parse_heat, read_heat
from toolkit.device.local import LocalDevice

_POLICY = "android_app/app/src/main/kotlin/dev/toolkit/trainer/policy/Policy.kt"


@pytest.mark.parametrize(
    ("celsius", "status", "why", "held"),
    [
        (28.7, 0, None, None),
        (41.9, 0, None, "battery has 41.9"),
        (42.0, 0, "battery has 42.0", "battery has 42.0"),
        (38.9, 1, None, "status is light"),
        (None, 2, "status is moderate", "status is moderate"),
        (30.0, 99, "status is shutdown", "status is shutdown"),
        (None, None, None, None),
    ],
)
def test_limits_and_what_ends_a_wait(celsius, status, why, held):
    said = Heat(celsius, status)
    for reason, wanted in ((said.reason(), why), (said.reason(held=True), held)):
        assert reason is None if wanted is None else wanted in reason


def test_the_app_has_the_same_limits():
    text = (Path(__file__).resolve().parents[2] / _POLICY).read_text()
    found = dict(re.findall(r"val (\w+) = ([\d.]+)", text))
    assert float(found["HOTTEST_BATTERY"]) == heat.HOTTEST_BATTERY
    assert float(found["HOTTEST_BATTERY"]) - float(found["HEAT_MARGIN"]) == heat.COOL_BATTERY
    assert int(found["THERMAL_MODERATE"]) == heat.WARMEST_STATUS


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (BATTERY.format(tenths=431) + THERMAL.format(status=3), Heat(43.1, 3)),
        (THERMAL.format(status=0), Heat(None, 0)),
        (BATTERY.format(tenths=0), Heat(None, None)),  # a phone that does not measure it
        ("  temperature: 1e9\nThermal Status: many\n", Heat()),
        ("Can't find service: thermalservice\n", Heat()),
    ],
)
def test_what_dumpsys_says(text, wanted):
    assert parse_heat(text) == wanted


def test_a_device_is_asked(tmp_path, monkeypatch):
    """One without dumpsys, as this machine, says nothing."""
    device = LocalDevice(tmp_path)
    assert read_heat(device) == Heat()
    phone = FakeDumpsys(tmp_path)
    monkeypatch.setenv("PATH", str(phone.bin), prepend=":")
    phone.says(celsius=43.1, status=1)
    before = device.traffic.received
    assert read_heat(device) == Heat(43.1, 1)
    assert device.traffic.received - before < 200
