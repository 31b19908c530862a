"""How many images one pass may hold, from the memory that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeproof.rules.atan import ATan
from spikeproof.victim import Victim

__all__ = ["available", "images_that_fit"]

_SHARE = 0.5
"""Of the memory that is there, so that what else runs has room."""

_BESIDE = 3.0
"""What a pass holds at its peak, in units of what it saves for the backward: gradients and buffers come beside that."""

_PLENTY = 1000
"""No network here saves so many times its encoded input: below this nothing need be measured."""


def available(device: torch.device) -> int:
    """Bytes that may be taken now; where the system does not say, as if there were no end."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**62


def images_that_fit(victim: Victim, x: Tensor, keys: Tensor) -> int:
    """How many of the images x (B,*) a forward and backward may hold at once: 1..B.

    Measured on one image where there is any doubt: what autograd saves, times what a peak holds beside it.
    """
    room = _SHARE * available(x.device)
    encoded = x.numel() * victim.steps * x.element_size()
    if encoded * _PLENTY <= room or len(x) == 1:
        return len(x)
    saved: dict[int, int] = {}

    def weigh(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
        victim(x[:1].detach().clone().requires_grad_(), ATan(), keys[:1])
    weights = {t.untyped_storage().data_ptr() for t in (*victim.parameters(), *victim.buffers())}
    one = sum(size for place, size in saved.items() if place not in weights)
    return max(1, min(len(x), int(room / (_BESIDE * max(one, 1)))))
