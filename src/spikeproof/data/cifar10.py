"""CIFAR-10: 50000 training and 10000 test images of 32x32 colour pixels in 10 classes."""

from __future__ import annotations

from dataclasses import dataclass

from spikeproof.data._cifar import Layout, load
from spikeproof.data._images import Images, Split

__all__ = ["CIFAR10"]

_LAYOUT = Layout(
    name="CIFAR-10",
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
    test=("test_batch.bin",),
    train_records=10_000,
    test_records=10_000,
    label_bytes=1,
    names="batches.meta.txt",
    classes=10,
)


@dataclass(frozen=True)
class CIFAR10:
    """The official binary version (Krizhevsky 2009), from `root`/cifar-10-batches-bin or `root`/cifar-10-binary.tar.gz.

    root: the folder the data lie in. download: fetch the archive (170 MB) into it where there is neither.
    Ids are the official positions: train 0..49999, test 50000..59999.
    """

    root: str = "data"
    download: bool = False

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The images of `split`, (N,3,32,32) with scale 255; with a limit, a class-balanced subset of it.

        Raises UsageError for an unknown split, or a limit outside 1..N; SpikeproofError for data that are missing,
        damaged, or cannot be downloaded.
        """
        return load(_LAYOUT, self.root, self.download, split, limit)
