"""Images with what belongs to each of them, checked once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError
from spikeproof.tensors import fold, image_keys
from spikeproof.victims.door import ids_of, images_of, labels_of
from spikeproof.victims.victim import Victim

__all__ = ["Batch", "check_labels"]


def check_labels(victim: Victim, x: Tensor, y: Tensor) -> None:
    """Raises SpikeproofError where labels (B,) do not fit the images or the classes."""
    y = labels_of(y, len(x))
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= victim.classes):
        raise SpikeproofError(
            f"labels in 0..{victim.classes - 1}",
            f"labels from {int(y.min())} to {int(y.max())}",
            mend="the model's classes must be those of the data set",
        )


def _check_precision(victim: Victim, x: Tensor) -> None:
    """Refuses images of float64 for weights of float32, and the other way: torch multiplies no two kinds."""
    held = {weight.dtype for weight in victim.parameters() if weight.is_floating_point()}
    if held and x.dtype not in held:
        kind = str(sorted(held, key=str)[0]).removeprefix("torch.")
        cast = {"float32": "images.float()", "float64": "images.double()"}.get(kind, f"images.to(torch.{kind})")
        raise SpikeproofError(f"images of {kind}, as the weights are", x.dtype, mend=cast)


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no single truth value
class Batch:
    """x (B,*): pixels in [0,1]; y (B,): labels, classes of the victim; ids (B,): the images' names in rows; keys (B,):
    each image's own randomness, for one purpose. `of` makes and checks it; the pixels are the victim's to check."""

    x: Tensor
    y: Tensor
    ids: Tensor
    keys: Tensor

    @classmethod
    def of(cls, victim: Victim, x: Tensor, y: Tensor, ids: Tensor | None, seed: int) -> Batch:
        """Images (B,*), labels and ids (B,) of a victim, as `door` takes them; without ids 0 .. B-1.

        Raises SpikeproofError for images of another precision than the network, for labels or ids that do not fit.
        """
        x = images_of(x)
        y, ids = labels_of(y, len(x), x.device), ids_of(ids, len(x))
        check_labels(victim, x, y)
        _check_precision(victim, x)
        return cls(x, y, ids, image_keys(seed, ids).to(x.device))

    def __len__(self) -> int:
        return len(self.x)

    def keyed(self, purpose: str) -> Batch:
        """The same images with keys for another purpose."""
        return replace(self, keys=fold(self.keys, purpose))

    def take(self, index: Tensor) -> Batch:
        """Some of the images, in this order: index (n,) int64 or (B,) bool, on any device."""
        return Batch(*(t[index.to(t.device)] for t in (self.x, self.y, self.ids, self.keys)))

    def split(self, size: int) -> Iterator[Batch]:
        """All of the images in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield Batch(*(t[start : start + size] for t in (self.x, self.y, self.ids, self.keys)))

    def to(self, device: torch.device) -> Batch:
        """The same on a device; the ids stay where they are, because only rows name them."""
        return Batch(self.x.to(device), self.y.to(device), self.ids, self.keys.to(device))
