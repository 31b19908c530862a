"""What stands in a foreign network where a neuron or a spike function stood: places at which a rule decides.

A foreign forward knows nothing of rules, so the rule of a call waits on a switch that all sites of a network share:
set when the call starts, gone when it ends, also by an exception. The membrane potentials of a network that makes its
own time loop wait there too; with them every call starts from rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.neurons import Stepwise
from spikeproof.rules import Surrogate
from spikeproof.rules.atan import ATan
from spikeproof.rules.gaussian import Gaussian
from spikeproof.rules.rectangle import Rectangle
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import graft, heaviside
from spikeproof.types import Fire, Neuron, Rule, ThroughReset, ThroughTime

__all__ = [
    "AllSteps", "Apart", "Heights", "OneStep", "Own", "Site", "SpikeFunction", "Switch", "keep", "known", "refused",
    "strict",
]  # fmt: skip

SpikeFunction = Callable[[Tensor], Tensor]
"""Height above the threshold -> spikes, with the surrogate's gradient."""


@runtime_checkable
class _Owned(Protocol):
    """A neuron that brought the surrogate and the reset of its framework."""

    own: SpikeFunction
    detach_reset: bool


class Switch:
    """What the sites of one network share during one call, and nothing between calls."""

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.steps = 0
        self.aside = False
        """Whether what is computed now is a rule's, and not the network's."""
        self.met: dict[str, int] = {}
        self.membranes: dict[str, Tensor] = {}

    @contextmanager
    def bound(self, rule: Rule, steps: int) -> Iterator[None]:
        """The rule of one call over `steps` steps; refuses a call within a call."""
        if self.rule is not None:
            raise SpikeproofError(
                "one call of a wrapped network at a time", "a second one", mend="a copy for each thread"
            )
        self.rule, self.steps = rule, steps
        try:
            yield
            for site, v in self.membranes.items():  # a comparison swallows NaN, a membrane keeps it
                if not bool(torch.isfinite(v).all()):
                    raise SpikeproofError("finite membranes", f"NaN or infinity in {site!r} at the end")
        finally:
            self.rule, self.steps = None, 0
            self.met, self.membranes = {}, {}

    def fire(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> spikes under the rule of this call."""
        if self.rule is None:
            raise SpikeproofError(
                f"calls of {site!r} through its victim",
                "a call after the victim's had ended, or beside it",
                mend="call the victim, not the modules in it; take activation checkpointing out of the network",
            )
        with self.apart():
            return self.rule(neuron, currents, site)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is computed in here is not the network's own."""
        before, self.aside = self.aside, True
        try:
            yield
        finally:
            self.aside = before

    def step(self, site: str) -> int:
        """How often this site has been asked before in this call."""
        self.met[site] = self.met.get(site, -1) + 1
        return self.met[site]


class AllSteps(nn.Module):
    """A neuron that gets all steps at once.

    (T,B,*), time first, in a network whose neurons take all steps; or, folded, (T B,*) with the steps of the switch
    under each other, in a network of one step a call that was given all steps as one batch.
    """

    def __init__(self, name: str, neuron: Stepwise, switch: Switch, *, folded: bool) -> None:
        super().__init__()
        self.name, self.neuron, self.switch, self.folded = name, neuron, switch, folded

    def trained(self) -> Surrogate | None:
        """The rule of this package that the framework's surrogate is."""
        return _trained(self.neuron)

    def forward(self, x: Tensor) -> Tensor:
        if self.switch.step(self.name):
            raise SpikeproofError(
                "one neuron for each place in the network", f"{self.name!r} called twice in one forward"
            )
        if not self.folded:
            return self.switch.fire(self.neuron, x, self.name)
        return self.switch.fire(self.neuron, x.view(self.switch.steps, -1, *x.shape[1:]), self.name).flatten(0, 1)


class OneStep(nn.Module):
    """A neuron that gets one step after the other, (B,*) each; a rule sees every step as a train of one."""

    def __init__(self, name: str, neuron: Stepwise, switch: Switch) -> None:
        super().__init__()
        self.name, self.neuron, self.switch = name, neuron, switch

    def trained(self) -> Surrogate | None:
        return _trained(self.neuron)

    def forward(self, x: Tensor) -> Tensor:
        t, membranes = self.switch.step(self.name), self.switch.membranes
        v = membranes[self.name] if t else torch.full_like(x, self.neuron.v_rest)
        step = _Step(self.neuron, v, x[None])
        spikes = self.switch.fire(step, step.x, f"{self.name}[{t}]")
        if step.after is None:
            raise refused(self.switch.rule, f"{self.name!r} gets one step at a time")
        membranes[self.name] = step.after
        return spikes[0]


class _Step:
    """One step of a neuron, as the neuron that a rule runs."""

    def __init__(self, neuron: Stepwise, v: Tensor, x: Tensor) -> None:
        self.neuron, self.v, self.x = neuron, v, x
        self.after: Tensor | None = None

    def run(self, x: Tensor, fire: Fire, *, through_time: bool = True, through_reset: bool = False) -> Tensor:
        if x is not self.x:
            return torch.zeros_like(x)  # a rule that wants other currents wants all of them; the site refuses it
        u = self.neuron.charge(self.v if through_time else self.v.detach(), x[0])
        s = fire(u - self.neuron.v_threshold, 0)
        self.after = self.neuron.settle(u, s if through_reset else s.detach())
        return s[None]


class Heights(nn.Module):
    """A spike function in a loop that is not ours: height above the threshold (B,*) -> spikes, one step a call.

    own: the framework's. strict: a membrane exactly at its threshold stays silent. detach_reset: no gradient passes
    through the reset in the framework's loop; either: the adapter can have it both ways, as the rule says.
    """

    own: SpikeFunction

    def __init__(
        self, name: str, own: SpikeFunction, switch: Switch, *, strict: bool, detach_reset: bool, either: bool = False
    ) -> None:
        super().__init__()
        self.name, self.switch, self.strict = name, switch, strict
        self.detach_reset, self.either = detach_reset, either
        keep(self, own=own)

    def trained(self) -> Surrogate | None:
        return known(self.own, through_reset=not self.detach_reset)

    def fits(self, asked: object) -> bool:
        """Whether the loop passes gradients through time and through the reset as a rule or an estimator says."""
        if isinstance(asked, ThroughTime) and not asked.through_time:
            return False
        return self.either or not isinstance(asked, ThroughReset) or asked.through_reset != self.detach_reset

    def forward(self, height: Tensor) -> Tensor:
        return self.ask(height)[0]

    def ask(self, height: Tensor) -> tuple[Tensor, bool]:
        """The spikes, and whether the rule passes gradients through the reset."""
        threshold = _Threshold(self, height[None])
        spikes = self.switch.fire(threshold, threshold.x, f"{self.name}[{self.switch.step(self.name)}]")
        if threshold.through_reset is None:
            raise refused(self.switch.rule, f"{self.name!r} gets one step at a time")
        return spikes[0], threshold.through_reset


class Apart(Heights):
    """A spike function of the network's own code, which runs whatever the rule is: the rule decides beside it."""

    def decide(self, height: Tensor) -> Tensor | None:
        """Heights (1,B,*) -> spikes (B,*) with the gradient of the rule of this call; None where the owner's is it."""
        threshold = _Threshold(self, height)
        spikes = self.switch.fire(threshold, threshold.x, f"{self.name}[{self.switch.step(self.name)}]")
        if threshold.through_reset is None:
            raise refused(self.switch.rule, f"{self.name!r} gets one step at a time")
        return None if threshold.kept else spikes[0]


Site = AllSteps | OneStep | Heights


class _Threshold:
    """A threshold alone, as the neuron that a rule runs: charge and reset are the framework's."""

    def __init__(self, site: Heights, x: Tensor) -> None:
        self.site, self.x, self.own, self.detach_reset = site, x, site.own, site.detach_reset
        self.through_reset: bool | None = None
        self.kept = False

    def run(self, x: Tensor, fire: Fire, *, through_time: bool = True, through_reset: bool = False) -> Tensor:
        if x is not self.x:
            return torch.zeros_like(x)
        spikes = fire(x[0], 0)
        self.through_reset = through_reset
        return (graft((x[0] > 0).to(x.dtype), spikes) if self.site.strict else spikes)[None]


def keep(module: nn.Module, **attributes: Any) -> None:
    """Attributes of a module that are not its children, also where they are modules: nobody walks or hooks them."""
    vars(module).update(attributes)


def refused(rule: object, why: str) -> UsageError:
    """The refusal of a rule or an estimator that a network cannot have."""
    return UsageError(
        "a rule that this network can have", f"{rule}, but {why}",
        mend="a fixed surrogate that passes gradients through time and not through the reset, such as atan",
    )  # fmt: skip


@dataclass(frozen=True)
class Own:
    """Every neuron of a wrapped network under the surrogate and the reset that its framework gave it."""

    def __call__(self, neuron: Neuron, currents: Tensor, site: str) -> Tensor:
        """Currents (T,B,*) -> exact spikes (T,B,*). UsageError for a neuron that brought no surrogate."""
        whole = neuron.neuron if isinstance(neuron, _Step) else neuron
        if not isinstance(whole, _Owned):
            raise UsageError("a neuron with a surrogate of its own", f"{neuron} at {site!r}")
        if isinstance(neuron, _Threshold) and isinstance(neuron.site, Apart):
            neuron.kept = True
            return neuron.run(currents, lambda h, t: graft(heaviside(h), h))
        own, through_reset = whole.own, not whole.detach_reset
        return neuron.run(currents, lambda h, t: graft(heaviside(h), own(h)), through_reset=through_reset)


def _trained(neuron: Any) -> Surrogate | None:
    return known(neuron.own, through_reset=not neuron.detach_reset)


_SHAPES: tuple[type[Surrogate], ...] = (ATan, Sigmoid, Triangle, Rectangle, Gaussian)


def known(own: SpikeFunction, *, through_reset: bool) -> Surrogate | None:
    """The rule of this package with the derivative of a foreign surrogate, recognised by its values; else None."""
    peak = _slopes(own, torch.zeros(1))
    if peak is None or not 0 < float(peak) < math.inf:
        return None
    around = torch.tensor([0.0, *(s * 2.0**k for k in range(-6, 3) for s in (1.0, -1.0))])
    x = torch.cat([around, around / max(1.0, float(peak))])  # a sharp one is flat at the heights of a wide one
    slopes = _slopes(own, x)
    for shape in _SHAPES:
        alpha = float(peak) / float(shape(alpha=1.0).derivative(torch.zeros(())))
        if slopes is not None and torch.allclose(
            shape(alpha=alpha).derivative(x), slopes, rtol=1e-4, atol=1e-6 * alpha
        ):
            return shape(alpha=float(f"{alpha:.6g}"), through_reset=through_reset)
    return None


def _slopes(own: SpikeFunction, heights: Tensor) -> Tensor | None:
    """The gradient of a spike function at heights (n,); None where it has none."""
    with torch.enable_grad():
        x = heights.clone().requires_grad_()
        spikes = own(x)
    return torch.autograd.grad(spikes.sum(), x)[0] if spikes.requires_grad else None


@torch.no_grad()
def strict(own: SpikeFunction, name: str) -> bool:
    """Whether a foreign spike function is silent exactly at the threshold; refuses one that is no step at 0."""
    low, below, at, above, high = own(torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 1.0])).tolist()
    if (low, below, above, high) != (0.0, 0.0, 1.0, 1.0) or at not in (0.0, 1.0):
        raise SpikeproofError(
            f"a spike function of 0 below the threshold and 1 above it in {name!r}", f"{own}: another forward"
        )
    return bool(at == 0.0)
