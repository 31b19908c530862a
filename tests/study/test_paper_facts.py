"""The reproduced facts, in their cheap parts: which images, in which order, which shares, and the dead weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import conv_taps
from PIL import Image
from small import built
from torch import Tensor

from spikeproof.data.digits import Digits
from spikeproof.study import paper_facts as module
from spikeproof.study.paper_facts import findings
from spikeproof.study.run import Machine
from spikeproof.victims.victim import Victim


def test_digits_are_enlarged_to_colour_images_pixel_by_pixel() -> None:
    images, digits = module._images(None, 3), Digits().load("train")
    assert images.pixels.shape == (1438, 3, 32, 32)
    assert torch.equal(images.ids, digits.ids)
    assert torch.equal(images.labels, digits.labels)
    for row, column in ((0, 0), (1, 3), (3, 2)):
        for channel in range(3):
            assert torch.equal(images.pixels[:, channel, row::4, column::4], digits.pixels[:, 0])


def test_a_users_folder_is_taken_instead(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("ape", "bee"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for k in range(20):
                pixels = np.full((32, 32, 3), 10 * k, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    images = module._images(tmp_path, 2)
    assert images.pixels.shape == (32, 3, 32, 32)
    assert images.classes == ("ape", "bee")


def test_batches_are_whole_keyed_and_new() -> None:
    images = module._images(None, 1)
    batches = list(module._batches(images, 5, 0))
    assert [len(ids) for _, _, ids in batches] == [16] * 5
    ids = torch.cat([ids for _, _, ids in batches])
    assert len(ids.unique()) == 80
    again, other = (torch.cat([b[2] for b in module._batches(images, 5, seed)]) for seed in (0, 1))
    assert torch.equal(ids, again)
    assert not torch.equal(ids, other)


def small(pool: str, depth: int, classes: int, seed: int) -> Victim:
    return built("phase", steps=2, model="sew_resnet", pool=pool, seed=seed)


@pytest.fixture
def grey(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Networks of four channels for grey images in place of the paper's, and a batch for them."""
    monkeypatch.setattr(module, "_victim", lambda *arguments: small(*arguments).eval())
    monkeypatch.setattr(module, "_dead", lambda depth, *rest: depth / 1000)
    images = module._images(None, 1)
    one_channel = replace(images, pixels=images.pixels[:, :1].contiguous())
    monkeypatch.setattr(module, "_images", lambda folder, steps: one_channel)
    return next(module._batches(module._images(None, 1), 1, 0))  # type: ignore[no-any-return]


def test_a_max_pool_makes_zeros_and_no_pixel_keeps_one(grey: Any) -> None:
    shares = {}
    for pool in ("max", "avg"):
        texts = module._zero_shares(small(pool, 18, 10, 0).eval(), grey, 0, "train")
        shares[pool] = [float(text.removesuffix(" %")) for text in texts]
    image, encoded, stem, pooled = shares["max"]
    assert (image, encoded) == (0, 0)
    # In front of the neuron, later steps fill in some of the zeros that the pool has made behind it.
    assert pooled > stem > 50
    assert shares["avg"] == [0, 0, 0, 0]


def test_the_page_has_a_row_for_every_network_and_mode(grey: Any) -> None:
    text = findings(None, 1, 0, Machine(device="cpu", progress=False))
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith(("| max", "| avg"))]
    assert [[cell.strip() for cell in row[:3]] for row in rows] == [
        [pool, steps, mode] for pool in ("max", "avg") for steps in ("0", "1") for mode in ("train", "eval")
    ]
    assert all(cell.strip().endswith("%") for row in rows for cell in row[3:])
    for depth in (18, 34, 50):
        assert f"| SEW-ResNet-{depth} | {depth / 10:.1f} % |" in text


def test_dead_weights_of_the_18_layers_are_those_counted_by_hand() -> None:
    images = module._images(None, 1)
    expected = conv_taps.count(18)
    found = module._dead(18, 10, images.at(torch.arange(1)), 0)
    assert found == pytest.approx(expected.dead / expected.total, rel=1e-5)
