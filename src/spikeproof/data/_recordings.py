"""A recording of an event camera: checked once, and framed into a grid of events over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from spikeproof.data_facts import Binning
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.limits import RECORDING_BYTES, STEPS

__all__ = ["COUNTS", "By", "Framing", "Recording", "contents"]

By: TypeAlias = Literal["number", "time"]

COUNTS = 255
"""Events that a cell of a grid can count; the scale of images that are counts."""


def contents(path: Path) -> bytes:
    """The bytes of a file of events; SpikeproofError for one that is not there, or has more than RECORDING_BYTES."""
    if not path.is_file():
        raise SpikeproofError(f"a file {path}", "none", mend="get it again, or take its name out of the list")
    if (size := path.stat().st_size) > RECORDING_BYTES:
        raise SpikeproofError(f"at most {RECORDING_BYTES} bytes in {path}", size, mend="get the file again")
    return path.read_bytes()


@dataclass(frozen=True, eq=False)  # compared by identity: arrays have no single truth value
class Recording:
    """Events in the order of their time: t (n,) in microseconds, x (n,) columns, y (n,) rows, p (n,) 0 or 1; int64.

    place: where they come from, as a refusal names it; offsets (n,): the byte of its file at which each event begins,
    None where there is no file, and a refusal names the number of the event.
    """

    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.int64]
    place: str
    offsets: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, events: Any, place: str) -> Recording:
        """From what has the fields t, x, y, p: a structured array as Tonic makes them, or a mapping as SpikingJelly.

        Raises SpikeproofError for missing fields, other lengths, and what is no whole number.
        """
        known = events.keys() if isinstance(events, Mapping) else getattr(events, "dtype", np.dtype(int)).names or ()
        if missing := [name for name in "txyp" if name not in known]:
            got = ", ".join(known) or type(events).__name__
            raise SpikeproofError(
                f"{place} with the fields t, x, y, p", got, mend=f"name them so: {missing[0]} is none"
            )
        columns = {name: np.asarray(events[name]) for name in "txyp"}
        for name, column in columns.items():
            if column.shape != (len(columns["t"]),) or column.dtype.kind not in "iub":
                got = f"{column.dtype} {column.shape}"
                raise SpikeproofError(f"{name} of {place} as whole numbers, one an event", got)
        t, x, y, p = (column.astype(np.int64) for column in columns.values())
        return cls(t, x, y, p, place)

    def __len__(self) -> int:
        return len(self.t)

    def checked(self, height: int, width: int) -> Recording:
        """Itself. Raises SpikeproofError, with the place and the offset of the first bad event, where it is empty, its
        times run backwards, or an event lies outside a sensor of `height` rows and `width` columns or has no polarity.
        """
        if not len(self):
            raise SpikeproofError(f"events in {self.place}", "none", mend="leave the recording out, or record it again")
        self._refuse(self.t[1:] < self.t[:-1], self.t[1:], "times that do not run backwards", 1)
        self._refuse((self.x < 0) | (self.x >= width), self.x, f"columns x in 0..{width - 1}")
        self._refuse((self.y < 0) | (self.y >= height), self.y, f"rows y in 0..{height - 1}")
        self._refuse((self.p < 0) | (self.p > 1), self.p, "polarities 0 and 1")
        return self

    def between(self, start: int, end: int) -> Recording:
        """The events at times in start..end-1; a recording of its own, which may be empty."""
        first, last = np.searchsorted(self.t, [start, end])
        part = slice(int(first), int(last))
        offsets = None if self.offsets is None else self.offsets[part]
        place = f"{self.place} from {start} to {end} microseconds"
        return Recording(self.t[part], self.x[part], self.y[part], self.p[part], place, offsets)

    def _refuse(self, bad: NDArray[np.bool_], values: NDArray[np.int64], expected: str, skipped: int = 0) -> None:
        if bad.any():
            first = int(bad.argmax())
            number = first + skipped
            where = f"event {number}" if self.offsets is None else f"byte {self.offsets[number]}"
            mend = "sort, crop or mend the events" if self.offsets is None else "get the file again, or leave it out"
            raise SpikeproofError(f"{expected} in {self.place}", f"{values[first]} at {where}", mend=mend)


@dataclass(frozen=True)
class Framing:
    """How events become a grid of `frames` frames.

    by: 'number': as many events in each frame, what is left over in the last; 'time': frames of the same length, a
    whole number of microseconds, and the last takes the rest. binary: a cell is 1 where anything happened, else it
    counts. size: rows and columns of the grid, into which the sensor's are put together; None for the sensor's own.
    """

    frames: int
    by: By
    binary: bool
    size: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= STEPS:
            raise UsageError(f"frames of a grid in 1..{STEPS}", self.frames)
        if self.by not in get_args(By):
            raise UsageError("what frames are cut by", repr(self.by), valid=get_args(By))
        if self.size is not None and self.size < 1:
            raise UsageError("a size of a grid >= 1", self.size, mend="leave it out for the sensor's own")

    @property
    def scale(self) -> int:
        """What a cell is divided by to lie in [0,1]."""
        return 1 if self.binary else COUNTS

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the grid of a sensor; UsageError for a size that is larger than it."""
        if self.size is None:
            return height, width
        if self.size > min(height, width):
            raise UsageError(f"a size of a grid in 1..{min(height, width)}, the sensor's", self.size)
        return self.size, self.size

    def told(self, height: int, width: int) -> Binning:
        """What a result must say of it, for a sensor of these rows and columns."""
        cells = list(self.sides(height, width))
        return {"frames": self.frames, "by": self.by, "sensor": [height, width], "cells": cells}

    def grid(self, of: Recording, height: int, width: int) -> NDArray[np.uint8]:
        """A checked recording of a sensor -> (frames,2,rows,columns); SpikeproofError where it is too short, or a cell
        too full."""
        rows, columns = self.sides(height, width)
        cell = ((self._frame(of) * 2 + of.p) * rows + of.y * rows // height) * columns + of.x * columns // width
        counted = np.bincount(cell, minlength=self.frames * 2 * rows * columns)
        if self.binary:
            counted = (counted > 0).astype(np.int64)
        elif (most := int(counted.max())) > COUNTS:
            mend = "more frames, or binary: true"
            raise SpikeproofError(f"at most {COUNTS} events in a cell of {of.place}", most, mend=mend)
        return counted.astype(np.uint8).reshape(self.frames, 2, rows, columns)

    def _frame(self, of: Recording) -> NDArray[np.int64]:
        """The frame of each event (n,)."""
        if self.by == "number":
            size, what, position = len(of) // self.frames, "events", np.arange(len(of))
        else:
            size, what, position = int(of.t[-1] - of.t[0]) // self.frames, "microseconds", of.t - of.t[0]
        if size < 1:
            got = f"{len(of)} events over {int(of.t[-1] - of.t[0])} microseconds"
            mend = "fewer frames, or leave the recording out"
            raise SpikeproofError(f"{self.frames} {what} or more in {of.place}, one a frame", got, mend=mend)
        found: NDArray[np.int64] = np.minimum(position // size, self.frames - 1)
        return found
