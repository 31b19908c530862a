"""CIFAR10-DVS: 10,000 images of CIFAR-10 moved before an event camera; 128x128, ten classes (Li et al. 2017)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from spikeproof.data._adapted import framed
from spikeproof.data._aedat import SIDE, decoded_2
from spikeproof.data._images import Images, Split, balanced, check_split
from spikeproof.data._recordings import By, Framing, contents
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import fold, image_keys

__all__ = ["CIFAR10DVS"]

_ADDRESS = "https://ndownloader.figshare.com/files/"
_ARCHIVES = {
    "airplane": (7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": (7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": (7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": (7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": (7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": (7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": (7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": (7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": (7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": (7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}
"""Class -> the number of its archive's address, and its md5."""
_EACH = 1000  # recordings of a class, numbered from 0
_OF_TEST = 100

Tested = Literal["first", "last", "random"]
"""Which recordings of each class are the test's: there is no official split."""


@dataclass(frozen=True)
class CIFAR10DVS:
    """The ten archives, root/<class>/cifar10_<class>_<number>.aedat, or as many recordings as are there.

    test: which hundred of a class's thousand numbers are the test's, because no split is official: 'first' (that of
    TEBN, and said to score higher), 'last', or 'random', by a hash of the number that is always the same; results over
    different ones cannot be compared. frames, by, binary, size: as of `nmnist`, of a sensor of 128x128. Ids are 1000
    times the class, and the number. Tonic's archive is another file (AEDAT 4), which is not read here.
    """

    root: str
    test: Tested = "random"
    frames: int = 10
    by: By = "number"
    binary: bool = True
    size: int | None = None

    def __post_init__(self) -> None:
        self._framing().sides(SIDE, SIDE)
        if self.test not in get_args(Tested):
            raise UsageError("a test split of CIFAR10-DVS", repr(self.test), valid=get_args(Tested))

    def _framing(self) -> Framing:
        return Framing(self.frames, self.by, self.binary, self.size)

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The recordings of `split`, (N,frames,2,128,128), or of `size`; with a limit, a class-balanced subset of it.

        Only the chosen files are read. Raises UsageError for an unknown split, or a limit outside 1..N; SpikeproofError
        for archives that are not there, naming where to get them, and for bad files, by the byte.
        """
        check_split(split)
        files = _listing(Path(os.path.abspath(Path(self.root).expanduser())))
        ids = torch.tensor(sorted(files))
        ids = ids[_tested(self.test)[ids] == (split == "test")]
        if not len(ids):
            mend = "unpack the whole archives"
            raise SpikeproofError(
                f"recordings of the {split} split (test: {self.test}) in {self.root}", "none", mend=mend
            )
        whole, index = len(ids), balanced(ids // _EACH, ids, limit, purpose=split)
        ids, framing = ids[index], self._framing()
        read = (decoded_2(contents(files[name]), str(files[name])) for name in ids.tolist())
        grids = [framed([one], framing, SIDE, SIDE) for one in read]
        return Images(
            torch.cat(grids), framing.scale, ids // _EACH, ids, tuple(_ARCHIVES), "CIFAR10-DVS",
            whole=whole, binning=framing.told(SIDE, SIDE),
        )  # fmt: skip


def _tested(test: Tested) -> torch.Tensor:
    """Whether each of the 10,000 recordings, by its id, is the test's: bool (10000,)."""
    number = torch.arange(len(_ARCHIVES) * _EACH) % _EACH
    if test == "random":
        order = fold(image_keys(0, torch.arange(len(number))), "CIFAR10-DVS test").view(-1, _EACH).argsort(1)
        return (order.argsort(1) < _OF_TEST).flatten()
    return number < _OF_TEST if test == "first" else number >= _EACH - _OF_TEST


def _listing(root: Path) -> dict[int, Path]:
    """Id -> file, of all that are there."""
    found: dict[int, Path] = {}
    for label, (name, (number, md5)) in enumerate(_ARCHIVES.items()):
        folder = root / name
        if not folder.is_dir():
            mend = f"get {name}.zip (md5 {md5}) from {_ADDRESS}{number} and unpack it in {root}"
            raise SpikeproofError(f"a folder {folder} of CIFAR10-DVS", "none", mend=mend)
        for path in sorted(folder.iterdir()):
            known = re.fullmatch(rf"cifar10_{name}_(0|[1-9]\d{{0,2}})\.aedat", path.name)
            if known is None:
                mend = "move it out of the folder"
                if path.suffix == ".aedat4":
                    mend = (
                        "that is Tonic's archive: decode it with the package `aedat`, for spikeproof.data.from_events"
                    )
                raise SpikeproofError(
                    f"recordings named cifar10_{name}_<0..999>.aedat in {folder}", path.name, mend=mend
                )
            found[label * _EACH + int(known[1])] = path
    if not found:
        raise SpikeproofError(
            f"recordings at {root}/<class>/cifar10_<class>_<number>.aedat", "none", mend="unpack them"
        )
    return found
