"""DVS128-Gesture and CIFAR10-DVS: small files made byte by byte from the formats' descriptions; bad ones refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeproof import parts
from spikeproof.data._aedat import decoded_2, decoded_3
from spikeproof.data.cifar10_dvs import CIFAR10DVS, _tested
from spikeproof.errors import SpikeproofError, UsageError

Event = tuple[int, int, int, int]  # t, x, y, p

EVENT = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 127), st.integers(0, 127), st.integers(0, 1))
HEADER_2 = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
HEADER_3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"


def aedat_2(events: list[Event]) -> bytes:
    """As the sensor saw them, before the reader turns the picture."""
    return HEADER_2 + b"".join(struct.pack(">II", y << 8 | x << 1 | p, t) for t, x, y, p in events)


def packet(
    events: list[Event], *, kind: int = 1, overflow: int = 0, size: int = 8, valid: int = 1, **told: int
) -> bytes:
    count = len(events)
    said = {"room": count, "count": count, **told}
    head = struct.pack("<HHIIIIII", kind, 1, size, 4, overflow, said["room"], said["count"], count)
    return head + b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | valid, t) for t, x, y, p in events)


def listed(found: Any) -> list[Event]:
    return list(zip(*(getattr(found, name).tolist() for name in "txyp"), strict=True))


@given(st.lists(EVENT))
def test_the_second_format_is_read_as_it_was_written(events: list[Event]) -> None:
    turned = [(t, 127 - y, 127 - x, 1 - p) for t, x, y, p in events]
    assert listed(decoded_2(aedat_2(events), "file")) == turned


@given(st.lists(st.tuples(st.lists(EVENT), st.integers(0, 3))))
def test_the_third_format_is_read_packet_by_packet(packets: list[tuple[list[Event], int]]) -> None:
    """Those of other types and invalid events are passed by; a packet's overflow is above its 31 bits of time."""
    content, expected = HEADER_3, []
    for events, overflow in packets:
        content += packet(events, overflow=overflow) + packet(events, kind=0, size=8) + packet(events, valid=0)
        expected += [(t + overflow * 2**31, x, y, p) for t, x, y, p in events]
    assert listed(decoded_3(content, "file")) == expected


ONE = [(5, 1, 2, 1), (6, 3, 4, 0)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"begins #!AER-DAT2 at file, got no bytes"),
        (b"PK\x03\x04zip", r"begins #!AER-DAT2 at file, got b'PK.*at byte 0"),
        (HEADER_3 + packet(ONE), r"begins #!AER-DAT2 at file.*DAT3"),
        (b"#!AER-DAT2.0", r"a header that ends in file, got none from byte 0"),
        (aedat_2(ONE)[:-3], rf"whole events of 8 bytes in file, got 5 bytes more at byte {len(HEADER_2) + 8}"),
        (HEADER_2 + struct.pack(">II", 0x8001, 1), rf"0x8001 at byte {len(HEADER_2)}"),
        (aedat_2([]), r"events in file, got none"),
        (aedat_2([(9, 0, 0, 0), (8, 0, 0, 0)]), rf"run backwards in file, got 8 at byte {len(HEADER_2) + 8}"),
        (aedat_2([(2**32 - 1, 0, 0, 0), (3, 0, 0, 0)]), r"run backwards in file, got 3"),  # the clock ran over
    ],
)
def test_a_bad_file_of_the_second_format_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(SpikeproofError, match=f"{told}.*to mend"):
        decoded_2(content, "file").checked(128, 128)


START = len(HEADER_3)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (aedat_2(ONE), r"begins #!AER-DAT3\.1 at file"),
        (b"#!AER-DAT3.1\r\nevents", r"a line #!END-HEADER in file, got none before byte 14"),
        (HEADER_3 + packet(ONE)[:20], rf"header of 28 bytes in file, got 20 bytes at byte {START}"),
        (
            HEADER_3 + packet(ONE)[:-1],
            rf"within the file in file, got 2 of 2 events of 8 bytes with 15 .* byte {START}",
        ),
        (HEADER_3 + packet(ONE, room=2**32 - 1), rf"of 4294967295 events .* at byte {START}"),
        (HEADER_3 + packet(ONE, count=3), rf"got 3 of 2 events .* at byte {START}"),
        (HEADER_3 + packet(ONE, size=4), rf"polarity events of 8 bytes in file, got 4 bytes at byte {START + 4}"),
        (HEADER_3, r"events in file, got none"),
        (HEADER_3 + packet([(1, 128, 0, 0)]), rf"columns x in 0\.\.127 in file, got 128 at byte {START + 28}"),
        (HEADER_3 + packet([(1, 0, 200, 0)]), rf"rows y in 0\.\.127 in file, got 200 at byte {START + 28}"),
        (HEADER_3 + packet([(7, 0, 0, 0)]) + packet([(6, 0, 0, 0)]), rf"backwards in file, got 6 at byte {START + 64}"),
        (HEADER_3 + packet([(7, 0, 0, 0)], overflow=1) + packet([(8, 0, 0, 0)]), r"backwards in file, got 8"),
    ],
)
def test_a_bad_file_of_the_third_format_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(SpikeproofError, match=f"{told}.*to mend"):
        decoded_3(content, "file").checked(128, 128)


@given(st.binary(max_size=80), st.sampled_from([b"", HEADER_2, HEADER_3]))
def test_no_bytes_are_read_past_the_end(tail: bytes, header: bytes) -> None:
    """Whatever the bytes are: refused in our own words, or events within the file."""
    for read in (decoded_2, decoded_3):
        try:
            found = read(header + tail, "file")
        except SpikeproofError:
            continue
        assert found.offsets is not None
        assert all(len(header) <= at <= len(header + tail) - 8 for at in found.offsets.tolist())


def gestures(root: Path) -> Path:
    """Two users of the training split in one light each, one of the test; gesture k of a file has k events a bin."""
    for user, light, split in ((1, "led", "train"), (2, "natural", "train"), (24, "lab", "test")):
        name = f"user{user:02d}_{light}"
        with (root / f"trials_to_{split}.txt").open("a") as names:
            names.write(f"{name}.aedat\n")
        lines, events = ["class,startTime_usec,endTime_usec"], []
        for k, label in enumerate((11, 3), start=1):
            lines.append(f"{label},{100 * k},{100 * k + 40}")
            events += [(100 * k + at, user, label, 1) for at in range(40) for _ in range(k)]
            events.append((100 * k + 40, 0, 0, 0))  # behind the end
        (root / f"{name}_labels.csv").write_text("\n".join(lines) + "\n")
        (root / f"{name}.aedat").write_bytes(HEADER_3 + packet(events[:50]) + packet(events[50:]))
    return root


def test_gestures_are_cut_as_their_labels_say(tmp_path: Path) -> None:
    part = parts.build(
        "data", {"name": "dvs128_gesture", "root": str(gestures(tmp_path)), "frames": 4, "binary": False}
    )
    train, test = part.load("train"), part.load("test")
    assert train.labels.tolist() == [10, 2, 10, 2]
    assert train.ids.tolist() == [1301, 1302, 2401, 2402]
    assert test.ids.tolist() == [24201, 24202]
    assert train.pixels.shape == (4, 4, 2, 128, 128)
    for grid, user, label, count in zip(train.pixels, (1, 1, 2, 2), (11, 3, 11, 3), (10, 20, 10, 20), strict=True):
        assert grid.nonzero().tolist() == [[frame, 1, label, user] for frame in range(4)]
        assert grid.unique().tolist() == [0, count]
    few = parts.build("data", {"name": "dvs128_gesture", "root": str(tmp_path), "frames": 4, "size": 32}).load(
        "train", 2
    )
    assert few.pixels.shape == (2, 4, 2, 32, 32)
    assert sorted(few.labels.tolist()) == [2, 10]
    assert {tuple(cell[3:]) for cell in few.pixels.nonzero().tolist()} <= {(11 // 4, 0), (3 // 4, 0)}


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("trials_to_train.txt", None, r"trials_to_train\.txt of DVS128.*8a5c71fb11e24e5ca5b11866ca6c00a1.*https://"),
        ("trials_to_train.txt", b"\n", r"names of \.aedat files in .*trials_to_train\.txt, got none"),
        ("trials_to_train.txt", b"../user01_led.aedat\n", r"names such as user01_led\.aedat .*got '\.\./user01"),
        ("user01_led_labels.csv", None, r"user01_led_labels\.csv of DVS128.*https://"),
        ("user01_led_labels.csv", b"class,s,e\n12,1,2\n", r"a class in 1\.\.11.*'12,1,2' in line 2"),
        ("user01_led_labels.csv", b"class,s,e\n1,9,2\n", r"a later end.*'1,9,2' in line 2"),
        (
            "user01_led_labels.csv",
            b"class,s,e\n1,900,990\n",
            r"events in .*user01_led\.aedat from 900 to 990.*got none",
        ),
        ("user01_led.aedat", None, r"a file .*user01_led\.aedat, got none"),
        ("user01_led.aedat", HEADER_3 + packet(ONE)[:-1], r"user01_led\.aedat, got .* at byte"),
    ],
)
def test_bad_gestures_are_refused_by_their_file(tmp_path: Path, file: str, content: bytes | None, told: str) -> None:
    path = gestures(tmp_path) / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(SpikeproofError, match=told):
        parts.build("data", {"name": "dvs128_gesture", "root": str(tmp_path), "frames": 4}).load("train")


CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def archives(root: Path, numbers: tuple[int, ...] = (0, 99, 100, 899, 900, 999)) -> Path:
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in numbers:
            events = [(t, 127 - label, 120, 0) for t in range(4)]
            (root / name / f"cifar10_{name}_{number}.aedat").write_bytes(aedat_2(events))
    return root


def test_the_splits_of_cifar10_dvs_are_named(tmp_path: Path) -> None:
    root = str(archives(tmp_path))
    tests: dict[str, list[int]] = {}
    for test in ("first", "last", "random"):
        part = parts.build("data", {"name": "cifar10_dvs", "root": root, "test": test, "frames": 2, "size": 64})
        train = part.load("train")
        with pytest.raises(UsageError, match=r"a limit of images"):
            part.load("train", 1000)
        known = {1000 * label + number for label in range(10) for number in (0, 99, 100, 899, 900, 999)}
        tests[test] = sorted(known - set(train.ids.tolist()))
        assert train.pixels.shape[1:] == (2, 2, 64, 64)
        for grid, label in zip(train.pixels, train.labels.tolist(), strict=True):
            assert grid.nonzero().tolist() == [[frame, 1, label // 2, 3] for frame in range(2)]
    assert tests["first"] == [1000 * label + number for label in range(10) for number in (0, 99)]
    assert tests["last"] == [1000 * label + number for label in range(10) for number in (900, 999)]
    assert tests["random"] not in (tests["first"], tests["last"])


FIRST = [2, 8, 16, 44]
"""The first recordings of the test split that is drawn; it must be the same on every machine and for ever."""


def test_a_random_test_split_is_a_tenth_of_each_class_and_always_the_same() -> None:
    chosen = _tested("random").view(10, 1000)
    assert chosen.sum(1).tolist() == [100] * 10
    assert chosen.flatten().nonzero()[:4, 0].tolist() == FIRST
    assert not (chosen == chosen[0]).all()  # each class its own


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cifar10_cat_1000.aedat", r"cifar10_cat_<0\.\.999>\.aedat in .*got cifar10_cat_1000\.aedat.*move it"),
        ("cifar10_cat_7.aedat4", r"Tonic's archive: decode it with the package `aedat`"),
        ("cifar10_dog_7.aedat", r"got cifar10_dog_7\.aedat"),
    ],
)
def test_files_that_are_none_of_cifar10_dvs_are_refused(tmp_path: Path, name: str, told: str) -> None:
    (archives(tmp_path, (0,)) / "cat" / name).write_bytes(b"")
    with pytest.raises(SpikeproofError, match=told):
        parts.build("data", {"name": "cifar10_dvs", "root": str(tmp_path)}).load("train")


def test_what_is_missing_of_cifar10_dvs_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    part = parts.build("data", {"name": "cifar10_dvs", "root": str(tmp_path), "test": "first", "frames": 2})
    with pytest.raises(SpikeproofError, match=r"airplane\.zip \(md5 0afd5c4bf9ae06af762a77b180354fdd\) from https://"):
        part.load("train")
    archives(tmp_path, (5,))
    with pytest.raises(SpikeproofError, match=r"recordings of the train split \(test: first\).*unpack the whole"):
        part.load("train")
    cat = tmp_path / "cat" / "cifar10_cat_5.aedat"
    cat.write_bytes(cat.read_bytes()[:-1])
    with pytest.raises(SpikeproofError, match=r"cifar10_cat_5\.aedat, got 7 bytes more at byte"):
        part.load("test")
    with pytest.raises(UsageError, match="first, last, random"):
        CIFAR10DVS(str(tmp_path), test="official")  # type: ignore[arg-type]
