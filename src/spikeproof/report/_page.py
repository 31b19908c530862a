"""The page: tables, figures and sentences set into one template, with the style inside and nothing to fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spikeproof.metrics.verdict import OVERSTATED
from spikeproof.report import _examined, _tables, _tradeoff_text, _trust
from spikeproof.report._configurations import configurations_table
from spikeproof.report._figures import FEW, MANY
from spikeproof.report._summary import Headline, Summary
from spikeproof.report._text import BOUND, listed, threat
from spikeproof.report._tradeoff import Answers, lacking

__all__ = ["render"]


def render(
    cells: Sequence[Summary],
    headline: Headline | None,
    answers: Answers | None,
    *,
    title: str,
    drawings: Mapping[str, str],
    reading: Sequence[str],
    warnings: Sequence[str],
) -> str:
    """The page as HTML that is well-formed XML too. `drawings` are trusted <svg> elements; all else is escaped."""
    folder = files("spikeproof.report")
    environment = Environment(
        loader=PackageLoader("spikeproof", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    panels = _trust.overview(cells)
    styles = ["page.css", *(["panel.css"] if panels else []), *(["tradeoff.css"] if answers else [])]
    return environment.get_template("page.html").render(
        title=title,
        many_rows=MANY,
        many_panels=_trust.MANY_PANELS,
        style=Markup("".join(folder.joinpath(name).read_text(encoding="utf-8") for name in styles)),
        alarms=_trust.alarms(cells),
        panels=panels,
        accounts=_trust.accounts(cells),
        configurations=configurations_table(cells),
        tradeoff=None if answers is None else _tested(answers, drawings),
        lacking=lacking(cells),
        figures=_figures(cells, headline, drawings),
        reading=reading,
        warnings=warnings,
        headline="no common threat" if headline is None else threat(headline, cells),
        cells=cells,
        table=_tables.cells_table(cells),
        protocols=_tables.protocols_table(cells),
        sparsity=_tables.sparsity_table(cells, "eval"),
        sparsity_train=_tables.sparsity_table(cells, "train"),
        weights=_tables.weights_table(cells),
        generalisation=_examined.generalisation_table(cells),
        energy=_examined.energy_table(cells),
        theory=_examined.theory_table(cells),
        ratios=Markup(drawings["theory"]) if "theory" in drawings else None,
        details=[_details(cell) for cell in cells],
        versions=_versions(cells),
    )


def _figures(cells: Sequence[Summary], headline: Headline | None, drawings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each figure with its caption; one that could not be drawn keeps its place and says so."""
    at = "the headline" if headline is None else threat(headline, cells)
    evaluated = _range([cell.headline["images"] for cell in cells if cell.headline is not None and not cell.withheld])
    probes = [found for cell in cells if (found := cell.measure("image", "zero_share")) is not None]
    probed = _range([probe.images + probe.undefined for probe in probes])
    tests = [clean for cell in cells if (clean := cell.clean("test")) is not None]
    tested = _range([test.total for test in tests])
    few = sum(cell.curve is not None for cell in cells) <= FEW
    bands = "Bands: 95 % intervals." if few else "The intervals of so many cells stand in the tables alone."
    many = len(cells) > MANY
    bars = "The intervals and names of so many cells stand in the tables" if many else "Thin bars: 95 % intervals"
    lines = " Colours tell kinds of cells, because there are so many." if many else ""
    captions = {
        "tradeoff": (
            "The trade-off",
            f"Across: accuracy on clean test images (n = {tested}). Up: share of images that are right when clean and "
            f"that no attack fools, at {at} (n = {evaluated}). {bars}. Colour: Gini index of the "
            f"cross-entropy gradient at the image, batch-norm in eval mode (mean over n = {probed}). One mark for each "
            f"cell; rest the pointer on it for its numbers.{_of_marks(cells)}",
        ),
        "curves": (
            "Robust accuracy by budget",
            "Across: the attacker's budget eps; at 0 stands the clean accuracy of the same images. Up: worst-case "
            f"robust accuracy (n = {evaluated}). {bands} A line can only fall if the attacks are good."
            f"{_of_lines(cells)}{lines}",
        ),
        "layers": (
            "Sparsity by layer",
            "Across: where the cross-entropy gradient is measured, the image first, then the encoded input, then what "
            "enters each layer. Up: share of entries that are exactly zero (above) and Gini index (below), of the "
            f"gradient summed over time, mean over images (n = {probed}), batch-norm in eval mode.{lines}",
        ),
        "training": (
            "Training",
            "Across: epoch. Up: loss on training images (left) and accuracy on validation images (right). The dot is "
            f"the epoch whose weights were kept.{lines}",
        ),
    }
    drawn = {name: Markup(drawing) for name, drawing in drawings.items()}
    return [
        {"name": name, "title": heading, "caption": caption, "svg": drawn.get(name)}
        for name, (heading, caption) in captions.items()
    ]


def _tested(answers: Answers, drawings: Mapping[str, str]) -> dict[str, Any]:
    """The section on the trade-off, with those of its figures that were drawn."""
    figures = [
        {"name": name, "title": heading, "caption": caption, "svg": Markup(drawings[name])}
        for name, (heading, caption) in _tradeoff_text.captions(answers).items()
        if name in drawings
    ]
    return {**_tradeoff_text.section(answers), "figures": figures}


def _of_marks(cells: Sequence[Summary]) -> str:
    """What the verdicts did to the marks of the trade-off."""
    withheld = [cell.label for cell in cells if cell.withheld]
    bounds = sum(cell.bound for cell in cells)
    arrows = f" Arrow: {BOUND}." if bounds else ""
    if bounds and len(cells) > MANY:
        arrows = f" Of {len(cells)} cells {bounds} are {OVERSTATED}: their marks are upper bounds."
    return arrows + (f" Not evaluated, and so not drawn: {listed(withheld)}." if withheld else "")


def _of_lines(cells: Sequence[Summary]) -> str:
    """What the verdicts did to the lines against eps."""
    curves = [cell.curve for cell in cells if cell.curve is not None]
    hollow = f" Hollow: {BOUND}." if any(any(curve.bounds) for curve in curves) else ""
    holes = any(cell.withheld for cell in cells) or any(None in curve.points for curve in curves)
    return hollow + (" No line or a gap in it: not evaluated." if holes else "")


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return "not measured"
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _details(cell: Summary) -> dict[str, Any]:
    return {
        "label": cell.label,
        "key": cell.key,
        "config": _yaml(cell.config),
        "provenance": _yaml(cell.provenance),
        "budgets": _tables.budgets(cell),
        "forwards": f"{cell.numbers['forwards']:,}",
        "backwards": f"{cell.numbers['backwards']:,}",
    }


def _yaml(value: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


def _versions(cells: Sequence[Summary]) -> str:
    """The versions of spikeproof that made the cells, each once."""
    return ", ".join(sorted({str(cell.provenance.get("spikeproof", "of unknown version")) for cell in cells}))
