"""From model and data to a trained adapter: every step, or only those whose inputs have changed."""
