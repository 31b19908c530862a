"""The owner's own object, called the owner's way: what every copy of it is held against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import UsageError
from spikeproof.interop._borrowing import answering
from spikeproof.interop._foreign import Asked, Readout
from spikeproof.interop._layout import Layout
from spikeproof.interop.frameworks import frameworks_of
from spikeproof.tensors import exact, image_keys
from spikeproof.types import Encoder
from spikeproof.victims.victim import Victim

__all__ = ["answers_of", "module_of", "registered"]


def module_of(model: object) -> nn.Module:
    """A network as a module: itself, what a compiled one was made of, or a callable that can only be asked.

    Raises UsageError for what cannot be called, and for a class in the place of a network.
    """
    if isinstance(model, nn.Module):
        return _uncompiled(model)
    if isinstance(model, type):
        raise UsageError("a network", f"the class {model.__name__}", mend=f"{model.__name__}(), with its weights")
    if not callable(model):
        raise UsageError("a network, an nn.Module or a callable", type(model).__name__,
                         mend="the module itself; weights from a file come into it by spikeproof.load")  # fmt: skip
    return Asked(model).eval()


def _uncompiled(model: nn.Module) -> nn.Module:
    """torch.compile's wrapper runs other kernels, which round otherwise; the module inside is the network."""
    inside = model._modules["_orig_mod"] if type(model).__name__ == "OptimizedModule" else None
    return model if inside is None else _uncompiled(inside)


def registered(model: nn.Module) -> list[Any]:
    """Modules of other networks that a framework's reset would reach from this one."""
    return [held for framework in frameworks_of(model) for registry in framework.registries() for held in registry]


@torch.no_grad()
def answers_of(
    network: nn.Module, layout: Layout, images: Tensor, encoder: Encoder, readout: Readout | None, count: int
) -> list[Tensor]:
    """The network's own logits on images (B,*), on their negatives, and on the images again: the first `count`.

    It is called itself, from the rest of its framework, with what the framework has registered as it is; the caller
    puts it back.
    """
    body = layout.body(network, readout, images.shape[-3], rewired=False)
    body.alone = False
    victim = Victim(body, encoder, layout.steps or 1)
    keys = image_keys(0, torch.arange(len(images))).to(images.device)
    found: list[Tensor] = []
    with answering(network, f"a model that can be called on images {tuple(images.shape)}", _BY_HAND):
        for given in (images, 1.0 - images, images)[:count]:
            found.append(victim(given.clone(), exact, keys))
    return found


_BY_HAND = "call it by hand in eval mode"
