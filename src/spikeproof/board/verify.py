"""Inputs of anybody, judged on the network of an entry: which of its images they break that stood until now.

Everything is checked before anything is counted: that each input has the shape of its image, which is one of the
entry's and comes once, that it lies in the box and on the grid of the surface, and within the budget of its own image.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spikeproof.board.entry import Entry, written
from spikeproof.board.inputs import Given, read_inputs
from spikeproof.board.subject import Subject, subject
from spikeproof.errors import SpikeproofError
from spikeproof.files import digest
from spikeproof.metrics.robustness import Interval, clopper_pearson
from spikeproof.study.run import Machine
from spikeproof.tensors import on_grid
from spikeproof.types import Grid
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import BUDGET_TOLERANCE, Scene

__all__ = ["Found", "accept", "broken", "verify", "within"]

_NAMED = 5
"""Places that a refusal names."""

_LOOKED_AT = 64
"""Inputs over budget that are held against every image, to say whose they are."""


@dataclass(frozen=True)
class Found:
    """What inputs did to an entry. ids of images: `broken` those that these inputs break, `new` those of them that
    stood until now; `unlike` those whose clean image is answered otherwise here than the entry says."""

    inputs: int
    digest: str
    broken: tuple[int, ...]
    new: tuple[int, ...]
    unlike: tuple[int, ...]
    before: Interval | None
    after: Interval | None

    def __str__(self) -> str:
        lines = [f"{self.inputs} inputs, all within budget and box: {len(self.broken)} break their image"]
        if self.unlike:
            lines.append(f"{len(self.unlike)} clean images are answered otherwise here: another version or processor?")
        if self.before is None or self.after is None:
            return "\n".join([*lines, "the entry was not evaluated: there is no number to lower"])
        says = f"lowered by {len(self.new)} images" if self.new else "not lowered: no image falls that stood until now"
        return "\n".join([*lines, f"{says}: {self.before} -> {self.after}" if self.new else f"{says}: {self.before}"])


def verify(
    entry: Entry,
    path: Path,
    machine: Machine,
    *,
    weights: Path | None = None,
    root: Path | None = None,
    trust: bool = False,
) -> Found:
    """Judge the inputs at `path` on the network of an entry; arguments as `subject` has them.

    Raises SpikeproofError, which says how many inputs it is about and which come first, where inputs are of another
    shape, of images that the entry has not, twice of one, outside the box, no whole events, or over budget.
    """
    of = subject(entry, machine, weights=weights, root=root, trust=trust)
    given = read_inputs(path, of.events)
    index = _places(given, of, entry)
    batch = of.batch.take(index)
    inputs = given.inputs.to(batch.x.device)
    _check(inputs, batch, of)
    # A draw of noise that nobody knew before the file was there: it is named after the file.
    name = digest(path)
    fallen, unlike = broken(of, batch, inputs, f"verify {name}", {*zip(*_said(entry), strict=True)})
    new = tuple(id for id in fallen if id in entry.standing)
    after = None if entry.worst is None else clopper_pearson(len(entry.standing) - len(new), entry.total)
    return Found(len(inputs), name, fallen, new, unlike, entry.worst, after)


def accept(entry: Entry, found: Found, *, by: str, how: str) -> Entry:
    """The entry with what lowered it, written over the old one. Raises SpikeproofError where nothing did."""
    if not found.new:
        raise SpikeproofError("inputs that lower the entry", "none", mend="without --by, to see what they do")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    one = {"by": by, "how": how, "date": date, "inputs": found.digest, "ids": sorted(found.new)}
    return written(entry.path, {**entry.tree, "lowered": [*entry["lowered"], one]})


def broken(
    of: Subject, batch: Batch, inputs: Tensor, purpose: str, said: Collection[tuple[int, int]] = ()
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the images (of `batch`) that are right when clean and wrong at their input (n,*), by the judge's rule on
    noise of that purpose; and of those whose clean answer is not among `said`, (id, class)."""
    fallen: list[int] = []
    unlike: list[int] = []
    for index in torch.arange(len(batch)).tensor_split(max(1, -(-len(batch) // of.evaluation.batch_size))):
        part, points = batch.take(index), inputs[index.to(inputs.device)]
        scene = Scene(of.victim, part.x, part.y, part.keys, of.threat.surface)
        with torch.no_grad():
            clean, found = scene.judge(scene.start, "clean"), scene.judge(points, purpose)
        ids, answers = part.ids.tolist(), clean.predicted.tolist()
        unlike += [id for id, answer in zip(ids, answers, strict=True) if said and (id, answer) not in said]
        fell = ((found.predicted != part.y) & (clean.predicted == part.y)).tolist()
        fallen += [id for id, one in zip(ids, fell, strict=True) if one]
    return tuple(fallen), tuple(unlike)


def _said(entry: Entry) -> tuple[list[int], list[int]]:
    return entry["outcomes"]["ids"], entry["outcomes"]["predicted"]


# --- what is refused ---


def _refused(expected: str, wrong: Sequence[int], total: int, what: str, mend: str = "") -> SpikeproofError:
    first = ", ".join(map(str, wrong[:_NAMED])) + (", ..." if len(wrong) > _NAMED else "")
    return SpikeproofError(expected, f"{len(wrong)} of {total} {what}, at {first} (from 0)", mend=mend)


def _places(given: Given, of: Subject, entry: Entry) -> Tensor:
    """Where the images of the inputs stand in the batch, (n,); refused for another shape, and for other images."""
    total, wanted = len(given.inputs), tuple(of.batch.x.shape[1:])
    if tuple(given.inputs.shape[1:]) != wanted or not total:
        mend = "inputs as the network takes them, before any normalisation of its own"
        raise SpikeproofError(
            f"inputs (n, {', '.join(map(str, wanted))})", f"{total} of shape {tuple(given.inputs.shape[1:])}", mend=mend
        )
    known = entry["outcomes"]["ids"]
    if given.ids is None and total != len(known):
        raise SpikeproofError(f"an input for each of the {len(known)} images, or ids", f"{total} inputs without ids")
    ids = known if given.ids is None else given.ids.tolist()
    place = {id: number for number, id in enumerate(of.batch.ids.tolist())}
    if other := [number for number, id in enumerate(ids) if id not in place]:
        mend = "ids are those of outcomes.ids in the entry"
        raise _refused("inputs of images of the entry", other, total, "of other images", mend)
    first: dict[int, int] = {}
    if again := [number for number, id in enumerate(ids) if first.setdefault(id, number) != number]:
        raise _refused("one input for each image", again, total, "of an image that has one already")
    return torch.tensor([place[id] for id in ids])


def _check(inputs: Tensor, batch: Batch, of: Subject) -> None:
    """Raises SpikeproofError for inputs outside the box, off the grid of whole events, or over budget."""
    scene, total = Scene(of.victim, batch.x, batch.y, batch.keys, of.threat.surface), len(inputs)
    least, most = scene.surface.box
    flat = inputs.flatten(1)
    inside = (flat >= least - BUDGET_TOLERANCE) & (flat <= most + BUDGET_TOLERANCE)  # NaN is in no box
    if outside := _where(~inside.all(1)):
        raise _refused(f"inputs in [{least:g},{most:g}]", outside, total, "with other values, or NaN")
    if isinstance(scene.surface, Grid):
        off = (inputs != on_grid(inputs, scene.surface.quantum)).flatten(1).any(1)
        if wrong := _where(off):
            raise _refused(f"whole events, multiples of {scene.surface.quantum:.6g}", wrong, total, "with others")
    distance = of.threat.distance(inputs, scene.start)
    if over := _where(~within(distance, of)):
        what = f"over budget, the farthest by {float(distance.max()):.6g}{_whose(inputs, over, of)}"
        expected = f"inputs within {of.threat.norm} {of.threat.eps:.6g} of their own image"
        raise _refused(expected, over, total, what, "as `threat.project` does; bytes are rounded towards the image")


def within(distance: Tensor, of: Subject) -> Tensor:
    """Whether distances (n,) are within the budget, with the judge's tolerance: (n,) bool; NaN is not."""
    return distance <= of.threat.eps * (1.0 + BUDGET_TOLERANCE) + BUDGET_TOLERANCE


def _where(wrong: Tensor) -> list[int]:
    found: list[int] = wrong.nonzero()[:, 0].tolist()
    return found


def _whose(inputs: Tensor, over: Sequence[int], of: Subject) -> str:
    """How many of the inputs that are over budget are within that of another image: their ids are wrong."""
    images, some = of.batch.x, over[:_LOOKED_AT]
    near = sum(bool(within(of.threat.distance(inputs[number].expand_as(images), images), of).any()) for number in some)
    looked = "" if len(some) == len(over) else f" of the first {len(some)}"
    return f" ({near}{looked} within that of another image)" if near else ""
