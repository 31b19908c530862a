"""A batch: what it refuses, and that its parts stay together and keep their randomness."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small import digits, trained
from torch import Tensor

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import fold, image_keys
from spikeproof.victims.batch import Batch, check_labels

X, Y, IDS = digits(6, first=10)
SEED = 3


def batch() -> Batch:
    return Batch.of(trained(), X, Y, IDS, SEED)


def same(found: Batch, x: Tensor, y: Tensor, ids: Tensor, keys: Tensor) -> bool:
    mine, wanted = (found.x, found.y, found.ids, found.keys), (x, y, ids, keys)
    return len(found) == len(x) and all(torch.equal(a, b) for a, b in zip(mine, wanted, strict=True))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y[:5], "6 integer labels"),
        (Y.float(), "6 integer labels.*float32"),
        (Y[:, None], r"shape \(6, 1\)"),
        (torch.tensor([0, 1, 2, 3, 4, 10]), r"labels in 0\.\.9.*0 to 10"),
        (torch.tensor([0, 1, 2, 3, 4, -1]), r"labels in 0\.\.9.*-1 to 4"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Tensor, words: str) -> None:
    with pytest.raises(SpikeproofError, match=words):
        check_labels(trained(), X, labels)
    with pytest.raises(SpikeproofError, match=words):
        Batch.of(trained(), X, labels, IDS, SEED)


def test_labels_that_fit_pass() -> None:
    check_labels(trained(), X, Y)
    check_labels(trained(), X[:0], Y[:0])


@pytest.mark.parametrize("ids", [IDS[:5], IDS[:, None], torch.arange(7), torch.tensor(0)], ids=lambda i: str(i.shape))
def test_ids_of_another_number_are_refused(ids: Tensor) -> None:
    got = f"got {ids.numel()} of shape"
    with pytest.raises(UsageError, match=f"6 different ids, one for each image, {got}"):
        Batch.of(trained(), X, Y, ids, SEED)


def test_its_keys_are_those_of_the_seed_and_the_ids() -> None:
    assert same(batch(), X, Y, IDS, image_keys(SEED, IDS))
    assert not torch.equal(Batch.of(trained(), X, Y, IDS, SEED + 1).keys, batch().keys)
    assert len(Batch.of(trained(), X[:0], Y[:0], IDS[:0], SEED)) == 0


def test_a_purpose_after_another_is_folded_in_that_order() -> None:
    keys = fold(fold(image_keys(SEED, IDS), "panel"), "fgsm")
    assert same(batch().keyed("panel").keyed("fgsm"), X, Y, IDS, keys)
    assert not torch.equal(batch().keyed("fgsm").keyed("panel").keys, keys)


@pytest.mark.parametrize("index", [torch.tensor([4, 0, 5]), Y[1] == Y, torch.tensor([], dtype=torch.int64)])
def test_some_of_the_images_keep_what_belongs_to_them(index: Tensor) -> None:
    assert same(batch().take(index), X[index], Y[index], IDS[index], image_keys(SEED, IDS[index]))
    assert same(batch().keyed("a").take(index), X[index], Y[index], IDS[index], fold(image_keys(SEED, IDS), "a")[index])


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 6), (4, [4, 2]), (6, [6]), (9, [6])])
def test_pieces_are_the_whole_in_order(size: int, sizes: list[int]) -> None:
    pieces = list(batch().split(size))
    assert [len(piece) for piece in pieces] == sizes
    columns: list[Callable[[Batch], Tensor]] = [lambda b: b.x, lambda b: b.y, lambda b: b.ids, lambda b: b.keys]
    assert same(batch(), *(torch.cat([column(piece) for piece in pieces]) for column in columns))


def test_nothing_has_no_pieces() -> None:
    assert list(batch().take(torch.tensor([], dtype=torch.int64)).split(4)) == []


def test_on_a_device_the_ids_stay_and_the_parts_still_fit() -> None:
    """The device that holds no numbers stands for one that is not there."""
    there = torch.device("meta")
    moved = batch().to(there)
    assert (moved.x.device, moved.y.device, moved.keys.device) == (there, there, there)
    assert torch.equal(moved.ids, IDS)
    some = moved.take(torch.tensor([2, 1]))
    assert (some.x.device, some.x.shape) == (there, X[:2].shape)
    assert torch.equal(some.ids, IDS[[2, 1]])
    assert Batch.of(trained(), X.to(there), Y, IDS, SEED).keys.device == there
