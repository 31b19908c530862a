"""The digits that scikit-learn bundles, and the split of them that is ours."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from spikeproof.data._images import Images, Split, held_out
from spikeproof.errors import SpikeproofError
from spikeproof.tensors import fold, image_keys

__all__ = ["read"]


def read(split: Split) -> Images:
    """All images of `split`, (N,1,8,8) with scale 16."""
    table = torch.from_numpy(np.loadtxt(_file(), delimiter=",", dtype=np.int64))
    labels = table[:, -1].contiguous()
    ids = torch.arange(len(labels))
    test = held_out(labels, fold(image_keys(0, ids), "digits test"), 0.2)
    pixels = table[:, :-1].to(torch.uint8).view(-1, 1, 8, 8)
    images = Images(pixels, 16, labels, ids, tuple(map(str, range(10))), "digits")
    return images.take(test if split == "test" else ~test)


def _file() -> Path:
    """The table that scikit-learn bundles. It is not imported for it: that takes longer than all else of a command."""
    spec = find_spec("sklearn")
    file = Path(str(spec.origin)).parent / "datasets" / "data" / "digits.csv.gz" if spec is not None else None
    if file is None or not file.is_file():
        raise SpikeproofError(
            "the digits that scikit-learn bundles", file or "no scikit-learn", mend="install it again"
        )
    return file
