"""Every configuration of a study over its seeds, and how it stands to the undefended one: what each defence does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from spikeproof.metrics.paired import crossed
from spikeproof.metrics.robustness import Interval
from spikeproof.report._data import data_key
from spikeproof.report._design import by_image, measured, settings_of
from spikeproof.report._summary import Summary
from spikeproof.report._tables import Entry, Table, numbers, word, words
from spikeproof.report._text import MISSING, number, percent

__all__ = ["configurations_table"]

_MEASURES = {
    "input l1": measured("image", "l1"),
    "input Gini": measured("image", "gini"),
    "zero share at the input": measured("image", "zero_share"),
    "... behind the first layer": measured("stem", "zero_share"),
}
_SHARES = ("zero share at the input", "... behind the first layer")


def configurations_table(cells: Sequence[Summary], centre: str | None = None) -> tuple[str, Table] | None:
    """The label of the configuration that the others are held against, and the table; None without repeated seeds.

    That one is `centre`, or else undefended and differs least, in the settings that it does not share, from all others
    together.
    """
    groups = _groups(cells)
    undefended = [label for label, group in groups.items() if group[0].defence == "vanilla"]
    if len(groups) < 2 or not (centre in groups or undefended) or max(map(len, groups.values())) < 2:
        return None
    if centre not in groups:
        settings = {label: _dotted(group[0].config) for label, group in groups.items()}
        centre = min(undefended, key=lambda label: sum(_apart(settings[label], other) for other in settings.values()))
    attacks = list(dict.fromkeys(name for cell in cells if cell.headline for name in _alone(cell)))
    columns = [
        *words("configuration"),
        *numbers("seeds", "clean test", *(f"after {name}" for name in attacks), "worst case"),
        *numbers(f"worst case less that of {centre}", f"input l1 over that of {centre}, mean of ratios"),
        *numbers(*_MEASURES, "firing rate"),
        *words("red audits"),
    ]
    order = [centre, *(label for label in groups if label != centre)]
    rows = [_row(label, groups[label], groups[centre], attacks) for label in order]
    return centre, Table(columns, rows)


def _groups(cells: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Label of the configuration, its first cell's name without the seed -> its cells, one a seed.

    By what is configured, not by name: a study that was changed and run again into its folder has both under one.
    """
    by_settings: dict[str, dict[Any, Summary]] = {}
    for cell in cells:
        by_settings.setdefault(settings_of(cell), {}).setdefault(cell.setting("seed"), cell)
    found: dict[str, list[Summary]] = {}
    for group in by_settings.values():
        first = next(iter(group.values()))
        stem = label = first.name.removesuffix(f"-s{first.setting('seed')}")
        number = 2
        while label in found:
            label, number = f"{stem} ({number})", number + 1
        found[label] = list(group.values())
    return found


def _row(label: str, group: Sequence[Summary], centre: Sequence[Summary], attacks: Sequence[str]) -> list[Entry]:
    of_seed = {(cell.setting("seed"), data_key(cell)): cell for cell in centre}
    both = [(cell, of_seed.get((cell.setting("seed"), data_key(cell)))) for cell in group]
    pairs = [(cell, other) for cell, other in both if other is not None]
    same = group is centre
    return [
        word(label),
        Entry(str(len(group))),
        _over(group, lambda cell: _share(cell.clean("test")), percent),
        *(_over(group, partial(_after, name), percent) for name in attacks),
        _over(group, _worst, percent),
        Entry("") if same else _difference(pairs),
        Entry("") if same else _over(pairs, _quotient, number),
        *(_over(group, value, percent if name in _SHARES else number) for name, value in _MEASURES.items()),
        _over(group, _firing, percent),
        word(_red(group)),
    ]


def _over(some: Sequence[Any], value: Callable[[Any], float | None], written: Callable[[float], str]) -> Entry:
    """The mean over seeds, and the least and the most of them under it."""
    found = [one for one in map(value, some) if one is not None]
    if not found:
        return Entry(MISSING)
    return Entry(written(math.fsum(found) / len(found)), f"{written(min(found))} to {written(max(found))}")


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _share(found: Interval | None) -> float | None:
    return None if found is None else found.share


def _after(name: str, cell: Summary) -> float | None:
    return None if cell.withheld else _share(cell.attack(name))


def _worst(cell: Summary) -> float | None:
    return None if cell.withheld else _share(cell.worst())


def _difference(pairs: Sequence[tuple[Summary, Summary]]) -> Entry:
    """The mean over seeds of the difference on the images that all have, and its interval over seeds and images."""
    of_image = by_image("robust")
    each = [found for pair in pairs if all(found := [of_image(cell) for cell in pair])]
    shared = sorted(set.intersection(*(set(one) for pair in each for one in pair))) if each else []
    if not shared:
        return Entry(MISSING)
    table = np.array([[own[image] - other[image] for image in shared] for own, other in each])
    bounds = crossed(table)
    ends = "no interval" if bounds is None else f"[{100 * bounds.low:+.1f}, {100 * bounds.high:+.1f}]"
    return Entry(_points(float(table.mean())), ends)


def _quotient(pair: tuple[Summary, Summary]) -> float | None:
    own, other = map(_MEASURES["input l1"], pair)
    return None if own is None or not other else own / other


def _firing(cell: Summary) -> float | None:
    return None if cell.energy is None else cell.energy["firing_rate"]


def _alone(cell: Summary) -> list[str]:
    """The attacks that were run on every image at the headline."""
    return [] if cell.headline is None else [name for name, found in cell.headline["attacks"].items() if found["alone"]]


def _red(group: Sequence[Summary]) -> str:
    """How often each audit of the headline was red, over the panels of the seeds."""
    panels = [cell.panel for cell in group if cell.panel is not None]
    if not panels:
        return MISSING
    red = Counter(audit["code"] for panel in panels for audit in panel["audits"] if audit["colour"] == "red")
    often = ", ".join(f"{code} {count}/{len(panels)}" for code, count in red.items())
    return often or f"none in {len(panels)}"


def _dotted(config: Any, at: str = "") -> dict[str, str]:
    """Every setting but the name and the seed, by its dotted name."""
    if not isinstance(config, dict):
        return {at: str(config)}
    own = {name: value for name, value in config.items() if at or name not in ("name", "seed")}
    return {
        key: value for name, tree in own.items() for key, value in _dotted(tree, f"{at}.{name}" if at else name).items()
    }


def _apart(one: dict[str, str], other: dict[str, str]) -> int:
    return sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())
