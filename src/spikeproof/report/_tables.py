"""The tables of the page as plain values: columns, and rows of entries with a main text and a small one under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spikeproof.metrics.robustness import Interval, same_eps
from spikeproof.report._summary import ENCODED, IMAGE, WEIGHT, Mean, Summary, interval
from spikeproof.report._text import MISSING, mean, percent

__all__ = ["Entry", "Table", "budgets", "cells_table", "protocols_table", "sparsity_table", "weights_table"]


class Entry(NamedTuple):
    """One entry of a table; `numeric` ones stand to the right."""

    main: str
    small: str = ""
    numeric: bool = True


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
    """All cells: what they are, how accurate, how robust at the headline, how sparse at the image."""
    attacks = list(dict.fromkeys(name for cell in cells if cell.headline for name in cell.headline["attacks"]))
    columns = [
        *_words("cell", "defence", "pool"),
        *_numbers("clean test", "worst case", *attacks, "area", "clean train", "gap (points)"),
        *_numbers("image zero share", "image Gini", "image l1"),
        *_words("data", "model"),
        *_numbers("seed"),
    ]
    rows = []
    for cell in cells:
        rows.append([
            *map(_word, (cell.label, cell.defence, cell.setting("model", "pool"))),
            _share(cell.clean("test")),
            _share(cell.worst()),
            *(_share(cell.attack(name)) for name in attacks),
            _area(cell),
            _share(cell.clean("train")),
            Entry(MISSING if cell.gap is None else f"{100 * cell.gap:+.1f}"),
            *(_mean(metric, cell.measure(IMAGE, metric)) for metric in ("zero_share", "gini", "l1")),
            *map(_word, (cell.setting("data", "name"), cell.setting("model", "name"))),
            Entry(cell.setting("seed") or "none"),
        ])  # fmt: skip
    return Table(columns, rows)


def protocols_table(cells: Sequence[Summary]) -> Table | None:
    """For each cell and each evaluation by the paper's protocol, a pixel evaluation beside it: at the same eps where
    there is one, else at the headline, else the first. None where no cell has both."""
    columns = [
        *_words("cell", "paper: evaluation", "paper: surface, norm, eps"),
        *_numbers("paper: as it counts", "paper: robust", "paper: judged as deployed"),
        *_words("pixels: evaluation", "pixels: surface, norm, eps"),
        *_numbers("pixels: robust"),
    ]
    rows = []
    for cell in cells:
        found = cell.numbers["evaluations"]
        pixels = [entry for entry in found if entry["protocol"] == "pixels"]
        for paper in (entry for entry in found if entry["protocol"] == "paper" and pixels):
            beside = _beside(paper, pixels, cell.headline)
            rows.append([
                _word(cell.label),
                _word(paper["evaluation"]),
                _word(_threat(paper)),
                *(_share(interval(paper["worst"][name])) for name in ("survived", "robust", "deployed")),
                _word(beside["evaluation"]),
                _word(_threat(beside)),
                _share(interval(beside["worst"]["robust"])),
            ])  # fmt: skip
    return Table(columns, rows) if rows else None


def sparsity_table(cells: Sequence[Summary], batchnorm: str) -> Table | None:
    """Every measure at the image, the encoded input and the first layer, for each scalar; None where none was taken."""
    rows = []
    for cell in cells:
        scalars = dict.fromkeys(probe.scalar for probe in cell.gradients if probe.batchnorm == batchnorm)
        for site in filter(None, (IMAGE, ENCODED, cell.first_layer)):
            for scalar in scalars:
                found = {metric: cell.measure(site, metric, scalar, batchnorm) for metric in _MEASURES}
                if any(found.values()):
                    head = [_word(cell.label), _word(site), _word(scalar)]
                    rows.append([*head, *_counted(found)])
    columns = [*_words("cell", "site", "scalar"), *_numbers("images", *_MEASURES.values())]
    return Table(columns, rows) if rows else None


def weights_table(cells: Sequence[Summary]) -> Table | None:
    """The same measures of the weight gradient, and the share of entries masked out before; None where none."""
    metrics = ("zero_share", "below_1e-06", "below_1e-03", "l1", "gini", "masked_share")
    rows = []
    for cell in cells:
        for probe, measures in cell.gradients.items():
            if probe.side == WEIGHT:
                head = [_word(cell.label), _word(probe.site.removeprefix("weight:")), _word(probe.batchnorm)]
                rows.append([*head, *_counted({metric: measures.get(metric) for metric in metrics})])
    names = ["masked share" if metric == "masked_share" else _MEASURES[metric] for metric in metrics]
    columns = [*_words("cell", "weight", "batch-norm"), *_numbers("images", *names)]
    return Table(columns, rows) if rows else None


def budgets(cell: Summary) -> Table | None:
    """Everything measured on one cell: each evaluation, eps and attack with its outcome and its cost."""
    columns = [
        *_words("evaluation", "protocol", "surface, norm, eps", "attack"),
        *_numbers("images", "robust", "success if right when clean", "success over all", "forwards", "backwards"),
    ]
    rows = [
        [
            _word(entry["evaluation"]),
            _word(entry["protocol"]),
            _word(_threat(entry)),
            _word(name),
            Entry(str(entry["images"])),
            *(_share(interval(numbers[field])) for field in ("robust", "asr_conditional", "asr_all")),
            Entry(f"{numbers['forwards']:,}"),
            Entry(f"{numbers['backwards']:,}"),
        ]
        for entry in cell.numbers["evaluations"]
        for name, numbers in [*entry["attacks"].items(), ("worst case", entry["worst"])]
    ]
    return Table(columns, rows) if rows else None


def _beside(
    paper: Mapping[str, Any], pixels: Sequence[Mapping[str, Any]], headline: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    same = [entry for entry in pixels if same_eps(entry["eps"], paper["eps"])]
    if same:
        return same[0]
    return headline if headline is not None and headline["protocol"] == "pixels" else pixels[0]


def _threat(entry: Mapping[str, Any]) -> str:
    return f"{entry['surface']}, {entry['norm']}, {entry['eps_text']}"


def _words(*columns: str) -> list[tuple[str, bool]]:
    return [(column, False) for column in columns]


def _numbers(*columns: str) -> list[tuple[str, bool]]:
    return [(column, True) for column in columns]


def _word(text: str | None) -> Entry:
    return Entry("none" if text is None else text, numeric=False)


def _share(found: Interval | None) -> Entry:
    if found is None:
        return Entry(MISSING)
    return Entry(percent(found.share), f"[{100 * found.low:.1f}, {100 * found.high:.1f}]")


def _area(cell: Summary) -> Entry:
    if cell.curve is None:
        return Entry(MISSING)
    return Entry(f"{cell.curve.area:.3f}", f"eps 0 to {cell.curve.texts[-1]}")


def _mean(metric: str, found: Mean | None) -> Entry:
    if found is None or found.value is None:
        return Entry(mean(found))
    small = f"{found.undefined} undefined" if found.undefined else ""
    return Entry(percent(found.value) if metric in _SHARES else mean(found), small)


def _counted(found: Mapping[str, Mean | None]) -> list[Entry]:
    """How many images there were, then each measure, with the count of those that had to be left out."""
    images = max(mean.images + mean.undefined for mean in found.values() if mean is not None)
    return [Entry(str(images)), *(_mean(metric, value) for metric, value in found.items())]
