"""Programs that the tests of a session share: lowering them is most of a tiny export."""

import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from toolkit.files import atomic_file
from toolkit.programs import Programs, build_programs


def shared_programs(folder: Path) -> Callable[..., Programs]:
    """Return a `build_programs` that keeps what it makes in a folder, which processes may share."""

    def build(config: PretrainedConfig, **settings: Any) -> Programs:
        shape = sorted(config.to_dict().items(), key=lambda item: item[0])
        key = repr((shape, sorted(settings.items())))
        path = folder / sha256(key.encode()).hexdigest()
        if path.exists():
            return pickle.loads(path.read_bytes())
        made = build_programs(config, **settings)
        with atomic_file(path) as file:
            pickle.dump(made, file)
        return made

    return build
