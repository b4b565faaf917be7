"""`deploy`, `train` and `pull` with --app, against the real daemon and a stand-in for the app."""

import pytest

from tests.device.app_cases import CASES
from tests.device.test_adb import run_case


@pytest.mark.parametrize("case", sorted(CASES))
def test_app(case, tmp_path):
    run_case(case, tmp_path, module="tests.device.app_cases")
