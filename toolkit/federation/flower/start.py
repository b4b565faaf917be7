"""What a ServerApp of one's own needs to have our ClientApp train under a strategy of Flower's.

    @app.main()
    def main(grid, context):
        settings = toolkit.federation.settings.read_federation(Path("/srv/study.yaml"))
        beginning = start.prepare(settings)
        strategy = FedAdam(eta=0.02, tau=1e-6, fraction_evaluate=0.0)
        result = strategy.start(
            grid, beginning.arrays, num_rounds=settings.rounds, train_config=beginning.config
        )
        beginning.save(result.arrays, Path("/srv/out"))

Flower weights by labelled tokens ("num-examples"). The adapter is one array, all its tensors in a
row (toolkit.federation.flower.records), which is all the same to arithmetic by element and to norms
of the whole. A strategy that looks at all replies at once, as all of Flower's do, holds them in
memory.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from safetensors.numpy import save_file

from toolkit.bundle.adapter import peft_weights
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.peft_files import peft_prefix
from toolkit.device.contents import checked_files
from toolkit.device.kept import ADAPTER, CONFIG
from toolkit.device.transfer import digest
from toolkit.errors import ToolkitError
from toolkit.federation.flower import records
from toolkit.federation.settings import FederationSettings
from toolkit.federation.store import new_id
from toolkit.files import atomic_directory
from toolkit.lora import TEXT_MODULE


@dataclass(frozen=True)
class Beginning:
    """The adapter that the first round begins with, and what every node is told.

    Attributes:
        arrays: `initial_arrays` of a strategy.
        config: Its `train_config`, and its `evaluate_config`.
    """

    bundle: Bundle
    arrays: ArrayRecord
    config: ConfigRecord

    def save(self, arrays: ArrayRecord, folder: Path) -> None:
        """Write what a federation came to as a PEFT adapter.

        Raises:
            ToolkitError: The arrays are not the bundle's adapter, or the folder exists.
        """
        if folder.exists():
            raise ToolkitError(f"{folder} exists", "Choose another folder")
        module = self.bundle.manifest["model"].get("text_module", TEXT_MODULE)
        layout = [(spec.name, tuple(spec.shape)) for spec in self.bundle.adapter.specs()]
        tensors = records.arrays_in(RecordDict({records.ARRAYS: arrays}), layout)
        for name, values in tensors.items():
            if not np.isfinite(values).all():
                raise ToolkitError(
                    f"{name} of the result holds numbers that are not finite",
                    "Use a smaller rate, or clip what nodes hand back",
                )
        named = {peft_prefix(module) + name: values for name, values in tensors.items()}
        with atomic_directory(folder) as path:
            save_file(named, path / ADAPTER, metadata={"format": "pt"})
            shutil.copyfile(self.bundle.path / "adapter_config.json", path / CONFIG)


def prepare(settings: FederationSettings) -> Beginning:
    """Read a federation's bundle and the adapter to start from, if settings name one.

    Of the settings, rounds, aggregate, min-nodes and at-once are left to the strategy; a schedule
    goes over `rounds`.

    Raises:
        ToolkitError: Bundle or adapter are damaged, or do not fit.
    """
    bundle = Bundle.open(settings.bundle)
    sha256 = digest(checked_files(bundle.path, "bundle"))
    reader = bundle.adapter
    tensors = {name: reader.tensor(name) for name in reader}
    if settings.adapter is not None:
        own = peft_weights(Path(settings.adapter), reader.specs())
        tensors = dict(zip(tensors, own, strict=True))
    if settings.aggregate == "scalars":  # nodes hand back adapters
        settings = replace(settings, aggregate="fedavg")
    terms = records.Terms(new_id(), sha256, settings)
    arrays = {name: values.numpy() for name, values in tensors.items()}
    config = records.config_record(1, terms, records.layout_of(arrays))
    return Beginning(bundle, records.array_record(arrays), config)
