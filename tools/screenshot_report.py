"""Take pictures of a report in headless Chromium: desktop and phone width, light and dark.

    python tools/screenshot_report.py runs/run1/report.html -o /tmp/pictures

Needs Debian's chromium (apt-get install chromium). Talks to it over its debugging pipe, because the
command line's --screenshot knows neither the page's height nor a phone's width.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VIEWS = {
    "desktop-light": (1280, 2, "light"),
    "desktop-dark": (1280, 2, "dark"),
    "phone-light": (390, 2, "light"),
    "phone-dark": (390, 2, "dark"),
}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """Headless Chromium, driven over two pipes (file descriptors 3 and 4 on its side)."""

    def __init__(self, chromium: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="screenshot-")
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()

        def place_pipes() -> None:
            os.dup2(read_there, 13)
            os.dup2(write_there, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self._process = subprocess.Popen(
            [chromium, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            preexec_fn=place_pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self._out = os.fdopen(write_here, "wb", buffering=0)
        self._in = os.fdopen(read_here, "rb")
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def wait_for(self, event: str) -> None:
        """Wait until an event has arrived since the last call of this method."""
        while not any(message["method"] == event for message in self.events):
            self._read()
        self.events.clear()

    def _read(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("chromium ended")
            data += byte
        message = json.loads(data)
        if "method" in message:
            self.events.append(message)
        return message

    def close(self) -> None:
        """End the browser and remove its profile."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)


def take(
    browser: Browser, report: Path, folder: Path, script: str, crop: int, scripts: bool = True
) -> list[str]:
    """Take all views of a report; return what the page complained about."""
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Log", "Runtime"):
        browser.call(f"{domain}.enable", session)
    browser.call("Emulation.setScriptExecutionDisabled", session, value=not scripts)
    complaints = []
    for name, (width, scale, scheme) in VIEWS.items():
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", session, features=features)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": scale, "mobile": width < 600}
        browser.call("Emulation.setDeviceMetricsOverride", session, **metrics)
        browser.events.clear()
        browser.call("Page.navigate", session, url=report.resolve().as_uri())
        browser.wait_for("Page.loadEventFired")
        if script:
            browser.call("Runtime.evaluate", session, expression=script)
        size = browser.call("Page.getLayoutMetrics", session)["cssContentSize"]
        if size["width"] > width:
            complaints.append(f"{name}: the page is {size['width']} wide in a view of {width}")
        height = min(size["height"], 16000 / scale)
        for part, top in enumerate(range(0, int(height), crop)):
            clip = {
                "x": 0, "y": top, "width": width, "height": min(crop, height - top), "scale": 1,
            }  # fmt: skip
            options = {"clip": clip, "captureBeyondViewport": True, "format": "png"}
            image = browser.call("Page.captureScreenshot", session, **options)["data"]
            (folder / f"{name}-{part}.png").write_bytes(base64.b64decode(image))
        complaints += [
            f"{name}: {json.dumps(event['params'])[:300]}"
            for event in browser.events
            if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        browser.events.clear()
    return complaints


def main() -> int:
    """Take the pictures; exit 1 when the page complains or is wider than its view."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("pictures"))
    parser.add_argument("--script", default="", help="JavaScript to run before each picture")
    parser.add_argument("--no-scripts", action="store_true", help="with JavaScript turned off")
    parser.add_argument("--crop", type=int, default=1500, help="height of one picture, CSS pixels")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: chromium is missing. apt-get install chromium", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    browser = Browser(chromium)
    try:
        crop = options.crop
        scripts = not options.no_scripts
        complaints = take(browser, options.report, options.output, options.script, crop, scripts)
    finally:
        browser.close()
    for complaint in complaints:
        print(complaint)
    print(f"pictures in {options.output}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
