"""Put what was read in order: sorted by time, each record once."""

import numpy as np

from toolkit.trace.schema import CATEGORIES
from toolkit.trace.table import Table
from toolkit.trace.trace import PHASE_ORIGIN, LeftOut


def ordered_phases(phases: Table, left_out: LeftOut) -> Table:
    """Sort by begin and leave out exact repetitions (in all but their place in the file).

    Negative sizes in the ledger become zero.
    """
    ledger = phases.block(f"ledger_{CATEGORIES[0]}", f"ledger_{CATEGORIES[-1]}")
    np.maximum(ledger, 0, out=ledger)
    begin = phases["begin"]
    backwards = int(np.count_nonzero(np.diff(begin) < 0))
    if backwards:
        left_out.reordered += backwards
        keys = [phases[name] for name in ("line", "layer", "phase", "step", "end", "begin")]
        phases = phases.take(np.lexsort(keys))
        begin = phases["begin"]
    candidates = np.flatnonzero(np.diff(begin) == 0)
    values = phases.values[:, len(PHASE_ORIGIN) :]
    same = candidates[np.all(values[candidates] == values[candidates + 1], axis=1)]
    if len(same):
        left_out.duplicates += len(same)
        keep = np.ones(len(phases), bool)
        keep[same + 1] = False
        phases = phases.take(keep)
    return phases


def last_of_each_step(steps: Table, left_out: LeftOut) -> Table:
    """Keep the last record of each step number: a resumed run repeats what it had not saved."""
    numbers = steps["step"]
    if np.all(np.diff(numbers) > 0):
        return steps
    order = np.lexsort((steps["line"], numbers))
    ordered = numbers[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    left_out.superseded_steps += int(len(order) - np.count_nonzero(last))
    return steps.take(order[last])


def ordered_samples(samples: Table) -> Table:
    """Sort by time."""
    if np.any(np.diff(samples["t"]) < 0):
        return samples.take(np.argsort(samples["t"], kind="stable"))
    return samples
