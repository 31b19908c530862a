"""What results say of their data: against the data themselves, counted here by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from spikeproof.data import Images, from_events, from_frames, split
from spikeproof.data.digits import Digits
from spikeproof.data.digits_events import DigitsEvents
from spikeproof.data_facts import DataFacts, named_data, words_of_data


@pytest.mark.parametrize("binary", [True, False])
def test_a_subset_of_recordings_says_how_it_was_chosen_and_binned(binary: bool) -> None:
    images = DigitsEvents(frames=3, by="number", binary=binary).load("test", 25)
    facts = images.facts()
    counts = Counter(images.labels.tolist())
    assert facts == {
        "name": "digits events",
        "samples": 25,
        "whole": len(Digits().load("test")),
        "a_class": [min(counts.values()), max(counts.values())],
        "shape": [3, 2, 16, 16],
        "values": "binary" if binary else "counts",
        "binning": {"frames": 3, "by": "number", "sensor": [16, 16], "cells": [16, 16]},
    }
    assert facts["a_class"] == [2, 3]
    said = words_of_data(facts, "test")
    for word in ("25 of 359 test", "2 to 3 a class", "T = 3 frames by number", "16x16 cells"):
        assert word in said
    assert ("binary" in said) is binary
    assert ("counts" in said) is not binary


def test_a_whole_split_says_so_and_images_have_no_binning() -> None:
    facts = Digits().load("train").facts()
    assert (facts["samples"], facts["whole"], facts["binning"], facts["values"]) == (1438, 1438, None, "17 levels")
    assert "all 1,438 train samples" in words_of_data(facts, "train")


def test_of_what_is_left_of_a_subset_it_is_not_said_how_it_was_chosen() -> None:
    fitted, held = split(Digits().load("train", 100), 0.2, 0)
    for some in (fitted, held):
        assert some.facts()["whole"] is None
        assert "how they were chosen is not recorded" in words_of_data(some.facts(), "train")


def test_own_recordings_say_their_binning_and_own_frames_that_they_have_none() -> None:
    events = {name: np.array(values) for name, values in {"t": [0, 1, 2, 3], "x": [0, 1, 2, 0], "y": [0] * 4,
                                                          "p": [0, 1, 0, 1]}.items()}  # fmt: skip
    own = from_events([events], [0], height=2, width=3, frames=2)
    assert own.facts()["binning"] == {"frames": 2, "by": "number", "sensor": [2, 3], "cells": [2, 3]}
    frames = from_frames(own.pixels, [0]).facts()
    assert frames["binning"] is None
    assert "framed elsewhere" in words_of_data(frames, "test")


def test_cells_that_are_put_together_name_the_sensor() -> None:
    facts: DataFacts = {
        "name": "N", "samples": 1, "whole": 1, "a_class": [0, 1], "shape": [5, 2, 17, 17], "values": "counts",
        "binning": {"frames": 5, "by": "time", "sensor": [34, 34], "cells": [17, 17]},
    }  # fmt: skip
    assert "17x17 cells, of a sensor of 34x34" in words_of_data(facts, "test")


def test_without_facts_nothing_is_recorded() -> None:
    assert words_of_data(None, "test") == "the test data: not recorded"


def test_a_name_tells_options_but_not_where_data_lie() -> None:
    spec = {"name": "nmnist", "root": "/somewhere", "frames": 5, "binary": True, "size": None}
    assert named_data(spec) == "nmnist (frames 5, binary)"


def test_facts_change_no_digest() -> None:
    images = Digits().load("test", 20)
    bare = Images(images.pixels, images.scale, images.labels, images.ids, images.classes, images.name)
    assert bare.digest() == images.digest()
    assert torch.equal(bare.ids, images.ids)
