"""Images with what belongs to each of them, checked once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import fold, image_keys
from spikeproof.victims.victim import Victim

__all__ = ["Batch", "check_labels"]


def check_labels(victim: Victim, x: Tensor, y: Tensor) -> None:
    """Raises SpikeproofError where labels (B,) do not fit the images or the classes."""
    if y.shape != (len(x),) or y.is_floating_point():
        raise SpikeproofError(f"{len(x)} integer labels", f"{y.dtype} of shape {tuple(y.shape)}")
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= victim.classes):
        raise SpikeproofError(
            f"labels in 0..{victim.classes - 1}",
            f"labels from {int(y.min())} to {int(y.max())}",
            mend="the model's classes must be those of the data set",
        )


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no single truth value
class Batch:
    """x (B,*): pixels in [0,1]; y (B,): labels, classes of the victim; ids (B,): the images' names in rows; keys (B,):
    each image's own randomness, for one purpose. `of` makes and checks it; the pixels are the victim's to check."""

    x: Tensor
    y: Tensor
    ids: Tensor
    keys: Tensor

    @classmethod
    def of(cls, victim: Victim, x: Tensor, y: Tensor, ids: Tensor, seed: int) -> Batch:
        """Images (B,*), labels and ids (B,) of a victim. Raises SpikeproofError for labels or ids that do not fit."""
        check_labels(victim, x, y)
        if ids.shape != (len(x),):
            raise UsageError(
                f"{len(x)} different ids, one for each image", f"{ids.numel()} of shape {tuple(ids.shape)}"
            )
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
