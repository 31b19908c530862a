"""Pictures of arrays: each pixel the colour that its number stands for, and PNG that another program reads."""

from __future__ import annotations

import base64
import io
import re
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spikeproof.report import _pixels
from spikeproof.report.sections.pictures import _changed
from spikeproof.store.pictures import Layer, Picture


def layer(*channels: list[list[int]]) -> Layer:
    data = np.array(channels, dtype=np.uint8)
    return {"shape": [*data.shape], "scale": 1.0, "bytes": base64.b64encode(data.tobytes()).decode()}


@given(st.lists(st.integers(0, 255), min_size=6, max_size=6))
def test_an_image_is_read_back_as_it_was(values: list[int]) -> None:
    image = _pixels.as_image(layer([values[:3], values[3:]]))
    source = re.search(r'base64,([^"]+)"', _pixels.element(image, "x"))
    assert source is not None
    found = np.array(Image.open(io.BytesIO(base64.b64decode(source[1]))).convert("RGB"))
    assert found[..., 0].ravel().tolist() == found[..., 2].ravel().tolist() == values


def test_a_map_leaves_exact_zeros_white_and_nothing_else() -> None:
    assert _pixels.as_map(layer([[0, 1, 255]]))[0, :, 0].tolist() == [255, 214, 0]


def test_a_change_has_a_colour_for_each_sign() -> None:
    none, more, less = _pixels.as_change(layer([[128, 255, 1]]))[0].tolist()
    assert (none, more, less) == ([255, 255, 255], [213, 94, 0], [0, 114, 178])


def test_of_several_channels_the_change_is_the_largest() -> None:
    assert _pixels.as_change(layer([[130]], [[1]], [[128]]))[0].tolist() == [[0, 114, 178]]


def test_events_are_white_where_none_is() -> None:
    none, on, off = _pixels.as_events(layer([[0, 255, 0]], [[0, 0, 255]]))[0].tolist()
    assert (none, on, off) == ([255, 255, 255], [213, 94, 0], [0, 114, 178])


def test_what_stands_in_words_is_escaped() -> None:
    assert "<script>" not in _pixels.element(_pixels.as_map(layer([[0]])), '"><script>')


@pytest.mark.parametrize(
    ("events", "scale", "words"),
    [(True, 0.0, "no change but in time"), (True, 2.0, "change, at most 2"), (False, 0.0, "change, at most 0")],
)
def test_events_that_moved_in_time_alone_are_said_to_have(events: bool, scale: float, words: str) -> None:
    one = {"events": events, "layers": {"change": {**layer([[128]]), "scale": scale}}}
    assert _changed(cast("Picture", one)) == words
