"""Records whose texts are clean (`toolkit.trace.text`)."""

from msgspec.structs import replace

from toolkit.trace.schema import End, Event, Run, Smaps
from toolkit.trace.text import clean, clean_mapping, clean_value

_MAX_MAPPINGS = 200


def clean_run(record: Run) -> Run:
    """Return a run record with clean texts, its lowering under that name."""
    device = {
        name: clean(getattr(record.device, name) or "", 120) or None
        for name in ("abi", "isa", "kernel", "model")
    }
    return replace(
        record,
        toolkit=clean(record.toolkit, 40),
        model=clean(record.model),
        lowering=clean(record.lowering or record.method, 40),
        method="",
        settings=clean_mapping(record.settings),
        checkpoints=replace(record.checkpoints, reason=clean(record.checkpoints.reason, 200)),
        state=replace(record.state, reason=clean(record.state.reason, 200)),
        device=replace(record.device, **device),
    )


def clean_smaps(record: Smaps) -> Smaps:
    """Return the largest mappings with clean names."""
    largest = sorted(record.entries, key=lambda entry: entry.rss, reverse=True)[:_MAX_MAPPINGS]
    entries = [replace(entry, name=clean(entry.name, 160)) for entry in largest]
    phase = None if record.phase is None else clean(record.phase, 40)
    return replace(record, entries=entries, phase=phase)


def clean_event(record: Event, t: int) -> Event:
    """Return an event at another time with clean texts."""
    return replace(record, t=t, event=clean(record.event, 80), detail=clean_value(record.detail))


def clean_end(record: End, t: int) -> End:
    """Return an end at another time with clean error and reason."""
    texts = {
        name: None if (text := getattr(record, name)) is None else clean(text)
        for name in ("error", "reason")
    }
    return replace(record, t=t, **texts)
