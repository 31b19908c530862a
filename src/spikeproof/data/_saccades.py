"""A picture that moves in three saccades before a simulated event camera: which pixel sends what, and when.

A pixel sends an event whenever the logarithm of its light has changed by its threshold since the last one (Lichtsteiner
et al. 2008, IEEE JSSC 43; the saccades after Orchard et al. 2015). All is integers, but for one rounded table, so
that every machine makes the same recordings.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeproof.data._recordings import Recording
from spikeproof.tensors import fold, uniform

__all__ = ["SENSOR", "recorded"]

SENSOR = 16
"""Rows and columns of the sensor; a pixel of the picture covers 1.5 of them."""

_CORNERS = ((-10, -8), (10, -8), (0, 11), (-10, -8))  # (x, y), eighths of a sensor's pixel: a triangle, and back
_STEPS = 12  # of a saccade
_STEP = 8334  # microseconds of each, so that the three take 0.3 s
_PART = 12  # a picture's pixel in twelfths; a sensor's pixel is 8 of them, and an eighth of it is one
_DARK = 0.15  # light of a black pixel, where a white one has 1.15
_LOG = 1000  # units of the logarithm
_THRESHOLD, _SPREAD = 380, 80  # least, and how much more the least sensitive pixel needs
_NOISE = 12  # events of a recording that nothing has caused


def recorded(pictures: NDArray[np.uint8], most: int, keys: Tensor, places: list[str]) -> list[Recording]:
    """Pictures (N,h,w) of values 0..most, one key each (N,) -> their recordings, before a sensor of SENSOR x SENSOR."""
    shape = (SENSOR, SENSOR)
    drawn = uniform(fold(keys, "thresholds"), shape).numpy().astype(np.float64)
    threshold = _THRESHOLD + (drawn * _SPREAD).astype(np.int64)
    table = np.round(_LOG * np.log(_DARK + np.arange(most * _PART**2 + 1) / (most * _PART**2))).astype(np.int64)
    held = table[_light(pictures, *_CORNERS[0])]
    found = [_noise(keys)]
    for step, (dx, dy) in enumerate(_path()):
        light = table[_light(pictures, dx, dy)]
        steps = (np.abs(light - held) // threshold) * np.sign(light - held)
        held = held + steps * threshold
        found.append(_sent(steps, step))
    image, t, y, x, p = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((p, x, y, t, image))
    ends = np.searchsorted(image[order], np.arange(len(pictures) + 1))
    return [
        Recording(t[some], x[some], y[some], p[some], place)
        for some, place in zip((order[first:last] for first, last in pairwise(ends)), places, strict=True)
    ]


def _path() -> list[tuple[int, int]]:
    """Where the picture is after each step."""
    sides = (zip(*ends, strict=True) for ends in pairwise(_CORNERS))
    return [
        (x0 + (x1 - x0) * step // _STEPS, y0 + (y1 - y0) * step // _STEPS)
        for (x0, x1), (y0, y1) in sides
        for step in range(1, _STEPS + 1)
    ]


def _light(pictures: NDArray[np.uint8], dx: int, dy: int) -> NDArray[np.int64]:
    """What the sensor's pixels see, in units of 1 / _PART^2 of a value: (N,SENSOR,SENSOR), linear between pixels."""
    rows, columns = (_weights(size, shift) for size, shift in zip(pictures.shape[1:], (dy, dx), strict=True))
    seen = rows @ pictures.astype(np.float64) @ columns.T  # whole numbers below 2^53, which float64 adds exactly
    return seen.astype(np.int64)


def _weights(size: int, shift: int) -> NDArray[np.float64]:
    """(SENSOR,size): the share of each pixel of a line in what each of the sensor's sees, in units of 1 / _PART."""
    middle = (size - 1) * _PART // 2
    at = 8 * np.arange(SENSOR) - 4 * (SENSOR - 1) + middle - shift
    apart = np.abs(at[:, None] - _PART * np.arange(size))
    weights: NDArray[np.float64] = np.maximum(_PART - apart, 0).astype(np.float64)
    return weights


def _sent(steps: NDArray[np.int64], step: int) -> tuple[NDArray[np.int64], ...]:
    """Signed numbers of events (N,SENSOR,SENSOR) of one step -> image, t, y, x, p of each, evenly over its time."""
    where = np.nonzero(steps)
    count = np.abs(steps[where])
    image, y, x = (np.repeat(axis, count) for axis in where)
    first = np.repeat(count.cumsum() - count, count)
    number, total = np.arange(len(image)) - first + 1, np.repeat(count, count)
    t = step * _STEP + number * _STEP // (total + 1)
    return image, t, y, x, np.repeat((steps[where] > 0).astype(np.int64), count)


def _noise(keys: Tensor) -> tuple[NDArray[np.int64], ...]:
    drawn = uniform(fold(keys, "noise"), (_NOISE, 4)).to(torch.float64).numpy()
    t, y, x, p = np.moveaxis((drawn * [3 * _STEPS * _STEP, SENSOR, SENSOR, 2]).astype(np.int64), -1, 0)
    image = np.repeat(np.arange(len(keys)), _NOISE)
    return image, t.ravel(), y.ravel(), x.ravel(), p.ravel()
