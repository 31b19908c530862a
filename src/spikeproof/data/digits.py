"""Digits: 1797 real handwritten digits of 8x8 pixels, bundled with scikit-learn, so no network is needed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from spikeproof.data._images import Images, Split, balanced, check_split, held_out
from spikeproof.errors import SpikeproofError
from spikeproof.tensors import fold, image_keys

__all__ = ["Digits"]


@dataclass(frozen=True)
class Digits:
    """The test set of Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998, UCI), grey values 0..16.

    The original's training set is not bundled; the split is ours and fixed: 20 % of each class, chosen by a hash of
    the image's index (its id), are test (359 images), the rest train (1438).
    """

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The images of `split`, (N,1,8,8) with scale 16; with a limit, a class-balanced subset of it.

        Raises UsageError for an unknown split, or a limit outside 1..N.
        """
        check_split(split)
        table = torch.from_numpy(np.loadtxt(_file(), delimiter=",", dtype=np.int64))
        labels = table[:, -1].contiguous()
        ids = torch.arange(len(labels))
        test = held_out(labels, fold(image_keys(0, ids), "digits test"), 0.2)
        pixels = table[:, :-1].to(torch.uint8).view(-1, 1, 8, 8)
        images = Images(pixels, 16, labels, ids, tuple(map(str, range(10))), "digits")
        images = images.take(test if split == "test" else ~test)
        return images.take(balanced(images.labels, images.ids, limit, purpose=split))


def _file() -> Path:
    """The table that scikit-learn bundles. It is not imported for it: that takes longer than all else of a command."""
    spec = find_spec("sklearn")
    file = Path(str(spec.origin)).parent / "datasets" / "data" / "digits.csv.gz" if spec is not None else None
    if file is None or not file.is_file():
        raise SpikeproofError(
            "the digits that scikit-learn bundles", file or "no scikit-learn", mend="install it again"
        )
    return file
