"""How the cells of a study belong together: architectures, configurations in them, and the seeds that repeat these.

A configuration is everything in a cell's configuration but its seed and its name: cells of one configuration are
replicates. An architecture is the test data and the network without its pooling, which is one of the knobs that are
turned; networks of different architectures are ranked apart, and so are those of one network whose events were binned
in two ways, or that were tested on other samples.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikeproof.metrics.resampling import Floats
from spikeproof.report._data import data_key, data_labels
from spikeproof.report._summary import ENCODED, IMAGE, Summary

__all__ = [
    "LEARNT", "MEASURES", "OUTCOMES", "SITES", "Configuration", "Design", "Measure", "by_image", "design", "measured",
    "settings_of",
]  # fmt: skip

LEARNT = 0.5
"""A network with less than this share of the best clean accuracy of its architecture has learnt too little: it trades
nothing, and its gradients are what is left of a failed training."""


class Measure(NamedTuple):
    """A measure of sparsity; `sign` turns it so that larger is sparser."""

    name: str
    sign: int


MEASURES = {
    "gini": Measure("Gini", 1),
    "hoyer": Measure("Hoyer", 1),
    "zero_share": Measure("zero share", 1),
    "l1_ratio": Measure("l1 / (√d l2), turned round", -1),
    "participation": Measure("participation, turned round", -1),
}

SITES = {
    "image": "at the input",
    "encoded": "at the encoded input",
    "stem": "behind the first layer",
    "pool": "at the first pool",
}


class Configuration(NamedTuple):
    """One point of the grid. `rest` is all but its pooling: two configurations with one `rest` differ in no more.

    `slope`: surrogate, neuron and number of steps, which decide in what unit its gradients are. `start`: of one data
    set's networks that begin, by their seeds, with the same weights, however its events were binned.
    """

    label: str
    architecture: int
    defence: str
    pool: str
    rest: str
    slope: str
    start: str


@dataclass(frozen=True)
class Design:
    """The grid: `cells` by place of the seed and of the configuration. `failed` are cells that learnt too little,
    `unlike` those that were attacked by another tier, or by another version, than most."""

    architectures: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    seeds: tuple[str, ...]
    cells: dict[tuple[int, int], Summary]
    failed: tuple[Summary, ...]
    unlike: tuple[Summary, ...]

    def table(self, value: Callable[[Summary], float | None]) -> Floats:
        """A number of every cell, (S,C), NaN where there is none."""
        table = np.full((len(self.seeds), len(self.configurations)), np.nan)
        for place, cell in self.cells.items():
            found = value(cell)
            table[place] = np.nan if found is None else found
        return table

    def strata(self, *fields: str) -> NDArray[np.int64]:
        """A number for each configuration (C,), the same for those that agree in all fields."""
        keys = [tuple(getattr(c, field) for field in fields) for c in self.configurations]
        place = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        return np.array([place[key] for key in keys], dtype=np.int64)

    def kept(self, keep: Callable[[Summary], bool]) -> Design:
        """The same grid with the cells that `keep` says."""
        cells = {place: cell for place, cell in self.cells.items() if keep(cell)}
        return Design(self.architectures, self.configurations, self.seeds, cells, self.failed, self.unlike)

    def units(self, enough: int) -> tuple[str, list[Hashable]]:
        """What is resampled: defences where every architecture has `enough` of them, else single configurations."""
        of = [
            {c.defence for c in self.configurations if c.architecture == place}
            for place in range(len(self.architectures))
        ]
        if all(len(defences) >= enough for defences in of):
            return "defences", [c.defence for c in self.configurations]
        return "configurations", list(range(len(self.configurations)))


def settings_of(cell: Summary) -> str:
    """All that is configured but the name and the seed: what cells of one configuration have in common."""
    return _text({name: value for name, value in cell.config.items() if name not in ("name", "seed")})


def design(cells: Sequence[Summary]) -> Design:
    """The grid of the cells, in the order in which they come; cells that learnt too little, or were attacked in another
    way than most, stand apart."""
    unlike = _unlike(cells)
    cells = [cell for cell in cells if not any(cell is one for one in unlike)]
    architectures: dict[str, list[Summary]] = {}
    for cell in cells:
        architectures.setdefault(_architecture(cell), []).append(cell)
    failed = [cell for group in architectures.values() for cell in _failed(group)]
    keys = list(architectures)
    labels = _labels([group[0] for group in architectures.values()])
    configurations: dict[str, Configuration] = {}
    seeds = list(dict.fromkeys(cell.setting("seed") or "none" for cell in cells))
    placed: dict[tuple[int, int], Summary] = {}
    for cell in cells:
        key = settings_of(cell)
        own = Configuration(
            _stem(cell), keys.index(_architecture(cell)), cell.defence or "none",
            cell.setting("model", "pool") or "none", _without_pool(cell),
            _text([cell.config.get(name) for name in ("rule", "neuron", "steps")]), _start(cell),
        )  # fmt: skip
        configurations.setdefault(key, own)
        place = seeds.index(cell.setting("seed") or "none"), list(configurations).index(key)
        if not any(cell is one for one in failed):
            placed.setdefault(place, cell)
    return Design(tuple(labels), tuple(configurations.values()), tuple(seeds), placed, tuple(failed), unlike)


def measured(site: str, metric: str) -> Callable[[Summary], float | None]:
    """A measure of the cross-entropy gradient at one of `SITES`, larger for sparser; l1 as it is."""

    def value(cell: Summary) -> float | None:
        name = _site(cell, site)
        found = None if name is None else cell.measure(name, metric)
        if found is None or found.value is None:
            return None
        return found.value * (MEASURES[metric].sign if metric in MEASURES else 1)

    return value


def by_image(name: str) -> Callable[[Summary], dict[int, float]]:
    """image -> the outcome 'robust' or 'clean' as 0 or 1, or a 'site measure' of `SITES`; empty if not measured."""

    def value(cell: Summary) -> dict[int, float]:
        if name == "robust":
            told = cell.each.robust if _robust(cell) is not None else {}
            return {image: float(right) for image, right in told.items()}
        if name == "clean":
            return {image: float(right) for image, right in cell.each.clean.items()}
        site, metric = name.split()
        return cell.each.shapes.get((_site(cell, site) or "", metric), {})

    return value


def _robust(cell: Summary) -> float | None:
    """Worst-case robust accuracy at the headline, if an audited panel stands behind it."""
    worst = cell.worst() if cell.panel is not None and not cell.withheld else None
    return None if worst is None else worst.share


def _area(cell: Summary) -> float | None:
    return cell.curve.area if cell.curve is not None and cell.panel is not None else None


def _clean(cell: Summary) -> float | None:
    found = cell.clean("test")
    return None if found is None else found.share


def _small_gap(cell: Summary) -> float | None:
    return None if cell.gap is None else -cell.gap


def _small_robust_gap(cell: Summary) -> float | None:
    found = cell.generalisation["robust"]
    return None if found is None else -found["gap"]


def _corrupted(cell: Summary) -> float | None:
    """Mean accuracy over common corruptions, where they were measured."""
    found = cell.generalisation["corruptions"]
    return None if found is None else found["accuracy"]["mean"]


OUTCOMES: dict[str, tuple[str, Callable[[Summary], float | None]]] = {
    "robust": ("robust accuracy", _robust),
    "area": ("area under robust accuracy", _area),
    "clean": ("clean test accuracy", _clean),
    "gap": ("smallness of the train-test gap", _small_gap),
    "robust_gap": ("smallness of the robust train-test gap", _small_robust_gap),
    "corrupted": ("accuracy under corruptions", _corrupted),
}


def _site(cell: Summary, site: str) -> str | None:
    """The name that this network has for one of `SITES`."""
    if site in (IMAGE, ENCODED):
        return site
    layers = [found.name for found in cell.sites if found.name not in (IMAGE, ENCODED)]
    if site == "stem":
        return layers[1] if len(layers) > 1 else None
    return next((name for name in layers if "pool" in name.lower()), None)


def _unlike(cells: Sequence[Summary]) -> tuple[Summary, ...]:
    """Cells whose numbers were made in another way than those of most: by another version, tier, or kinds of attacks.

    The worst case of a stronger tier is lower for the same network, so that a difference between tiers would be read as
    one between networks. A cell that was not attacked is like any of its version.
    """
    versions = Counter(cell.provenance.get("spikeproof") for cell in cells)
    ways = Counter(way for cell in cells if (way := _way(cell)) is not None)
    version = versions.most_common(1)[0][0] if versions else None
    most = ways.most_common(1)[0][0] if ways else None
    return tuple(
        cell
        for cell in cells
        if cell.provenance.get("spikeproof") != version or ((way := _way(cell)) is not None and way != most)
    )


def _way(cell: Summary) -> tuple[str, ...] | None:
    """The tier of the headline's panel, then the kinds of its stages, which tell a tier that was designed anew from the
    old one of its name (names of stages hang on the network's own surrogate); of another protocol its name; None where
    nothing attacked."""
    if cell.panel is not None:
        kinds = dict.fromkeys(stage["group"] for stage in cell.panel["stages"])
        return (cell.panel["tier"], *kinds) if kinds else None
    return None if cell.headline is None else (cell.headline["protocol"],)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _model(cell: Summary) -> dict[str, Any]:
    model = cell.config.get("model") or {"name": cell.network or "network"}
    return {name: value for name, value in model.items() if name != "pool"}


def _architecture(cell: Summary) -> str:
    return _text([data_key(cell), _model(cell)])


def _start(cell: Summary) -> str:
    return _text([cell.setting("data", "name"), _model(cell)])


def _without_pool(cell: Summary) -> str:
    rest = {name: value for name, value in cell.config.items() if name not in ("name", "seed", "model")}
    return _text([rest, _model(cell)])


def _stem(cell: Summary) -> str:
    """The cell's name without its seed."""
    return cell.name.removesuffix(f"-s{cell.setting('seed')}")


def _labels(cells: Sequence[Summary]) -> list[str]:
    """Of one cell of each architecture: the model's name, with the data where there are several, and with the options
    in which models differ."""
    data, models = data_labels(cells), [_model(cell) for cell in cells]
    options = dict.fromkeys(name for model in models for name in model if name != "name")
    telling = [name for name in options if len({_text(model.get(name)) for model in models}) > 1]
    return [
        " ".join([
            *([f"{data[data_key(cell)]}:"] if len(data) > 1 else []),
            str(model.get("name", "network")).replace("_", " "),
            *(f"{name} {model[name]}" for name in telling if name in model),
        ])
        for cell, model in zip(cells, models, strict=True)
    ]  # fmt: skip


def _failed(cells: Sequence[Summary]) -> list[Summary]:
    """Cells of one architecture whose clean accuracy is too far below the best of it."""
    known = [(cell, clean.share) for cell in cells if (clean := cell.clean("test")) is not None]
    best = max((share for _, share in known), default=0.0)
    return [cell for cell, share in known if share < LEARNT * best]
