"""From a model and data to an adapter in one call."""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

from toolkit.api.runs import Result
from toolkit.errors import ToolkitError
from toolkit.finetuning.shown import Shown
from toolkit.finetuning.steps import Finetuning
from toolkit.finetuning.wish import Wish, slug
from toolkit.settings.training import TrainSettings
from toolkit.tracking.tracker import Tracker

Place = str | PathLike[str]


def finetune(
    model: Place,
    files: Sequence[Place],
    folder: Place | None = None,
    *,
    settings: TrainSettings | None = None,
    device: str = "local",
    seq_len: int | None = None,
    rank: int | None = None,
    targets: str | None = None,
    me: str | None = None,
    validation: float | None = None,
    trackers: Sequence[Tracker] = (),
    shown: Shown | None = None,
) -> Result:
    """Export, prepare data, deploy, train, pull and analyze; what was done before is skipped.

    A step is done again when what it is made of has changed: other data or settings begin a new
    run, and what earlier ones brought stays. A run that was broken off goes on where it was saved.

    Args:
        model: What `export` takes, or a bundle.
        files: What `prepare_data` takes.
        folder: Work folder: it gets bundle/, data/ and run/, run-2/ ...; None: runs/ and the
            model's name.
        settings: Of the run; without a length one epoch.
        device: "local", a phone's serial, or HOST:PORT.
        seq_len, rank, targets: As in `export`; one sequence length.
        me, validation: As in `prepare_data`.
        trackers: Where its steps are shown, as in `Device.train`.
        shown: Told what is done.

    Returns:
        What the run brought: trace, report and adapter.

    Raises:
        ToolkitError: A step failed, or (`Unfinished`) the run was stopped; the same call goes on.

    Example:
        >>> settings = toolkit.TrainSettings(steps=50, learning_rate=5e-4)
        >>> model = "HuggingFaceTB/SmolLM2-135M-Instruct"
        >>> result = toolkit.finetune(model, ["chats.jsonl"], settings=settings, seq_len=64)
        >>> result.adapter_path.name
        'run'
    """
    name, chosen = fspath(model), settings or TrainSettings(epochs=1)
    if chosen.steps is None and chosen.epochs is None:
        chosen = TrainSettings.of({**chosen.flags(), "epochs": 1})
    wish = Wish(
        model=name,
        files=tuple(fspath(file) for file in files),
        folder=Path("runs") / slug(name) if folder is None else Path(folder),
        settings=chosen,
        device=device,
        seq_len=seq_len,
        rank=rank,
        targets=targets,
        me=me,
        validation=validation,
        trackers=trackers,
    )
    if not wish.files:
        raise ToolkitError("there is nothing to learn", "Name a file, a data set or a hub id")
    if wish.is_bundle and (rank or targets):
        raise ToolkitError(
            f"{name} is a bundle, which has its rank and targets already",
            "Leave them away, or name the model",
        )
    wish.folder.mkdir(parents=True, exist_ok=True)
    return Finetuning(wish, shown or Shown()).run()
