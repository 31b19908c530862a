"""Where the input gradient of a foreign network ends: the module that cuts the graph, or lets only zeros through."""

from __future__ import annotations

import contextlib
import io
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeproof.interop._checks import called, hooked
from spikeproof.tensors import exact, image_keys
from spikeproof.types import SpikeproofError, refusal
from spikeproof.victim import Victim

__all__ = ["gradient_of"]

_MEND = (
    "take the encoder out of the network and give it to wrap: encoder=Direct(), Phase(), Poisson() or Latency() have a "
    "gradient; elsewhere use a spike function with a surrogate, and no detach, round, sign or numpy"
)


class _Call(NamedTuple):
    where: str
    given: list[Tensor]
    found: list[Tensor]


def gradient_of(victim: Victim, images: Tensor) -> str:
    """What there is to say of the gradient of a fixed sum of logits at images (B,C,H,W), under the network's own backward.

    victim: borrowed, so that whatever has a graph has it from the pixels. Raises SpikeproofError, with the name of the module, where there is none, or it is 0 for every image.
    """
    network = victim.body.get_submodule("network")
    calls: list[_Call] = []

    def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        calls.append(_Call(called(name, module), _live(inputs), _live(output)))

    keys = image_keys(0, torch.arange(len(images))).to(images.device)
    x = images.detach().clone().requires_grad_()
    with torch.enable_grad(), hooked(network, seen), contextlib.redirect_stdout(io.StringIO()):
        logits = victim(x, exact, keys)
        loss = (logits @ torch.linspace(-1.0, 1.0, logits.shape[1]).to(logits)).sum()  # saturates nowhere
    wanted = [x, *(t for call in calls for t in (*call.given, *call.found))]
    found = torch.autograd.grad(loss, wanted, allow_unused=True) if loss.requires_grad else [None] * len(wanted)
    if found[0] is None:
        raise SpikeproofError(refusal("a gradient at the pixels", f"a graph that is cut in {_cut(calls)}", mend=_MEND))
    size = found[0].abs().flatten(1).amax(1)
    if not bool(torch.isfinite(size).all()):
        raise SpikeproofError(refusal("a finite gradient at the pixels", "NaN or infinity", mend="look at the weights"))
    if not bool(size.any()):
        alive = {id(t): g is not None and bool(g.any()) for t, g in zip(wanted, found, strict=True)}
        got = f"exactly 0 for every image: it ends in {_dead(calls, alive)}"
        raise SpikeproofError(refusal("a gradient at the pixels", got, mend=_MEND))
    none = int((size == 0).sum())
    return f"reaches the pixels, up to {float(size.max()):.2g}; exactly 0 for {none} of {len(images)} images"


def _live(value: Any) -> list[Tensor]:
    """Floating-point tensors in what a module takes or returns, first level of tuples and lists."""
    flat = value if isinstance(value, tuple | list) else [value]
    return [t for t in flat if isinstance(t, Tensor) and t.is_floating_point() and t.requires_grad]


def _cut(calls: list[_Call]) -> str:
    """Inner modules are seen before outer ones."""
    lost = (call.where for call in calls if call.given and not call.found)
    fed = (f"the forward before {call.where}" for call in calls if not call.given)
    return next(lost, None) or next(fed, "the forward after the last module")


def _dead(calls: list[_Call], alive: dict[int, bool]) -> str:
    some = [call for call in calls if any(alive[id(t)] for t in call.found)]
    kills = (call.where for call in some if not any(alive[id(t)] for t in call.given))
    first = f"the forward before {some[0].where}" if some else f"{calls[-1].where if calls else 'the model'}, saturated"
    return next(kills, first)
