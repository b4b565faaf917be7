"""Whether other programs and libraries may draw bars of their own on standard error."""

import os
import sys


def may_draw() -> bool:
    """Return whether standard error is a terminal that takes escape codes, which bars are made of.

    With NO_COLOR it takes none.
    """
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
