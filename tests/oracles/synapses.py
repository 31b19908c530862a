"""Synaptic operations by walking over every connection of a layer, one at a time."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["convolution", "linear", "support"]

Map = list[list[list[float]]]
"""Channel, row, column."""


def _meetings(
    inputs: Map, weights: list[Map], stride: int, padding: int
) -> Iterator[tuple[float, float, tuple[int, int, int, int], tuple[int, int, int]]]:
    """(input, weight, index of the weight, index of the output) of every connection that is not to padding."""
    height, width = len(inputs[0]), len(inputs[0][0])
    kernel = len(weights[0][0])
    for o, of_output in enumerate(weights):
        for i in range((height + 2 * padding - kernel) // stride + 1):
            for j in range((width + 2 * padding - kernel) // stride + 1):
                for c, plane in enumerate(of_output):
                    for a, row in enumerate(plane):
                        for b, weight in enumerate(row):
                            y, x = i * stride + a - padding, j * stride + b - padding
                            if 0 <= y < height and 0 <= x < width:
                                yield inputs[c][y][x], weight, (o, c, a, b), (o, i, j)


def convolution(inputs: Map, weights: list[Map], stride: int, padding: int) -> tuple[int, int, int]:
    """Effective ACs, effective MACs and dense operations of one step."""
    effective = dense = 0
    for value, weight, _, _ in _meetings(inputs, weights, stride, padding):
        dense += 1
        effective += value != 0 and weight != 0
    spiking = all(value in (-1, 0, 1) for plane in inputs for row in plane for value in row)
    return (effective, 0, dense) if spiking else (0, effective, dense)


def linear(inputs: list[float], weights: list[list[float]]) -> tuple[int, int, int]:
    """The same of a linear layer, a convolution over one pixel."""
    pixels = [[[value]] for value in inputs]
    return convolution(pixels, [[[[w]] for w in row] for row in weights], 1, 0)


def support(
    inputs: list[Map], delta: list[Map], shape: tuple[int, int, int], stride: int, padding: int
) -> tuple[set[tuple[int, int, int, int]], int]:
    """Weights (O,C,K,K) that ever have a non-zero input and a non-zero delta at once, over the steps; and how often."""
    outputs, channels, kernel = shape
    ones = [[[[1.0] * kernel] * kernel] * channels] * outputs
    met: set[tuple[int, int, int, int]] = set()
    count = 0
    for step, gradient in zip(inputs, delta, strict=True):
        for value, _, weight, (o, i, j) in _meetings(step, ones, stride, padding):
            if value != 0 and gradient[o][i][j] != 0:
                met.add(weight)
                count += 1
    return met, count
