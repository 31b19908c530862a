"""Images, balanced subsets and held-out shares: promises, nesting, and independence of the storage order."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from spikeproof.data._images import Images, balanced, held_out, split
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import fold, image_keys


def make(labels: list[int], *, ids: list[int] | None = None, scale: int = 255, side: int = 2) -> Images:
    count = len(labels)
    pixels = (torch.arange(count * side * side) % (scale + 1)).to(torch.uint8).view(count, 1, side, side)
    id_tensor = torch.arange(count) if ids is None else torch.tensor(ids)
    classes = tuple("abcdefghij"[: max(labels) + 1])
    return Images(pixels, scale, torch.tensor(labels), id_tensor, classes, "made")


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Labels (N,) in up to 5 classes, some of them perhaps without an image, and distinct ids (N,)."""
    labels = draw(st.lists(st.integers(0, 4), min_size=1, max_size=40))
    ids = draw(st.lists(st.integers(0, 2**63 - 1), min_size=len(labels), max_size=len(labels), unique=True))
    return torch.tensor(labels), torch.tensor(ids)


@pytest.mark.parametrize("scale", [16, 255])
def test_at_is_exactly_pixel_over_scale(scale: int) -> None:
    levels = torch.arange(scale + 1)
    images = Images(levels.to(torch.uint8).view(-1, 1, 1, 1), scale, levels % 2, levels + 7, ("a", "b"), "levels")
    index = torch.arange(scale, -1, -1)
    x, y, ids = images.at(index)
    exact = np.array([np.float32(k) / np.float32(scale) for k in range(scale, -1, -1)], dtype=np.float32)
    assert x.dtype == torch.float32
    assert x.shape == (scale + 1, 1, 1, 1)
    assert np.array_equal(x.numpy().ravel(), exact)
    assert x.min() == 0.0
    assert x.max() == 1.0
    assert torch.equal(y, index % 2)
    assert torch.equal(ids, index + 7)


def test_take_keeps_the_order_of_the_index_and_accepts_a_mask() -> None:
    images = make([0, 1, 0, 1])
    taken = images.take(torch.tensor([3, 0]))
    assert len(taken) == 2
    assert taken.ids.tolist() == [3, 0]
    assert taken.labels.tolist() == [1, 0]
    assert torch.equal(taken.pixels[0], images.pixels[3])
    assert images.take(torch.tensor([False, True, True, False])).ids.tolist() == [1, 2]
    assert len(images.take(torch.tensor([], dtype=torch.int64))) == 0


def test_digest_is_the_sha256_of_everything_that_decides_numbers() -> None:
    images = make([0, 1, 0])
    labels, ids = (np.array(values, dtype="<i8").tobytes() for values in ([0, 1, 0], [0, 1, 2]))
    content = b"(3, 1, 2, 2) 255 " + bytes(range(12)) + labels + ids
    assert images.digest() == hashlib.sha256(content).hexdigest()[:16]


def test_digest_changes_with_every_field_and_not_with_the_memory_layout() -> None:
    images = make([0, 1, 0])
    brighter = Images(images.pixels + 1, 255, images.labels, images.ids, images.classes, "made")
    reshaped = Images(images.pixels.view(3, 1, 1, 4), 255, images.labels, images.ids, images.classes, "made")
    rescaled = Images(images.pixels, 254, images.labels, images.ids, images.classes, "made")
    others = [make([0, 1, 1]), make([0, 1, 0], ids=[0, 1, 3]), brighter, reshaped, rescaled]
    assert len({images.digest(), *(other.digest() for other in others)}) == 6
    strided = images.pixels.transpose(2, 3).contiguous().transpose(2, 3)
    assert not strided.is_contiguous()
    assert Images(strided, 255, images.labels, images.ids, images.classes, "made").digest() == images.digest()


BYTES = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
TWO = torch.arange(2)


@pytest.mark.parametrize(
    ("pixels", "scale", "labels", "ids", "named"),
    [
        (BYTES.float(), 255, TWO, TWO, "torch.float32"),
        (BYTES[0], 255, TWO, TWO, "(1, 2, 2)"),
        (BYTES, 255, TWO.int(), TWO, "labels"),
        (BYTES, 255, TWO[:1], TWO, "labels"),
        (BYTES, 255, TWO, TWO.float(), "ids"),
        (BYTES, 0, TWO, TWO, "1..255"),
        (BYTES, 256, TWO, TWO, "1..255"),
        (BYTES + 17, 16, TWO, TWO, "0..16, got 17"),
        (BYTES, 255, TWO + 1, TWO, "0..1, got 1..2"),
        (BYTES, 255, TWO - 1, TWO, "0..1, got -1..0"),
        (BYTES, 255, TWO, TWO * 0, "comes twice"),
    ],
)
def test_images_refuse_broken_promises(pixels: Tensor, scale: int, labels: Tensor, ids: Tensor, named: str) -> None:
    with pytest.raises(SpikeproofError) as caught:
        Images(pixels, scale, labels, ids, ("a", "b"), "broken")
    assert named in str(caught.value)
    assert "broken" in str(caught.value)


@given(labelled(), st.data())
def test_balanced_is_sorted_balanced_and_nested(case: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    labels, ids = case
    limit = data.draw(st.integers(1, len(labels)))
    index = balanced(labels, ids, limit, purpose="test").tolist()
    assert len(index) == limit
    assert index == sorted(set(index))
    sizes, counts = Counter(labels.tolist()), Counter(labels[index].tolist())
    fullest = max(counts.values())
    assert all(counts[label] >= fullest - 1 or counts[label] == size for label, size in sizes.items())
    wider = balanced(labels, ids, data.draw(st.integers(limit, len(labels))), purpose="test").tolist()
    assert set(index) <= set(wider)


@given(labelled(), st.data())
def test_balanced_does_not_depend_on_the_storage_order(case: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    labels, ids = case
    limit = data.draw(st.integers(1, len(labels)))
    order = torch.tensor(data.draw(st.permutations(range(len(labels)))))
    straight = ids[balanced(labels, ids, limit, purpose="test")]
    shuffled = ids[order][balanced(labels[order], ids[order], limit, purpose="test")]
    assert set(straight.tolist()) == set(shuffled.tolist())


def test_balanced_orders_each_class_by_the_keyed_hash() -> None:
    labels, ids = torch.arange(60) % 3, torch.arange(60) * 11
    keys = fold(image_keys(0, ids), "audit").tolist()
    expected = []
    for label in range(3):
        expected += sorted(range(label, 60, 3), key=lambda i: keys[i])[:4]
    assert balanced(labels, ids, 12, purpose="audit").tolist() == sorted(expected)


def test_balanced_purposes_choose_apart_and_none_is_all() -> None:
    labels, ids = torch.arange(200) % 2, torch.arange(200)
    chosen = {tuple(balanced(labels, ids, 20, purpose=purpose).tolist()) for purpose in ("train", "test", "audit")}
    assert len(chosen) == 3
    assert balanced(labels, ids, None, purpose="train").tolist() == list(range(200))
    assert balanced(labels, ids, 200, purpose="train").tolist() == list(range(200))


@pytest.mark.parametrize("limit", [0, -1, 5])
def test_balanced_refuses_a_limit_out_of_range(limit: int) -> None:
    with pytest.raises(UsageError, match=r"1\.\.4"):
        balanced(torch.zeros(4, dtype=torch.int64), torch.arange(4), limit, purpose="test")


@given(labelled(), st.floats(0.01, 0.99), st.integers(0, 2**63))
def test_split_is_stratified_disjoint_and_whole(case: tuple[Tensor, Tensor], share: float, seed: int) -> None:
    labels, ids = (torch.cat([values, values]) for values in case)
    ids[len(ids) // 2 :] ^= 2**62 - 1  # another id for the second of each pair ...
    assume(len(ids.unique()) == len(ids))  # ... which none of the others has
    images = make(labels.tolist(), ids=ids.tolist())
    train, validation = split(images, share, seed)
    assert sorted(train.ids.tolist() + validation.ids.tolist()) == sorted(ids.tolist())
    sizes, held = Counter(labels.tolist()), Counter(validation.labels.tolist())
    for label, size in sizes.items():
        assert held[label] == min(max(math.floor(share * size + 0.5), 1), size - 1)


def test_split_is_keyed_by_seed_and_id_not_by_order() -> None:
    labels = [k % 4 for k in range(80)]
    images = make(labels)
    validation = set(split(images, 0.25, 3)[1].ids.tolist())
    backwards = images.take(torch.arange(79, -1, -1))
    assert set(split(backwards, 0.25, 3)[1].ids.tolist()) == validation
    assert set(split(images, 0.25, 4)[1].ids.tolist()) != validation
    without_a_class = images.take(images.labels != 2)
    assert set(split(without_a_class, 0.25, 3)[1].ids.tolist()) == {k for k in validation if labels[k] != 2}


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_split_refuses_a_share_outside_0_1(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        split(make([0, 0, 1, 1]), share, 0)


def test_split_refuses_a_class_with_a_single_image() -> None:
    with pytest.raises(SpikeproofError, match="class 'b' of made, got 1") as caught:
        split(make([0, 0, 1]), 0.5, 0)
    assert not isinstance(caught.value, UsageError)


def test_held_out_takes_the_smallest_keys_of_each_class() -> None:
    labels, keys = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1]), torch.tensor([5, -3, 2, 8, -9, 1, 7, 0])
    assert held_out(labels, keys, 0.5).tolist() == [False, True, True, False, True, False, False, True]
