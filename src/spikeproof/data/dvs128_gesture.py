"""DVS128-Gesture: eleven gestures of 29 people before an event camera, in five lights; 128x128 (Amir et al. 2017)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from spikeproof.data._adapted import framed
from spikeproof.data._aedat import SIDE, decoded_3
from spikeproof.data._images import Images, Split, balanced, check_split
from spikeproof.data._recordings import By, Framing, Recording, contents
from spikeproof.errors import SpikeproofError

__all__ = ["DVS128Gesture"]

_GET = (
    "get DvsGesture.tar.gz (md5 8a5c71fb11e24e5ca5b11866ca6c00a1) by hand from "
    "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794, and unpack it there"
)
_CLASSES = (
    "hand_clapping", "right_hand_wave", "left_hand_wave", "right_arm_clockwise", "right_arm_counter_clockwise",
    "left_arm_clockwise", "left_arm_counter_clockwise", "arm_roll", "air_drums", "air_guitar", "other_gestures",
)  # fmt: skip
_LIGHTS = ("fluorescent", "fluorescent_led", "lab", "led", "natural")


class _Trial(NamedTuple):
    """A gesture: what part of a file it is, from `start` on and before `end`, in microseconds."""

    path: Path
    label: int
    start: int
    end: int
    id: int


@dataclass(frozen=True)
class DVS128Gesture:
    """The official files, root/user01_led.aedat with root/user01_led_labels.csv, and the official split by people:
    root/trials_to_train.txt, users 1 to 23, and root/trials_to_test.txt, users 24 to 29.

    frames, by, binary, size: as of `nmnist`, of a sensor of 128x128. A gesture is what the labels say, from its start
    on and before its end: 1176 to train and 288 to test, as SpikingJelly and snnTorch count (Tonic has 1077 and 264,
    the publication 1342 in all); some labels' times overlap (user22_led). Ids are 1000 user + 100 light + line.
    """

    root: str
    frames: int = 16
    by: By = "number"
    binary: bool = True
    size: int | None = None

    def __post_init__(self) -> None:
        self._framing().sides(SIDE, SIDE)

    def _framing(self) -> Framing:
        return Framing(self.frames, self.by, self.binary, self.size)

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The gestures of `split`, (N,frames,2,128,128), or of `size`; with a limit, a class-balanced subset of it.

        Only files with chosen gestures are read. Raises UsageError for an unknown split, or a limit outside 1..N;
        SpikeproofError for files that are not there, naming where to get them, and for bad ones, by line or byte.
        """
        check_split(split)
        trials = _listing(Path(os.path.abspath(Path(self.root).expanduser())), split)
        labels, ids = (torch.tensor([getattr(one, what) for one in trials]) for what in ("label", "id"))
        index = balanced(labels, ids, limit, purpose=split)
        framing = self._framing()
        grids = [framed([one], framing, SIDE, SIDE) for one in _cut([trials[i] for i in index.tolist()])]
        return Images(
            torch.cat(grids), framing.scale, labels[index], ids[index], _CLASSES, "DVS128-Gesture",
            whole=len(labels), binning=framing.told(SIDE, SIDE),
        )  # fmt: skip


def _listing(root: Path, split: str) -> list[_Trial]:
    """The gestures of a split, file by file as its list names them."""
    path = root / f"trials_to_{split}.txt"
    if not path.is_file():
        raise SpikeproofError(f"a file {path} of DVS128-Gesture", "none", mend=_GET)
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = [trial for name in dict.fromkeys(names) for trial in _labelled(root, name, path)]
    if not found:
        raise SpikeproofError(f"names of .aedat files in {path}", "none", mend="get the file again")
    return found


def _labelled(root: Path, name: str, named_in: Path) -> Iterator[_Trial]:
    """The gestures of one file, from its table of labels: class 1 to 11, start and end in microseconds."""
    known = re.fullmatch(rf"user(\d\d)_({'|'.join(_LIGHTS)})\.aedat", name)
    if known is None:
        mend = "take the line out"
        raise SpikeproofError(f"names such as user01_led.aedat in {named_in}", repr(name), mend=mend)
    first = 1000 * int(known[1]) + 100 * _LIGHTS.index(known[2])
    table = root / f"{name.removesuffix('.aedat')}_labels.csv"
    if not table.is_file():
        raise SpikeproofError(f"a file {table} of DVS128-Gesture", "none", mend=_GET)
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines()[1:], start=1):
        words = line.split(",")
        numbers = [int(word) for word in words if re.fullmatch(r"\s*\d{1,18}\s*", word)]
        if len(words) != 3 or len(numbers) != 3 or not 1 <= numbers[0] <= 11 or numbers[1] >= numbers[2] or number > 99:
            wanted = f"a class in 1..11, a start and a later end in {table}"
            raise SpikeproofError(wanted, f"{line!r} in line {number + 1}", mend="get the file again")
        yield _Trial(root / name, numbers[0] - 1, numbers[1], numbers[2], first + number)


def _cut(trials: list[_Trial]) -> Iterator[Recording]:
    """The recordings of gestures in their order; a file is read once for all that follow each other."""
    path, whole = None, None
    for trial in trials:
        if path != trial.path or whole is None:
            path = trial.path
            whole = decoded_3(contents(path), str(path)).checked(SIDE, SIDE)
        yield whole.between(trial.start, trial.end)
