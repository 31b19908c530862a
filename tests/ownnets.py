"""Networks of somebody's own, for cells of them: as files that a user could have, with weights that are worked out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeproof.data.digits import Digits

__all__ = ["MODULE", "means", "written"]

MODULE = "nets_of_somebody"

_NETS = '''"""What a user has."""

import torch
from torch import nn

from helpers_of_somebody import Nearest


def make():
    return Nearest()


def two_steps():
    """Takes one step a call, and adds."""
    return Nearest(memory=True)


def drawn():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def ask():
    network = Nearest().eval()
    return lambda x: network(x)


def three():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def needs(width):
    return Nearest()


def fails():
    raise KeyError("no such layer")


def first(returned):
    return returned


number = 3
'''

_HELPERS = '''from torch import nn


class Nearest(nn.Module):
    """The digit whose mean image is nearest; a layer that training has left out, and dropout, which must sleep."""

    def __init__(self, memory=False):
        super().__init__()
        self.linear, self.auxiliary, self.drop = nn.Linear(64, 10), nn.Linear(64, 2), nn.Dropout(0.9)

    def forward(self, x):
        return self.linear(self.drop(x.flatten(1)))
'''


def means() -> dict[str, Tensor]:
    """The weights of the nearest mean of the training digits: 2 mu . x - |mu|^2, largest where |x - mu| is least."""
    x, y, _ = Digits().load("train").at(torch.arange(1438))
    mu = torch.stack([x[y == digit].flatten(1).mean(0) for digit in range(10)])
    return {
        "linear.weight": 2.0 * mu, "linear.bias": -mu.square().sum(1),
        "auxiliary.weight": torch.zeros(2, 64), "auxiliary.bias": torch.zeros(2),
    }  # fmt: skip


def written(folder: Path, **more: Any) -> Path:
    """A folder with the modules and `means.pt`; more: of other tensors in that file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{MODULE}.py").write_text(_NETS, encoding="utf-8")
    (folder / "helpers_of_somebody.py").write_text(_HELPERS, encoding="utf-8")
    torch.save({**means(), **more}, folder / "means.pt")
    return folder
