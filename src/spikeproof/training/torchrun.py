"""The processes that torchrun has started, joined into a group; without torchrun this one is alone.

When one dies, torchrun ends the others, and starts all again where it was told to (--max-restarts); they go on from the
last checkpoint, as the same command does later.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from spikeproof.training.world import ALONE, World

__all__ = ["joined"]

_PATIENCE = datetime.timedelta(days=1)
"""For one process that waits for a lock, while the others wait for it; torchrun itself sees to the dead."""


@contextmanager
def joined(device: str) -> Iterator[tuple[World, str]]:
    """Inside, this process's place among those of torchrun, and its device: of several GPUs the one of its number."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        yield ALONE, device
        return
    cuda = device == "cuda"
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # What the first optimiser imports keeps a group alive that was there before it, and its threads with it, which may
    # end a process with an error while Python closes: so it is imported now.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield World(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
