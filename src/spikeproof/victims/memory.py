"""How many images one pass may hold, from the memory that is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeproof.rules.atan import ATan
from spikeproof.victims.frozen import FrozenVictim
from spikeproof.victims.victim import Victim

__all__ = ["available", "images_that_fit"]

_SHARE = 0.5
"""Of the memory that is there, so that what else runs has room."""

_BESIDE = 3.0
"""What a pass holds at its peak, in units of what it saves for the backward: gradients and buffers come beside that."""

_PLENTY = 1000
"""No network of this package saves so many times its encoded input: below this nothing need be measured. A wrapped one
may make its own time, of which its input shows nothing."""

_CGROUPS = Path("/sys/fs/cgroup")
_CGROUPS_OF_THIS_PROCESS = Path("/proc/self/cgroup")


def available(device: torch.device) -> int:
    """Bytes that may be taken now: of the device, or of the machine and of what this process's control groups (a
    container, a batch job) leave of it; where the system does not say, as if there were no end."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds it, free for use
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min(_of_the_machine(), *_of_groups(), 2**62)


def _of_the_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**62


def _of_groups() -> Iterator[int]:
    """What each group that this process is in has left, version 2 and version 1."""
    try:
        lines = _CGROUPS_OF_THIS_PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    paths = {fields[1]: fields[2] for line in lines if len(fields := line.split(":", 2)) == 3}
    for root, controllers, names in (
        (_CGROUPS, "", ("memory.max", "memory.current", "inactive_file")),
        (_CGROUPS / "memory", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ):
        # A container sees its own group as the root, whatever the path says; a limit of a parent counts too.
        group = root / paths.get(controllers, "/").lstrip("/")
        for folder in (group, *group.parents):
            if folder == root or root in folder.parents:
                yield from _left(folder, *names)


def _left(folder: Path, limit: str, used: str, cache: str) -> list[int]:
    """[bytes] of one group, [] where it has no limit. Files that are cached and not in use give way, as MemAvailable
    counts them."""
    try:
        room = int((folder / limit).read_text()) - int((folder / used).read_text())
    except (OSError, ValueError):  # the word 'max' is no limit
        return []
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        lines = []
    return [max(0, room + sum(int(line.split()[1]) for line in lines if line.startswith(f"{cache} ")))]


def images_that_fit(victim: Victim, x: Tensor, keys: Tensor) -> int:
    """How many of the images x (B,*) a forward and backward may hold at once: 1..B.

    Measured on one image where there is any doubt: what autograd saves, times what a peak holds beside it. All of them
    for a network that can only be asked, which has no backward.
    """
    if len(x) <= 1 or not victim.differentiable:
        return len(x)
    room = _SHARE * available(x.device)
    encoded = x.numel() * victim.steps * x.element_size()
    if type(victim) in (Victim, FrozenVictim) and encoded * _PLENTY <= room:
        return len(x)
    saved: dict[int, int] = {}

    def weigh(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
        # A wrapped network may refuse any other rule than its own.
        victim(x[:1].detach().clone().requires_grad_(), victim.rule or ATan(), keys[:1])
    weights = {t.untyped_storage().data_ptr() for t in (*victim.parameters(), *victim.buffers())}
    one = sum(size for place, size in saved.items() if place not in weights)
    return max(1, min(len(x), int(room / (_BESIDE * max(one, 1)))))
