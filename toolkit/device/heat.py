"""Whether a phone is too hot to train, by the rules of the app (policy/Policy.kt).

    battery         `dumpsys battery`: from 42 degrees Celsius on, until it has fallen below 39
    thermal status  `dumpsys thermalservice`, since Android 10: from moderate (2) on, until none (0)

The app also asks for a forecast, which a shell cannot. What has no dumpsys is never hot.
"""

import re
from dataclasses import dataclass

from toolkit.device.base import Device
from toolkit.device.parsers import parse_battery

HOTTEST_BATTERY = 42.0
COOL_BATTERY = 39.0
WARMEST_STATUS = 2
COOL_STATUS = 0
_NAMES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_STATUS = re.compile(r"^\s*Thermal Status: (\d{1,2})\s*$", re.MULTILINE)
# Their whole output is some kilobytes.
_COMMAND = (
    "dumpsys battery 2>/dev/null | grep -i 'temperature:'; "
    "dumpsys thermalservice 2>/dev/null | grep 'Thermal Status:'; true"
)


@dataclass(frozen=True)
class Heat:
    """What a phone says: degrees Celsius of its battery, and a thermal status; None if neither."""

    battery: float | None = None
    status: int | None = None

    def reason(self, *, held: bool = False) -> str | None:
        """Return why a phone is too hot, None if it is not.

        Args:
            held: It was too hot before, and must have become clearly cooler.
        """
        celsius = COOL_BATTERY if held else HOTTEST_BATTERY
        if self.battery is not None and self.battery >= celsius:
            return f"its battery has {self.battery:.1f} degrees Celsius"
        status = COOL_STATUS + 1 if held else WARMEST_STATUS
        if self.status is not None and self.status >= status:
            return f"its thermal status is {_NAMES[min(self.status, len(_NAMES) - 1)]}"
        return None


def parse_heat(text: str) -> Heat:
    """Return what the output of both `dumpsys` says."""
    battery, status = parse_battery(text), _STATUS.search(text)
    celsius = battery.celsius if battery is not None else None
    if celsius is not None and celsius <= 0:  # of phones that do not measure it
        celsius = None
    return Heat(celsius, int(status[1]) if status else None)


def read_heat(device: Device) -> Heat:
    """Ask a device.

    Raises:
        DeviceLost: The connection broke.
    """
    return parse_heat(device.shell(_COMMAND).text)
