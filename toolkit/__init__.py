"""Fine-tune language models on the phone: export, deploy, train, pull, analyze."""

__version__ = "0.1.0"

BUNDLE_FORMAT_VERSION = 4
"""Of bundles written and read. Raise it, here, in the trainer and in the app, whenever a bundle
made before would no longer run: a changed operator or file."""
