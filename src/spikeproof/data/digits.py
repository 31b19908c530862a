"""Digits: 1797 real handwritten digits of 8x8 pixels, bundled with scikit-learn, so no network is needed."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.data._digits import read
from spikeproof.data._images import Images, Split, check_split

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
        return read(split).limited(limit, purpose=split)
