"""Tests over Flower; `tools/check_flower` runs them in an environment that has it."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("flwr") else ["test_apps.py", "test_client.py"]
