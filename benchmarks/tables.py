"""Tables of docs/results.md from the packed rows alone: `python -m benchmarks.tables` (a minute).

A table stands behind a line `<!-- table: LAYOUT FOLDER -->` (`LAYOUTS` says what the layouts are; some are told more),
and is made anew in its place. Means over seeds are taken here; claims and differences with intervals are the page's
own. Nothing is rounded but what is printed, a half to the even digit: means of counts often end in a five, which binary
fractions have a little above or below it.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from spikeproof.report._configurations import configurations_table
from spikeproof.report._summary import Summary, headline_of, summarise
from spikeproof.report._tables import Entry, Table
from spikeproof.report._tradeoff import Answers, answer
from spikeproof.report._tradeoff_text import claims_table, pairs_table
from spikeproof.store.packed import packed_cells

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results.md"
MARKED = re.compile(r"^<!-- table: (\w+) (\S+)((?: \S+)*) -->\n(?:\|.*\n)*", re.MULTILINE)
UNDEFENDED = "vanilla"

_ROWS = b',"rows":{'
"""What stands behind the summary in a packed cell; no text within it can say so, for its quotes are escaped."""


@dataclass(frozen=True)
class Network:
    """One packed cell: its name without the seed, and what its summary says."""

    name: str
    seed: int
    results: Any
    headline: tuple[str, str]

    def at(self, eps: str) -> Any:
        """Of the headline's evaluation at a budget: what its attacks found, and the panel on them."""
        name, _ = self.headline
        return tuple(
            next(one for one in self.results[kind] if (one["evaluation"], one["eps_text"]) == (name, eps))
            for kind in ("evaluations", "panels")
        )

    def gradient(self, site: str) -> Any:
        return self.results["gradients"]["eval"][site]["ce"]

    @property
    def behind(self) -> str:
        """The site behind the first layer, where a max pool's zeros are first seen."""
        sites = {name: one["ce"]["order"] for name, one in self.results["gradients"]["eval"].items() if "ce" in one}
        layers = sorted((order, name) for name, order in sites.items() if order >= 0 and not name.startswith("weight"))
        return layers[1][1]


Measure = Callable[[Network], float]


def networks(folder: Path) -> list[Network]:
    return sorted(map(_network, folder.glob("*.json.xz")), key=lambda one: (one.name, one.seed))


def _network(path: Path) -> Network:
    """Of the beginning of the file, up to its rows, which are most of it and are not asked here."""
    text = b""
    with lzma.open(path) as file:
        while _ROWS not in text and (more := file.read(1 << 15)):
            text += more
    tree = json.loads(text.partition(_ROWS)[0] + b"}")
    config = tree["config"]
    name = re.sub(r"-s\d+$", "", config["name"])
    headline = config["headline"]["evaluation"], str(config["headline"]["eps"])
    return Network(name, config["seed"], tree["summary"]["results"], headline)


def percent(share: Measure) -> Measure:
    return lambda one: 100 * share(one)


def worst(eps: str) -> Measure:
    return percent(lambda one: one.at(eps)[0]["worst"]["robust"]["share"])


def after(attack: str, eps: str) -> Measure:
    return percent(lambda one: one.at(eps)[0]["attacks"][attack]["robust"]["share"])


def slack(which: str, eps: str) -> Measure:
    return percent(lambda one: one.at(eps)[1]["slack"][which])


CLEAN = percent(lambda one: one.results["clean"]["test"]["share"])
GAP = percent(lambda one: one.results["generalisation"]["clean"]["train_test"]["gap"])
ROBUST_GAP = percent(lambda one: one.results["generalisation"]["robust"]["gap"])
CORRUPTED = percent(lambda one: one.results["generalisation"]["corruptions"]["accuracy"]["mean"])
BEHIND = percent(lambda one: one.gradient(one.behind)["zero_share"])


def _paper(one: Network) -> float:
    (found,) = (every for every in one.results["evaluations"] if every["protocol"] == "paper")
    return float(100 * found["worst"]["robust"]["share"])


def rounded(value: float, digits: int = 1) -> str:
    return str(Decimal(f"{value:.9f}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN))


def ranged(measure: Measure, few: Sequence[Network]) -> str:
    values = [measure(one) for one in few]
    return f"{rounded(fmean(values))} ({rounded(min(values))} to {rounded(max(values))})"


def mean(measure: Measure, few: Sequence[Network], digits: int = 1) -> str:
    return rounded(fmean(map(measure, few)), digits)


def pools(found: Sequence[Network]) -> list[list[str]]:
    """Configurations side by side, measures down: for a study of few configurations and many seeds."""
    names = sorted(
        {one.name for one in found}, key=lambda name: (name.split("-", 1)[1] != UNDEFENDED, name[:3] != "max")
    )
    each = [[one for one in found if one.name == name] for name in names]
    budgets = [panel["eps_text"] for panel in found[0].results["panels"]]
    rows = [["", *(name.replace("-", ", ", 1) for name in names)]]

    def row(title: str, cell: Callable[[Sequence[Network]], str]) -> None:
        rows.append([title, *map(cell, each)])

    row("clean test accuracy, %", lambda few: ranged(CLEAN, few))
    for eps in budgets:
        _at_budget(row, eps)
    row("paper's protocol, FGSM and PGD-7 together", lambda few: ranged(_paper, few))
    row("input Gini", lambda few: mean(lambda one: one.gradient("image")["gini"], few, 3))
    row("zeros at the input / behind the first layer, %", lambda few: f"{mean(_zeros, few)} / {mean(BEHIND, few)}")
    row("input l1", lambda few: mean(lambda one: one.gradient("image")["l1"], few))
    robust = found[0].results["generalisation"]["robust"]["eps_text"]
    row(f"train less test / robust train less test at {robust}, points",
        lambda few: f"{mean(GAP, few)} / {mean(ROBUST_GAP, few)}")  # fmt: skip
    row("accuracy under corruptions, %", lambda few: mean(CORRUPTED, few))
    return rows


def _zeros(one: Network) -> float:
    return float(100 * one.gradient("image")["zero_share"])


def _at_budget(row: Callable[[str, Callable[[Sequence[Network]], str]], None], eps: str) -> None:
    row(f"pixels, eps {eps}: after FGSM", lambda few: ranged(after("fgsm", eps), few))
    row("... after PGD-20, surrogate of training", lambda few: ranged(after("pgd-20", eps), few))
    row("... **worst case of the tier**", lambda few: f"**{ranged(worst(eps), few)}**")
    row("... that may still fall: expected, upper end",
        lambda few: f"{mean(slack('expected', eps), few)}, {mean(slack('high', eps), few)}")  # fmt: skip


def knobs(found: Sequence[Network]) -> list[list[str]]:
    """A defence a row, the values of its knob in their order: for a study of many configurations."""
    eps = found[0].headline[1]
    plain = {one.seed: one.gradient("image")["l1"] for one in found if one.name == UNDEFENDED}
    columns: list[tuple[str, Measure, int]] = [
        ("clean, %", CLEAN, 0),
        ("after PGD-20, %", after("pgd-20", eps), 0),
        ("worst case, %", worst(eps), 0),
        ("may still fall, points", slack("expected", eps), 0),
        ("l1 over vanilla's", lambda one: one.gradient("image")["l1"] / plain[one.seed], 2),
        ("input Gini", lambda one: one.gradient("image")["gini"], 2),
        ("zeros behind the first layer, %", BEHIND, 0),
    ]
    rows = [["defence", "knob", *(title for title, _, _ in columns)]]
    for family, names in families({one.name for one in found}).items():
        each = [[one for one in found if one.name == name] for name in names.values()]
        cells = [" / ".join(mean(measure, few, digits) for few in each) for _, measure, digits in columns]
        rows.append([family, " / ".join(names), *cells])
    return rows


def families(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Defence -> value of its knob -> name, both in order, the undefended and then those on top of others last."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(names, key=lambda name: (name != UNDEFENDED, "+" in name, *_parted(name))):
        family, value = _parted(name)
        found.setdefault(family, {})[value] = name
    return {
        family: dict(sorted(values.items(), key=lambda item: (float(item[0]) if _number(item[0]) else 0.0, item[0])))
        for family, values in found.items()
    }


def _parted(name: str) -> tuple[str, str]:
    family, dash, value = name.rpartition("-")
    return (family, value) if dash else (name, "")


def _number(text: str) -> bool:
    return re.fullmatch(r"[\d.]+", text) is not None


@cache
def _summaries(folder: Path) -> list[Summary]:
    """What the page knows of a study."""
    cells = packed_cells(folder)
    return summarise(cells, headline_of(cells))


@cache
def _answers(folder: Path) -> Answers | None:
    return answer(_summaries(folder))


def _named(table: Table) -> list[dict[str, Entry]]:
    titles = [title for title, _ in table.columns]
    return [dict(zip(titles, row, strict=True)) for row in table.rows]


def claims(folder: Path) -> list[list[str]]:
    """The claims of the page that have a number, by its rule, with what decides each."""
    answers = _answers(folder)
    if answers is None:
        raise ValueError(f"{folder} is too small for claims")
    rows = [["claim", "measure", "number", "over seeds", f"over {answers.unit}", "p, alone and corrected", "verdict"]]
    for claim, row in zip(answers.claims, _named(claims_table(answers)), strict=True):
        if claim.estimate.value is None:
            continue
        alone, corrected = row["p, corrected"].small.removesuffix(" alone"), row["p, corrected"].main
        shown = (row[title].main for title in ("claim", "measure", "number", "over seeds", f"over {answers.unit}"))
        told = claim.verdict if claim.verdict == "undecided" else f"**{claim.verdict}**"
        rows.append([*shown, "none" if claim.p is None else f"{alone}, {corrected}", told])
    return rows


def apart(folder: Path, base: str = UNDEFENDED, names: str = ".*") -> list[list[str]]:
    """Of the configurations whose names fit a pattern, those whose worst case lies on one side of a base's by the
    page's interval, the highest first."""
    found = configurations_table(_summaries(folder), base)
    if found is None or found[0] != base:
        raise ValueError(f"{folder} has no seeds of {base} to compare")
    less = f"worst case less that of {base}"
    some = [row for row in _named(found[1]) if re.fullmatch(names, row["configuration"].main)]
    rows = [["configuration", "clean", "worst case", "of a seed", f"less {base}'s, points", "95 % interval"]]
    for row in sorted((row for row in some if _beside(row[less])), key=lambda row: -float(row[less].main)):
        worst = row["worst case"]
        rows.append([row["configuration"].main, row["clean test"].main, worst.main, worst.small, row[less].main,
                     row[less].small])  # fmt: skip
    return rows


def pairs(folder: Path) -> list[list[str]]:
    """The page's table of max less average pool, over all pairs and within each training."""
    found = None if (answers := _answers(folder)) is None else pairs_table(answers)
    if found is None:
        raise ValueError(f"{folder} has no pairs")
    return [[title for title, _ in found.columns], *([entry.main for entry in row] for row in found.rows)]


def _beside(difference: Entry) -> bool:
    """Whether 0 is outside the interval."""
    ends = re.findall(r"[-+][\d.]+", difference.small)
    return len(ends) == 2 and ends[0][0] == ends[1][0]


LAYOUTS: dict[str, Callable[..., list[list[str]]]] = {
    "pools": lambda folder: pools(networks(folder)),
    "knobs": lambda folder: knobs(networks(folder)),
    "claims": claims,
    "apart": apart,
    "pairs": pairs,
}


@cache
def table(layout: str, folder: str, *told: str) -> str:
    head, *rows = LAYOUTS[layout](ROOT / folder, *told)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def again(text: str) -> str:
    """The text with every marked table made anew."""

    def made(found: re.Match[str]) -> str:
        mark, _, _ = found[0].partition("\n")
        return f"{mark}\n{table(found[1], found[2], *found[3].split())}"

    return MARKED.sub(made, text)


if __name__ == "__main__":
    RESULTS.write_text(again(RESULTS.read_text(encoding="utf-8")), encoding="utf-8")
