"""Tests over Flower; `tools/check_flower` runs them in an environment that has it."""

from importlib.util import find_spec

import pytest

_HERE = find_spec("flwr") is not None
_NEED_IT = ["apps", "client", "errands", "scalars", "server", "worker"]
collect_ignore_glob = [] if _HERE else [f"test_{name}.py" for name in _NEED_IT]


@pytest.fixture
def quick(monkeypatch):
    """Waits less for nodes and requests that fail."""
    from toolkit.federation.flower import errands, fleet

    for name in ("_PAUSE_SECONDS", "_GLANCE_SECONDS", "_BACK_SECONDS"):
        monkeypatch.setattr(errands, name, 0.1)
    monkeypatch.setattr(fleet, "_ALIVE_SECONDS", 1.0)


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """What Flower sets in the process of an app before a message is made there."""
    if _HERE:
        from flwr.supercore.task_identity import TaskIdentity

        for name in ("_run_id", "_node_id", "_task_id"):
            monkeypatch.setattr(TaskIdentity, name, 1)
