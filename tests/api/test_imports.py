"""What is imported when: nothing with the package, no library that takes time with `--help`."""

import subprocess
import sys

import pytest

HEAVY = {
    *("torch", "numpy", "transformers", "executorch", "torchao", "peft", "gguf", "accelerate"),
    *("datasets", "jinja2", "msgspec", "adbutils", "adb_shell", "yaml", "requests"),
    *("tensorboard", "wandb", "google", "grpc", "absl"),
}


def modules_after(code: str) -> set[str]:
    """Return the packages outside the standard library that a fresh interpreter has imported."""
    report = "print('@', *sorted({name.partition('.')[0] for name in sys.modules} - before))"
    script = f"import sys\nbefore = {{name.partition('.')[0] for name in sys.modules}}\n{code}\n"
    result = subprocess.run(
        [sys.executable, "-c", script + report], capture_output=True, text=True, check=True
    )
    names = result.stdout.rpartition("@")[2].split()
    return {name for name in names if name not in sys.stdlib_module_names} - {"toolkit"}


def test_the_package_imports_nothing():
    assert modules_after("import toolkit; toolkit.__version__; dir(toolkit)") == set()


def test_settings_need_no_library():
    assert modules_after("import toolkit; toolkit.TrainSettings(steps=1).effective()") == set()


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_imports_nothing_that_takes_time(words):
    code = (
        f"sys.argv = ['toolkit', *{words}]\n"
        "from toolkit.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    assert not modules_after(code) & HEAVY


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_a_tracker_that_is_not_asked_for_is_not_imported(command):
    code = (
        f"sys.argv = ['toolkit', '{command}', '--help']\n"
        "from toolkit.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    found = modules_after(code)
    assert "typer" in found
    assert not found & {"tensorboard", "wandb", "google", "grpc", "torch", "numpy", "transformers"}


def test_a_device_is_opened_without_what_computes():
    found = modules_after("import toolkit\nwith toolkit.open_device() as d: d.info()")
    assert not found & {"torch", "transformers", "executorch", "peft"}
