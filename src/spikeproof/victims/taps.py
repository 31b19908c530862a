"""What passes through a network: every layer's input and output, and where the graph to the image is cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeproof.types import Neuron, Rule
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Tap", "cut_at", "live_taps", "tapped"]


@dataclass(frozen=True)
class Tap:
    """A tensor met on the way, folded to (T B,*) or (T,B,*)."""

    site: str
    side: Literal["input", "output"]
    tensor: Tensor


@contextmanager
def tapped(victim: Victim, rule: Rule) -> Iterator[tuple[Rule, list[Tap]]]:
    """Every stateless layer's and every neuron's input and output, in the order of the forward pass.

    Layers are seen by forward hooks on `victim`, which must be a borrowed copy and whose hooks are removed at the end;
    neurons by a rule around the rule.
    """
    taps: list[Tap] = []

    def watched(neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        spikes = rule(neuron, currents, site)
        if (
            currents.is_leaf and currents.requires_grad
        ):  # beside the graph of the network, whose gradients it never meets
            return spikes
        taps.extend([Tap(site, "input", currents), Tap(site, "output", spikes)])
        return spikes

    def hook(site: str) -> Any:
        def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not isinstance(output, Tensor):  # a foreign layer that returns its state beside its output
                return
            taps.extend([Tap(site, "input", inputs[0]), Tap(site, "output", output)])

        return seen

    leaves = [(name, m) for name, m in victim.body.named_modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_hook(hook(name)) for name, m in leaves]
    try:
        yield watched, taps
    finally:
        for handle in handles:
            handle.remove()


def cut_at(victim: Victim, x: Tensor, rule: Rule, keys: Tensor) -> str | None:
    """The encoder, or the first layer or neuron whose input has a gradient and whose output has none; None: no cut."""
    copy = borrowed(victim)
    with torch.enable_grad(), tapped(copy, rule) as (watched, taps):
        z = copy.encode(x.detach().requires_grad_(), keys)
        if not z.requires_grad:
            return f"the encoder {victim.encoder}"
        logits = copy.classify(z, watched)
    for before, after in zip(taps[::2], taps[1::2], strict=True):
        if before.tensor.requires_grad and not after.tensor.requires_grad:
            return f"the layer {after.site!r}"
    return None if logits.requires_grad else "the forward of the body, between its layers"


def live_taps(layer: nn.Conv2d, height: int, width: int) -> Tensor:
    """Which kernel taps (kh,kw) ever meet a pixel of a (height,width) map; the others only see padding, for ever.

    Tap i meets row o * stride - padding + i * dilation for some output row o.
    """

    def along(axis: int, size: int) -> Tensor:
        kernel, stride, dilation = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
        padding = int(layer.padding[axis])
        outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        rows = torch.arange(outputs)[:, None] * stride - padding + torch.arange(kernel) * dilation
        return ((rows >= 0) & (rows < size)).any(0)

    return along(0, height)[:, None] & along(1, width)[None, :]
