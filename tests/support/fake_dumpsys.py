"""A stand-in for the phone's `dumpsys`: a script that prints files that a test may change."""

from pathlib import Path

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 78
  scale: 100
  voltage: 4182
  temperature: {tenths}
  technology: Li-ion
"""
THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 1
\tkilled: false
\tbroadcasts count: -1
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=36.4, mType=3, mName=VIRTUAL-SKIN, mStatus={status}}}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue=36.4, mType=3, mName=VIRTUAL-SKIN, mStatus=0}}
"""


class FakeDumpsys:
    """`dumpsys battery` and `dumpsys thermalservice` of a phone, by a script in FOLDER/bin."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        script = self.bin / "dumpsys"
        script.write_text(f'#!/bin/sh\ncat "{self.bin}/$1"\n')
        script.chmod(0o755)
        self.says()

    def says(self, *, celsius: float = 28.7, status: int = 0) -> None:
        """Say this from now on."""
        tenths = round(10 * celsius)
        for name, text in (
            ("battery", BATTERY.format(tenths=tenths)),
            ("thermalservice", THERMAL.format(status=status)),
        ):
            (self.bin / "new").write_text(text)
            (self.bin / "new").replace(self.bin / name)
