"""Generalisation, energy and theory on the page: three tables, and predicted against measured ratios as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure

from spikeproof.metrics import theory
from spikeproof.metrics.summaries import CorruptionSummary, Gap, RobustGap
from spikeproof.report._figures import alike_lines, cell_lines, legend
from spikeproof.report._summary import Summary, interval
from spikeproof.report._tables import Entry, Table, numbers, share, word, words
from spikeproof.report._text import MISSING, number, percent

__all__ = ["energy_table", "generalisation_table", "ratios", "theory_table"]


def generalisation_table(cells: Sequence[Summary]) -> Table | None:
    """How far each network reaches beyond its training images; None where nothing but clean accuracy was measured."""
    if not any(cell.generalisation["robust"] or cell.generalisation["corruptions"] for cell in cells):
        return None
    columns = [
        *words("cell"),
        *numbers("clean gap (points)", "robust train", "robust test", "robust gap (points)"),
        *numbers("clean, same images", "corrupted", "drop (points)", "worst corruption"),
    ]
    rows = [
        [word(cell.label), _gap(cell.generalisation["clean"]["train_test"]), *_robust(cell.generalisation["robust"]),
         *_corrupted(cell.generalisation["corruptions"])]
        for cell in cells
    ]  # fmt: skip
    return Table(columns, rows)


def _gap(found: Gap | None) -> Entry:
    if found is None:
        return Entry(MISSING)
    return Entry(f"{100 * found['gap']:+.1f}", f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}")


def _robust(found: RobustGap | None) -> list[Entry]:
    if found is None:
        return [Entry(MISSING)] * 3
    train, test = (share(interval(found[split])) for split in ("train", "test"))
    return [train, test, _gap(found)]


def _corrupted(found: CorruptionSummary | None) -> list[Entry]:
    if found is None:
        return [Entry(MISSING)] * 4
    mean = found["accuracy"]
    name, worst = min(found["kinds"].items(), key=lambda item: item[1]["mean"])
    return [
        share(interval(found["clean"])),
        Entry(percent(mean["mean"]), f"{100 * mean['low']:.1f} to {100 * mean['high']:.1f}, n = {found['images']}"),
        Entry(f"{100 * found['drop']:+.1f}"),
        Entry(percent(worst["mean"]), name),
    ]


def energy_table(cells: Sequence[Summary]) -> Table | None:
    """What an inference of each network costs; None where it was not measured."""
    some = [(cell, cell.energy) for cell in cells if cell.energy is not None]
    columns = [
        *words("cell"),
        *numbers("steps", "firing rate", "effective ACs", "effective MACs", "dense", "energy (nJ)", "dense (nJ)"),
    ]
    rows = [
        [
            word(cell.label),
            Entry(str(found["steps"])),
            Entry(MISSING if found["firing_rate"] is None else percent(found["firing_rate"]), f"n = {found['images']}"),
            *(Entry(f"{found[name]:,.0f}") for name in ("effective_acs", "effective_macs", "dense")),
            *(Entry(number(found[name] / 1000)) for name in ("energy_pj", "dense_energy_pj")),
        ]
        for cell, found in some
    ]
    return Table(columns, rows) if rows else None


def theory_table(cells: Sequence[Summary]) -> Table | None:
    """Each layer's density of the weight gradient beside its bounds; None where it was not measured."""
    columns = [
        *words("cell", "layer"),
        *numbers("density", "support", "rows x columns", "meetings", "delta", "density / support"),
    ]
    rows = [
        [word(cell.label), word(layer), *(_plain(found[name]) for name in _BOUNDS)]
        for cell in cells
        if cell.theory is not None
        for layer, found in (cell.theory["weights"] or {}).items()
    ]
    return Table(columns, rows) if rows else None


_BOUNDS: tuple[Literal["density", "support", "product", "count", "delta", "quotient"], ...] = (
    "density",
    "support",
    "product",
    "count",
    "delta",
    "quotient",
)


def _plain(value: float | None) -> Entry:
    return Entry("undefined" if value is None else number(value))


_DOTS = 2000
"""More of them are a picture in the figure, not a shape each: the file stays small, and opens."""


def ratios(cells: Sequence[Summary]) -> Figure | None:
    """The ratio of attack to noise that each image's gradient predicts (across) against the measured one (up).

    Both axes are logarithmic; the line is where they agree. None where no image has both.
    """
    shown = [(index, cell, _pairs(cell)) for index, cell in enumerate(cells)]
    shown = [entry for entry in shown if entry[2]]
    if not shown:
        return None
    lines = cell_lines(cells)
    figure = Figure(figsize=(8.4, max(4.4, 0.5 + 0.2 * len({label for _, label in lines}))), layout="constrained")
    axes = figure.add_subplot()
    every = [value for _, _, pairs in shown for pair in pairs for value in pair]
    for (look, label), alike in alike_lines([(lines[index], pairs) for index, _, pairs in shown]):
        across, up = zip(*(pair for pairs in alike for pair in pairs), strict=True)
        axes.scatter(
            across, up, s=16, label=label, color=look["color"], alpha=0.6, edgecolors="none",
            rasterized=len(every) > _DOTS,
        )  # fmt: skip
    ends = [min(every), max(every)]
    axes.plot(ends, ends, color="#8a8f98", linewidth=1, label="as predicted")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("predicted: 3 |g|₁² / |g|₂²")
    axes.set_ylabel("measured: rho_adv / rho_rand")
    legend(figure, axes)
    return figure


def _pairs(cell: Summary) -> list[tuple[float, float]]:
    found = [(theory.ratio_predicted(row), theory.ratio_measured(row)) for row in cell.ratios]
    return [(predicted, measured) for predicted, measured in found if predicted and measured]
