"""N-MNIST: handwritten digits before an event camera that makes three saccades; 34x34, ten classes (Orchard 2015)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from spikeproof.data._adapted import framed
from spikeproof.data._images import Images, Split, balanced, check_split
from spikeproof.data._nmnist_bin import SIDE, decoded
from spikeproof.data._recordings import By, Framing, contents
from spikeproof.errors import SpikeproofError

__all__ = ["NMNIST"]

_ADDRESS = "https://data.mendeley.com/datasets/468j46mzdv/1"
_ARCHIVES = {
    "train": ("Train.zip", "20959b8e626244a1b502305a9e6e2031"),
    "test": ("Test.zip", "69ca8762b2fe404d9b9bad1103e97832"),
}
_FIRST_TEST_ID = 60_000  # the official files are numbered 00001.bin to 60000.bin, and from 1 again
_CLASSES = tuple(map(str, range(10)))


@dataclass(frozen=True)
class NMNIST:
    """The official files, root/Train/<digit>/<number>.bin and root/Test/<digit>/<number>.bin, or as many as are there.

    frames: T, the network's steps; by: 'number', as many events a frame, or 'time', frames of one length; binary: a
    cell holds an event or none, else counts up to 255; size: rows and columns of a grid, None for the sensor's 34. Ids
    are the official numbers less 1, of test after 60,000.
    """

    root: str
    frames: int = 10
    by: By = "number"
    binary: bool = True
    size: int | None = None

    def __post_init__(self) -> None:
        self._framing().sides(SIDE, SIDE)

    def _framing(self) -> Framing:
        return Framing(self.frames, self.by, self.binary, self.size)

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The recordings of `split`, (N,frames,2,34,34), or of `size`; with a limit, a class-balanced subset of it.

        Only the chosen files are read. Raises UsageError for an unknown split, or a limit outside 1..N; SpikeproofError
        for a folder that is not there, naming where to get it, and for bad recordings, by file and offset.
        """
        check_split(split)
        files = _listing(Path(os.path.abspath(Path(self.root).expanduser())), split)
        labels = torch.tensor([int(path.parent.name) for path in files])
        first = 0 if split == "train" else _FIRST_TEST_ID
        ids = torch.tensor([int(path.stem) - 1 + first for path in files])
        index = balanced(labels, ids, limit, purpose=split)
        framing = self._framing()
        pixels = framed([decoded(contents(files[i]), str(files[i])) for i in index.tolist()], framing, SIDE, SIDE)
        return Images(
            pixels, framing.scale, labels[index], ids[index], _CLASSES, "N-MNIST",
            whole=len(labels), binning=framing.told(SIDE, SIDE),
        )  # fmt: skip


def _listing(root: Path, split: Split) -> list[Path]:
    """The files of a split, by their number."""
    folder = root / split.capitalize()
    archive, md5 = _ARCHIVES[split]
    if not folder.is_dir():
        mend = f"get {archive} (md5 {md5}) from {_ADDRESS} and unpack it in {root}"
        raise SpikeproofError(f"a folder {folder} of N-MNIST", "none", mend=mend)
    files = sorted(folder.glob("*/*.bin"))
    if not files:
        raise SpikeproofError(
            f"recordings at {folder}/<digit>/<number>.bin", "none", mend=f"unpack {archive} in {root}"
        )
    for path in files:
        if path.parent.name not in _CLASSES or not re.fullmatch(r"0*[1-9]\d{0,4}", path.stem):
            mend = "move it out of the folder"
            raise SpikeproofError(f"recordings named {folder}/<digit>/<number>.bin", str(path), mend=mend)
    files.sort(key=lambda path: int(path.stem))
    for one, other in pairwise(files):
        if int(one.stem) == int(other.stem):
            raise SpikeproofError("a number of its own for every recording", f"{one} and {other}", mend="delete one")
    return files
