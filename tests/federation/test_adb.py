"""A federation with a phone: one node behind a real adbd."""

from pathlib import Path

import toolkit
from tests.device.adb_daemon import ADDRESS
from tests.device.test_adb import run_case
from tests.federation.test_rounds import same
from toolkit.device import runtime_build

_CACHE = Path(__file__).resolve().parents[2] / ".cache/toolkit"


def test_a_phone_that_is_cut_off_in_every_round_gives_the_bits_of_a_folder(
    lab, tmp_path, monkeypatch
):
    """It trains on meanwhile, and is found again."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(_CACHE))
    runtime_build.build("x86_64")
    options = {"local_steps": 400, "train": {"lr": 0.014}}
    config = lab.config(tmp_path / "lab.yaml", "a", "b", **options)
    whole = toolkit.federate(config, tmp_path / "whole")
    config.write_text(config.read_text().replace(f"{lab.folder}/a", ADDRESS))
    (tmp_path / "bundle").symlink_to(lab.bundle)
    (tmp_path / "data").symlink_to(lab.folder / "data-ships-24")
    run_case("cut_rounds", tmp_path, module="tests.federation.adb_cases", TOOLKIT_CACHE=str(_CACHE))
    assert same(tmp_path / "out", whole.path)
