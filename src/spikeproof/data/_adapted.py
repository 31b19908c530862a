"""Events from elsewhere as images: recordings with t, x, y, p, or frames that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeproof.data._images import Images
from spikeproof.data._recordings import COUNTS, By, Framing, Recording
from spikeproof.errors import SpikeproofError
from spikeproof.limits import IMAGES_BYTES

__all__ = ["framed", "from_events", "from_frames"]


def framed(recordings: Sequence[Recording], framing: Framing, height: int, width: int) -> Tensor:
    """Recordings of one sensor -> their grids (N,frames,2,rows,columns) uint8; each is checked first."""
    rows, columns = framing.sides(height, width)
    size = len(recordings) * framing.frames * 2 * rows * columns
    if size > IMAGES_BYTES:
        raise SpikeproofError(f"grids of at most {IMAGES_BYTES} bytes", size, mend="set a limit, or fewer frames")
    grids = np.empty((len(recordings), framing.frames, 2, rows, columns), dtype=np.uint8)
    for row, one in zip(grids, recordings, strict=True):
        row[:] = framing.grid(one.checked(height, width), height, width)
    return torch.from_numpy(grids)


def from_events(
    recordings: Sequence[Any],
    labels: Sequence[int],
    *,
    height: int,
    width: int,
    frames: int,
    by: By = "number",
    binary: bool = True,
    ids: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    name: str = "events",
) -> Images:
    """Recordings of a sensor with `height` rows and `width` columns -> grids (N,frames,2,height,width), as images.

    recordings: each with the fields t (microseconds), x, y, p, a structured array (Tonic) or a mapping (SpikingJelly).
    by, binary: how they are framed, see `Framing`. ids: stable names of the recordings, their places where none are
    given; classes: names, '0', '1', ... where none are given. Raises SpikeproofError for bad recordings, by their
    place.
    """
    read = [Recording.of(events, f"recording {number}") for number, events in enumerate(recordings)]
    framing = Framing(frames, by, binary)
    grids = framed(read, framing, height, width)
    return replace(_images(grids, framing.scale, labels, ids, classes, name), binning=framing.told(height, width))


def from_frames(
    frames: Tensor | NDArray[Any],
    labels: Sequence[int],
    *,
    binary: bool = True,
    ids: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    name: str = "frames",
) -> Images:
    """Frames (N,T,2,H,W) that hold whole numbers of events -> the same as images; the rest is as in `from_events`.

    Raises SpikeproofError for other axes, and for cells that are no counts from 0 to 255.
    """
    grid = torch.as_tensor(frames)
    _check_axes(grid, len(labels))
    whole = grid.round() if grid.is_floating_point() else grid
    other = (whole != grid) | (whole < 0) | ((whole > COUNTS) & (not binary))
    if bool(other.any()):
        at = tuple(other.nonzero()[0].tolist())
        mend = "give counts before they are normalised, or binary: true for counts above that"
        raise SpikeproofError(
            f"counts in 0..{COUNTS} in every cell of {name}", f"{grid[at].item():g} at {at}", mend=mend
        )
    cells = (whole > 0) if binary else whole
    return _images(cells.to(torch.uint8), 1 if binary else COUNTS, labels, ids, classes, name)


def _check_axes(grid: Tensor, count: int) -> None:
    shape = tuple(grid.shape)
    if len(shape) == 5 and shape[2] == 2 and shape[0] == count:
        return
    mend = "recordings first, then time, then the two polarities"
    if len(shape) == 5 and shape[1] == count != shape[0]:
        mend += ": exchange the first two axes"
    elif len(shape) == 5 and shape[1] == 2:
        mend += ": exchange the second and the third axis"
    raise SpikeproofError(f"frames (N,T,2,H,W) of {count} labels", f"shape {shape}", mend=mend)


def _images(
    pixels: Tensor,
    scale: int,
    labels: Sequence[int],
    ids: Sequence[int] | None,
    classes: Sequence[str] | None,
    name: str,
) -> Images:
    known = torch.as_tensor(labels, dtype=torch.int64)
    named = torch.arange(len(known)) if ids is None else torch.as_tensor(ids, dtype=torch.int64)
    words = tuple(classes) if classes is not None else tuple(map(str, range(int(known.max()) + 1 if len(known) else 0)))
    return Images(pixels, scale, known, named, words, name)
