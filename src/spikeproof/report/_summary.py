"""One cell becomes one bag of numbers; figures, tables and sentences read nothing else.

A number that was not measured is None here, so that no page has to guess, and a mean carries how many images it stands
on and how many had to be left out because the measure is undefined for an all-zero gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from spikeproof import parts
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.lines import Lines
from spikeproof.metrics import energy, generalisation, gradients, robustness, theory
from spikeproof.metrics.gradients import Mean, Probe, by_probe
from spikeproof.metrics.robustness import Interval, same_eps
from spikeproof.metrics.summaries import (
    EnergySummary,
    EvaluationSummary,
    GeneralisationSummary,
    PanelSummary,
    RobustnessSummary,
    Share,
    TheorySummary,
)
from spikeproof.metrics.verdict import NOT_EVALUATED, UNSETTLED
from spikeproof.rows import BatchNorm, CleanRow, GradientRow, HistoryRow, Row, Scalar, TheoryRow, columns, of_kind
from spikeproof.store.pictures import Pictures, pictures_of
from spikeproof.store.summary import Provenance

__all__ = [
    "ENCODED",
    "IMAGE",
    "WEIGHT",
    "CellLike",
    "Curve",
    "Headline",
    "Site",
    "Summary",
    "headline_of",
    "interval",
    "summarise",
]

IMAGE, ENCODED = "image", "encoded"
WEIGHT: Literal["weight"] = "weight"
E = TypeVar("E", EvaluationSummary, PanelSummary)


class CellLike(Protocol):
    """What the report reads of a cell."""

    @property
    def key(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    @property
    def config(self) -> dict[str, Any]: ...

    @property
    def provenance(self) -> Provenance: ...

    def rows(self) -> Sequence[Row]: ...

    def gradients(self) -> Sequence[GradientRow]: ...

    def history(self) -> Sequence[HistoryRow]: ...


class Headline(NamedTuple):
    """The one threat and budget at which all cells are compared."""

    evaluation: str
    eps: float


class Site(NamedTuple):
    """A place in the network where a gradient was measured; `order` is its depth."""

    order: int
    name: str


class Curve(NamedTuple):
    """Worst-case robust accuracy against ascending eps; the first point is eps 0, the clean accuracy.

    A budget that could not be evaluated leaves a hole: its point is None, and then there is no area. `bounds` tells the
    points that are upper bounds, because the verdict on them is 'unsettled'.
    """

    eps: tuple[float, ...]
    texts: tuple[str, ...]
    points: tuple[Interval | None, ...]
    bounds: tuple[bool, ...]
    area: float | None


class Each(NamedTuple):
    """What stands behind the means, image by image, for whoever compares networks on the same images.

    `robust`: whether an image stands in the worst case at the headline; `clean`: whether a test image is right;
    `shapes`: (site, measure) -> the sparsity of its cross-entropy gradient, at the input and behind the first layer.
    """

    robust: dict[int, bool]
    clean: dict[int, bool]
    shapes: dict[tuple[str, str], dict[int, float]]


@dataclass(frozen=True)
class Summary:
    """The numbers of one cell. `label` tells it from the other cells of the page; shares are in [0,1].

    `headline` is what its attacks found at the headline, `panel` what the audits of these attacks found; `ratios` are
    the rows of kind 'theory'.
    """

    key: str
    name: str
    label: str
    config: dict[str, Any]
    provenance: Provenance
    history: list[HistoryRow]
    numbers: RobustnessSummary
    headline: EvaluationSummary | None
    panel: PanelSummary | None
    curve: Curve | None
    gradients: dict[Probe, dict[str, Mean]]
    sites: tuple[Site, ...]
    generalisation: GeneralisationSummary
    energy: EnergySummary | None
    theory: TheorySummary | None
    ratios: list[TheoryRow]
    each: Each
    pictures: Pictures | None = None

    def setting(self, *path: str) -> str | None:
        """A value of the configuration as text; None where it is not set."""
        value: Any = self.config
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else str(value)

    @property
    def network(self) -> str | None:
        """Its architecture; of a network of somebody's own the function that makes it."""
        return self.setting("network", "make") or self.setting("model", "name")

    @property
    def defence(self) -> str | None:
        """Every defence that was combined, 'adversarial + sr'; an encoder that is one counts; 'vanilla' is none."""
        names, spec = [], self.config.get("defence")
        while isinstance(spec, Mapping):
            names.append(str(spec["name"]))
            spec = spec.get("base")
        names += [name for name in (self.setting("encoder", "name"),) if name is not None and _defends(name)]
        kept = [name for name in reversed(names) if name != "vanilla" or len(names) == 1]
        return " + ".join(kept) if kept else None

    @property
    def gap(self) -> float | None:
        """Clean accuracy on training images less that on test images."""
        train, test = self.clean("train"), self.clean("test")
        return None if train is None or test is None else train.share - test.share

    def clean(self, split: str) -> Interval | None:
        return interval(self.numbers["clean"][split])

    def worst(self) -> Interval | None:
        """Worst-case robust accuracy at the headline; None where it was not measured, and where it is withheld."""
        return None if self.headline is None else interval(self.headline["worst"]["robust"])

    @property
    def withheld(self) -> bool:
        """Whether there is no number at the headline because the evaluation does not hold."""
        return self.panel is not None and self.panel["verdict"] == NOT_EVALUATED

    @property
    def bound(self) -> bool:
        """Whether the number at the headline is an upper bound: its verdict is 'unsettled'."""
        return self.panel is not None and self.panel["verdict"] == UNSETTLED

    @property
    def first_layer(self) -> str | None:
        """The name of the first layer whose gradient was measured."""
        return next((site.name for site in self.sites if site.name not in (IMAGE, ENCODED)), None)

    @property
    def plain(self) -> str | None:
        """The name of the plain PGD at the headline; None where it was not run.

        A panel's first group is one step, then the plain PGD; elsewhere the configuration says which attack is one.
        """
        if self.panel is not None:
            first = [stage["attack"] for stage in self.panel["stages"] if stage["group"] == "first"]
            return first[1] if len(first) > 1 else None
        own = (spec for spec in self.config.get("evaluations") or () if self._is_headline(spec))
        attacks: dict[str, dict[str, Any]] = next((spec["attacks"] for spec in own), {})
        return next((name for name, attack in attacks.items() if attack["name"] == "pgd"), None)

    def _is_headline(self, spec: Mapping[str, Any]) -> bool:
        return self.headline is not None and spec["name"] == self.headline["evaluation"]

    def attack(self, name: str) -> Interval | None:
        """Robust accuracy under one attack at the headline."""
        if self.headline is None or name not in self.headline["attacks"]:
            return None
        return interval(self.headline["attacks"][name]["robust"])

    def measure(self, site: str, metric: str, scalar: Scalar = "ce", batchnorm: BatchNorm = "eval") -> Mean | None:
        """A sparsity measure of the gradient that enters `site`, averaged over images."""
        return self.gradients.get(Probe(site, "input", scalar, batchnorm), {}).get(metric)


@cache
def _defends(encoder: str) -> bool:
    """Whether an encoder has a trade-off to trace, by its knob. One that cannot be found here has none to show."""
    with suppress(UsageError):
        return parts.tunable("encoders", encoder)
    return False


def interval(plain: Share | None) -> Interval | None:
    """The dictionary form of an interval back to the tuple."""
    return None if plain is None else Interval(**plain)


def headline_of(cells: Sequence[CellLike]) -> Headline | None:
    """The headline that most cells name in their configuration (the first of them in a tie); None where none does."""
    named = [found for found in map(_own_headline, cells) if found is not None]
    return Counter(named).most_common(1)[0][0] if named else None


def summarise(cells: Sequence[CellLike], headline: Headline | None) -> list[Summary]:
    """One summary for each cell, in the order given. Raises SpikeproofError where rows are damaged or keys repeat."""
    keys = Counter(cell.key for cell in cells)
    for key, count in keys.items():
        if count > 1:
            raise SpikeproofError("each cell once", f"{count} cells with the key {key}")
    return [_summary(cell, label, headline) for cell, label in zip(cells, _labels(cells), strict=True)]


def _own_headline(cell: CellLike) -> Headline | None:
    named = cell.config.get("headline")
    if not named:
        return None
    try:
        return Headline(str(named["evaluation"]), float(Fraction(str(named["eps"]))))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise SpikeproofError(
            "a headline with an evaluation and an eps", named, mend="write eps as 0.1 or 8/255"
        ) from None


def _labels(cells: Sequence[CellLike]) -> list[str]:
    """The names; where a name repeats, with the seed; where that repeats too, with the start of the key."""
    names = [_name(cell) for cell in cells]
    often = Counter(names)
    seeded = [
        f"{name} · seed {cell.config.get('seed')}" if often[name] > 1 else name
        for name, cell in zip(names, cells, strict=True)
    ]
    still = Counter(seeded)
    return [
        f"{label} · {cell.key[:8]}" if still[label] > 1 else label for label, cell in zip(seeded, cells, strict=True)
    ]


def _name(cell: CellLike) -> str:
    return str(cell.config.get("name") or cell.key[:8])


def _summary(cell: CellLike, label: str, headline: Headline | None) -> Summary:
    given, probed = cell.rows(), by_probe(cell.gradients())
    rows = given if isinstance(given, Lines) else Lines(given)
    index = robustness.indexed(rows)
    numbers = robustness.summarise(rows, index)
    sites = tuple(sorted(Site(order, name) for name, order in gradients.sites(probed).items()))
    at = _at(numbers["evaluations"], headline)
    told = headline if at is not None and at["worst"]["robust"] is not None else None
    return Summary(
        key=cell.key,
        name=_name(cell),
        label=label,
        config=cell.config,
        provenance=cell.provenance,
        history=list(cell.history()),
        numbers=numbers,
        headline=at,
        panel=_at(numbers["panels"], headline),
        curve=_curve(numbers, headline),
        gradients=gradients.means(probed),
        sites=sites,
        generalisation=generalisation.summarise(rows),
        energy=energy.summarise(rows),
        theory=theory.summarise(rows),
        ratios=of_kind(rows, TheoryRow),
        each=Each(
            robust=robustness.standing(rows, told.evaluation, told.eps, index) if told is not None else {},
            clean=_clean(rows),
            shapes=_shapes(probed, sites),
        ),
        pictures=pictures_of(cell.folder),
    )


def _clean(rows: Lines[Row]) -> dict[int, bool]:
    """Test image -> whether it is right."""
    found = zip(*columns(rows, CleanRow, "split", "image", "predicted", "label"), strict=True)
    return {image: predicted == label for split, image, predicted, label in found if split == "test"}


def _shapes(probed: gradients.Probed, sites: Sequence[Site]) -> dict[tuple[str, str], dict[int, float]]:
    places = [(site.name, metric) for site in sites[:4] for metric in ("gini", "zero_share")]
    return gradients.by_image(probed, places)


def _at(entries: Sequence[E], headline: Headline | None) -> E | None:
    for entry in entries:
        if headline and entry["evaluation"] == headline.evaluation and same_eps(entry["eps"], headline.eps):
            return entry
    return None


def _curve(numbers: RobustnessSummary, headline: Headline | None) -> Curve | None:
    """Only budgets over the same number of images make a curve: the others would bend it."""
    entries = [e for e in numbers["evaluations"] if headline and e["evaluation"] == headline.evaluation and e["eps"]]
    entries = [e for e in entries if e["images"] == entries[0]["images"] and e["clean"] == entries[0]["clean"]]
    if all(entry["verdict"] == NOT_EVALUATED for entry in entries):
        return None
    eps = (0.0, *(float(entry["eps"]) for entry in entries))
    texts = ("0", *(str(entry["eps_text"]) for entry in entries))
    points = (Interval(**entries[0]["clean"]), *(interval(entry["worst"]["robust"]) for entry in entries))
    bounds = (False, *(entry["verdict"] == UNSETTLED for entry in entries))
    shares = [point.share for point in points if point is not None]
    whole = len(shares) == len(points) and not _withheld(numbers, headline)
    return Curve(eps, texts, points, bounds, robustness.area(eps, shares) if whole else None)


def _withheld(numbers: RobustnessSummary, headline: Headline | None) -> bool:
    """Whether any budget of the headline's evaluation has no number, also where no attack was run."""
    panels = [panel for panel in numbers["panels"] if headline and panel["evaluation"] == headline.evaluation]
    return any(panel["verdict"] == NOT_EVALUATED for panel in panels)
