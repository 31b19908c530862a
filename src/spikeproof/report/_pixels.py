"""Small pictures of arrays, as <img> elements that need no file: PNG inside a data URI, one pixel for each number."""

from __future__ import annotations

import base64
import io

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from spikeproof.report._blocks import text
from spikeproof.store.pictures import Layer, layer_bytes

__all__ = ["as_change", "as_events", "as_image", "as_map", "element"]

Colours = NDArray[np.uint8]
"""(H,W,3)."""

_ON, _OFF = np.array([213, 94, 0]), np.array([0, 114, 178])
"""Okabe and Ito's vermilion and blue."""


def element(colours: Colours, alt: str) -> Markup:
    """The <img> of them; `alt` is what a screen reader says."""
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG", optimize=True)
    return text('<img alt="{}" src="data:image/png;base64,{}"/>', alt, base64.b64encode(buffer.getvalue()).decode())


def as_image(layer: Layer) -> Colours:
    """Grey from one channel, colours from three; of another number of channels their mean."""
    x = _array(layer)
    shown = x if len(x) in (1, 3) else x.mean(0, keepdims=True)
    return np.broadcast_to(np.moveaxis(shown, 0, -1).round(), (*x.shape[1:], 3)).astype(np.uint8)


def as_events(layer: Layer) -> Colours:
    """Counts over time on white: of events that brightened vermilion, of those that darkened blue."""
    on, off = (share[..., None] / 255 for share in _array(layer)[:2])
    return _whole(255 - on * (255 - _ON) - off * (255 - _OFF))


def as_change(layer: Layer) -> Colours:
    """White where nothing changed, towards vermilion where there is more now, towards blue where less; of several
    channels the one that changed most."""
    x = _array(layer) - 128
    most = np.take_along_axis(x, np.abs(x).argmax(0)[None], 0)[0, ..., None] / 127
    hue = np.where(most > 0, _ON, _OFF)
    return _whole(255 - np.abs(most) * (255 - hue))


def as_map(layer: Layer) -> Colours:
    """Exact zeros white, all else from pale to black."""
    x = _array(layer).mean(0)[..., None]
    return np.broadcast_to(np.where(x > 0, 215 - 215 * x / 255, 255), (*x.shape[:2], 3)).astype(np.uint8)


def _whole(x: NDArray[np.float64]) -> Colours:
    return np.clip(x, 0, 255).round().astype(np.uint8)


def _array(layer: Layer) -> NDArray[np.float64]:
    return np.frombuffer(layer_bytes(layer), dtype=np.uint8).reshape(layer["shape"]).astype(np.float64)
