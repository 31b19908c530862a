"""Which weights of a convolution only ever meet padding, by walking over the outputs; and a ResNet's layers by hand.

With the ImageNet stem (7x7 stride 2, then 3x3 pooling stride 2) a 32x32 image is 16x16, then 8x8; the four stages work
on 8x8, 4x4, 2x2 and 1x1 maps. On a 1x1 map 8 of 9 taps of a 3x3 kernel see padding alone.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Conv", "Count", "count", "live_taps", "output_size", "resnet"]

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


class Conv(NamedTuple):
    """A square convolution without bias, on a square input of `size` pixels a side; a batch-norm follows it."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    size: int


class Count(NamedTuple):
    """Weights: never reached by any gradient; in convolutions; in batch-norms (scale and shift); in the last layer."""

    dead: int
    conv: int
    norm: int
    linear: int

    @property
    def total(self) -> int:
        return self.conv + self.norm + self.linear


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Outputs a side: every window that fits into the padded input."""
    return len([start for start in range(0, size + 2 * padding, stride) if start + kernel <= size + 2 * padding])


def live_taps(size: int, kernel: int, stride: int, padding: int) -> set[tuple[int, int]]:
    """The (row, column) taps that meet a real pixel at one output at least."""
    live = set()
    outputs = range(output_size(size, kernel, stride, padding))
    for i in outputs:
        for j in outputs:
            for row in range(kernel):
                for column in range(kernel):
                    y, x = i * stride + row - padding, j * stride + column - padding
                    if 0 <= y < size and 0 <= x < size:
                        live.add((row, column))
    return live


def _block(depth: int, name: str, inputs: int, width: int, stride: int, size: int) -> tuple[list[Conv], int]:
    """The convolutions of one residual block, and its output channels. The 3x3 convolution carries the stride."""
    small = output_size(size, 3, stride, 1)
    if depth == 50:
        outputs = 4 * width
        convs = [
            Conv(f"{name}.conv1", inputs, width, 1, 1, 0, size),
            Conv(f"{name}.conv2", width, width, 3, stride, 1, size),
            Conv(f"{name}.conv3", width, outputs, 1, 1, 0, small),
        ]
    else:
        outputs = width
        convs = [
            Conv(f"{name}.conv1", inputs, width, 3, stride, 1, size),
            Conv(f"{name}.conv2", width, width, 3, 1, 1, small),
        ]
    if stride != 1 or inputs != outputs:
        convs.append(Conv(f"{name}.shortcut", inputs, outputs, 1, stride, 0, size))
    return convs, outputs


def resnet(depth: int, size: int = 32) -> tuple[list[Conv], int]:
    """All convolutions of ResNet-18, -34 or -50 with the ImageNet stem on size x size RGB, and its feature count."""
    convs = [Conv("stem", 3, 64, 7, 2, 3, size)]
    size = output_size(output_size(size, 7, 2, 3), 3, 2, 1)
    channels = 64
    for stage, (blocks, width) in enumerate(zip(STAGES[depth], WIDTHS, strict=True), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            added, channels = _block(depth, f"stage{stage}.{block}", channels, width, stride, size)
            convs += added
            size = output_size(size, 3, stride, 1)
    return convs, channels


def count(depth: int, size: int = 32, classes: int = 10) -> Count:
    """Parameters of the network, and how many of them can never get a gradient (dead taps x channel pairs)."""
    convs, features = resnet(depth, size)
    dead = conv = norm = 0
    for layer in convs:
        pairs = layer.inputs * layer.outputs
        conv += pairs * layer.kernel**2
        dead += pairs * (layer.kernel**2 - len(live_taps(layer.size, layer.kernel, layer.stride, layer.padding)))
        norm += 2 * layer.outputs
    return Count(dead, conv, norm, features * classes + classes)
