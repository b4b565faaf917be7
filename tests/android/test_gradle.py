"""Gradle's build, never run here, reads where `make android` writes and where sources are."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "android_app"
BUILD = ROOT / "build/android"


def paths():
    """Return the paths that the module's build file names, made absolute.

    `rootDir` is the project's folder; other paths are those of the module. Links are not followed.
    """
    script = (APP / "app/build.gradle.kts").read_text(encoding="utf-8")
    named = re.findall(r'(rootDir\.resolve\()?"((?:\.\./|src/)[^"]+|[\w-]+\.pro)"', script)
    return {
        Path(os.path.normpath((APP if from_root else APP / "app") / path))
        for from_root, path in named
    }


def test_sources_are_there():
    sources = {path for path in paths() if not path.is_relative_to(BUILD)}
    assert {path for path in sources if not path.exists()} == set()
    assert ROOT / "tests/android/kotlin" in sources
    assert ROOT / "toolkit/runtime/CMakeLists.txt" in sources


def test_what_is_built_lies_where_maven_has_it():
    pom = (APP / "pom.xml").read_text(encoding="utf-8")
    written = {BUILD / path for path in re.findall(r"\$\{android\.build\}/([\w/-]+)", pom)}
    written |= {BUILD / "jniLibs", BUILD / "assets"}  # tools/android packs them from there
    built = {path for path in paths() if path.is_relative_to(BUILD)}
    assert {"native", "fixtures", "screenshots", "results"} <= {path.name for path in built}
    assert built - written == set()
    packer = (ROOT / "tools/android/package_apk.py").read_text(encoding="utf-8")
    assert 'BUILD / "jniLibs"' in packer
