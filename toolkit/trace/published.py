"""Published figures for the model nearest to that of a run (`published.yaml` names the sources)."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import log

import yaml

from toolkit.trace.schema import Run

# int4 codes in groups of 32 with a float16 scale: to guess a size from bytes when no name tells it.
_BITS_PER_WEIGHT = 4.5
_SAME_SIZE = 1.1


@dataclass(frozen=True)
class Figure:
    """One published measurement. MB as published; None where the source gives none."""

    model: str
    method: str
    megabytes: float
    seconds: float | None
    seq_len: int | None
    source: str
    device: str
    measured: str
    settings: str


@dataclass(frozen=True)
class Comparison:
    """Published figures beside a run.

    Attributes:
        model: The published model nearest in size.
        same_model: Whether the run trained that model; else the figures only give a direction.
        figures: All figures of that model, those of the run's sequence length first.
        closest: The figure to compare with: same lowering and sequence length, where there is one.
    """

    model: str
    same_model: bool
    figures: list[Figure]
    closest: Figure | None


@dataclass(frozen=True)
class _Model:
    name: str
    family: str
    parameters: float


def compare_with_published(run: Run) -> Comparison | None:
    """Return the figures for the model nearest to the run's, None if its size is not known."""
    billions = parameters_in_billions(run)
    if not billions:
        return None
    models, figures = _published()
    name = _normal(run.model)

    def distance(model: _Model) -> tuple[float, bool]:
        return abs(log(billions / model.parameters)), _normal(model.family) not in name

    same = [
        model
        for model in models
        if _normal(model.family) in name and abs(log(billions / model.parameters)) < log(_SAME_SIZE)
    ]
    nearest = min(same or models, key=distance)
    seq_len = run.bundle.seq_len
    chosen = [figure for figure in figures if figure.model == nearest.name]
    chosen.sort(key=lambda figure: seq_len is None or figure.seq_len != seq_len)
    alike = [
        figure
        for figure in chosen
        if figure.method.lower() == run.lowering.lower() and figure.seq_len == seq_len
    ]
    return Comparison(nearest.name, bool(same), chosen, alike[0] if alike else None)


def parameters_in_billions(run: Run) -> float | None:
    """Return the model's size: from its name ("0.5B", "135m"), else from the bytes of its base."""
    found = re.search(r"(?<![\w.])v?(\d{1,4}(?:\.\d{1,3})?)\s*([bm])(?![a-z])", _spaced(run.model))
    if found and float(found[1]) > 0:
        return float(found[1]) / (1000 if found[2] == "m" else 1)
    if run.bundle.base_bytes:
        return run.bundle.base_bytes * 8 / _BITS_PER_WEIGHT / 1e9
    return None


def all_figures() -> list[Figure]:
    """Return every published figure."""
    return list(_published()[1])


def published_size(model: str) -> float:
    """Return the size of a model that there are figures of, billions of parameters."""
    return next(row.parameters for row in _published()[0] if row.name == model)


def _spaced(name: str) -> str:
    return re.sub(r"[-_/ ]+", " ", name.lower())


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())


@cache
def _published() -> tuple[tuple[_Model, ...], tuple[Figure, ...]]:
    text = files("toolkit.trace").joinpath("published.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    figures = []
    for table in content["tables"]:
        origin = {key: table[key] for key in ("source", "device", "measured", "settings")}
        for row in table["rows"]:
            figures.append(Figure(**{"seconds": None, "seq_len": None, **row, **origin}))
    return tuple(_Model(**model) for model in content["models"]), tuple(figures)
