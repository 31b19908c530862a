"""The tables of the page as plain values: columns, and rows of entries with a main text and a small one under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from spikeproof.metrics.gradients import Mean
from spikeproof.metrics.robustness import Interval, same_eps
from spikeproof.metrics.summaries import EvaluationSummary, Numbers, Share
from spikeproof.metrics.verdict import NOT_EVALUATED, UNSETTLED
from spikeproof.report._data import data_name
from spikeproof.report._summary import ENCODED, IMAGE, WEIGHT, Summary, interval
from spikeproof.report._text import BOUND, MISSING, mean, percent
from spikeproof.rows import BatchNorm

__all__ = [
    "Entry", "Table", "bounded", "budgets", "cells_table", "counted_share", "numbers", "protocols_table", "share",
    "sparsity_table", "told", "weights_table", "word", "words",
]  # fmt: skip


class Entry(NamedTuple):
    """One entry of a table; `numeric` ones stand to the right.

    `caution` is what must be read with the number, `tone` a colour that says what the words say.
    """

    main: str
    small: str = ""
    numeric: bool = True
    caution: str = ""
    tone: str = ""


class Table(NamedTuple):
    """Columns as (text, numeric); every row has one entry for each column."""

    columns: list[tuple[str, bool]]
    rows: list[list[Entry]]


_MEASURES = {
    "zero_share": "zero share",
    "below_1e-06": "below 10⁻⁶",
    "below_1e-03": "below 10⁻³",
    "below_1e-02": "below 10⁻²",
    "l1": "l1",
    "l2": "l2",
    "l1_ratio": "l1 / (√d l2)",
    "hoyer": "Hoyer",
    "gini": "Gini",
    "participation": "participation",
}
_SHARES = ("zero_share", "below_1e-06", "below_1e-03", "below_1e-02", "masked_share")


def cells_table(cells: Sequence[Summary]) -> Table:
    """All cells: what they are, how accurate, how robust at the headline, how sparse at the input."""
    attacks = list(dict.fromkeys(name for cell in cells if cell.headline for name in _alone(cell.headline)))
    columns = [
        *words("cell", "defence", "pool"),
        *numbers("clean test", "worst case", *attacks, "area", "clean train", "gap (points)"),
        *numbers("input zero share", "input Gini", "input l1"),
        *words("data", "model"),
        *numbers("seed"),
    ]
    rows = []
    for cell in cells:
        rows.append([
            *map(word, (cell.label, cell.defence, cell.setting("model", "pool"))),
            share(cell.clean("test")),
            _worst(cell),
            *(_attack(cell, name) for name in attacks),
            _area(cell),
            share(cell.clean("train")),
            Entry(MISSING if cell.gap is None else f"{100 * cell.gap:+.1f}"),
            *(_mean(metric, cell.measure(IMAGE, metric)) for metric in ("zero_share", "gini", "l1")),
            *map(word, (data_name(cell), cell.network)),
            Entry(cell.setting("seed") or "none"),
        ])  # fmt: skip
    return Table(columns, rows)


def protocols_table(cells: Sequence[Summary]) -> Table | None:
    """For each cell and each evaluation by the paper's protocol, a sound pixel evaluation beside it: at the same eps
    where there is one, else at the headline, else the first. None where no cell has both."""
    columns = [
        *words("cell", "paper: evaluation", "paper: surface, norm, eps"),
        *numbers("paper: as it counts", "paper: robust", "paper: judged as deployed"),
        *words("pixels: evaluation", "pixels: surface, norm, eps"),
        *numbers("pixels: robust"),
    ]
    rows = []
    for cell in cells:
        found = cell.numbers["evaluations"]
        pixels = [entry for entry in found if _sound(entry)]
        for paper in (entry for entry in found if entry["protocol"] == "paper" and pixels):
            beside = _beside(paper, pixels, cell.headline)
            rows.append([
                word(cell.label),
                word(paper["evaluation"]),
                word(_threat(paper)),
                *(share(interval(paper["worst"][name])) for name in ("survived", "robust", "deployed")),
                word(beside["evaluation"]),
                word(_threat(beside)),
                told(beside, "robust"),
            ])  # fmt: skip
    return Table(columns, rows) if rows else None


def sparsity_table(cells: Sequence[Summary], batchnorm: BatchNorm) -> Table | None:
    """Every measure at the input, the encoded input and the first layer, for each scalar; None where none was taken."""
    rows = []
    for cell in cells:
        scalars = dict.fromkeys(probe.scalar for probe in cell.gradients if probe.batchnorm == batchnorm)
        for site in filter(None, (IMAGE, ENCODED, cell.first_layer)):
            for scalar in scalars:
                found = {metric: cell.measure(site, metric, scalar, batchnorm) for metric in _MEASURES}
                if any(found.values()):
                    head = [word(cell.label), word(site), word(scalar)]
                    rows.append([*head, *_counted(found)])
    columns = [*words("cell", "site", "scalar"), *numbers("images", *_MEASURES.values())]
    return Table(columns, rows) if rows else None


def weights_table(cells: Sequence[Summary]) -> Table | None:
    """The same measures of the weight gradient, and the share of entries masked out before; None where none."""
    metrics = ("zero_share", "below_1e-06", "below_1e-03", "l1", "gini", "masked_share")
    rows = []
    for cell in cells:
        for probe, measures in cell.gradients.items():
            if probe.side == WEIGHT:
                head = [word(cell.label), word(probe.site.removeprefix("weight:")), word(probe.batchnorm)]
                rows.append([*head, *_counted({metric: measures.get(metric) for metric in metrics})])
    names = ["masked share" if metric == "masked_share" else _MEASURES[metric] for metric in metrics]
    columns = [*words("cell", "weight", "batch-norm"), *numbers("images", *names)]
    return Table(columns, rows) if rows else None


def budgets(cell: Summary) -> Table | None:
    """Everything measured on one cell: each evaluation, eps and attack with its outcome and its cost. Stages of a panel
    that have no outcome of their own, because they went on from what others had left, stand in its cascade instead."""
    columns = [
        *words("evaluation", "protocol", "surface, norm, eps", "attack"),
        *numbers("images", "robust", "success if right when clean", "success over all", "forwards", "backwards"),
    ]
    rows = [
        [
            word(entry["evaluation"]),
            word(entry["protocol"]),
            word(_threat(entry)),
            word(name),
            Entry(str(entry["images"])),
            *shares,
            Entry(f"{costs['forwards']:,}"),
            Entry(f"{costs['backwards']:,}"),
        ]
        for entry in cell.numbers["evaluations"]
        for name, costs, shares in _outcomes(entry)
    ]
    return Table(columns, rows) if rows else None


_Outcome: TypeAlias = Literal["robust", "asr_conditional", "asr_all"]

_OUTCOMES: tuple[_Outcome, ...] = get_args(_Outcome)


def _outcomes(entry: EvaluationSummary) -> list[tuple[str, Numbers, list[Entry]]]:
    """Of each attack and of the worst case: name, numbers, and the shares that may be shown."""
    alone = [
        (name, costs, [_outcome(entry, costs[field]) for field in _OUTCOMES])
        for name, costs in entry["attacks"].items()
        if name in _alone(entry)
    ]
    return [*alone, ("worst case", entry["worst"], [told(entry, field) for field in _OUTCOMES])]


def _alone(entry: EvaluationSummary) -> list[str]:
    """The attacks that have, or would have if the evaluation held, a robust accuracy of their own."""
    return [name for name, found in entry["attacks"].items() if found["alone"]]


def _outcome(entry: EvaluationSummary, plain: Share | None) -> Entry:
    return Entry(NOT_EVALUATED) if entry["verdict"] == NOT_EVALUATED else share(interval(plain))


def told(entry: EvaluationSummary, field: _Outcome) -> Entry:
    """A share of the worst case of an evaluation as far as it may be said: as a bound where the panel is unsettled."""
    found = interval(entry["worst"][field])
    if entry["verdict"] != UNSETTLED or found is None:
        return _outcome(entry, entry["worst"][field])
    return bounded(found, upper=field == "robust")


def bounded(found: Interval, *, upper: bool = True) -> Entry:
    """What is left standing can only fall under a better attack, its success only rise."""
    sign, caution = ("≤", BOUND) if upper else ("≥", "a lower bound")
    plain = share(found)
    return plain._replace(main=f"{sign} {plain.main}", caution=caution)


def _worst(cell: Summary) -> Entry:
    if cell.headline is None:
        return Entry(NOT_EVALUATED if cell.withheld else MISSING)
    return told(cell.headline, "robust")


def _attack(cell: Summary, name: str) -> Entry:
    return Entry(NOT_EVALUATED) if cell.withheld else share(cell.attack(name))


def _sound(entry: EvaluationSummary) -> bool:
    """Whether an evaluation changes the image and lets the network as deployed judge."""
    protocol, surface = entry["protocol"], entry["surface"]
    return protocol == "pixels" or (protocol == "panel" and surface == "pixels")


def _beside(
    paper: EvaluationSummary, pixels: Sequence[EvaluationSummary], headline: EvaluationSummary | None
) -> EvaluationSummary:
    same = [entry for entry in pixels if same_eps(entry["eps"], paper["eps"])]
    if same:
        return same[0]
    return headline if headline is not None and _sound(headline) else pixels[0]


def _threat(entry: EvaluationSummary) -> str:
    return f"{entry['surface']}, {entry['norm']}, {entry['eps_text']}"


def words(*columns: str) -> list[tuple[str, bool]]:
    """Columns that hold words."""
    return [(column, False) for column in columns]


def numbers(*columns: str) -> list[tuple[str, bool]]:
    """Columns that hold numbers."""
    return [(column, True) for column in columns]


def word(text: str | None) -> Entry:
    """An entry in words."""
    return Entry("none" if text is None else text, numeric=False)


def share(found: Interval | None) -> Entry:
    """A share with its interval under it."""
    if found is None:
        return Entry(MISSING)
    return Entry(percent(found.share), f"[{100 * found.low:.1f}, {100 * found.high:.1f}]")


def counted_share(found: Interval) -> Entry:
    """A share with the images it stands for, and its interval under it."""
    plain = share(found)
    return plain._replace(small=f"{found.correct:,} of {found.total:,} {plain.small}")


def _area(cell: Summary) -> Entry:
    if cell.curve is None or cell.curve.area is None:
        return Entry(NOT_EVALUATED if cell.curve is not None or cell.withheld else MISSING)
    sign, caution = ("≤ ", BOUND) if any(cell.curve.bounds) else ("", "")
    return Entry(f"{sign}{cell.curve.area:.3f}", f"eps 0 to {cell.curve.texts[-1]}", caution=caution)


def _mean(metric: str, found: Mean | None) -> Entry:
    if found is None or found.value is None:
        return Entry(mean(found))
    small = f"{found.undefined} undefined" if found.undefined else ""
    return Entry(percent(found.value) if metric in _SHARES else mean(found), small)


def _counted(found: Mapping[str, Mean | None]) -> list[Entry]:
    """How many images there were, then each measure, with the count of those that had to be left out."""
    images = max(mean.images + mean.undefined for mean in found.values() if mean is not None)
    return [Entry(str(images)), *(_mean(metric, value) for metric, value in found.items())]
