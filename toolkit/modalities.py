"""What in a model is not text, told by the names that its authors gave it."""

import re

NOT_TEXT = re.compile(
    r"(^|[._])(vision|visual|image|audio|speech|(\w+_)?projector|connector|resampler|qformer)"
)
"""Names of what turns images and sound into embeddings; text alone does not pass through it."""
