"""Results that take seconds to find, kept in the user's cache for the next plan.

An entry is found by the versions and sources that made it and by what it was made from, so that one
of another version is never used. What cannot be read counts as absent and is written anew.
"""

import json
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from toolkit import __version__
from toolkit.files import atomic_file, cache_root

_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = ("families", "programs", "ops", "quantization", "planning", "sources")
_FILES = ("lora.py", "layers.py")
_READABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError)

T = TypeVar("T")


def remembered(
    what: Any,
    make: Callable[[], T],
    to_json: Callable[[T], Any],
    from_json: Callable[[Any], T],
) -> T:
    """Return what `make` returned when it was last called for `what`, or call it.

    Args:
        what: JSON value that says all that the result depends on.
        make: Finds the result; its errors are passed on and not kept.
        to_json, from_json: Turn a result into a JSON value and back.
    """
    key = sha256(json.dumps([_makers(), what], sort_keys=True).encode()).hexdigest()
    path = cache_root() / "plans" / f"{key}.json"
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, *_READABLE):
        pass
    result = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, "w") as file:
            json.dump(to_json(result), file)
    except OSError:
        pass  # A cache that cannot be written costs time, no result.
    return result


@cache
def _makers() -> list[str]:
    """Return versions and a digest of the sources that a result depends on."""
    digest = sha256()
    folders = (sorted((_PACKAGE / folder).glob("*.py")) for folder in _SOURCES)
    for path in [*chain.from_iterable(folders), *(_PACKAGE / name for name in _FILES)]:
        digest.update(path.read_bytes())
    packages = [f"{name} {version(name)}" for name in ("torch", "transformers")]
    return [__version__, digest.hexdigest(), *packages]
