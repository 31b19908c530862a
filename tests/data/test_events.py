"""Recordings: read from N-MNIST's bytes, framed, adapted, simulated; each against a plain twin; and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeproof import parts
from spikeproof.data import Images, from_events, from_frames
from spikeproof.data._nmnist_bin import decoded
from spikeproof.data._recordings import Framing, Recording
from spikeproof.data._saccades import recorded
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import image_keys

Event = tuple[int, int, int, int]  # t, x, y, p


def written(events: list[Event]) -> bytes:
    """N-MNIST's bytes, by the data set's own description; a y of 240 is a marker."""
    return b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, p in events)


EVENTS = [(5, 3, 4, 1), (5, 33, 0, 0), (700, 0, 33, 1), (2**22 + 9, 7, 8, 0)]


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Events of a small sensor in time, far enough apart and enough of them for three frames."""
    count = draw(st.integers(3, 30))
    times = sorted(draw(st.lists(st.integers(0, 90), min_size=count, max_size=count)))
    times[-1] = times[0] + max(times[-1] - times[0], 3)
    where = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1))
    return [(t, *draw(where)) for t in times]


def recording(events: list[Event]) -> Recording:
    return Recording.of(dict(zip("txyp", np.array(events).T, strict=True)), "here")


@given(st.lists(st.tuples(st.integers(0, 2**23 - 1), st.integers(0, 33), st.integers(0, 33), st.integers(0, 1))))
def test_bytes_are_read_as_they_were_written(events: list[Event]) -> None:
    found = decoded(written(events), "file")
    assert list(zip(*(getattr(found, name).tolist() for name in "txyp"), strict=True)) == events


def test_a_marker_of_a_time_stamp_that_ran_over_moves_all_that_come_after() -> None:
    events = [(8000, 1, 1, 0), (0, 0, 240, 0), (20, 2, 2, 1), (30, 0, 240, 1), (40, 3, 3, 0)]
    found = decoded(written(events), "file").checked(34, 34)
    assert found.t.tolist() == [8000, 20 + 2**13, 40 + 2 * 2**13]
    assert found.x.tolist() == [1, 2, 3]
    with pytest.raises(SpikeproofError, match=r"rows y in 0\.\.2 in file, got 3 at byte 20"):
        decoded(written(events), "file").checked(3, 34)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (written(EVENTS)[:-2], r"whole events of 5 bytes in file, got 3 bytes more at byte 15"),
        (b"", r"events in file, got none"),
        (written([(9, 1, 1, 0), (8, 1, 1, 0)]), r"run backwards in file, got 8 at byte 5"),
        (written([(1, 1, 1, 0), (2, 34, 1, 0)]), r"columns x in 0\.\.33 in file, got 34 at byte 5"),
        (written([(1, 1, 1, 0), (2, 1, 200, 0)]), r"rows y in 0\.\.33 in file, got 200 at byte 5"),
        (b"#!AER-DAT3.1\r\n\n", r"in file, got .* at byte"),
    ],
)
def test_a_file_that_is_none_is_refused_by_its_offset(content: bytes, told: str) -> None:
    with pytest.raises(SpikeproofError, match=told + r".*to mend"):
        decoded(content, "file").checked(34, 34)


@settings(deadline=None)
@given(streams(), st.sampled_from(["number", "time"]), st.booleans())
def test_frames_are_those_of_a_plain_loop(events: list[Event], by: Any, binary: bool) -> None:
    """Floor(n / T) events a frame, or floor(duration / T) microseconds; what is left over is in the last."""
    expected = np.zeros((3, 2, 3, 4), dtype=int)
    for place, (t, x, y, p) in enumerate(events):
        if by == "number":
            frame = place // (len(events) // 3)
        else:
            frame = (t - events[0][0]) // ((events[-1][0] - events[0][0]) // 3)
        expected[min(frame, 2), p, y, x] += 1
    found = Framing(3, by, binary).grid(recording(events).checked(3, 4), 3, 4)
    assert (found == (expected > 0 if binary else expected)).all()


def test_a_smaller_grid_puts_the_sensor_s_cells_together() -> None:
    """Of 4 rows and columns on 2: each cell holds the four that lie on it; sizes that no sensor has are refused."""
    events = [(t, t % 4, t // 4 % 4, 0) for t in range(32)]
    whole, half = (Framing(2, "number", False, size).grid(recording(events), 4, 4) for size in (None, 2))
    assert half.shape == (2, 2, 2, 2)
    assert (half == whole.reshape(2, 2, 2, 2, 2, 2).sum((3, 5))).all()
    assert Framing(2, "number", False, 3).grid(recording(events), 4, 4).sum() == 32
    with pytest.raises(UsageError, match=r"a size of a grid in 1\.\.34, the sensor's, got 35"):
        parts.find("data", "nmnist")("somewhere", size=35)
    with pytest.raises(UsageError, match=r"a size of a grid >= 1, got 0"):
        Framing(2, "number", False, 0)


def test_recordings_that_cannot_be_framed_are_refused() -> None:
    short = recording([(0, 0, 0, 0), (1, 0, 0, 0)])
    for by, what in (("number", "events"), ("time", "microseconds")):
        with pytest.raises(SpikeproofError, match=rf"3 {what} or more in here, one a frame, got 2 events over 1"):
            Framing(3, by, True).grid(short, 1, 1)  # type: ignore[arg-type]
    full = recording([(t, 0, 0, 0) for t in range(300)])
    with pytest.raises(SpikeproofError, match=r"at most 255 events in a cell of here, got 300.*binary: true"):
        Framing(1, "time", False).grid(full, 1, 1)
    for wrong in ({"frames": 0}, {"by": "events"}):
        with pytest.raises(UsageError, match=r"1\.\.10000|number, time"):
            Framing(**{"frames": 2, "by": "time", "binary": True, **wrong})  # type: ignore[arg-type]


def tree(root: Path) -> Path:
    for number in range(1, 7):
        for split in ("Train", "Test"):
            path = root / split / str(number % 2) / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written([(t, number, 1, number % 2) for t in range(10)]))
    return root


def test_a_folder_of_nmnist_gives_grids_labels_and_ids_of_its_own(tmp_path: Path) -> None:
    part = parts.build("data", {"name": "nmnist", "root": str(tree(tmp_path)), "frames": 5})
    images = {split: part.load(split) for split in ("train", "test")}
    assert images["train"].pixels.shape == (6, 5, 2, 34, 34)
    assert images["train"].ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert images["test"].ids.tolist() == [60000, 60001, 60002, 60003, 60004, 60005]
    assert images["test"].labels.tolist() == [1, 0, 1, 0, 1, 0]
    for number, grid in enumerate(images["train"].pixels, start=1):
        lit = grid.nonzero().tolist()
        assert lit == [[frame, number % 2, 1, number] for frame in range(5)]
    few = part.load("train", 2)
    assert sorted(few.labels.tolist()) == [0, 1]
    counts = parts.build("data", {"name": "nmnist", "root": str(tmp_path), "frames": 5, "binary": False}).load("test")
    assert (counts.scale, int(counts.pixels.max()), int(counts.pixels.sum())) == (255, 2, 60)


def test_a_folder_that_is_none_of_nmnist_says_where_to_get_it_or_what_is_wrong(tmp_path: Path) -> None:
    part = parts.build("data", {"name": "nmnist", "root": str(tmp_path)})
    with pytest.raises(SpikeproofError, match=r"Test\.zip \(md5 69ca8762b2fe404d9b9bad1103e97832\) from https://"):
        part.load("test")
    tree(tmp_path)
    bad = tmp_path / "Train" / "1" / "00003.bin"
    bad.write_bytes(bad.read_bytes()[:-1])
    with pytest.raises(SpikeproofError, match=r"00003\.bin, got 4 bytes more at byte 45"):
        part.load("train")
    for name, told in (("x.bin", "named"), ("3.bin", "number of its own")):
        extra = tmp_path / "Train" / "0" / name
        extra.write_bytes(b"")
        with pytest.raises(SpikeproofError, match=told):
            part.load("train")
        extra.unlink()


def test_what_tonic_and_spikingjelly_hand_out_becomes_the_same_images() -> None:
    made = np.array(EVENTS, dtype=[("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")])
    mapping = {name: made[name].astype(np.int64) for name in "txyp"}
    one, other = (
        from_events([e, e], [1, 0], height=34, width=34, frames=2, ids=[7, 3], binary=False) for e in (made, mapping)
    )
    assert one.digest() == other.digest()
    assert (one.classes, one.channels, one.ids.tolist()) == (("0", "1"), 2, [7, 3])
    grids = one.pixels
    again = from_frames(grids.numpy(), [1, 0], ids=[7, 3], binary=False)
    assert torch.equal(again.pixels, grids)
    assert torch.equal(from_frames(grids.float(), [1, 0]).pixels, (grids > 0).to(torch.uint8))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ({"t": [0], "x": [0], "y": [0]}, r"recording 0 with the fields t, x, y, p, got t, x, y"),
        (np.zeros((3, 4)), r"fields t, x, y, p"),
        ({"t": [0.5], "x": [0], "y": [0], "p": [0]}, r"t of recording 0 as whole numbers.*float64"),
        ({"t": [0, 1], "x": [0], "y": [0, 1], "p": [0, 1]}, r"x of recording 0 .* got int64 \(1,\)"),
        ({"t": [0, 1], "x": [0, 0], "y": [0, 1], "p": [-1, 1]}, r"polarities 0 and 1 .* got -1 at event 0"),
        ({"t": [4, 1], "x": [0, 0], "y": [0, 1], "p": [0, 1]}, r"backwards .* got 1 at event 1.*sort"),
    ],
)
def test_recordings_in_another_form_are_refused(events: Any, told: str) -> None:
    with pytest.raises(SpikeproofError, match=told):
        from_events([events], [0], height=2, width=2, frames=1)


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (torch.zeros(7, 4, 2, 3, 3), r"frames \(N,T,2,H,W\) of 4 labels.*exchange the first two axes"),
        (torch.zeros(4, 2, 7, 3, 3), r"exchange the second and the third axis"),
        (torch.zeros(4, 2, 3, 3), r"shape \(4, 2, 3, 3\)"),
        (torch.full((4, 7, 2, 3, 3), 0.5), r"counts in 0\.\.255.*got 0.5 at \(0, 0, 0, 0, 0\)"),
        (torch.full((4, 7, 2, 3, 3), -1), r"got -1"),
        (torch.full((4, 7, 2, 3, 3), float("nan")), r"got nan"),
    ],
)
def test_frames_in_another_form_are_refused(frames: torch.Tensor, told: str) -> None:
    with pytest.raises(SpikeproofError, match=told):
        from_frames(frames, [0, 1, 0, 1], binary=False)


def simulated(picture: Any, threshold: Any) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """(row, column) of a 16x16 sensor -> (step, polarity) of its events, pixel by pixel and by the definition."""
    corners = [(-10, -8), (10, -8), (0, 11), (-10, -8)]
    path = [corners[0]]
    for (x0, y0), (x1, y1) in pairwise(corners):
        path += [(x0 + (x1 - x0) * k // 12, y0 + (y1 - y0) * k // 12) for k in range(1, 13)]

    def light(row: int, column: int, dx: int, dy: int) -> float:
        u, v = ((place - 7.5 - shift / 8) / 1.5 + 3.5 for place, shift in ((column, dx), (row, dy)))
        across, down = (np.maximum(1 - abs(place - np.arange(8)), 0) for place in (u, v))
        return float(down @ (picture / 16) @ across)

    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row, column in np.ndindex(16, 16):
        held, sent = None, found.setdefault((row, column), [])
        for step, (dx, dy) in enumerate(path):
            level = round(1000 * math.log(0.15 + light(row, column, dx, dy)))
            held = level if held is None else held
            while abs(level - held) >= threshold[row, column]:
                up = level > held
                held += threshold[row, column] if up else -threshold[row, column]
                sent.append((step - 1, int(up)))
    return found


def test_the_simulated_sensor_sends_what_its_definition_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikeproof.data._saccades._NOISE", 0)
    monkeypatch.setattr("spikeproof.data._saccades._SPREAD", 0)
    digit = parts.build("data", {"name": "digits"}).load("test", 1).pixels[:, 0].numpy()
    (found,) = recorded(digit, 16, image_keys(0, torch.arange(1)), ["here"])
    expected = simulated(digit[0], np.full((16, 16), 380))
    sent: dict[tuple[int, int], list[tuple[int, int]]] = {place: [] for place in expected}
    for t, x, y, p in zip(*(getattr(found, name).tolist() for name in "txyp"), strict=True):
        sent[y, x].append((t // 8334, p))
    assert sent == expected
    assert sum(map(len, sent.values())) > 200


def test_a_blank_picture_sends_nothing_but_its_own_noise() -> None:
    blank = np.full((2, 8, 8), 0, dtype=np.uint8)
    one, other = recorded(blank, 16, image_keys(0, torch.arange(2)), ["a", "b"])
    assert len(one) == len(other) == 12
    assert one.t.tolist() != other.t.tolist()


def load(split: str, limit: int | None = None, **options: Any) -> Images:
    found: Images = parts.build("data", {"name": "digits_events", **options}).load(split, limit)
    return found


def test_digits_are_recorded_with_their_labels_and_one_by_one() -> None:
    few, digits = load("test", 30), parts.build("data", {"name": "digits"}).load("test", 30)
    assert few.pixels.shape == (30, 9, 2, 16, 16)
    assert torch.equal(few.labels, digits.labels)
    assert torch.equal(few.ids, digits.ids)
    fewer = load("test", 10)
    for grid, name in zip(fewer.pixels, fewer.ids.tolist(), strict=True):
        assert torch.equal(grid, few.pixels[few.ids == name][0])
    assert few.digest() == load("test", 30).digest() == "b1ee4d2a00175058"
    counts = load("test", 30, binary=False)
    assert torch.equal((counts.pixels > 0).to(torch.uint8), few.pixels)
    assert int(counts.pixels.max()) > 1
