"""What tests of several commands share."""

import pytest

from tests.cli.test_devices import toolkit
from tests.support.fake_trainer import write_fake_bundle, write_fake_runtime
from toolkit import __version__


@pytest.fixture
def environment(tmp_path):
    """Deploy the stand-in with a bundle to a device that is this machine."""
    write_fake_runtime(tmp_path / "native", version=__version__, pause=0.1)
    environment = {
        "TOOLKIT_NATIVE_DIR": str(tmp_path / "native"),
        "TOOLKIT_HOME": str(tmp_path / "home"),
    }
    bundle, data = write_fake_bundle(tmp_path)
    toolkit("deploy", str(bundle), "--data", str(data), **environment)
    return environment
