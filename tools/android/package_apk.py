"""Shrinks and dexes the app's classes, and packs and signs the APK; called by android_app/pom.xml.

The order of a release build: R8 (with the keep rules of the app and of its manifest), the engine
that tools/android/engine.py left in build/android/jniLibs/ABI, zipalign, apksigner. The key is
a debug key made here; a release is signed by whoever publishes it.

    python tools/android/package_apk.py --help
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import zopfli

ROOT = Path(__file__).resolve().parents[2]
AAPT2 = ROOT / ".cache/android/aapt2"
BUILD = ROOT / "build/android"
APK = BUILD / "toolkit-trainer-debug.apk"
MIN_SDK = 28
ABIS = ("arm64-v8a", "x86_64")
_PASSWORD = "android"  # of a debug key, as Android Studio's


def main() -> int:
    """Write the APK."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("repository", "framework", "r8", "kotlin", "classes"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    repository = Path(options.repository)
    framework = artifact(repository, "org/robolectric", "android-all", options.framework)
    kotlin = artifact(repository, "org/jetbrains/kotlin", "kotlin-stdlib", options.kotlin)
    classes = pack_classes(Path(options.classes))
    shrink(
        artifact(repository, "com/android/tools", "r8", options.r8), framework, [classes, kotlin]
    )
    sign(align(assemble()))
    return 0


def artifact(repository: Path, group: str, name: str, version: str) -> Path:
    """Return a jar of the local Maven repository."""
    path = repository / group / name / version / f"{name}-{version}.jar"
    if not path.is_file():
        sys.exit(f"error: {path} is missing. Run `make android`, which fetches it")
    return path


def pack_classes(folder: Path) -> Path:
    """Put the compiled classes into a jar, which R8 wants."""
    jar = BUILD / "classes.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        for path in sorted(folder.rglob("*.class")):
            archive.write(path, path.relative_to(folder))
    return jar


def shrink(r8: Path, framework: Path, inputs: list[Path]) -> None:
    """Write build/android/dex/classes.dex."""
    dex = BUILD / "dex"
    dex.mkdir(exist_ok=True)
    rules = [ROOT / "android_app/app/proguard-rules.pro", BUILD / "keep.pro"]
    run(
        *("java", "-Xmx2g", "-cp", r8, "com.android.tools.r8.R8", "--release"),
        # The framework's jar leaves java.* to the JVM that Robolectric runs on.
        *("--min-api", MIN_SDK, "--lib", framework, "--lib", java_home(), "--output", dex),
        # With a map the lines of stack traces are kept there, not in the app.
        *("--pg-map-output", BUILD / "mapping.txt"),
        *(word for rule in rules for word in ("--pg-conf", rule)),
        *inputs,
    )


def java_home() -> Path:
    """Return the home of the JDK that `javac` belongs to."""
    compiler = shutil.which("javac")
    if compiler is None:
        sys.exit("error: there is no javac. Install a JDK 17")
    return Path(compiler).resolve().parents[1]


def assemble() -> Path:
    """Add classes and the engine to the linked resources; the installer unpacks the engine."""
    resources, unaligned = BUILD / "optimized.apk", BUILD / "unaligned.apk"
    # Nothing looks a resource up by its name.
    run(
        *(AAPT2, "optimize", "--collapse-resource-names", "--deduplicate-entry-values"),
        *("--shorten-resource-paths", "--enable-sparse-encoding", "-o", resources),
        BUILD / "resources.apk",
    )
    with (
        zipfile.ZipFile(resources) as linked,
        zopfli.ZipFile(unaligned, "w", zipfile.ZIP_DEFLATED, block_splitting_max=0) as archive,
    ):
        for entry in linked.infolist():
            archive.writestr(entry, linked.read(entry))  # what was stored stays so
        archive.write(BUILD / "dex/classes.dex", "classes.dex")
    with zipfile.ZipFile(unaligned, "a", zipfile.ZIP_DEFLATED) as archive:
        for abi in ABIS:
            for library in sorted((BUILD / "jniLibs" / abi).glob("*.so")):
                archive.write(library, f"lib/{abi}/{library.name}")
    return unaligned


def align(apk: Path) -> Path:
    """Align what is mapped at run time: the resources."""
    aligned = BUILD / "aligned.apk"
    run("zipalign", "-f", 4, apk, aligned)
    run("zipalign", "-c", 4, aligned)
    return aligned


def sign(apk: Path) -> None:
    """Sign with a debug key, made at the first time, and verify."""
    store = BUILD / "debug.keystore"
    if not store.exists():
        run(
            *(
                "keytool",
                "-genkeypair",
                "-keystore",
                store,
                "-storepass",
                _PASSWORD,
                "-alias",
                "debug",
            ),
            *("-keyalg", "RSA", "-keysize", 2048, "-validity", 10000, "-dname", "CN=Debug"),
            *("-storetype", "PKCS12"),
        )
    run(
        # Android from 7 on reads the signature of the whole file.
        *(
            "apksigner",
            "sign",
            "--v1-signing-enabled",
            "false",
            "--ks",
            store,
            "--ks-pass",
            f"pass:{_PASSWORD}",
            "--ks-key-alias",
        ),
        *("debug", "--min-sdk-version", MIN_SDK, "--out", APK, apk),
    )
    run("apksigner", "verify", "--min-sdk-version", MIN_SDK, APK)


def run(*command: object) -> None:
    """Run a tool; show what it says only when it fails."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"error: {words[0]} failed\n{result.stdout}{result.stderr}")


if __name__ == "__main__":
    sys.exit(main())
