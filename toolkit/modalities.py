"""What in a model is not text, told by the names that its authors gave it."""

import re
from collections.abc import Mapping

NOT_TEXT = re.compile(
    r"(^|[._])(vision|visual|image|audio|speech|(\w+_)?projector|connector|resampler|qformer)"
)
"""Names of what turns images and sound into embeddings; text alone does not pass through it."""


def parts_text(parts: Mapping[str, int]) -> str:
    """Return parts of a model and their numbers of values in words, "" for none."""
    return ", ".join(f"{name} ({count / 1e6:.1f} M values)" for name, count in parts.items())
