"""What a paper needs of finished cells: lines of a LaTeX and of a CSV table, and a paragraph of methods for each.

All of it from rows, summary and configuration; the numbers are written by the functions that write the page's. A name
may hold anything: it is escaped for LaTeX, quoted for CSV, and kept from being a formula of a spreadsheet.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spikeproof.data_facts import DataFacts
from spikeproof.metrics.robustness import Interval
from spikeproof.metrics.summaries import EvaluationSummary, PanelSummary
from spikeproof.metrics.verdict import NOT_EVALUATED, UNSETTLED
from spikeproof.report._data import data_name, facts_of
from spikeproof.report._escape import formula_free, latex, plain
from spikeproof.report._methods import methods, words_of
from spikeproof.report._summary import CellLike, Summary, headline_of, interval, summarise
from spikeproof.report._tables import share, told
from spikeproof.report._text import MISSING, percent
from spikeproof.report._trust import readings

__all__ = ["FORMATS", "cited"]

FORMATS = ("table.tex", "table.csv", "methods.txt", "methods.tex")
"""What can be written, by the names of the files."""


class _Line(NamedTuple):
    """One evaluation of a cell at one budget; no entry where no attack was run, no panel where nothing was audited."""

    cell: Summary
    entry: EvaluationSummary | None
    panel: PanelSummary | None

    @property
    def verdict(self) -> str:
        return "not audited" if self.panel is None else self.panel["verdict"]


def cited(cells: Sequence[CellLike], *, header: bool = False, every: bool = False) -> dict[str, str]:
    """The text of each of FORMATS. Every cell stands at its own headline; every: at each evaluation and budget it has.

    header: a whole LaTeX table around the lines, and the names of the columns in the first line of the CSV.
    """
    found = [summary for cell in cells for summary in summarise([cell], headline_of([cell]))]
    lines = [line for cell in found for line in (_every(cell) if every else [_Line(cell, cell.headline, cell.panel)])]
    paragraphs = [methods(cell) for cell in found]
    return {
        "table.tex": _latex(lines, header=header),
        "table.csv": _csv(lines, header=header),
        "methods.txt": "\n\n".join(map(plain, paragraphs)) + "\n",
        "methods.tex": "\n\n".join(map(latex, paragraphs)) + "\n",
    }


def _every(cell: Summary) -> Iterator[_Line]:
    """Each evaluation and budget, and those of which no attack was run."""
    panels = {(panel["evaluation"], panel["eps"]): panel for panel in cell.numbers["panels"]}
    for entry in cell.numbers["evaluations"]:
        yield _Line(cell, entry, panels.get((entry["evaluation"], entry["eps"])))
    for panel in cell.numbers["panels"]:
        if not panel["attacked"]:
            yield _Line(cell, None, panel)


# --- LaTeX ---

_COLUMNS = ("Network", "Data", "Clean", "Threat", "Attacks", "Images", "Robust", "Verdict", "Gap", "Power", "Slack")


def _latex(lines: Sequence[_Line], *, header: bool) -> str:
    """Rows in the style of booktabs; with a header, from \\begin{tabular} to \\end{tabular}."""
    rows = [" & ".join(map(latex, _words(line))) + r" \\" for line in lines]
    if header:
        head = " & ".join(_COLUMNS) + r" \\"
        begin = [
            r"% \usepackage{booktabs}; percent, in brackets 95 % intervals",
            rf"\begin{{tabular}}{{{'l' * len(_COLUMNS)}}}",
        ]
        rows = [*begin, r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(rows) + "\n"


def _words(line: _Line) -> list[str]:
    cell, entry, panel = line
    robust = told(entry, "robust") if entry is not None else None
    return [
        cell.name,
        data_name(cell),
        words_of(share(cell.clean("test"))),
        _threat(line),
        _attacks(line),
        MISSING if entry is None else f"{entry['images']:,}",
        _unmeasured(line) if robust is None else words_of(robust),
        line.verdict,
        *(["-"] * 3 if panel is None else [words_of(found) for found in readings(panel)]),
    ]


def _unmeasured(line: _Line) -> str:
    return NOT_EVALUATED if line.panel is not None and line.panel["verdict"] == NOT_EVALUATED else MISSING


def _threat(line: _Line) -> str:
    if line.entry is None:
        return MISSING if line.panel is None else f"eps {line.panel['eps_text']}"
    return f"{line.entry['norm']} on {line.entry['surface']}, eps {line.entry['eps_text']}"


def _attacks(line: _Line) -> str:
    if line.panel is not None:
        return f"tier {line.panel['tier']}"
    return MISSING if line.entry is None else ", ".join(line.entry["attacks"])


# --- CSV ---


def _csv(lines: Sequence[_Line], *, header: bool) -> str:
    text = io.StringIO()
    rows = [_fields(line) for line in lines]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _fields(line: _Line) -> dict[str, str]:
    """Texts kept from being formulas; shares in percent, as on the page, empty where there is no number."""
    cell, entry, panel = line
    where = entry or panel
    words = {
        "name": cell.name, "network": str(cell.network), "data": str(cell.setting("data", "name")),
        "seed": str(cell.setting("seed")), "evaluation": where["evaluation"] if where else MISSING,
        "norm": entry["norm"] if entry else "", "surface": entry["surface"] if entry else "",
        "eps": where["eps_text"] if where else "", "attacks": _attacks(line), "verdict": line.verdict,
        "robust_is": _robust_is(line),
    }  # fmt: skip
    slack = None if panel is None or panel["slack"] is None else panel["slack"]["high"]
    numbers = {
        "images": "" if entry is None else str(entry["images"]),
        **_three("clean_test", cell.clean("test")),
        **_three("clean_attacked", None if entry is None else interval(entry["clean"])),
        **_three("robust", None if entry is None or _hidden(line) else interval(entry["worst"]["robust"])),
        **_three("gap", interval(panel["gap"] if panel else None)),
        **_three("power", interval(panel["power"] if panel else None)),
        "slack_high": "" if slack is None else _number(slack),
        "forwards": "" if entry is None else str(entry["worst"]["forwards"]),
        "backwards": "" if entry is None else str(entry["worst"]["backwards"]),
    }
    samples = _samples(facts_of(cell, "test"))
    last = {"key": cell.key, "spikeproof": str(cell.provenance.get("spikeproof", ""))}
    return {name: formula_free(value) for name, value in {**words, **numbers, **samples, **last}.items()}


def _samples(of: DataFacts | None) -> dict[str, str]:
    """What is known of the test samples; empty of a cell of an older version, and of binning where there is none."""
    names = ("test_samples", "test_samples_whole", "values", "steps", "framed_by", "cells", "sensor")
    if of is None:
        return dict.fromkeys(names, "")
    binning = of["binning"]
    whole = "" if of["whole"] is None else str(of["whole"])
    steps = str(of["shape"][0]) if len(of["shape"]) == 4 else ""
    sides = ("", "") if binning is None else ("x".join(map(str, of)) for of in (binning["cells"], binning["sensor"]))
    by = "" if binning is None else binning["by"]
    return dict(zip(names, (str(of["samples"]), whole, of["values"], steps, by, *sides), strict=True))


def _hidden(line: _Line) -> bool:
    return line.verdict == NOT_EVALUATED


def _robust_is(line: _Line) -> str:
    """What the number of the worst case is: what was measured, an upper bound, or none."""
    if line.entry is None or _hidden(line):
        return _unmeasured(line)
    return "an upper bound" if line.verdict == UNSETTLED else "measured"


def _three(name: str, found: Interval | None) -> dict[str, str]:
    """A share and the ends of its interval."""
    values = ("", "", "") if found is None else map(_number, (found.share, found.low, found.high))
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _number(share_of: float) -> str:
    return percent(share_of).rpartition("\u00a0")[0]
