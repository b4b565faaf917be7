"""Find the fastest settings that fit a budget.

What does not change the trained adapter is tried first: the lowering, where hidden states wait, and
computing a step twice instead of keeping all gradients until their norm is known.
Only when none of it fits are other settings relaxed, as few as possible: those that change the
adapter, which are optimizer, sequence length and rank, and the state's place, which does not, but
has a phone's storage written anew in every step. What the user fixed is never touched.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product

from toolkit.choices import APPROXIMATE_LOWERINGS
from toolkit.planning.predict import Planner, Prediction
from toolkit.planning.settings import Machine, Settings

RESERVE = 0.04
"""Share of a budget left free, for what a prediction may be wrong by."""
_CHEAPER = ("adamw-8bit", "apollo-mini", "sgd")
"""What AdamW is relaxed to, the nearest first."""
_TRIED = ("mesp", "mebp")
"""Lowerings with exact gradients: the smallest, and the one that computes least."""
_SHORTEST = 64
_LOWEST_RANK = 4


@dataclass(frozen=True)
class Proposal:
    """The answer to a budget.

    Attributes:
        best: The fastest that fits; None when nothing does.
        others: What else fits, fastest first, one of each lowering and place.
        relaxed: Names of the settings that had to be changed for `best`.
        asked: The prediction for the settings asked for.
        smallest: The smallest that was tried.
    """

    budget: int
    best: Prediction | None
    others: list[Prediction]
    relaxed: list[str]
    asked: Prediction
    smallest: Prediction

    @property
    def missing(self) -> int:
        """Bytes by which the smallest exceeds the budget, its reserve included."""
        return max(0, int(self.smallest.peak - (1 - RESERVE) * self.budget))


def propose(
    planner: Planner, settings: Settings, machine: Machine, budget: int, fixed: Collection[str]
) -> Proposal:
    """Return the fastest settings that fit.

    Args:
        settings: What was asked for, with defaults where nothing was.
        budget: Highest resident memory, bytes.
        fixed: Names of the settings that must stay.

    Raises:
        ToolkitError: The model or a setting is not supported.
    """
    limit = (1 - RESERVE) * budget
    asked = planner.predict(settings, machine)
    smallest = asked
    for changes, candidates in _by_changes(settings, fixed):
        predictions = []
        for candidate in candidates:
            predictions += [planner.predict(s, machine) for s in _same_result(candidate, fixed)]
        smallest = min([smallest, *predictions], key=lambda p: p.peak)
        fitting = sorted((p for p in predictions if p.peak <= limit), key=_preference)
        if fitting:
            best = fitting[0]
            relaxed = [
                name
                for name in ("optimizer", "seq_len", "rank", "state")
                if getattr(best.settings, name) != getattr(settings, name)
            ]
            alike = [p for p in fitting[1:] if changes == 0]
            return Proposal(budget, best, alike, relaxed, asked, smallest)
    return Proposal(budget, None, [], [], asked, smallest)


def _preference(prediction: Prediction) -> tuple[float, ...]:
    """Longer sequences and higher ranks first where these were relaxed, then what writes no state,
    the optimizer nearest to the one asked for, and the faster.
    """
    settings = prediction.settings
    return (
        -settings.seq_len,
        -settings.rank,
        prediction.state.spilled,
        _CHEAPER.index(settings.optimizer) if settings.optimizer in _CHEAPER else -1,
        prediction.seconds,
        prediction.peak,
    )


def _same_result(settings: Settings, fixed: Collection[str]) -> Iterator[Settings]:
    """Yield settings that train the same adapter another way."""
    asked = settings.lowering
    stays = "lowering" in fixed or asked in APPROXIMATE_LOWERINGS
    lowerings = [asked] if stays else list(dict.fromkeys((asked, *_TRIED)))
    stay = "checkpoints" in fixed or not settings.how.backward
    places = [settings.checkpoints] if stay else ["ram", "spill"]
    clippings = [settings.clipping]
    if "clipping" not in fixed and settings.keeps_gradients:
        clippings.append("twice")
    for lowering, place, clipping in product(lowerings, places, clippings):
        yield replace(settings, lowering=lowering, checkpoints=place, clipping=clipping)


def _by_changes(settings: Settings, fixed: Collection[str]) -> Iterator[tuple[int, list[Settings]]]:
    """Yield settings with no, one, two ... kinds of them relaxed."""
    optimizers = [settings.optimizer]
    if "optimizer" not in fixed and settings.optimizer == "adamw":
        optimizers += _CHEAPER
    states = [settings.state]
    if "state" not in fixed and settings.state != "spill":
        states.append("spill")
    lengths = [settings.seq_len]
    if "seq_len" not in fixed:
        lengths += _halves(settings.seq_len, _SHORTEST)
    ranks = [settings.rank]
    if "rank" not in fixed:
        ranks += _halves(settings.rank, _LOWEST_RANK)
    groups: dict[int, list[Settings]] = {}
    for optimizer, seq_len, rank, state in product(optimizers, lengths, ranks, states):
        changed = (optimizer != optimizers[0]) + (seq_len != lengths[0])
        changed += (rank != ranks[0]) + (state != states[0])
        alpha = settings.alpha * rank / settings.rank
        candidate = replace(
            settings, optimizer=optimizer, seq_len=seq_len, rank=rank, alpha=alpha, state=state
        )
        groups.setdefault(changed, []).append(candidate)
    yield from sorted(groups.items())


def _halves(value: int, lowest: int) -> list[int]:
    result = []
    while value // 2 >= lowest:
        value //= 2
        result.append(value)
    return result
