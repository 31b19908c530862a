"""Spikes that a network makes by code of its own: where a rule decides their gradient, and nothing else of them.

The network's own code runs, so that its forward is its own to the last bit; so do its loop over time and its reset,
through which gradients pass or not as its owner wrote it. What a rule gives is the slope of the spike: a hook puts it
in the place of what the owner's backward returns for the membrane; in a straight-through term it is grafted.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._doors import Kind, watched
from spikeproof.interop._step import Step
from spikeproof.interop._terms import Swap, Term
from spikeproof.interop.sites import Apart, Own, Switch
from spikeproof.tensors import graft, heaviside
from spikeproof.types import Rule

__all__ = ["Fires", "OwnSpikes", "Spot", "spot"]


@dataclass(frozen=True)
class Spot:
    """One function of the network's own that makes spikes: the step that it makes, and the site that asks the rule.

    of_images: whether an image's membranes are a row of what it is given, (B,*).
    """

    step: Step
    site: Apart
    of_images: bool

    def grafted(self, args: tuple[Any, ...], out: Tensor) -> Tensor:
        """What the function gave, (B,*), with the gradient of the rule of this call; as it is where that is its own."""
        swing, spikes = self.step.swing(args), self.site.decide(self.step.height(args)[None])
        if spikes is None:
            return out
        return graft(out, spikes * (swing.detach() if isinstance(swing, Tensor) else swing))


def spot(
    name: str, step: Step, switch: Switch, own: Callable[[Tensor], Tensor] = heaviside, *, of_images: bool
) -> Spot:
    """own: the owner's spikes (n,) in {0, 1} of heights (n,), with its gradient, where that can be had alone."""
    # What passes through the reset is the owner's: a rule that would have it otherwise is taken all the same.
    site = Apart(name, own, switch, strict=step.strict, detach_reset=True, either=True)
    return Spot(step, site, of_images)


@dataclass
class OwnSpikes:
    """All of a network: classes of `autograd.Function`, and straight-through terms, of which `count` come in a call."""

    switch: Switch
    functions: dict[Kind, Spot] = field(default_factory=dict)
    terms: dict[Term, Spot] = field(default_factory=dict)
    count: int = 0

    def spots(self) -> list[Spot]:
        return [*self.functions.values(), *self.terms.values()]

    @contextlib.contextmanager
    def asking(self, rule: Rule) -> Iterator[None]:
        """The rule of a call decides their gradient, unless it is their own or there is none.

        Raises SpikeproofError for spikes that are not what they were when they were found.
        """
        if not self.spots() or isinstance(rule, Own) or not torch.is_grad_enabled():
            yield
            return
        call = _Call(self)
        swap = Swap(lambda: self.switch.aside, self.terms, call.term) if self.terms else contextlib.nullcontext()
        with watched(self.functions, call.function), swap:
            yield
        call.examine()
        if isinstance(swap, Swap) and self.count not in (0, swap.met):
            raise _changed("straight-through terms", f"{swap.met} of {self.count} of them in one call")


class _Call:
    """What is met in one call."""

    def __init__(self, own: OwnSpikes) -> None:
        self.own = own
        self.fits: dict[str, Tensor] = {}

    def examine(self) -> None:
        missed = [spot.site.name for spot in self.own.functions.values() if spot.site.name not in self.fits]
        if missed:
            raise _changed(missed[0], "no call of it from the thread that called the network")
        for name, fit in self.fits.items():
            if not bool(fit):
                raise _changed(name, "other ones")

    def _hold(self, spot: Spot, args: tuple[Any, ...], out: Tensor) -> None:
        name, fits = spot.site.name, spot.step.fits(args, out)
        self.fits[name] = self.fits[name] & fits if name in self.fits else fits

    def function(self, kind: Kind, context: Any, args: tuple[Any, ...], out: Any) -> None:
        """Told inside the owner's forward: hooks its node, which has no gradient to give yet."""
        spot, switch = self.own.functions[kind], self.own.switch
        if switch.aside:
            return
        with switch.apart():
            held = tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in args)
            self._hold(spot, held, out)
            if not context.needs_input_grad[spot.step.membrane]:
                return
            with torch.enable_grad():
                # A leaf: what comes of it is beside the network's graph.
                height = spot.step.height(held)[None].requires_grad_()
                spikes = spot.site.decide(height)
            if spikes is not None:
                _Hook(spot.step, held, height, spikes).on(context, args)

    def term(self, term: Term, sides: tuple[Any, ...], total: Tensor) -> Tensor:
        """Told of a sum, whose value it keeps."""
        spot = self.own.terms[term]
        with self.own.switch.apart():
            self._hold(spot, sides, total)
            return spot.grafted(sides, total)


class _Hook:
    """Puts a rule's gradient in the place of an owner's, at one node of a graph."""

    def __init__(self, step: Step, args: tuple[Any, ...], height: Tensor, spikes: Tensor) -> None:
        self.step, self.args, self.height, self.spikes = step, args, height, spikes
        self.found: list[Tensor | None] = []

    def on(self, context: Any, args: tuple[Any, ...]) -> None:
        numbers = [number for number, arg in enumerate(args) if isinstance(arg, Tensor)]
        membrane = numbers.index(self.step.membrane)
        level = numbers.index(self.step.source) if self.step.source in numbers else None

        def after(inputs: tuple[Tensor | None, ...], outputs: Any) -> tuple[Tensor | None, ...]:
            gradient, given = self.found.pop(), list(inputs)
            if gradient is not None and given[membrane] is not None:
                given[membrane] = gradient
            if gradient is not None and level is not None and (theirs := given[level]) is not None:
                given[level] = -gradient.sum_to_size(theirs.shape)
            return tuple(given)

        # Before the owner's backward, which may write into what it is given.
        context.register_prehook(self.before)
        context.register_hook(after)

    def before(self, outputs: tuple[Tensor | None, ...]) -> None:
        upstream = outputs[0]
        if upstream is None:
            self.found.append(None)
        elif not self.spikes.requires_grad:  # under a rule without a gradient
            self.found.append(torch.zeros_like(self.height[0]))
        else:
            with torch.enable_grad():
                total = (self.spikes * (upstream * self.step.swing(self.args)).detach()).sum()
            (found,) = torch.autograd.grad(total, self.height, retain_graph=True, allow_unused=True)
            self.found.append(torch.zeros_like(self.height[0]) if found is None else found[0])


class Fires:
    """The forward of a module that its owner says makes spikes of one of its arguments."""

    def __init__(self, module: nn.Module, spot: Spot) -> None:
        self.module, self.spot = module, spot
        self.signature = inspect.signature(type(module).forward)

    def __call__(self, *args: Any, **options: Any) -> Any:
        given = self.signature.bind(self.module, *args, **options).args
        switch = self.spot.site.switch
        live = torch.is_grad_enabled() and given[1:][self.spot.step.membrane].requires_grad
        if switch.rule is None or isinstance(switch.rule, Own) or not live:
            return type(self.module).forward(*given)
        with switch.apart():
            out: Tensor = type(self.module).forward(*given)
            if not bool(self.spot.step.fits(given[1:], out)):
                raise _changed(self.spot.site.name, "other ones")
            return self.spot.grafted(given[1:], out)


def _changed(name: str, got: str) -> SpikeproofError:
    return SpikeproofError(
        f"the spikes of {name!r} that were found when the network was wrapped", got,
        mend="wrap it again after its thresholds were changed; no parallel threads inside it",
    )  # fmt: skip
