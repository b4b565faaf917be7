"""Exports of the same shape share one lowering, which takes most of a tiny export's time."""

import pytest

from toolkit import programs


@pytest.fixture(scope="session")
def lowered():
    """Results of `build_programs` by configuration and settings."""
    return {}


@pytest.fixture
def shared_lowering(lowered, monkeypatch):
    """Let `export_bundle` reuse programs that this session lowered before."""

    def build(config, **settings):
        shape = {key: value for key, value in config.to_dict().items() if key != "architectures"}
        key = repr((sorted(shape.items(), key=lambda item: item[0]), sorted(settings.items())))
        if key not in lowered:
            lowered[key] = programs.build_programs(config, **settings)
        return lowered[key]

    monkeypatch.setattr("toolkit.bundle.export.build_programs", build)
