"""The board as one page, from its entries alone: no script, nothing to fetch, and no text that is taken for markup.

Networks are ranked where their numbers are of the same images under the same threat, and by the worst case that is
known today. What is unsettled or was not evaluated stands below them without a rank, and what was refused is named.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spikeproof.board.entry import Entry, read
from spikeproof.data_facts import named_data
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.files import write_bytes
from spikeproof.metrics.robustness import Interval
from spikeproof.metrics.verdict import NOT_EVALUATED, SUPPORTED

__all__ = ["PAGE", "Group", "Refused", "entries", "groups", "write"]

PAGE = "board.html"


class Refused(NamedTuple):
    """A file that is no entry to show, and why."""

    path: Path
    says: str


class Group(NamedTuple):
    """Entries that can be compared, best first; beside each its rank, None where it has none.

    data: the data set and how it was made, as how events were binned; digest: of all of its test images, None where it
    is not recorded.
    """

    data: str
    digest: str | None
    images: int
    threat: str
    lines: list[tuple[int | None, Entry]]


def entries(folder: Path) -> tuple[list[Entry], list[Refused]]:
    """The entries of a folder, each `*.json` of it, and the files that are refused: also one that says of a cell and
    threat what another file has said. UsageError for a folder without any `*.json`."""
    found: list[Entry] = []
    refused: list[Refused] = []
    seen: dict[tuple[str, ...], str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            entry = read(path)
            what = entry["identity"]["key"], entry["threat"]["evaluation"], entry["threat"]["eps_text"]
            if (first := seen.setdefault(what, path.name)) != path.name:
                raise SpikeproofError(f"another identity.key or threat in {path}", f"those of {first}")
            found.append(entry)
        except SpikeproofError as error:
            refused.append(
                Refused(path, str(error).replace(str(path), path.name))
            )  # a page tells no folder of a machine
    if not found and not refused:
        mend = "spikeproof entry CELL --into FOLDER"
        raise UsageError(f"entries (*.json) in {folder}", "none" if folder.is_dir() else "no such folder", mend=mend)
    return found, refused


def groups(found: Sequence[Entry]) -> list[Group]:
    """Entries by data, images and threat, in the order of these: other frames, cells or samples are other data. Within
    one the ranked ones, then unsettled ones, then those that were not evaluated, each by their worst case."""
    by: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in found:
        data, threat = entry["data"], entry["threat"]
        key = (
            (data["name"], data["digest"], *sorted(entry["outcomes"]["ids"])),
            (threat["surface"], threat["norm"], threat["eps"]),
        )
        by.setdefault(key, []).append(entry)
    made = [_group(mine) for mine in by.values()]
    return sorted(made, key=lambda one: (one.data, one.threat, -one.images))


def _group(mine: Sequence[Entry]) -> Group:
    data, threat = mine[0]["data"], mine[0]["threat"]
    order = sorted(mine, key=lambda one: (_order(one), -_share(one), one.name, one["identity"]["key"]))
    ranked = [_share(one) for one in order if one.verdict == SUPPORTED]
    lines = [
        (1 + sum(other > _share(one) for other in ranked) if one.verdict == SUPPORTED else None, one) for one in order
    ]
    where = f"{threat['norm'] or 'a threat'} on {threat['surface']}, eps {threat['eps_text']}"
    told = named_data({**mine[0]["config"].get("data", {}), "name": data["name"]})
    return Group(told, data["digest"], data["images"], where, lines)


def _order(entry: Entry) -> int:
    return {SUPPORTED: 0, NOT_EVALUATED: 2}.get(entry.verdict, 1)


def _share(entry: Entry) -> float:
    return 0.0 if entry.worst is None else entry.worst.share


def write(folder: Path, *, title: str) -> tuple[Path, list[Refused]]:
    """Write `board.html` into the folder of its entries; returns its path, and what was refused, which the page names
    too. UsageError for a folder without entries."""
    found, refused = entries(folder)
    page = folder / PAGE
    write_bytes(page, _rendered(groups(found), refused, title).encode())
    return page, refused


def _rendered(made: Sequence[Group], refused: Sequence[Refused], title: str) -> str:
    environment = Environment(
        loader=PackageLoader("spikeproof", "board"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "interval": _interval, "points": _points, "spread": _spread}
    style = files("spikeproof.board").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        title=title, style=Markup(style), groups=made, refused=refused, history=_history,
    )  # fmt: skip


def _shown(value: object) -> object:
    """Without letters that control a terminal or turn the direction of a text: nothing looks like what it is not."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join("\ufffd" if unicodedata.category(letter)[0] == "C" else letter for letter in value)


# --- how a number is written ---


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _interval(found: Interval | dict[str, Any]) -> str:
    of = found if isinstance(found, Interval) else Interval(**found)
    return f"[{100 * of.low:.1f}, {100 * of.high:.1f}]"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _spread(entry: Entry) -> str:
    """The worst case over the seeds of a training, each as its panel left it."""
    shares = [one["worst"]["share"] for one in entry["seeds"] if one["worst"] is not None]
    if len(entry["seeds"]) == 1:
        return "1 seed"
    return (
        f"{len(entry['seeds'])} seeds: {100 * min(shares):.1f} to {100 * max(shares):.1f}" if shares else NOT_EVALUATED
    )


def _history(entry: Entry) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Everything that has lowered an entry, with the images that stood before and after it."""
    left = len(entry.standing) + entry.fell
    for one in entry["lowered"]:
        yield one, left, (left := left - len(one["ids"]))
