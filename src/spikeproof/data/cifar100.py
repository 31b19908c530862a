"""CIFAR-100: 50000 training and 10000 test images of 32x32 colour pixels in 100 (fine) classes."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.data._cifar import Layout, load
from spikeproof.data._images import Images, Split

__all__ = ["CIFAR100"]

_LAYOUT = Layout(
    name="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    train_records=50_000,
    test_records=10_000,
    label_bytes=2,  # coarse, then fine
    names="fine_label_names.txt",
    classes=100,
)


@dataclass(frozen=True)
class CIFAR100:
    """The official binary version (Krizhevsky 2009), from `root`/cifar-100-binary or `root`/cifar-100-binary.tar.gz.

    root: the folder the data lie in. download: fetch the archive (169 MB) into it where there is neither.
    Labels are the 100 fine ones. Ids are the official positions: train 0..49999, test 50000..59999.
    """

    root: str = "data"
    download: bool = False

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The images of `split`, (N,3,32,32) with scale 255; with a limit, a class-balanced subset of it.

        Raises UsageError for an unknown split, or a limit outside 1..N; SpikeproofError for data that are missing,
        damaged, or cannot be downloaded.
        """
        return load(_LAYOUT, self.root, self.download, split, limit)
