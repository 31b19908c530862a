"""A folder of images of one's own: root/train/<class>/*.png and root/test/<class>/*.png (or jpg, jpeg)."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spikeproof.data._images import Images, Split, balanced, check_split
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.limits import IMAGE_PIXELS, IMAGES_BYTES, check_name

__all__ = ["ImageFolder"]

_MODES = {1: "L", 3: "RGB"}
_SUFFIXES = (".jpg", ".jpeg", ".png")
_WORTH_A_THREAD = 128 * 128  # pixels: decoding 32x32 images in two threads takes twice as long as in one
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class ImageFolder:
    """Images by split and class; the sorted folder names under `root`/train are the classes, and test has the same.

    channels: 3 decodes to RGB, 1 to grey. An alpha channel is dropped, a rotation in the EXIF data is not applied. Of
    an animated PNG the first frame is taken.
    Hidden files are ignored; every other file must be an image, and all that are decoded must share one size.
    The id of an image is a hash of its path under `root` and survives adding, removing or moving the whole.
    """

    root: str
    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels not in _MODES:
            raise UsageError("channels of an image folder", self.channels, valid=_MODES)

    def load(self, split: Split, limit: int | None = None) -> Images:
        """The images of `split`, (N,channels,H,W) with scale 255; with a limit, a class-balanced subset of it.

        Only the chosen files are decoded, but both splits are listed where there are two, so that a fault in the test
        folder shows before the training. A folder to test on alone has no train/.
        Raises UsageError for an unknown split, or a limit outside 1..N; SpikeproofError, naming the folder or file, for
        what the class docstring rules out and for an image that cannot be decoded.
        """
        check_split(split)
        root = Path(os.path.abspath(Path(self.root).expanduser()))
        alone = split == "test" and not (root / "train").exists()
        there = [split] if alone else [*get_args(Split)]
        tree = {name: _listing(root / name) for name in there}
        classes = tuple(tree[split])
        if any(tuple(tree[name]) != classes for name in there):
            different = ", ".join(sorted(set(tree["train"]) ^ set(tree["test"])))
            got = f"a difference in {different}"
            raise SpikeproofError(f"the same classes in {root / 'train'} and {root / 'test'}", got)
        ids_of = _ids(root, [path for split_of in tree.values() for files in split_of.values() for path in files])
        chosen = [(path, label) for label, files in enumerate(tree[split].values()) for path in files]
        labels = torch.tensor([label for _, label in chosen])
        ids = torch.tensor([ids_of[path] for path, _ in chosen])
        index = balanced(labels, ids, limit, purpose=split)
        pixels = _decode_all([chosen[i][0] for i in index.tolist()], self.channels)
        return Images(pixels, 255, labels[index], ids[index], classes, root.name, len(labels))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _listing(folder: Path) -> dict[str, list[Path]]:
    """A split's folder -> class name: its image files, both sorted."""
    if not folder.is_dir():
        mend = f"put the images at {folder}/<class>/<name>.png"
        raise SpikeproofError(f"a folder {folder}", "none", mend=mend)
    listing: dict[str, list[Path]] = {}
    for place in _visible(folder):
        if not place.is_dir():
            raise SpikeproofError(f"only class folders in {folder}", f"the file {place.name}", mend="move it")
        check_name("the name of a class", place.name)
        listing[place.name] = files = _visible(place)
        if not files:
            raise SpikeproofError(f"images in {place}", "none", mend="fill or delete the folder")
        for path in files:
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():
                mend = "move it out of the class folder"
                raise SpikeproofError(f"only images in {place}", path.name, valid=_SUFFIXES, mend=mend)
    if not listing:
        raise SpikeproofError(f"class folders in {folder}", "none")
    return listing


def _ids(root: Path, paths: Sequence[Path]) -> dict[Path, int]:
    """Path -> 63 bits of sha256 of its place under `root`, the same on every machine."""
    owner: dict[int, Path] = {}
    for path in paths:
        # file systems store the accents of a name differently; NFC is one of the ways, for all
        place = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
        word = hashlib.sha256(place.encode("utf-8", errors="surrogateescape")).digest()[:8]
        image_id = int.from_bytes(word, "little") >> 1
        if image_id in owner:
            got = f"the same id for {owner[image_id]} and {path}"
            raise SpikeproofError("an id of its own for every image", got, mend="rename one of them")
        owner[image_id] = path
    return {path: image_id for image_id, path in owner.items()}


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image behind its header; what is wrong with it, there or while it is decoded inside, is refused by name."""
    try:
        with path.open("rb") as file, Image.open(file, formats=("JPEG", "PNG")) as image:
            # Pillow merely warns from its own limit on, and refuses from twice as many
            most = min(IMAGE_PIXELS, Image.MAX_IMAGE_PIXELS or IMAGE_PIXELS)
            if image.width * image.height > most:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels, more than {most}")
            yield image
    except SpikeproofError:
        raise
    except _BROKEN as error:
        got = f"{type(error).__name__}: {error}"
        raise SpikeproofError(f"a whole JPEG or PNG in {path}", got, mend="replace or delete it") from error


def _decode(path: Path, channels: int, model: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One file -> (C,H,W), provided that its (width, height) is `size`, which is that of `model`."""
    with _opened(path) as image:
        if image.size != size:
            sizes = "{} is {}x{}, {} is {}x{}".format(model, *size, path, *image.size)
            raise SpikeproofError("images of one size (width x height)", sizes, mend="resize the images")
        if image.mode.startswith(("I", "F")):  # 16 or 32 bits, which Pillow would clip to 255
            mend = "convert it to 8 bits"
            raise SpikeproofError(f"8 bits a channel in {path}", f"Pillow mode {image.mode}", mend=mend)
        # a palette with transparency needs the step over RGBA
        picture = image.convert("RGBA") if image.mode == "P" else image
        pixels = np.asarray(picture.convert(_MODES[channels]), dtype=np.uint8)
    return pixels.reshape(size[1], size[0], channels).transpose(2, 0, 1)


def _decode_all(paths: Sequence[Path], channels: int) -> Tensor:
    """Files -> pixels (N,C,H,W) uint8."""
    with _opened(paths[0]) as image:
        width, height = image.size
    if (size := len(paths) * channels * height * width) > IMAGES_BYTES:
        got = f"{size}: {len(paths)} of {width}x{height}"
        raise SpikeproofError(f"images of at most {IMAGES_BYTES} bytes", got, mend="set a limit, or make them smaller")
    pixels = np.empty((len(paths), channels, height, width), dtype=np.uint8)
    job = partial(_decode, channels=channels, model=paths[0], size=(width, height))
    with ThreadPoolExecutor(2) as pool:
        decoded = pool.map(job, paths) if width * height >= _WORTH_A_THREAD else map(job, paths)
        for row, image_pixels in zip(pixels, decoded, strict=True):
            row[:] = image_pixels
    return torch.from_numpy(pixels)
