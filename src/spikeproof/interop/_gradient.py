"""Where the input gradient of a foreign network ends: the module that cuts the graph, or lets only zeros through."""

from __future__ import annotations

import contextlib
import io
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._borrowing import answering, called, hooked
from spikeproof.tensors import exact, image_keys
from spikeproof.victims.victim import Victim

__all__ = ["gradient_of"]

_MEND = (
    "take the encoder out of the network and give it to wrap: encoder=Direct(), Phase(), Poisson() or Latency() have a "
    "gradient; elsewhere use a spike function with a surrogate, and no detach, round, sign or numpy"
)


class _Call(NamedTuple):
    name: str
    where: str
    given: list[Tensor]
    returned: list[Tensor]


def gradient_of(victim: Victim, images: Tensor) -> str:
    """What there is to say of the gradient of a fixed sum of logits at images (B,C,H,W), by the network's own backward.

    victim: borrowed, so that whatever has a graph has it from the pixels. Raises SpikeproofError, with the name of the
    module, where there is no gradient, or it is 0 for every image.
    """
    network = victim.body.get_submodule("network")
    calls: list[_Call] = []

    def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        calls.append(_Call(name, called(name, module), _live(inputs), _live(output)))

    keys = image_keys(0, torch.arange(len(images))).to(images.device)
    x = images.detach().clone().requires_grad_()
    able = answering(network, "a forward that can be differentiated", "call it by hand on x.requires_grad_()")
    with able, torch.enable_grad(), hooked(network, seen), contextlib.redirect_stdout(io.StringIO()):
        logits = victim(x, exact, keys)
        loss = (logits @ torch.linspace(-1.0, 1.0, logits.shape[1]).to(logits)).sum()  # saturates nowhere
    wanted = [x, *(t for call in calls for t in (*call.given, *call.returned))]
    slopes = torch.autograd.grad(loss, wanted, allow_unused=True) if loss.requires_grad else [None] * len(wanted)
    if slopes[0] is None:
        live = {id(t) for call in calls for t in (*call.given, *call.returned)}
        got = f"a graph that is cut in {_end(calls, live)}"
        raise SpikeproofError("a gradient at the pixels", got, mend=_MEND)
    size = slopes[0].abs().flatten(1).amax(1)
    if not bool(torch.isfinite(size).all()):
        raise SpikeproofError("a finite gradient at the pixels", "NaN or infinity", mend="look at the weights")
    if not bool(size.any()):
        pairs = zip(wanted, slopes, strict=True)
        # Seen from the logits: what has a gradient lies behind the place that kills it.
        dead = {id(t) for t, g in pairs if g is None or not bool(g.any())}
        got = f"exactly 0 for every image: it ends in {_end(calls, dead)}"
        raise SpikeproofError("a gradient at the pixels", got, mend=_MEND)
    none = int((size == 0).sum())
    return f"reaches the pixels, up to {float(size.max()):.2g}; exactly 0 for {none} of {len(images)} images"


def _live(value: Any) -> list[Tensor]:
    """Tensors with a graph in what a module takes or returns, also in tuples and lists."""
    if isinstance(value, Tensor):
        return [value] if value.requires_grad else []
    return [t for one in value for t in _live(one)] if isinstance(value, tuple | list) else []


def _end(calls: list[_Call], before: set[int]) -> str:
    """Where tensors of `before` go in and none comes out; inner calls are recorded before outer ones."""

    def any_of(tensors: list[Tensor]) -> bool:
        return any(id(t) in before for t in tensors)

    for number, call in enumerate(calls):
        if any_of(call.given) and not any_of(call.returned):
            inner = [c for c in calls[:number] if c.name.startswith(f"{call.name}." if call.name else "")]
            after = next((c for c in inner if not any_of(c.given)), None)
            return f"the forward of {call.where}, before {after.where}" if after else call.where
    return "the model's own forward"
