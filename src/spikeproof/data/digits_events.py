"""Digits before a simulated event camera: scikit-learn's, moved in three saccades; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.data._adapted import framed
from spikeproof.data._digits import read
from spikeproof.data._images import Images, Split, check_split
from spikeproof.data._recordings import By, Framing
from spikeproof.data._saccades import SENSOR, recorded
from spikeproof.tensors import fold, image_keys

__all__ = ["DigitsEvents"]


@dataclass(frozen=True)
class DigitsEvents:
    """The pictures, labels, ids and split of `digits`, as 0.3 s of events of a sensor of 16x16 pixels.

    frames: T, the network's steps; by: 'time', frames of one length, or 'number', as many events a frame; binary: a
    cell holds an event or none, else counts up to 255. A pixel's threshold and the noise are the picture's own.
    """

    frames: int = 9
    by: By = "time"
    binary: bool = True

    def __post_init__(self) -> None:
        self._framing()

    def _framing(self) -> Framing:
        return Framing(self.frames, self.by, self.binary)

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The recordings of `split`, (N,frames,2,16,16); with a limit, a class-balanced subset of it.

        Raises UsageError for an unknown split, or a limit outside 1..N.
        """
        check_split(split)
        digits = read(split).limited(limit, purpose=split)
        places = [f"digit {number}" for number in digits.ids.tolist()]
        keys = fold(image_keys(0, digits.ids), "digits events")
        framing = self._framing()
        recordings = recorded(digits.pixels[:, 0].numpy(), digits.scale, keys, places)
        grids = framed(recordings, framing, SENSOR, SENSOR)
        return Images(
            grids, framing.scale, digits.labels, digits.ids, digits.classes, "digits events",
            whole=digits.whole, binning=framing.told(SENSOR, SENSOR),
        )  # fmt: skip
