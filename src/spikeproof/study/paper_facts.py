"""Three facts about the paper's network that decide what its sparsity can mean, reproduced by one command.

1. At initialisation a max pool leaves most of its input's gradient at exactly zero, and yet no zero reaches the image;
   with an average pool there is no zero anywhere.
2. Training does not change that: after some steps the image's exact-zero share is still nothing, in either batch-norm.
3. Many weights of these networks on 32x32 images can never get a gradient: their taps only ever see padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from spikeproof.data import Images, balanced
from spikeproof.data.digits import Digits
from spikeproof.data.image_folder import ImageFolder
from spikeproof.errors import UsageError
from spikeproof.measures.gradients import gradient_rows, weight_rows
from spikeproof.rules.atan import ATan
from spikeproof.study.config import cell_from
from spikeproof.study.run import Machine, build_victim
from spikeproof.tensors import fold, image_keys
from spikeproof.victims.victim import Victim

__all__ = ["findings"]

_BATCH = 16
_PLACES = (("image", "input"), ("encoded", "input"), ("bn1", "output"), ("maxpool", "input"))


def _images(folder: Path | None, steps: int) -> Images:
    """32x32 images in three channels, enough for `steps` batches where the data has so many."""
    if folder is not None:
        whole = ImageFolder(root=str(folder)).load("train")
        index = balanced(whole.labels, whole.ids, min(len(whole), steps * _BATCH), purpose="findings")
        images = whole.take(index)
        if images.pixels.shape[1:] != (3, 32, 32):
            raise UsageError("32x32 images in three channels", tuple(images.pixels.shape[1:]))
        return images
    digits = Digits().load("train")
    pixels = digits.pixels.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1).contiguous()
    return Images(pixels, digits.scale, digits.labels, digits.ids, digits.classes, "digits, enlarged to 32x32")


def _victim(pool: str, depth: int, classes: int, seed: int) -> Victim:
    model = {"name": "sew_resnet", "depth": depth, "pool": pool, "connect": "ADD", "stem": "imagenet"}
    return build_victim(cell_from({"model": model, "seed": seed}), 3, classes).eval()


def _batches(images: Images, steps: int, seed: int) -> Iterator[Any]:
    """Batches in a keyed order, over and over."""
    for step in range(steps):
        epoch, position = divmod(step * _BATCH, len(images) - _BATCH + 1)
        order = torch.argsort(fold(image_keys(seed, images.ids), f"findings {epoch}"), stable=True)
        yield images.at(order[position : position + _BATCH])


def _train(victim: Victim, images: Images, steps: int, seed: int, machine: Machine) -> None:
    """The paper's recipe: Adam 1e-3, weight decay 1e-3, batch 16."""
    optimiser = torch.optim.Adam(victim.parameters(), lr=1e-3, weight_decay=1e-3)
    victim.train()
    for x, y, ids in tqdm(_batches(images, steps, seed), total=steps, desc="train", disable=not machine.progress):
        logits = victim(x.to(machine.torch), ATan(), image_keys(seed, ids).to(machine.torch))
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits, y.to(machine.torch)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    victim.eval()


def _zero_shares(victim: Victim, batch: Any, seed: int, batchnorm: Any) -> list[str]:
    """Exact-zero share per place over images and time steps, as hooks on whole tensors would see it."""
    x, y, ids = batch
    rows = list(gradient_rows(victim, x, y, ids, rule=ATan(), seed=seed, scalars=("ce",), batchnorm=batchnorm))
    shares = []
    for place in _PLACES:
        here = [row for row in rows if (row["site"], row["side"]) == place]
        per_step = [row["steps"]["zero_share"] if "steps" in row else [row["summed"]["zero_share"]] for row in here]
        shares.append(fmean(share for row in per_step for share in row if share is not None))
    return [f"{100 * share:.2f} %" for share in shares]


def _dead(depth: int, classes: int, batch: Any, seed: int) -> float:
    x, y, ids = (v[:1].cpu() for v in batch)
    victim = _victim("max", depth, classes, seed)
    return float(next(iter(weight_rows(victim, x, y, ids, rule=ATan(), seed=seed)))["masked_share"])


def findings(folder: Path | None, steps: int, seed: int, machine: Machine) -> str:
    """Markdown: zero shares before and after `steps` training steps for both pools, and the dead weights by depth."""
    images = _images(folder, steps)
    classes = len(images.classes)
    (batch,) = _batches(images, 1, seed)
    batch = tuple(v.to(machine.torch) for v in batch)
    lines = [
        f"SEW-ResNet-18 (ImageNet stem, ADD), IF, ATan 2, weighted phase code, T = 10; {images.name}, "
        f"{_BATCH} images, seed {seed}. Share of exact zeros in the gradient of the cross-entropy:",
        "",
        "| pool | training steps | batch-norm | image | encoded input | stem batch-norm's output | pool's input |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for pool in ("max", "avg"):
        victim = _victim(pool, 18, classes, seed).to(machine.torch)
        for trained in (0, steps):
            if trained:
                _train(victim, images, steps, seed, machine)
            for mode in ("train", "eval"):
                cells = " | ".join(_zero_shares(victim, batch, seed, mode))
                lines.append(f"| {pool} | {trained} | {mode} | {cells} |")
    lines += ["", "Share of all parameters whose taps only ever see padding (32x32 images):", ""]
    lines += ["| network | dead |", "| --- | --- |"]
    lines += [f"| SEW-ResNet-{depth} | {100 * _dead(depth, classes, batch, seed):.1f} % |" for depth in (18, 34, 50)]
    return "\n".join(lines)
