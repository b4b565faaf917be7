"""`toolkit runtime`: build and list the runtimes that devices get."""

from typing import Annotated

import typer

from toolkit.cli.common import console, error_console, print_json, say_next
from toolkit.cli.options import AsJson
from toolkit.cli.units import bytes_text
from toolkit.device import runtime_build

app = typer.Typer(no_args_is_help=True, help="Build and list the runtimes that run on devices.")


@app.command("build")
def build(
    abi: Annotated[
        str, typer.Option("--abi", help=f"One of {', '.join(runtime_build.TARGETS)}.")
    ] = "arm64-v8a",
    as_json: AsJson = False,
) -> None:
    """Compile the trainer for phones and collect it with its own loader and libraries.

    Needs no NDK: Debian's g++-aarch64-linux-gnu is enough.

    \b
    Examples:
      toolkit runtime build --abi arm64-v8a
      toolkit runtime build --abi x86_64      # emulators
    """
    if abi not in runtime_build.TARGETS:
        raise typer.BadParameter(f"must be one of {', '.join(runtime_build.TARGETS)}")

    def say(line: str) -> None:
        error_console.print(line, markup=False, highlight=False)

    folder = runtime_build.build(abi, say)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if as_json:
        print_json({"abi": abi, "path": str(folder), "bytes": size})
    else:
        console.print(f"{folder} ({bytes_text(size)})", highlight=False, soft_wrap=True)
        say_next("toolkit deploy BUNDLE --data DATA --device SERIAL")


@app.command("list")
def list_runtimes(
    as_json: AsJson = False,
) -> None:
    """Show for which devices a runtime is built; this machine's own comes with the installation."""
    rows = []
    for abi in runtime_build.TARGETS:
        folder = runtime_build.built_runtime(abi)
        rows.append({"abi": abi, "path": str(folder), "built": (folder / "trainer").is_file()})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        remedy = f"not built: toolkit runtime build --abi {row['abi']}"
        text = row["path"] if row["built"] else remedy
        console.print(f"{row['abi']}: {text}", markup=False, highlight=False, soft_wrap=True)
