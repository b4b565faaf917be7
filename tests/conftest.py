"""What holds for all tests."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest

# Who starts the tests in the background may have SIGINT ignored, which commands under test inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def shared_lowering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let `export_bundle` reuse programs of equal models and settings, of other workers too."""
    module = sys.modules.get("toolkit.bundle.export")
    if module is None:  # No test that was collected exports.
        yield
        return
    from tests.support.lowering import shared_programs

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "lowered"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "build_programs", shared_programs(folder))
        yield
