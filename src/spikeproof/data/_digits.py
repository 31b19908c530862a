"""The digits that scikit-learn bundles, and the split of them that is ours."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikeproof.data._images import Images, Split, held_out
from spikeproof.errors import SpikeproofError
from spikeproof.tensors import fold, image_keys

__all__ = ["read"]


def read(split: Split) -> Images:
    """All images of `split`, (N,1,8,8) with scale 16."""
    table = _table(_file())
    labels = table[:, -1].contiguous()
    ids = torch.arange(len(labels))
    test = held_out(labels, fold(image_keys(0, ids), "digits test"), 0.2)
    pixels = table[:, :-1].to(torch.uint8).view(-1, 1, 8, 8)
    images = Images(pixels, 16, labels, ids, tuple(map(str, range(10))), "digits")
    return images.take(test if split == "test" else ~test)


@cache
def _table(file: Path) -> Tensor:
    """A line an image: 64 pixels and the label. What is made of it is always a copy."""
    return torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))


def _file() -> Path:
    """The table that scikit-learn bundles. It is not imported for it: that takes longer than all else of a command."""
    spec = find_spec("sklearn")
    file = Path(str(spec.origin)).parent / "datasets" / "data" / "digits.csv.gz" if spec is not None else None
    if file is None or not file.is_file():
        raise SpikeproofError(
            "the digits that scikit-learn bundles", file or "no scikit-learn", mend="install it again"
        )
    return file
