"""Files and functions stay short enough to be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "toolkit"
FILE_LINES, FUNCTION_LINES = 300, 60


def too_long(root: Path) -> Iterator[str]:
    """Yield what is too long below `root`: Python and C++ files, and Python functions.

    A function's parameters do not count: those of a command are its table of options.
    """
    for path in sorted(root.rglob("*")):
        if path.suffix not in (".py", ".cc", ".h", ".S"):
            continue
        text = path.read_text()
        name = path.relative_to(root)
        if (lines := text.count("\n")) > FILE_LINES:
            yield f"{name} has {lines} lines, more than {FILE_LINES}"
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.body[0].lineno + 1
                if lines > FUNCTION_LINES:
                    yield f"{name}: {node.name} has {lines} lines, more than {FUNCTION_LINES}"


def test_files_and_functions_are_short():
    assert list(too_long(ROOT)) == []


def test_what_is_too_long_is_found(tmp_path):
    body = "        x = 1\n" * FUNCTION_LINES
    (tmp_path / "short.py").write_text(f"def f(\n    a,\n    b,\n):\n{body}")
    (tmp_path / "short.cc").write_text("\n" * FILE_LINES)
    assert list(too_long(tmp_path)) == []
    (tmp_path / "long.py").write_text(f"class C:\n    def f(self):\n{body}        y = 2\n")
    (tmp_path / "long.h").write_text("\n" * (FILE_LINES + 1))
    assert [found.split(",")[0] for found in too_long(tmp_path)] == [
        "long.h has 301 lines",
        "long.py: f has 61 lines",
    ]
