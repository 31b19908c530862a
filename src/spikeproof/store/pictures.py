"""Two images of a cell as a panel left them, to be looked at: `pictures.json` beside the rows. No number is made of it.

    {"format": 1, "evaluation": ..., "eps_text": ..., "pictures": [PICTURE, ...]}
    PICTURE  {"outcome": "fell" or "stood", "image": id, "label", "clean", "attacked": classes, "attack": ..., "events":
              whether it is a grid of them, "layers": {NAME: LAYER}}
    LAYER    {"shape": [C, H, W], "scale": what 255 stands for, "bytes": base64 of uint8}

It stands in no seal: a cell is whole without it, and keeps its key. What is there is checked before it is drawn.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

from spikeproof.errors import SpikeproofError
from spikeproof.files import write_bytes

__all__ = ["LARGEST", "Layer", "Picture", "Pictures", "layer_bytes", "pictures_of", "write_pictures"]

LARGEST = 64
"""Pixels along a side of what is kept."""

_FORMAT = 1
_BYTES = 1_000_000
_NAMES = ("clean", "attacked", "change", "image", "encoded", "pool")


class Layer(TypedDict):
    """An array (C,H,W) of uint8. scale: what 255 stands for; in `change` 128 is none, and 127 more stand for it."""

    shape: list[int]
    scale: float
    bytes: str


class Picture(TypedDict):
    """What became of one image: its answers when clean and when attacked, and its layers by their names."""

    outcome: Literal["fell", "stood"]
    image: int
    label: int
    clean: int
    attacked: int
    attack: str
    events: bool
    layers: dict[str, Layer]


class Pictures(NamedTuple):
    """Of one panel at one budget."""

    evaluation: str
    eps_text: str
    pictures: list[Picture]


def write_pictures(folder: Path, found: Pictures) -> None:
    """Whole or not at all, into the folder of a finished cell."""
    tree = {"format": _FORMAT, **found._asdict()}
    write_bytes(folder / "pictures.json", json.dumps(tree, separators=(",", ":")).encode(), anew=False)


def pictures_of(folder: Path) -> Pictures | None:
    """Those beside a cell; None where it has none. SpikeproofError, with the file, where they are damaged."""
    path = folder / "pictures.json"
    try:
        if not path.is_file():
            return None
        if (size := path.stat().st_size) > _BYTES:
            raise ValueError(f"{size} bytes, more than {_BYTES}")
        tree = json.loads(path.read_bytes())
        if tree["format"] != _FORMAT:
            raise ValueError(f"format {tree['format']}")
        return Pictures(str(tree["evaluation"]), str(tree["eps_text"]), [_checked(one) for one in tree["pictures"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        mend = "delete it: the page is made without, and a run of the study makes it again"
        raise SpikeproofError(f"pictures of format {_FORMAT} at {path}", error, mend=mend) from error


def layer_bytes(layer: Layer) -> bytes:
    """C*H*W of them. ValueError where they are not as many, or the shape is none."""
    shape = layer["shape"]
    if len(shape) != 3 or any(type(n) is not int or not 1 <= n <= LARGEST for n in shape):
        raise ValueError(f"a layer of shape {shape}")
    if not (type(layer["scale"]) is float and math.isfinite(layer["scale"]) and layer["scale"] >= 0):
        raise ValueError(f"a layer of scale {layer['scale']!r}")
    try:
        found = base64.b64decode(layer["bytes"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"a layer that is no base64: {error}") from error
    if len(found) != math.prod(shape):
        raise ValueError(f"{len(found)} bytes in a layer of shape {shape}")
    return found


def _checked(one: Mapping[str, Any]) -> Picture:
    """ValueError, KeyError or TypeError unless it is a picture."""
    if one["outcome"] not in ("fell", "stood") or type(one["events"]) is not bool:
        raise ValueError(f"a picture of outcome {one['outcome']!r}")
    if any(type(one[name]) is not int for name in ("image", "label", "clean", "attacked")):
        raise ValueError("a picture whose image, label or answers are no whole numbers")
    layers = {str(name): layer for name, layer in one["layers"].items()}
    if not {"clean", "attacked", "change"} <= layers.keys() <= {*_NAMES}:
        raise ValueError(f"a picture of the layers {sorted(layers)}")
    for layer in layers.values():
        layer_bytes(layer)
    return {
        "outcome": one["outcome"], "image": one["image"], "label": one["label"], "clean": one["clean"],
        "attacked": one["attacked"], "attack": str(one["attack"]), "events": one["events"], "layers": layers,
    }  # fmt: skip
