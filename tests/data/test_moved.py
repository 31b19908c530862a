"""Moved images against a plain twin that copies pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikeproof.data import Images


def plainly(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    made = torch.zeros_like(x)
    height, width = x.shape[-2:]
    for image in range(len(x)):
        for row in range(height):
            for column in range(width):
                to = row + int(down[image]), column + int(right[image])
                if 0 <= to[0] < height and 0 <= to[1] < width:
                    made[image, ..., to[0], to[1]] = x[image, ..., row, column]
    return made


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 5, 4), (3, 2, 4, 4)])
def test_images_and_grids_move_as_a_plain_twin_moves_them(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    ways = torch.cartesian_prod(torch.arange(-5, 6), torch.arange(-5, 6))
    x = torch.rand((len(ways), *shape), generator=generator) + 0.1
    found = Images.moved(x, ways[:, 0], ways[:, 1])
    assert torch.equal(found, plainly(x, ways[:, 0], ways[:, 1]))
    assert found[(ways == 0).all(1)].equal(x[(ways == 0).all(1)])
    assert not found[ways.abs().amax(1) == 5].flatten(1).any(), "nothing is left of what moved by its side or more"
