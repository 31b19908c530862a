"""N-MNIST's own files: five bytes an event, no header (Orchard et al. 2015)."""

from __future__ import annotations

import numpy as np

from spikeproof.data._recordings import Recording
from spikeproof.errors import SpikeproofError

__all__ = ["SIDE", "decoded"]

SIDE = 34
"""Rows and columns of the sensor's window."""

_EVENT = 5  # bytes: x, y, polarity in the highest bit with time bits 22..16, time bits 15..8, time bits 7..0
_OVERFLOW = 240  # as y: no event, but a time stamp that has run over
_TURN = 1 << 13  # microseconds, which all that come after it are later


def decoded(content: bytes, place: str) -> Recording:
    """The events of one file, whose times are those of the file and an overflow's turn for each marker before.

    Raises SpikeproofError for a file that ends within an event. What the events say is for `Recording.checked`.
    """
    if left := len(content) % _EVENT:
        mend = "get the file again: it is cut, or no N-MNIST recording"
        expected = f"whole events of {_EVENT} bytes in {place}"
        raise SpikeproofError(expected, f"{left} bytes more at byte {len(content) - left}", mend=mend)
    table = np.frombuffer(content, dtype=np.uint8).reshape(-1, _EVENT).astype(np.int64)
    x, y, high, middle, low = table.T
    marker = y == _OVERFLOW
    t = ((high & 0x7F) << 16 | middle << 8 | low) + _TURN * np.cumsum(marker)
    (event,) = np.nonzero(~marker)
    return Recording(t[event], x[event], y[event], high[event] >> 7, place, offsets=event * _EVENT)
