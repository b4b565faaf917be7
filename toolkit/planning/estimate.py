"""How long a run will take on a device that `toolkit plan --device` measured."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.device import Device
from toolkit.device.adapters import read_json
from toolkit.device.layout import choose
from toolkit.device.training import sequences_of
from toolkit.errors import ToolkitError
from toolkit.planning.measured import recall
from toolkit.planning.model import Model, bundle_model, load_config
from toolkit.planning.predict import Planner
from toolkit.planning.settings import Settings
from toolkit.settings.training import TrainSettings


def run_seconds(
    device: Device, settings: TrainSettings, bundle: str | None, data: str | None
) -> float | None:
    """Return the seconds of a run's steps, without evaluations and saves.

    Args:
        device: Connected.
        settings: Of the run.
        bundle, data: Their names on the device; None: the last sent.

    Returns:
        None if the device was not measured, or if a plan does not know what the run does.
    """
    if settings.layers is not None or settings.method == "split":
        return None
    machine = recall(device, settings.threads, settings.arithmetic)
    if machine is None:
        return None
    try:
        path = choose(device, "bundles", bundle).path
        facts = read_json(device, f"{choose(device, 'data', data).path}/data.json")
        model = _model(device, path)
        steps = settings.for_samples(sequences_of(facts)).steps or 0
        planned = _planned(model.settings, settings, int(facts["settings"]["seq_len"]))
        return steps * Planner(model).predict(planned, machine).seconds
    except (ToolkitError, KeyError, TypeError, ValueError):
        return None  # The run itself says what is wrong.


def _model(device: Device, path: str) -> Model:
    manifest = read_json(device, f"{path}/manifest.json")
    config = read_json(device, f"{path}/config.json")

    def load() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config))
            return load_config(Path(folder))

    return bundle_model(manifest, config, load)


def _planned(exported: Settings, run: TrainSettings, seq_len: int) -> Settings:
    return replace(
        exported,
        seq_len=seq_len,
        method=run.method,
        queries=run.queries or 0,
        blocks=run.blocks or 0,
        cut=run.cut or 0,
        optimizer=run.optimizer,
        momentum=run.momentum or 0.0,
        projection_rank=run.projection_rank or 0,
        max_grad_norm=run.max_grad_norm,
        clipping=run.clipping,
        freeze=run.freeze,
        sequences=run.batch_size * run.grad_accum,
        batch_size=run.batch_size,
        arithmetic=run.arithmetic,
        checkpoints=run.checkpoints,
        state=run.state,
    )
