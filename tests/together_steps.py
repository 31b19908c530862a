"""Steps of training in double precision, where no rounding flips a spike; alone or by torchrun; the first writes."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save_file
from tinycell import tiny
from torch import Tensor

from spikeproof import parts
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import cross_entropy
from spikeproof.study.config import cell_from, rule_of, training_threat
from spikeproof.study.trained import build_victim, load_images
from spikeproof.tensors import image_keys
from spikeproof.training.craft import crafter
from spikeproof.training.torchrun import joined
from spikeproof.training.train import Recipe, Step
from spikeproof.training.world import World


def steps(defence: str, world: World) -> dict[str, Tensor]:
    """Losses, gradients, and what batch-norm remembers, of two steps on batches of 7 images."""
    config = cell_from(tiny(training_attack={"name": "pgd", "steps": 2}))
    images, rule = load_images(config, "train"), rule_of(config.rule)
    victim = build_victim(config, 1, 10).double()
    optimiser = Recipe(optimiser="sgd", lr=0.1).build(list(victim.parameters()))
    attack, threat = parts.build("attacks", config.training_attack), training_threat(config.training_threat)
    craft = crafter(victim, attack, threat, WhiteBox(rule), cross_entropy)
    step = Step(victim, optimiser, parts.build("defences", {"name": defence}), rule, craft, world)
    victim.train()
    found = {}
    for number in range(2):
        whole = torch.arange(7 * number, 7 * number + 7)
        x, y, ids = images.at(world.share(whole))
        loss = step(x.double(), y, image_keys(0, ids), world.weight(whole), "a test")
        found[f"{defence}.{number}.loss"] = torch.tensor(loss, dtype=torch.float64)
        for name, value in victim.named_parameters():
            assert value.grad is not None
            found[f"{defence}.{number}.{name}"] = value.grad.clone()
        found |= {f"{defence}.{number}.{name}": value.clone() for name, value in victim.named_buffers()}
    return found


def main(path: Path) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as (world, _):
        found = {name: value for defence in ("adversarial", "trades") for name, value in steps(defence, world).items()}
        if world.writes:
            save_file(found, path)
    # Threads of the group that outlive it may end the process with an error while Python closes.
    end = time.monotonic() + 10
    while (left := gloo_threads()) and time.monotonic() < end:  # one that is joined is listed for a moment longer
        time.sleep(0.01)
    assert not left, left


def gloo_threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended meanwhile
            names.append(task.read_text(encoding="utf-8").strip())
    return [name for name in names if "gloo" in name]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
