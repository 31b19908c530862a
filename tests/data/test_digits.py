"""The bundled digits: counts, range, and a split that stays for ever."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from spikeproof.data.digits import Digits
from spikeproof.errors import UsageError


def test_counts_range_and_classes() -> None:
    train, test = Digits().load("train"), Digits().load("test")
    assert (len(train), len(test)) == (1438, 359)
    for images in (train, test):
        assert images.pixels.shape[1:] == (1, 8, 8)
        assert images.scale == 16
        assert images.name == "digits"
        assert images.classes == tuple("0123456789")
        assert (int(images.pixels.min()), int(images.pixels.max())) == (0, 16)
        x, _, _ = images.at(torch.arange(len(images)))
        assert (x.min().item(), x.max().item()) == (0.0, 1.0)


def test_the_two_splits_are_all_the_digits_once() -> None:
    train, test = Digits().load("train"), Digits().load("test")
    assert sorted(train.ids.tolist() + test.ids.tolist()) == list(range(1797))
    bunch = load_digits()
    for images in (train, test):
        assert torch.equal(images.pixels[:, 0].double(), torch.from_numpy(bunch.images)[images.ids])
        assert torch.equal(images.labels, torch.from_numpy(bunch.target)[images.ids])


def test_a_fifth_of_every_class_is_test() -> None:
    train, test = (Digits().load(split).labels.bincount().tolist() for split in ("train", "test"))
    assert [round(held / (kept + held), 2) for kept, held in zip(train, test, strict=True)] == [0.2] * 10


def test_the_split_stays_for_ever() -> None:
    assert Digits().load("train").digest() == "ab80bf1c9d5615f6"
    assert Digits().load("test").digest() == "f5bbc01113f63b04"


def test_a_limit_is_balanced_and_nests() -> None:
    small, large = Digits().load("test", 25), Digits().load("test", 70)
    assert small.labels.bincount().tolist() == [3] * 5 + [2] * 5
    assert large.labels.bincount().tolist() == [7] * 10
    assert set(small.ids.tolist()) <= set(large.ids.tolist()) <= set(Digits().load("test").ids.tolist())


def test_refusals() -> None:
    with pytest.raises(UsageError, match="valid: train, test"):
        Digits().load("validation")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"1\.\.359"):
        Digits().load("test", 360)
    with pytest.raises(UsageError, match=r"1\.\.1438"):
        Digits().load("train", 0)
