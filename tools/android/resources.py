"""Compiles and links the app's resources with aapt2; called by android_app/pom.xml.

Writes below build/android: resources.apk (manifest and resources), generated/ (R.java), keep.pro
(what the manifest names) and test-config/ (what Robolectric reads).

    python tools/android/resources.py --framework android-all.jar
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "android_app/app/src/main"
BUILD = ROOT / "build/android"
AAPT2 = ROOT / ".cache/android/aapt2"
PACKAGE = "dev.toolkit.trainer"
MIN_SDK, TARGET_SDK = 28, 36
VERSION_CODE, VERSION_NAME = 1, "0.1.0"


def main() -> int:
    """Link everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--framework", type=Path, required=True, help="API 35 jar to link against")
    framework = parser.parse_args().framework
    BUILD.mkdir(parents=True, exist_ok=True)
    manifest = merged_manifest()
    compiled = BUILD / "compiled.zip"
    # The licences of what tools/android/engine.py packed.
    made = ("-A", BUILD / "assets") if (BUILD / "assets").is_dir() else ()
    run(AAPT2, "compile", "--dir", SOURCE / "res", "-o", compiled)
    run(
        *(AAPT2, "link", "-I", framework, "--manifest", manifest, "-o", BUILD / "resources.apk"),
        *("--java", BUILD / "generated", "--proguard", BUILD / "keep.pro", "--auto-add-overlay"),
        *("--min-sdk-version", MIN_SDK, "--target-sdk-version", TARGET_SDK),
        *("--version-code", VERSION_CODE, "--version-name", VERSION_NAME, "--debug-mode"),
        *("-A", SOURCE / "assets", *made, compiled),
    )
    write_test_config(manifest)
    return 0


def merged_manifest() -> Path:
    """Insert the package, which Gradle takes from build files, and leave out hints for lint."""
    text = (SOURCE / "AndroidManifest.xml").read_text()
    text = re.sub(r'\s+(xmlns:tools|tools:\w+)="[^"]*"', "", text)
    head = "<manifest xmlns:android="
    if text.count(head) != 1:
        sys.exit("error: AndroidManifest.xml does not begin as expected")
    manifest = BUILD / "AndroidManifest.xml"
    manifest.write_text(text.replace(head, f'<manifest package="{PACKAGE}" xmlns:android='))
    return manifest


def write_test_config(manifest: Path) -> None:
    """Tell Robolectric where manifest and resources are."""
    folder = BUILD / "test-config/com/android/tools"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_config.properties").write_text(
        f"android_merged_manifest={manifest}\n"
        f"android_resource_apk={BUILD / 'resources.apk'}\n"
        f"android_custom_package={PACKAGE}\n"
    )


def run(*command: object) -> None:
    """Run a tool; its messages are the build's."""
    result = subprocess.run([str(word) for word in command], check=False)
    if result.returncode:
        sys.exit(result.returncode)


if __name__ == "__main__":
    sys.exit(main())
