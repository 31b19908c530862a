"""Files of jAER and its followers: AEDAT 2 (big-endian pairs of address and time) and AEDAT 3.1 (packets); of a sensor
of 128x128 pixels. Formats: inivation's description of AEDAT, and for the addresses the data sets' own readers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spikeproof.data._recordings import Recording
from spikeproof.errors import SpikeproofError

__all__ = ["SIDE", "decoded_2", "decoded_3"]

SIDE = 128
"""Rows and columns of the sensor."""

_AGAIN = "get the file again: it is cut, or of another format"
_PAIR = 8  # bytes of an event in both formats
_PACKET = 28  # bytes of a packet's header
_POLARITY = 1  # the type of packets that hold events; others hold frames, special events, inertial data
_END = b"#!END-HEADER\r\n"


def decoded_2(content: bytes, place: str) -> Recording:
    """The events of an AEDAT 2 file of a DVS128: x in bits 1..7 of an address, y in 8..14, polarity in bit 0.

    The picture is turned and the polarity swapped as SpikingJelly's reader does, so that the frames are its frames: x =
    127 - y, y = 127 - x, p = 1 - p. Raises SpikeproofError, with the byte, for another header, a file that ends within
    an event, and an address that is none of the sensor. What the times say is for `Recording.checked`.
    """
    begin = _text_header(content, b"#!AER-DAT2", place)
    if left := (len(content) - begin) % _PAIR:
        expected = f"whole events of {_PAIR} bytes in {place}"
        raise SpikeproofError(expected, f"{left} bytes more at byte {len(content) - left}", mend=_AGAIN)
    address, t = np.frombuffer(content, dtype=">u4", offset=begin).reshape(-1, 2).astype(np.int64).T
    offsets = begin + _PAIR * np.arange(len(address))
    if (foreign := address > 0x7FFF).any():
        at = int(foreign.argmax())
        got = f"{address[at]:#x} at byte {offsets[at]}"
        raise SpikeproofError(f"addresses of a DVS128, 0..0x7fff, in {place}", got, mend=_AGAIN)
    x, y, p = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1
    return Recording(t, SIDE - 1 - y, SIDE - 1 - x, 1 - p, place, offsets)


def decoded_3(content: bytes, place: str) -> Recording:
    """The events of an AEDAT 3.1 file: those of its packets of polarity events, without those that are marked invalid.

    A time has 31 bits, and those above it are the packet's overflow. Raises SpikeproofError, with the byte, for another
    header, and for a packet that ends behind the file or is not as it says.
    """
    begin = _text_header(content, b"#!AER-DAT3.1", place)
    columns = [np.zeros((0, 3), np.int64), *_packets(content, begin, place)]
    word, t, offsets = np.concatenate(columns).T
    return Recording(t, word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1, place, offsets)


def _packets(content: bytes, begin: int, place: str) -> Iterator[NDArray[np.int64]]:
    """The valid events of each packet: word, time, offset, (n,3)."""
    while begin < len(content):
        if len(content) - begin < _PACKET:
            got = f"{len(content) - begin} bytes at byte {begin}"
            raise SpikeproofError(f"a packet's header of {_PACKET} bytes in {place}", got, mend=_AGAIN)
        kind = int.from_bytes(content[begin : begin + 2], "little")
        size, overflow, room, count = (
            int.from_bytes(content[begin + at : begin + at + 4], "little") for at in (4, 12, 16, 20)
        )
        first, length = begin + _PACKET, size * room
        if length > len(content) - first or count > room:
            got = f"{count} of {room} events of {size} bytes with {len(content) - first} bytes left, at byte {begin}"
            raise SpikeproofError(f"packets within the file in {place}", got, mend=_AGAIN)
        if kind == _POLARITY:
            if size != _PAIR:
                got = f"{size} bytes at byte {begin + 4}"
                raise SpikeproofError(f"polarity events of {_PAIR} bytes in {place}", got, mend=_AGAIN)
            pairs = np.frombuffer(content, "<u4", 2 * count, first).reshape(-1, 2).astype(np.int64)
            found = np.stack([pairs[:, 0], pairs[:, 1] | overflow << 31, first + _PAIR * np.arange(count)], 1)
            yield found[pairs[:, 0] & 1 == 1]
        begin = first + length


def _text_header(content: bytes, magic: bytes, place: str) -> int:
    """Where the lines that begin with # end. An AEDAT 3 file says so itself; of another, the first event cannot begin
    with #, which no address does."""
    other = magic == b"#!AER-DAT2" and content.startswith(b"#") and not content.startswith(b"#!AER-DAT")
    if not content.startswith(magic) and not other:
        got = "no bytes" if not content else f"{content[:14]!r} at byte 0"
        raise SpikeproofError(f"a file that begins {magic.decode()} at {place}", got, mend=_AGAIN)
    begin = 0
    while content[begin : begin + 1] == b"#":
        end = content.find(b"\n", begin)
        if end < 0:
            raise SpikeproofError(f"a header that ends in {place}", f"none from byte {begin} on", mend=_AGAIN)
        line, begin = content[begin : end + 1], end + 1
        if line == _END:
            return begin
    if magic == b"#!AER-DAT3.1":
        raise SpikeproofError(f"a line #!END-HEADER in {place}", f"none before byte {begin}", mend=_AGAIN)
    return begin
