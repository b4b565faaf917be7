"""Fine-tune language models on the phone: export, deploy, train, pull, analyze."""

__version__ = "0.1.0"
