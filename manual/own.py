"""python -m manual.own FOLDER: the network of docs/howto-own-network.md, trained for a moment and evaluated.

The page of a wrapped network, for `make a11y`: FOLDER/report.html. What stands in the how-to is read and not copied.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import nn

from spikeproof.commands import main as spikeproof
from spikeproof.data.digits import Digits

HOWTO = Path(__file__).parents[1] / "docs" / "howto-own-network.md"
NAME = "my_network"


def main(arguments: list[str]) -> int:
    """Write FOLDER/report.html; returns 0 where it was written, whatever its verdict is."""
    (folder,) = map(Path, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    save_file(_trained(_module(folder)).state_dict(), weights)
    what = [f"{NAME}:make", "--weights", str(weights), "--images", "digits", "--tier", "smoke", "--eps", "0.1"]
    code = spikeproof(["evaluate", *what, "--count", "64", "--threads", "1", "--quiet", "--out", str(folder)])
    return 0 if code == 3 else code  # 3: a smoke test supports no number


def _module(folder: Path) -> ModuleType:
    """The how-to's first block, as the file that it is to be, imported from there."""
    (block,) = re.findall(rf"```python\n(# {NAME}\.py\n.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    (folder / f"{NAME}.py").write_text(block, encoding="utf-8")
    sys.path.insert(0, str(folder.resolve()))
    return __import__(NAME)


def _trained(module: ModuleType) -> nn.Module:
    """Its network after 200 steps on all training digits at once: better than chance, so that attacks break some."""
    network: nn.Module = module.make()
    data = Digits().load("train")
    images, labels, _ = data.at(torch.arange(len(data)))
    adam = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(200):
        adam.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        adam.step()
    return network.eval()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
