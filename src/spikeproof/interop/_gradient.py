"""Where the input gradient of a foreign network ends: the module that cuts the graph, or lets only zeros through."""

from __future__ import annotations

import contextlib
import io
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._borrowing import answering, called, hooked
from spikeproof.interop.sites import AllSteps, Heights, OneStep
from spikeproof.tensors import exact, image_keys
from spikeproof.types import Rule
from spikeproof.victims.victim import Victim

__all__ = ["gradient_of", "unfinite"]

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
    module, where there is no gradient, it is not finite or 0 for every image, or the backward raises.
    """
    x, calls, loss = _forward(victim, images, exact)
    wanted = [x, *(t for call in calls for t in (*call.given, *call.returned))]
    slopes = _slopes(loss, wanted, calls) if loss.requires_grad else [None] * len(wanted)
    if slopes[0] is None:
        live = {id(t) for call in calls for t in (*call.given, *call.returned)}
        got = f"a graph that is cut in {_end(calls, live)}"
        raise SpikeproofError("a gradient at the pixels", got, mend=_MEND)
    size = slopes[0].abs().flatten(1).amax(1)
    if not bool(torch.isfinite(size).all()):
        where = _overflowing(calls, wanted, slopes)
        mend = f"the slope in {where} is NaN or infinite: another surrogate, or no root, logarithm or division by 0"
        raise SpikeproofError("a finite gradient at the pixels", f"NaN or infinity from {where}", mend=mend)
    if not bool(size.any()):
        pairs = zip(wanted, slopes, strict=True)
        # Seen from the logits: what has a gradient lies behind the place that kills it.
        dead = {id(t) for t, g in pairs if g is None or not bool(g.any())}
        got = f"exactly 0 for every image: it ends in {_end(calls, dead)}"
        raise SpikeproofError("a gradient at the pixels", got, mend=_MEND)
    none = int((size == 0).sum())
    return f"reaches the pixels, up to {float(size.max()):.2g}; exactly 0 for {none} of {len(images)} images"


def unfinite(victim: Victim, images: Tensor, rule: Rule) -> str:
    """The module in which a gradient at images (B,C,H,W) under a rule becomes NaN or infinite; '' where none does."""
    x, calls, loss = _forward(victim, images, rule)
    wanted = [x, *(t for call in calls for t in (*call.given, *call.returned))]
    if not loss.requires_grad:
        return ""
    slopes = _slopes(loss, wanted, calls)
    return "" if slopes[0] is None or bool(torch.isfinite(slopes[0]).all()) else _overflowing(calls, wanted, slopes)


def _forward(victim: Victim, images: Tensor, rule: Rule) -> tuple[Tensor, list[_Call], Tensor]:
    """Pixels with a gradient, the calls of modules, inner before outer, and the sum that is differentiated."""
    network = victim.body.get_submodule("network")
    calls: list[_Call] = []

    def seen(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        where = repr(module.name) if isinstance(module, AllSteps | OneStep | Heights) else called(name, module)
        calls.append(_Call(name, where, _live(inputs), _live(output)))

    keys = image_keys(0, torch.arange(len(images))).to(images.device)
    x = images.detach().clone().requires_grad_()
    able = answering(network, "a forward that can be differentiated", "call it by hand on x.requires_grad_()")
    with able, torch.enable_grad(), hooked(network, seen), contextlib.redirect_stdout(io.StringIO()):
        logits = victim(x, rule, keys)
        loss = (logits @ torch.linspace(-1.0, 1.0, logits.shape[1]).to(logits)).sum()  # saturates nowhere
    return x, calls, loss


def _slopes(loss: Tensor, wanted: list[Tensor], calls: list[_Call]) -> list[Tensor | None]:
    """Gradients of all that is wanted; SpikeproofError, with the name of the module, where a backward raises."""
    try:
        return list(torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # it is the network's
        got = f"{type(error).__name__} in {_raising(loss, calls)}: {str(error).strip().partition(chr(10))[0]}"
        mend = "call loss.backward() by hand on x.requires_grad_(): its own backward must run"
        raise SpikeproofError("a backward that runs", got, mend=mend) from error


def _raising(loss: Tensor, calls: list[_Call]) -> str:
    """The innermost module through which a backward does not come, looked for from the logits."""

    def passes(tensors: list[Tensor]) -> bool:
        try:
            torch.autograd.grad(loss, tensors, allow_unused=True, retain_graph=True)
        except Exception:
            return False
        return True

    found = [c for c in calls if c.given and c.returned and passes(c.returned) and not passes(c.given)]
    return _innermost(found)


def _overflowing(calls: list[_Call], wanted: list[Tensor], slopes: list[Tensor | None]) -> str:
    """The innermost module that gets a finite gradient and gives others, looked for from the logits.

    One will do: a neuron that returns its membrane beside its spikes gets, at the membrane, what its spikes have made.
    """
    sound = {id(t): bool(torch.isfinite(g).all()) for t, g in zip(wanted, slopes, strict=True) if g is not None}
    found = [c for c in calls if any(sound.get(id(t), False) for t in c.returned)
             and not all(sound.get(id(t), True) for t in c.given)]  # fmt: skip
    return _innermost(found)


def _innermost(found: list[_Call]) -> str:
    """Of modules in one another the inner one, the last that was called."""
    names = {c.name for c in found}
    around = {outer for outer in names if any(o != outer and o.startswith(f"{outer}." if outer else "") for o in names)}
    inner = [c for c in found if c.name not in around]
    return inner[-1].where if inner else "the model's own forward"


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
