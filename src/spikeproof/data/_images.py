"""A split of a data set in memory, and the keyed choices made from it: balanced subsets and held-out shares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from spikeproof.data_facts import Binning, DataFacts
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import fold, image_keys

__all__ = ["Images", "Split", "balanced", "check_split", "held_out", "split"]

Split: TypeAlias = Literal["train", "test"]


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no single truth value
class Images:
    """Labelled images, kept as the bytes they were read as.

    pixels: uint8 (N,C,H,W), or (N,T,C,H,W) where an image is a sequence of frames; pixel / scale is in [0,1].
    scale: 1..255; the largest value a pixel can take (255 for 8-bit images, 16 for digits).
    labels: int64 (N,), each an index into `classes`.
    ids: int64 (N,), unique over train and test of one data set and stable for ever: they key the randomness.
    classes: the names of the classes.
    name: the data set's name, as a report prints it.
    whole: how many a split has of which these are a balanced choice, itself where they are all; None: not known.
    binning: how events became the frames; None of images, and of frames that were made elsewhere.

    Raises SpikeproofError where these promises are broken.
    """

    pixels: Tensor
    scale: int
    labels: Tensor
    ids: Tensor
    classes: tuple[str, ...]
    name: str
    whole: int | None = None
    binning: Binning | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.dim() not in (4, 5):
            got = f"{self.pixels.dtype} {tuple(self.pixels.shape)}"
            raise SpikeproofError(f"pixels of {self.name} as uint8 (N,C,H,W) or (N,T,C,H,W)", got)
        for field, values in (("labels", self.labels), ("ids", self.ids)):
            if values.dtype != torch.int64 or values.shape != (len(self.pixels),):
                got = f"{values.dtype} {tuple(values.shape)}"
                raise SpikeproofError(f"{field} of {self.name} as int64 ({len(self.pixels)},)", got)
        if not 1 <= self.scale <= 255:
            raise SpikeproofError(f"a scale of {self.name} in 1..255", self.scale)
        if len(self) == 0:
            return
        if self.pixels.numel() > 0 and int(self.pixels.max()) > self.scale:
            raise SpikeproofError(f"pixels of {self.name} in 0..{self.scale}", int(self.pixels.max()))
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.classes):
            got = f"{int(self.labels.min())}..{int(self.labels.max())}"
            raise SpikeproofError(f"labels of {self.name} in 0..{len(self.classes) - 1}", got)
        if (self.ids.sort().values.diff() == 0).any():
            raise SpikeproofError(f"ids of {self.name} without repetition", "an id that comes twice")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """C."""
        return self.pixels.shape[-3]

    @staticmethod
    def mirrored(x: Tensor) -> Tensor:
        """Images (B,*,H,W) with left and right exchanged, every frame of them."""
        return x.flip(-1)

    @staticmethod
    def moved(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """Images (B,*,H,W), each moved by whole pixels (B,) int64, every frame of them alike; 0 where nothing was."""
        rows, in_rows = _sources(x.shape[-2], down)
        columns, in_columns = _sources(x.shape[-1], right)
        planes = x.flatten(1, -3)
        planes = planes.gather(2, rows[:, None, :, None].expand(-1, planes.shape[1], -1, x.shape[-1]))
        planes = planes.gather(3, columns[:, None, None, :].expand_as(planes))
        return (planes * (in_rows[:, None, :, None] & in_columns[:, None, None, :])).view_as(x)

    def take(self, index: Tensor) -> Images:
        """The images at `index` (int64 (M,) without repetition, or bool (N,)), in that order; `whole` becomes None."""
        pixels, labels, ids = (values[index] for values in (self.pixels, self.labels, self.ids))
        return replace(self, pixels=pixels, labels=labels, ids=ids, whole=None)

    def limited(self, limit: int | None, *, purpose: str) -> Images:
        """A class-balanced subset of a whole split, see `balanced`; itself where limit is None."""
        some = self if limit is None else self.take(balanced(self.labels, self.ids, limit, purpose=purpose))
        return replace(some, whole=len(self))

    def at(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Index (B,) int64 -> x float32 (B,*) in [0,1], labels (B,) int64, ids (B,) int64."""
        return self.pixels[index].to(torch.float32) / self.scale, self.labels[index], self.ids[index]

    def facts(self) -> DataFacts:
        """What a result about these images must say of them, but for their content."""
        counts = self.labels.bincount(minlength=len(self.classes)).tolist() or [0]
        events = self.pixels.dim() == 5
        return {
            "name": self.name,
            "samples": len(self),
            "whole": self.whole,
            "a_class": [min(counts), max(counts)],
            "shape": list(self.pixels.shape[1:]),
            "values": f"{self.scale + 1} levels" if not events else "binary" if self.scale == 1 else "counts",
            "binning": self.binning,
        }

    def digest(self) -> str:
        """16 hex characters of sha256 over shape, scale, pixels, labels and ids: which data a result is about."""
        state = hashlib.sha256(f"{tuple(self.pixels.shape)} {self.scale} ".encode())
        state.update(self.pixels.contiguous().numpy().data)
        for values in (self.labels, self.ids):
            state.update(values.numpy().astype("<i8").data)  # the same bytes on a big-endian machine
        return state.hexdigest()[:16]


def _sources(side: int, moves: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of `side` places comes from when images move by (B,): index (B,side), and whether it is inside."""
    places = torch.arange(side, device=moves.device) - moves[:, None]
    return places.clamp(0, side - 1), (places >= 0) & (places < side)


def check_split(name: str) -> None:
    """Raises UsageError unless `name` is a split every data set has: train or test."""
    if name not in get_args(Split):
        raise UsageError("a split", repr(name), valid=get_args(Split))


def _rank_in_class(labels: Tensor, keys: Tensor) -> Tensor:
    """Labels (N,), distinct keys (N,) -> each image's place (N,) when its class is ordered by key, from 0."""
    order = keys.argsort()
    order = order[labels[order].argsort(stable=True)]  # by class, and by key within it
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - first[labels[order]]
    return rank


def balanced(labels: Tensor, ids: Tensor, limit: int | None, *, purpose: str) -> Tensor:
    """A class-balanced subset: labels (N,), ids (N,) -> sorted index (limit,) int64; all where limit is None.

    Each class is ordered by a hash of (id, purpose), and the classes give one image each in turn, so that their counts
    differ by at most 1 while none is used up. The subsets of one purpose nest, and do not depend on the order of the
    images. Raises UsageError for a limit outside 1..N.
    """
    if limit is None:
        return torch.arange(len(labels))
    if not 1 <= limit <= len(labels):
        raise UsageError("a limit of images", limit, valid=[f"1..{len(labels)}", "none, for all"])
    rank = _rank_in_class(labels, fold(image_keys(0, ids), purpose))
    turn = rank * (labels.max() + 1) + labels
    return turn.argsort()[:limit].sort().values


def held_out(labels: Tensor, keys: Tensor, share: float) -> Tensor:
    """Labels (N,), distinct keys (N,), share in (0,1) -> bool (N,): the share of every class with the smallest keys.

    The share is rounded per class (halves up) and kept within 1..n-1, so that both sides see every class of two or
    more images.
    """
    counts = labels.bincount()
    quota = (share * counts.to(torch.float64) + 0.5).floor().to(torch.int64)
    quota = quota.minimum(counts - 1).clamp(min=1)
    return _rank_in_class(labels, keys) < quota[labels]


def split(images: Images, share: float, seed: int) -> tuple[Images, Images]:
    """Hold a share of every class out: -> (train, validation), both in the order of `images`.

    share: the validation's part of each class, in (0,1), rounded per class, at least 1 and never all.
    seed: with the id, it decides who is held out; storage order and the other classes do not.
    Raises UsageError for another share, SpikeproofError for a class with a single image.
    """
    if not 0.0 < share < 1.0:
        raise UsageError("a validation share in (0, 1)", share)
    alone = (images.labels.bincount() == 1).nonzero().flatten().tolist()
    if alone:
        name = images.classes[alone[0]]
        mend = "raise the limit of images, or train without validation"
        raise SpikeproofError(f"2 or more images of class {name!r} of {images.name}", 1, mend=mend)
    out = held_out(images.labels, fold(image_keys(seed, images.ids), "validation"), share)
    return images.take(~out), images.take(out)
