"""Every data set: the same way in; and of the one that is always there, the images themselves."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeproof import parts
from spikeproof.data import Images
from spikeproof.errors import SpikeproofError, UsageError


def needs_folder(name: str) -> bool:
    return "root" in inspect.signature(parts.find("data", name)).parameters


def dataset(name: str, root: Path) -> Any:
    """Where it needs a folder, an empty one."""
    return parts.build("data", {"name": name, **({"root": str(root)} if needs_folder(name) else {})})


@pytest.mark.parametrize("name", parts.names("data"))
def test_a_split_that_does_not_exist_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    part = dataset(name, tmp_path)
    assert list(inspect.signature(part.load).parameters) == ["split", "limit"]
    with pytest.raises(UsageError, match="train, test"):
        part.load("validation")


@pytest.mark.parametrize("name", [n for n in parts.names("data") if needs_folder(n)])
def test_data_that_are_not_there_are_refused_by_their_place(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpikeproofError, match=tmp_path.name):
        dataset(name, tmp_path).load("train")


def both() -> dict[str, Images]:
    digits = parts.build("data", {"name": "digits"})
    return {split: digits.load(split) for split in ("train", "test")}


def test_digits_are_in_range_and_labelled() -> None:
    for images in both().values():
        x, labels, ids = images.at(torch.arange(len(images)))
        assert x.shape == (len(images), 1, 8, 8)
        assert x.dtype == torch.float32
        assert (x.min(), x.max()) == (0.0, 1.0)
        assert set(labels.tolist()) == set(range(10))
        assert len(images.classes) == 10
        assert torch.equal(ids, images.ids)


def test_digits_share_no_image_between_train_and_test() -> None:
    images = both()
    assert {split: len(part) for split, part in images.items()} == {"train": 1438, "test": 359}
    ids = torch.cat([part.ids for part in images.values()])
    assert len(ids.unique()) == len(ids) == 1797
    pixels = {split: {row.numpy().tobytes() for row in part.pixels} for split, part in images.items()}
    assert not pixels["train"] & pixels["test"]


def test_a_limit_keeps_ids_and_pixels_together() -> None:
    whole = both()["test"]
    few = parts.build("data", {"name": "digits"}).load("test", 30)
    assert sorted(few.labels.bincount().tolist()) == [3] * 10
    for k, image in enumerate(few.ids.tolist()):
        (at,) = (whole.ids == image).nonzero()[0]
        assert torch.equal(few.pixels[k], whole.pixels[at])
        assert few.labels[k] == whole.labels[at]


def test_loading_twice_gives_the_same_images() -> None:
    assert [part.digest() for part in both().values()] == [part.digest() for part in both().values()]
