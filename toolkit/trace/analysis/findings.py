"""What a reader must know before trusting or repeating a run: warnings and notes."""

import numpy as np

from toolkit.choices import APPROXIMATE_LOWERINGS
from toolkit.trace.analysis.facts import Facts, Finding
from toolkit.trace.analysis.memory import Place, place_of
from toolkit.trace.analysis.storage_findings import (
    cold_start,
    flash,
    page_cache,
    read_again,
    state_on_flash,
)
from toolkit.trace.trace import Trace
from toolkit.trace.units import KIB, duration, megabytes, number, percent, plural

SEVERITIES = ("error", "warning", "note")
HOT_CELSIUS = 60.0
HOT_BATTERY_CELSIUS = 43.0
SLOWDOWN = 1.15
WANTED_EXPLAINED = 0.95
NOTABLE_OUTSIDE = 0.1


def find_findings(facts: Facts) -> list[Finding]:
    """Return everything worth a word, errors first."""
    rules = (
        _how_it_ended,
        _budget,
        _non_finite_loss,
        _loss_rose,
        _approximate,
        _swap,
        _thermal,
        _slowdown,
        page_cache,
        read_again,
        cold_start,
        flash,
        state_on_flash,
        _outside,
        _hwm_reset,
        _ledger,
        _left_out,
        _detail,
    )
    findings = [finding for rule in rules if (finding := rule(facts)) is not None]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def where_it_ended(trace: Trace) -> Place:
    """Return the last place a trace tells of."""
    place = Place()
    if len(trace.phases):
        place = place_of(trace, len(trace.phases) - 1)
    steps = [place.step or 0]
    if len(trace.steps):
        steps.append(int(trace.steps["step"][-1]))
    begun = (trace.last_begin.step if trace.last_begin else None) or 0
    if begun > max(steps):
        return Place(begun)
    return place if place.step or not len(trace.steps) else Place(max(steps))


def _approximate(facts: Facts) -> Finding | None:
    if facts.trace.run.lowering not in APPROXIMATE_LOWERINGS:
        return None
    return Finding(
        "note",
        "approximate-gradients",
        f"The bundle's lowering {facts.trace.run.lowering} gives approximate gradients",
        "Losses are the model's; what the backward pass returns is not their gradient, because the "
        "activation's derivative is one of four numbers. Methods without a backward pass are not "
        "touched by it.",
    )


def _how_it_ended(facts: Facts) -> Finding | None:
    trace = facts.trace
    if trace.end is None:
        place = str(where_it_ended(trace)) or "before its first step"
        cut = trace.left_out.truncated_line
        line = f" Its last line ({cut:,}) is cut off." if cut else ""
        return Finding(
            "error",
            "no-end",
            f"The trace ends {place}{',' if ',' in place else ''} without an end record",
            "The run was killed (by the system for memory, by hand or by a power loss) or was "
            f"still going when it was pulled. Everything here is up to that point.{line}",
        )
    if trace.end.status == "failed":
        error = trace.end.error or "the trace does not say why"
        return Finding("error", "failed", "The run failed", f"{error}.")
    if trace.end.status == "stopped":
        return Finding(
            "note", "stopped", f"The run was stopped after {plural(trace.end.steps, 'step')}"
        )
    if trace.end.reason:
        title = f"The run ended early, after {plural(trace.end.steps, 'step')}"
        reason = trace.end.reason[:1].upper() + trace.end.reason[1:]
        return Finding("note", "ended-early", title, f"{reason}.")
    return None


def _budget(facts: Facts) -> Finding | None:
    budget, peak = facts.budget, facts.peak
    if budget is None or peak is None or peak.bytes <= budget:
        return None
    over = peak.bytes - budget
    parts = [f"{part.label}, {megabytes(part.bytes)}" for part in peak.named_parts[:1]]
    largest = f"The largest part is {parts[0]}. " if parts else ""
    return Finding(
        "error",
        "budget",
        f"The peak is {megabytes(over)} above the budget of {megabytes(budget)}",
        f"{largest}toolkit plan proposes settings that fit.",
    )


def _non_finite_loss(facts: Facts) -> Finding | None:
    missing = facts.training.missing_losses
    if not missing:
        return None
    title = f"The loss was not a finite number in {plural(missing, 'step')}"
    return Finding("error", "loss-not-finite", title, "Lower the learning rate or clip gradients.")


def _loss_rose(facts: Facts) -> Finding | None:
    first, last = facts.training.first_loss, facts.training.last_loss
    if first is None or last is None or facts.training.span < 9 or last <= first * 1.02:
        return None
    return Finding(
        "warning",
        "loss-rose",
        f"The loss rose from {number(first)} to {number(last)}",
        f"Means over the first and last {plural(facts.training.window, 'step')}.",
    )


def _swap(facts: Facts) -> Finding | None:
    trace = facts.trace
    columns = [table["swap"] for table in (trace.phases, trace.samples) if len(table)]
    swap = max((int(column.max()) for column in columns), default=0) * KIB
    if not swap:
        return None
    return Finding(
        "warning",
        "swap",
        f"Up to {megabytes(swap)} of the trainer was in swap",
        "Swapped memory is not part of the peak (VmHWM), so the true need is higher, and steps "
        "are slower than this device could do with enough memory.",
    )


def _thermal(facts: Facts) -> Finding | None:
    samples = facts.trace.samples
    if not len(samples):
        return None
    readings = []
    for column, limit, name in (
        ("celsius", HOT_CELSIUS, "The hottest thermal zone"),
        ("battery_celsius", HOT_BATTERY_CELSIUS, "The battery"),
    ):
        values = samples[column][np.isfinite(samples[column])]
        if len(values) and values.max() >= limit:
            readings.append(f"{name} reached {values.max():.0f} °C")
    if not readings:
        return None
    return Finding("warning", "hot", " and ".join(readings), "Phones slow down when they are hot.")


def _slowdown(facts: Facts) -> Finding | None:
    steps, samples = facts.trace.steps, facts.trace.samples
    seconds = steps["seconds"][np.isfinite(steps["seconds"])]
    quarter = len(seconds) // 4
    if quarter < 3:
        return None
    early, late = float(np.median(seconds[:quarter])), float(np.median(seconds[-quarter:]))
    if not early or late < early * SLOWDOWN:
        return None
    title = (
        f"Steps became slower: {duration(early)} in the first quarter, {duration(late)} in the last"
    )
    celsius = samples["celsius"][np.isfinite(samples["celsius"])]
    if len(celsius) >= 4 and celsius[-1] - celsius[0] >= 3:
        rise = f"{celsius[0]:.0f} to {celsius[-1]:.0f} °C"
        return Finding("warning", "throttling", title, f"Meanwhile the device went from {rise}.")
    return Finding("warning", "slowdown", title, "Thermal throttling or other load on the device.")


def _outside(facts: Facts) -> Finding | None:
    timing = facts.timing
    share = (timing.outside_seconds or 0.0) / timing.seconds if timing.seconds else 0.0
    if share < NOTABLE_OUTSIDE:
        return None
    return Finding(
        "note",
        "outside-phases",
        f"{percent(share)} of the run's time lies outside of its phases",
        "That is the trace's own work, what happens between steps, or a device that was asleep. "
        "With very short steps it is mostly the trace.",
    )


def _hwm_reset(facts: Facts) -> Finding | None:
    if facts.trace.run.device.hwm_reset is not False:
        return None
    return Finding(
        "note",
        "no-hwm-reset",
        "This device does not let the trainer reset its high-water mark",
        "The peak of the run and its place are exact; peaks of single phases and layers are the "
        "maximum up to then.",
    )


def _ledger(facts: Facts) -> Finding | None:
    peak = facts.peak
    if peak is None or peak.explained is None:
        return None
    if peak.explained > 1.02:
        title = f"The ledger counts {percent(peak.explained)} of the measured peak"
        return Finding(
            "note",
            "ledger-above-peak",
            title,
            "Some of what it counts was not resident at that moment.",
        )
    if peak.explained < WANTED_EXPLAINED:
        title = f"The ledger explains {percent(peak.explained)} of the peak"
        rest = megabytes(peak.bytes * (1 - peak.explained))
        named = ", ".join(f"{megabytes(part.bytes)} {part.name}" for part in peak.rest[:3])
        detail = f"{rest} belong to no category{': ' if named else ''}{named}."
        return Finding("note", "ledger-below-peak", title, detail)
    return None


def _left_out(facts: Facts) -> Finding | None:
    left_out = facts.trace.left_out
    parts = []
    if left_out.lines:
        parts.append(f"{plural(left_out.lines, 'line')} that cannot be read")
    if left_out.duplicates:
        parts.append(plural(left_out.duplicates, "repeated record"))
    if left_out.over_limit:
        parts.append(f"{plural(left_out.over_limit, 'record')} beyond what is kept")
    if not parts:
        return None
    first = left_out.problems[0] if left_out.problems else None
    detail = f"First: line {first.line:,}, {first.reason}." if first else ""
    severity = "warning" if left_out.lines else "note"
    return Finding(severity, "left-out", f"Left out: {', '.join(parts)}", detail)


def _detail(facts: Facts) -> Finding | None:
    if len(facts.trace.phases):
        return None
    return Finding(
        "note",
        "no-phases",
        "The trace holds no phases",
        "Train with --trace full to see memory and time by phase, layer and category.",
    )
