"""Blocks of an image: their edges, and which number is in which."""

from __future__ import annotations

import torch

from spikeproof.attacks._grid import Grid, sides


def test_blocks_halve_from_a_share_of_the_shorter_side() -> None:
    for share, shape, expected in (
        (0.125, (1, 8, 8), [1]),
        (0.125, (3, 32, 48), [4, 2, 1]),
        (0.125, (3, 224, 224), [28, 14, 7, 3, 1]),
        (0.5, (1, 8, 8), [4, 2, 1]),
        (1.0, (12,), [1]),
    ):
        assert sides(share, torch.zeros(2, *shape)) == expected


def test_a_block_is_a_square_of_one_channel_and_the_last_is_cut_short() -> None:
    grid = Grid(torch.zeros(2, 2, 5, 4), 3)
    assert (grid.count, grid.size.tolist()) == (8, [9, 3, 6, 2] * 2)
    expected = [[4 * c + 2 * (row // 3) + column // 3 for row in range(5) for column in range(4)] for c in range(2)]
    assert grid.of.view(2, 20).tolist() == expected
    values = torch.arange(16).view(2, 8)
    assert torch.equal(grid.spread(values), values[:, grid.of])
    assert Grid(torch.zeros(2, 7), 2).size.tolist() == [2, 2, 2, 1]
