"""python -m manual.figure: docs/demo.svg, the demo's numbers as docs/results.md has them, drawn.

A row a network: clean accuracy, what the plain attack leaves, the worst case, and the slack that may still fall. The
table is read and not copied, so the figure cannot say other than the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from spikeproof.report._svg import drawing, svg

ROOT = Path(__file__).parents[1]
TABLE, FIGURE = ROOT / "docs" / "results.md", ROOT / "docs" / "demo.svg"

_NUMBER = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Network:
    """A row of the table: percent at the budget of 0.05, the slack's upper end in points, the Gini index in [0,1]."""

    name: str
    clean: float
    plain: float
    worst: float
    slack: float
    gini: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.clean} % clean, {self.plain} % under PGD-20, {self.worst} % in the worst case, "
            f"at most {self.slack} points of it may still fall; Gini {self.gini}"
        )


def networks(text: str) -> list[Network]:
    """The rows of the demo's table in docs/results.md."""
    (table,) = re.findall(r"^\| network \| clean \| 0\.05.*?\n\|[- |]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [
        Network(
            row[0], _first(row[1]), _all(row[2])[1], _first(row[3]), _all(row[4])[1], _first(row[9])
        )
        for row in rows
    ]  # fmt: skip


def _all(cell: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(cell)]


def _first(cell: str) -> float:
    return _all(cell)[0]


def drawn(rows: list[Network]) -> str:
    """The figure as SVG; each network's mark tells its numbers on hover, and the whole all of them."""
    with drawing():
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        shade = ScalarMappable(Normalize(min(row.gini for row in rows), max(row.gini for row in rows)), "cividis")
        colours = shade.to_rgba(np.array([row.gini for row in rows]))
        for place, row in enumerate(rows):
            axes.plot([row.worst, row.clean], [place, place], color="#c3c8d1", linewidth=1.2, zorder=1)
            axes.barh(place, -row.slack, left=row.worst, height=0.5, color="#f0c9a8", zorder=2)
            axes.plot(row.clean, place, "o", color="#5b616b", markersize=5, zorder=3)
            axes.plot(row.plain, place, "|", color="#5b616b", markersize=11, markeredgewidth=1.8, zorder=3)
            (mark,) = axes.plot(row.worst, place, "o", markersize=9, color=colours[place], zorder=4)
            mark.set_gid(f"network-{place}")
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(-2, 102)
        axes.set_xlabel("accuracy (%) at 0.05: large dot worst case, bar its slack, tick PGD-20, small dot clean")
        axes.grid(axis="y", visible=False)
        figure.colorbar(shade, ax=axes, aspect=25, label="Gini of the gradient\n(higher: sparser)")
        titles = {f"network-{place}": str(row) for place, row in enumerate(rows)}
        return svg(figure, "demo", ". ".join(map(str, rows)), titles) + "\n"


if __name__ == "__main__":
    FIGURE.write_text(drawn(networks(TABLE.read_text(encoding="utf-8"))), encoding="utf-8")
