"""Findings about storage: weights read from it again, a cold start, wear."""

import numpy as np

from toolkit.trace.analysis.facts import Facts, Finding
from toolkit.trace.analysis.timing import phase_seconds
from toolkit.trace.units import count, duration, megabytes, plural

COLD_START = 1.3
FAULTS_PER_SECOND = 50
READ_AGAIN = 0.5
MUCH_WRITTEN_PER_STEP = 10e6
_NIGHT = 8 * 3600  # seconds


def _later_steps(facts: Facts) -> np.ndarray:
    """Select the phases after the first step, which has to read the weights in any case."""
    phases = facts.trace.phases
    return phases["step"] > max(int(phases["step"].min()), facts.training.first_step or 0)


def page_cache(facts: Facts) -> Finding | None:
    """Say so when computing waits for pages of weights that come from storage."""
    phases = facts.trace.phases
    if not len(phases):
        return None
    later = _later_steps(facts)
    seconds = float(phase_seconds(facts.trace)[later].sum())
    faults = float(phases["major_faults"][later].sum(dtype=float))
    if not seconds or faults < FAULTS_PER_SECOND * seconds:
        return None
    read = float(phases["read_bytes"][later].sum(dtype=float))
    return Finding(
        "warning",
        "major-faults",
        f"{count(faults)} major page faults after the first step, "
        f"{count(faults / seconds)} a second",
        f"{megabytes(read)} were read from storage: the weights do not stay in the page cache, so "
        "part of the time is waiting for flash.",
    )


def read_again(facts: Facts) -> Finding | None:
    """Say so when steps read most of the weights from storage, whether or not anything waits."""
    base_bytes = facts.trace.run.bundle.base_bytes
    if not base_bytes or len(facts.trace.steps) < 2 or not len(facts.trace.phases):
        return None
    read = float(facts.trace.phases["read_bytes"][_later_steps(facts)].sum(dtype=float))
    read /= len(facts.trace.steps) - 1
    if read < READ_AGAIN * base_bytes:
        return None
    return Finding(
        "note",
        "weights-from-storage",
        f"Every step read {megabytes(read)} from storage",
        f"The page cache did not keep the weights ({megabytes(base_bytes)}), for want of memory or "
        "because of --page-cache drop. A pass takes as long as reading or computing, whichever is "
        "slower.",
    )


def cold_start(facts: Facts) -> Finding | None:
    """Say so when the first step waited for storage: it is then no measure of speed."""
    phases, steps = facts.trace.phases, facts.trace.steps
    median = facts.timing.step_median_seconds
    if not len(phases) or len(steps) < 3 or not median:
        return None
    first = phases["step"] == int(steps["step"][0])
    faults = int(phases["major_faults"][first].sum(dtype=float))
    seconds = float(steps["seconds"][0])
    if not faults or not seconds > COLD_START * median:
        return None
    read = megabytes(float(phases["read_bytes"][first].sum(dtype=float)))
    return Finding(
        "note",
        "cold-start",
        f"The first step took {duration(seconds)}, the median step {duration(median)}",
        f"The page cache was cold: {plural(faults, 'major page fault')}, {read} read from storage.",
    )


def state_on_flash(facts: Facts) -> Finding | None:
    """Warn of adapters and optimizer state that are written anew in every step."""
    per_step, timing = facts.storage.state_per_step or 0.0, facts.timing
    if not per_step:
        return None
    detail = "These are adapters, kept gradients and optimizer state"
    if timing.step_median_seconds:
        night = per_step * _NIGHT / timing.step_median_seconds
        detail += f": {megabytes(night)} in a night of eight hours, and a phone's storage wears"
    detail += ". With `--state ram` they stay in memory"
    if facts.trace.run.settings.get("optimizer") == "adamw":
        detail += "; `--optimizer adamw-8bit` or apollo-mini keep far less"
    detail += "."
    state = facts.trace.run.state
    if state.reason:
        detail += f" Why they did not stay: {state.reason}."
    title = f"Every step writes {megabytes(per_step)} of state to flash"
    return Finding("warning", "state-on-flash", title, detail)


def flash(facts: Facts) -> Finding | None:
    """Warn of steps that write much to flash."""
    per_step = facts.storage.spilled_per_step or 0.0
    if per_step < MUCH_WRITTEN_PER_STEP:
        return None
    checkpoints = facts.trace.run.checkpoints
    detail = (
        f"These are checkpoints. A thousand steps write {megabytes(1000 * per_step)}, and a "
        "phone's storage wears; with `--checkpoints ram` they stay in memory"
    )
    if checkpoints.bytes:
        detail += f", which takes {megabytes(checkpoints.bytes)}"
    detail += "."
    if checkpoints.place == "spill" and checkpoints.reason:
        detail += f" Why they did not: {checkpoints.reason}."
    title = f"Every step writes {megabytes(per_step)} to flash"
    return Finding("warning", "flash", title, detail)
