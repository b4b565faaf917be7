"""Tests over Flower; `tools/check_flower` runs them in an environment that has it."""

from importlib.util import find_spec

import pytest

_HERE = find_spec("flwr") is not None
collect_ignore_glob = [] if _HERE else ["test_apps.py", "test_client.py", "test_server.py"]


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """What Flower sets in the process of an app before a message is made there."""
    if _HERE:
        from flwr.supercore.task_identity import TaskIdentity

        for name in ("_run_id", "_node_id", "_task_id"):
            monkeypatch.setattr(TaskIdentity, name, 1)
