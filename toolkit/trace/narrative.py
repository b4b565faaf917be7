"""The answer in words: what the terminal and the report open with."""

from toolkit.trace.analysis import Analysis, Peak
from toolkit.trace.units import count, duration, megabytes, number, percent, plural


def headline(analysis: Analysis) -> str:
    """Return the one sentence that answers where the memory went."""
    peak = analysis.peak
    if peak is None:
        return "This trace holds no memory figures."
    place = f" {peak.place}" if str(peak.place) else ""
    largest = [f"{percent(part.share)} {part.label}" for part in peak.named_parts[:3]]
    return f"Peak {megabytes(peak.bytes)}{place}{': ' if largest else ''}{', '.join(largest)}."


def paragraphs(analysis: Analysis) -> list[str]:
    """Return what to know next: how sure that is, speed, learning, storage. One text each."""
    texts = [_certainty(analysis), _speed(analysis), _learning(analysis), _storage(analysis)]
    return [text for text in texts if text]


def _certainty(analysis: Analysis) -> str:
    peak = analysis.peak
    if peak is None:
        return ""
    texts = []
    if peak.explained is not None:
        texts.append(f"The engine's ledger accounts for {percent(peak.explained)} of it")
    if peak.steps_near and peak.steps_near > 1:
        total = plural(analysis.timing.steps, "step")
        texts.append(f"{count(peak.steps_near)} of {total} come within 1 % of it")
    if runner_up := _next_phase(analysis, peak):
        texts.append(runner_up)
    if peak.largest_sample and peak.largest_sample < peak.bytes:
        missed = percent(1 - peak.largest_sample / peak.bytes)
        texts.append(f"sampling every 0.5 s would have missed {missed}")
    text = "; ".join(texts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _next_phase(analysis: Analysis, peak: Peak) -> str:
    """Name the phase with the next highest peak where one phase alone sets the run's."""
    if peak.row is None or analysis.trace.run.device.hwm_reset is False:
        return ""
    others = [p for p in analysis.timing.phases if p.phase != peak.place.phase]
    if not others:
        return ""
    highest = max(others, key=lambda phase: phase.peak_bytes)
    if not highest.peak_bytes or highest.peak_bytes > 0.97 * peak.bytes:
        return ""
    return f"the next highest phase, {highest.phase}, reaches {megabytes(highest.peak_bytes)}"


def _speed(analysis: Analysis) -> str:
    timing = analysis.timing
    if timing.step_median_seconds is None:
        return ""
    texts = [f"A step took {duration(timing.step_median_seconds)} (median)"]
    if timing.tokens_per_second:
        texts.append(f"{count(timing.tokens_per_second)} tokens/s")
    if timing.phases:
        largest = timing.phases[:2]
        shares = " and ".join(f"{percent(phase.share)} {phase.phase}" for phase in largest)
        texts.append(f"of the run's time {shares}")
    if timing.operators:
        operator = timing.operators[0]
        texts.append(f"{percent(operator.share)} in {operator.operator} ({operator.phase}) alone")
    return ", ".join(texts) + "."


def _learning(analysis: Analysis) -> str:
    training = analysis.training
    if training.first_loss is None or training.last_loss is None:
        return ""
    first, last = number(training.first_loss), number(training.last_loss)
    if training.first_step == training.last_step:
        return f"Loss {last} at step {training.last_step:,}."
    change = training.last_loss - training.first_loss
    verb = "fell" if change < 0 else "rose" if change > 0 else "stayed"
    steps = f"steps {training.first_step:,} to {training.last_step:,}"
    text = f"The loss {verb} from {first} to {last} over {steps}"
    if training.window > 1:
        text += f" (means of the first and the last {training.window})"
    held_out = [e.loss for e in training.evaluations if e.loss is not None]
    if len(held_out) > 1:
        text += f", on held-out data from {number(held_out[0])} to {number(held_out[-1])}"
    elif held_out:
        text += f"; {number(held_out[0])} on held-out data"
    if training.kept_step is not None:
        text += f"; the adapter of step {training.kept_step:,}, the best there, is kept"
    return text + "."


def _storage(analysis: Analysis) -> str:
    storage = analysis.storage
    if not storage.written_bytes:
        return (
            "Nothing was written to flash within a phase or step." if analysis.timing.steps else ""
        )
    text = f"{megabytes(storage.written_bytes)} were written to flash"
    parts = []
    if storage.spilled_bytes:
        per_step = (
            f" ({megabytes(storage.spilled_per_step)} a step)" if analysis.timing.steps else ""
        )
        parts.append(f"{megabytes(storage.spilled_bytes)} by spilled checkpoints{per_step}")
    if storage.state_bytes:
        per_step = f" ({megabytes(storage.state_per_step)} a step)" if analysis.timing.steps else ""
        parts.append(f"{megabytes(storage.state_bytes)} by adapters and optimizer state{per_step}")
    if storage.saved_bytes:
        saves = plural(storage.saves, "save") if storage.saves else "saving"
        parts.append(f"{megabytes(storage.saved_bytes)} by {saves}")
    return f"{text}{': ' if parts else ''}{', '.join(parts)}."


def beside_published(analysis: Analysis) -> str:
    """Return one sentence that sets the run beside the closest published figure."""
    comparison, peak = analysis.published, analysis.peak
    if comparison is None or peak is None:
        return ""
    figure = comparison.closest
    if not comparison.same_model:
        return (
            f"No published figures are known for this model; {comparison.model} is the nearest in "
            "size, so these numbers only give a direction."
        )
    if figure is None:
        return f"Published figures for {comparison.model}, with other settings than this run's."
    ratio = peak.bytes / 1e6 / figure.megabytes
    text = (
        f"This run's peak is {ratio:.2f} times the {figure.megabytes:,.0f} MB that {figure.method} "
        f"reports for {figure.model} at length {figure.seq_len} on {figure.device}"
    )
    return f"{text} ({figure.measured})."
