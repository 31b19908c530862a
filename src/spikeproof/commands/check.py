"""what would spoil the numbers of your own network, before any attack"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from spikeproof import parts
from spikeproof.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def options(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="dotted path to a function without arguments that makes it, package.module:make")
    parser.add_argument(
        "--weights", type=Path, default=None, help="safetensors, or a torch state dict (no code is run)"
    )
    parser.add_argument("--images", default=None, help="a data set by its name (digits), or a folder (test/<class>/*)")
    parser.add_argument("--count", type=int, default=64, help="how many images")
    parser.add_argument("--channels", type=int, default=3, help="of a folder's images: 3 or 1")
    parser.add_argument("--shape", default=None, help="C,H,W of random images, where no images are given")
    parser.add_argument("--steps", type=int, default=None, help="time steps, of a network that makes none of its own")
    parser.add_argument("--step_mode", default=None, choices=["m", "s"], help="all steps at once, or one a call")
    parser.add_argument("--accuracy", type=float, default=None, help="your own, to be met on these images: 0.92")


def run(options: Namespace) -> int:
    shape = _shape(options.shape)
    from spikeproof.interop.check import check_path

    images, labels = (None, None) if options.images is None else _images(options)
    found = check_path(
        options.model, images, labels, weights=options.weights, shape=shape, steps=options.steps,
        step_mode=options.step_mode, accuracy=options.accuracy,
    )  # fmt: skip
    print(found)
    return 3 if found.refused else 0


def _images(options: Namespace) -> tuple[Tensor, Tensor]:
    """Test images and their labels, balanced over the classes."""
    from spikeproof.data import balanced

    folder = {"name": "image_folder", "root": options.images, "channels": options.channels}
    data = parts.build("data", {"name": options.images} if options.images in parts.names("data") else folder)
    whole = data.load("test")
    images, labels, _ = whole.at(balanced(whole.labels, whole.ids, min(options.count, len(whole)), purpose="check"))
    return images, labels


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise UsageError("--shape as C,H,W", repr(text), mend="--shape 3,32,32") from error
