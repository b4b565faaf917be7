"""What tests of several commands share."""

from pathlib import Path

import pytest

from tests.cli.talking import made, own_home  # noqa: F401  (fixtures)
from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import write_fake_bundle, write_fake_runtime
from toolkit import __version__


@pytest.fixture
def environment(tmp_path):
    """A device that is this machine, with the stand-in and a bundle."""
    return deployed_stand_in(tmp_path, pause=0.1)


def deployed_stand_in(tmp_path: Path, pause: float) -> dict[str, str]:
    """Deploy the stand-in, whose steps take `pause` seconds; return what leads to it."""
    write_fake_runtime(tmp_path / "native", version=__version__, pause=pause)
    environment = {
        "TOOLKIT_NATIVE_DIR": str(tmp_path / "native"),
        "TOOLKIT_HOME": str(tmp_path / "home"),
    }
    bundle, data = write_fake_bundle(tmp_path)
    toolkit("deploy", str(bundle), "--data", str(data), **environment)
    return environment
