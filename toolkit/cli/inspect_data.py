"""What a data directory holds: the part of `toolkit inspect` that is about data."""

from pathlib import Path
from typing import Any

from toolkit.cli.common import console, print_json, say_next
from toolkit.cli.data_report import print_counts, print_line
from toolkit.cli.samples import print_samples
from toolkit.errors import ToolkitError


def inspect_data(
    folder: Path, tokenizer: str | None, show: int | None, *, hashes: bool, as_json: bool
) -> None:
    """Print what data.json says and, if asked for, the first `show` training sequences.

    Raises:
        ToolkitError: The data is damaged, of another version, or of another tokenizer.
    """
    from toolkit.data.fingerprint import check_version
    from toolkit.device.contents import checked_files, read_manifest

    report = read_manifest(folder, "data set")
    check_version(report, str(folder))
    if hashes:
        checked_files(folder, "data set")
    samples = _samples(folder, report, tokenizer, show) if show and tokenizer else []
    if as_json:
        shown = {"samples": [sample.to_json() for sample in samples]} if show else {}
        print_json(report | {"hashes": "match" if hashes else "not checked"} | shown)
        return
    try:
        with console.capture() as facts:
            _print_origin(folder, report)
            print_counts(report)
            state = f"match in all {len(report['files'])} files" if hashes else "not checked"
            print_line(f"Hashes {state}.")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ToolkitError(
            f"The data set {folder} is damaged: data.json lacks or misstates something ({error})",
            "Make it again with: toolkit data FILE --tokenizer BUNDLE",
        ) from error
    if show:
        print_samples(samples, report["train"]["sequences"])
    print(facts.get(), end="")
    say_next(f"toolkit deploy BUNDLE --data {folder}")


def _samples(folder: Path, report: dict[str, Any], source: str, count: int) -> list[Any]:
    from toolkit.data.fingerprint import describe_tokenizer
    from toolkit.data.tokenizers import check_source, load_tokenizer

    check_source(source)
    tokenizer = load_tokenizer(source)
    made, given = report.get("tokenizer"), describe_tokenizer(tokenizer)
    if made is None or made.get("sha256") != given["sha256"]:
        whose = f"with the tokenizer of {made.get('name')}" if made else "of random tokens"
        raise ToolkitError(
            f"{folder} was made {whose}, {source} is another",
            "Name the bundle or model that it was made for with --tokenizer",
        )
    from toolkit.data.dataset import read_rows
    from toolkit.data.showing import show_rows

    return show_rows(read_rows(folder / "train.ptd"), tokenizer, count)


def _print_origin(folder: Path, report: dict[str, Any]) -> None:
    tokenizer, template = report["tokenizer"], report.get("chat_template")
    own = "the tokenizer's own"
    lines = {
        "Data": str(folder),
        "Sources": ", ".join(source["name"] for source in report["sources"]) or "random tokens",
        "Tokenizer": tokenizer["name"] if tokenizer else "none",
        "Template": f"{template['name']} (SHA-256 {template['sha256'][:12]})" if template else own,
    }
    for name, text in lines.items():
        print_line(f"{name:<11}{text}")
