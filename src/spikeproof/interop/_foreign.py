"""A foreign network as the body of a victim: a rewired copy, fed and read as its owner does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeproof.errors import Failed, SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.mdse import MDSE
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.estimators.spsa import SPSA
from spikeproof.interop._answers import averaged, first, unread
from spikeproof.interop._borrowing import alone, seeded
from spikeproof.interop._states import Handing
from spikeproof.interop.frameworks import frameworks_of
from spikeproof.interop.own_spikes import OwnSpikes
from spikeproof.interop.sites import AllSteps, Heights, Own, Site, Switch, refused
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.hart import HART
from spikeproof.rules.pdsg import PDSG
from spikeproof.rules.rga import RGA
from spikeproof.tensors import exact
from spikeproof.types import Rule, Ruled

__all__ = ["Asked", "Feed", "Foreign", "Readout"]

Feed = Literal["images", "all_steps", "batch_first", "folded", "steps"]
"""How a network gets its input: pixels once; all steps at once, time first or the batch first; all steps as one batch;
one step after the other."""

Readout = Callable[[Any], Tensor]

_WHOLE = (BPTR, HART, PDSG, RGA)
"""Rules that look at all steps of a known neuron."""


class Asked(nn.Module):
    """Something that can only be asked: no gradient passes, and it is never copied."""

    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ask = ask

    def __deepcopy__(self, memo: dict[int, Any]) -> Asked:
        return Asked(self.ask).train(self.training)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.ask(x.detach().clone())


class Foreign(nn.Module):
    """Takes a network for itself and rewires it: sites where neurons were. What a call leaves in it goes with the call.

    handing: how states are handed from step to step; axis: that of time in what it returns, where known; batch: how
    many images it takes, where it takes no other number; changes_input: so that it is fed a copy; stay: names of
    neurons that are left as they are.
    rule: how it was trained, None where nothing is known; foreign: neurons that keep their surrogate under every rule;
    mute: what is to be said of a surrogate of training that has no gradient, so that another stands for it.
    """

    def __init__(
        self, network: nn.Module, feed: Feed, readout: Readout | None, in_channels: int, *, rewired: bool = True,
        handing: Handing | None = None, axis: int | None = None, batch: int | None = None,
        changes_input: bool = False, stay: Collection[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.feed, self.readout = network, feed, readout
        self.handing, self.axis, self.batch, self.stay = handing, axis, batch, frozenset(stay)
        self.in_channels, self.classes = in_channels, 0  # the first logits tell the classes
        self.changes_input = changes_input
        self.overwrites: tuple[str, ...] = ()  # modules that keep a tensor with a graph until their next call
        self.touched = False  # whether it has written to what it was given
        self.unread = ""  # what it returns beside what logits are read from, in words
        self.switch = Switch()
        self.frameworks = frameworks_of(network)
        self.alone = True  # among what its frameworks have registered, but for the owner's own object
        self.foreign = self._rewire() if rewired else ()
        self.own_spikes = OwnSpikes(self.switch)
        self.mute = ""
        self.rule = self.rule_of_training()
        self._rest()

    def _rewire(self) -> tuple[str, ...]:
        """Names of the neurons that stay, because their dynamics are not known."""
        stand_ins: dict[nn.Module, nn.Module] = {}
        stay = []
        for framework in self.frameworks:
            for name, module in list(self.named_modules()):
                if framework.is_neuron(module):
                    name = name.removeprefix("network").removeprefix(".") or "network"
                    folded = self.feed == "folded"
                    site = None if name in self.stay else framework.site(name, module, self.switch, folded=folded)
                    stay += [name] if site is None else []
                    stand_ins[module] = module if site is None else site
        for parent in list(self.modules()):
            for name, child in parent.named_children():
                if stand_ins.get(child, child) is not child:
                    parent.add_module(name, stand_ins[child])
        return tuple(stay)

    def rule_of_training(self) -> Rule | None:
        """That of all sites, `Own` where they differ or are not known; None without any."""
        placed = {site.trained() for site in self._placed()}
        found = {spot.site.trained() for spot in self.own_spikes.spots()}
        # What passes through the reset of a found one is its owner's, whatever a rule says.
        found -= {replace(rule, through_reset=False) for rule in placed if rule is not None}
        rules = placed | found
        rule = rules.pop() if len(rules) == 1 else None
        return rule or (Own() if self.sites() else None)

    def sites(self) -> list[Site]:
        return self._placed() + [spot.site for spot in self.own_spikes.spots()]

    def _placed(self) -> list[Site]:
        return [module for module in self.modules() if isinstance(module, Site)]

    def objection(self, asked: object) -> UsageError | None:
        """Why a rule or an estimator cannot be used on this network; None where it can."""
        if isinstance(asked, SPSA) or asked is None or asked is exact:
            return None
        if isinstance(self.network, Asked):
            return refused(asked, "a bare callable has no gradient; only black-box attacks can attack it")
        members = asked.members() if isinstance(asked, MDSE) else [asked.rule if isinstance(asked, Ruled) else None]
        return next(filter(None, map(self.objection, members)), None) or self._own_objection(asked)

    def _own_objection(self, asked: object) -> UsageError | None:
        stepwise = [site.name for site in self.sites() if not isinstance(site, AllSteps)]
        loops = [site for site in self.sites() if isinstance(site, Heights)]
        unfit = [site.name for site in loops if isinstance(asked, SmoothTwin) or not site.fits(asked)]
        mixed = [spot.site.name for spot in self.own_spikes.spots() if not spot.of_images]
        if self.foreign and isinstance(asked, (*_WHOLE, ASSG, SmoothTwin)):
            return refused(asked, f"the dynamics of {self.foreign[0]!r} are not known")
        if stepwise and isinstance(asked, _WHOLE):
            return refused(asked, f"{stepwise[0]!r} gets one step at a time")
        if unfit:
            found = unfit[0] in [spot.site.name for spot in self.own_spikes.spots()]
            whose = "network's" if found else "framework's"
            return refused(asked, f"the loop over time and the reset of {unfit[0]!r} are the {whose} own")
        if mixed and isinstance(asked, ASSG):
            return refused(asked, f"the rows that {mixed[0]!r} is given are not one for each image")
        return None

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        """(T,B,C,H,W) -> logits (B,K), the mean over time where the network returns every step's."""
        if not isinstance(self.network, Asked) and (why := self.objection(rule)):
            raise why
        if self.batch is None:
            return self._once(z, rule)
        parts = [self._once(part, rule) for part in full_batches(z, self.batch)]
        return torch.cat(parts)[: z.shape[1]]

    def _once(self, z: Tensor, rule: Rule) -> Tensor:
        with self._called(), self.switch.bound(rule, len(z)), self.own_spikes.asking(rule):
            return self._read(self._run(z), z.shape[1], z.dtype)

    def raw(self, z: Tensor) -> Any:
        """(T,B,C,H,W) -> what logits are read from, of a network that is not rewired."""
        with self._called():
            returned = self._run(z)
            return returned if self.readout is None or self.feed == "steps" else self.readout(returned)

    def stepped(self, steps: Tensor, handing: Handing | None) -> tuple[list[Tensor], list[Any]]:
        """Steps (T,B,C,H,W) one a call, from rest -> the output of each, and all that each call returned."""
        self.handing = handing
        with self._called():
            calls = list(self._calls(steps, again=True))
        return [self._output(returned) for returned in calls], calls

    @contextmanager
    def _called(self) -> Iterator[None]:
        """One call: alone among what its framework knows of, and at rest afterwards, without a graph."""
        try:
            # Asked anew in every call: a registry that the body held would be copied with it.
            held = [found for framework in self.frameworks for found in framework.registries()] if self.alone else []
            with alone(self.network, held):
                yield
        except (torch.OutOfMemoryError, MemoryError, SpikeproofError):
            raise
        except Exception as error:  # it is the network's
            got = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise Failed("a forward that runs", got, mend="call the model by hand on these images") from error
        finally:
            for name in self.overwrites:
                without_graphs(self.network.get_submodule(name))
            self._rest()

    def _rest(self) -> None:
        for framework in self.frameworks:
            framework.rest(self.network)

    def _run(self, z: Tensor) -> Any:
        """What the network returns; a readout of one step after the other reads each of them."""
        if self.changes_input:
            z = z.clone()
        if self.feed == "steps":
            return torch.stack([self._output(returned) for returned in self._calls(z)])
        if self.feed == "folded":
            return first(self.network(z.flatten(0, 1))).unflatten(0, (len(z), -1))
        given = {"images": z[0], "all_steps": z, "batch_first": z.transpose(0, 1)}[self.feed]
        returned = self._on(given)
        self.unread = unread(returned) if self.readout is None else ""
        return returned if self.readout is not None else first(returned)

    def _on(self, given: Tensor, *args: Any, **named: Any) -> Any:
        """What the network returns of an input, and whether it has written to it, be it to its shape alone."""
        before = given.shape, given._version
        returned = self.network(given, *args, **named)
        self.touched |= (given.shape, given._version) != before
        return returned

    def _calls(self, z: Tensor, *, again: bool = False) -> Iterator[Any]:
        """What each of the calls returns. again: noise is the same in all of them, to tell it from a memory."""
        args: tuple[Any, ...] = ()
        named: dict[str, Any] = {}
        for step in z:
            with seeded(step.device) if again else nullcontext():
                returned = self._on(step, *args, **named)
            if self.handing is not None:
                args, named = self.handing(returned)
            yield returned

    def _output(self, returned: Any) -> Tensor:
        """That of one step: the first thing returned; the others are states, or are not read."""
        out = returned[0] if isinstance(returned, tuple | list) and returned else returned
        if self.handing is None and isinstance(returned, tuple | list) and len(returned) > 1:
            self.unread = f"the first of {len(returned)} things it returns at a step is read, and not the rest"
        if not isinstance(out, Tensor):
            raise SpikeproofError("a tensor (N,K) from each step", type(out).__name__, mend=ONE_STEP)
        return out

    def _read(self, returned: Any, size: int, dtype: torch.dtype) -> Tensor:
        if self.readout is None:
            logits = averaged(returned, size, self.axis)
        elif (out := self.readout(returned)).dim() == 2:
            logits = averaged(out, size, None)
        else:
            raise SpikeproofError(f"logits ({size},K) from the readout", f"shape {tuple(out.shape)}")
        if not logits.is_floating_point():
            mend = "counts of spikes as floats, with their graph: sums of the spikes themselves"
            raise SpikeproofError("logits that are floating-point numbers", logits.dtype, mend=mend)
        return logits.to(dtype)  # a network that casts inside answers in less than its images have


ONE_STEP = "the output first, then the states: forward(x, state=None) -> (out, state)"


def full_batches(z: Tensor, batch: int) -> list[Tensor]:
    """(T,B,*) in parts of `batch` images; the last is filled up with the first ones, over and over."""
    missing = -z.shape[1] % batch
    filled = torch.arange(z.shape[1] + missing, device=z.device) % z.shape[1]
    whole = z.index_select(1, filled) if missing else z
    return list(torch.split(whole, batch, 1))


_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


def without_graphs(module: nn.Module) -> None:
    """Detaches what a module keeps in its attributes, also in lists and dicts, not in its children."""
    for name, value in list(vars(module).items()):
        if name not in _OF_TORCH:
            vars(module)[name] = _detached(value)
    for name, buffer in module._buffers.items():
        module._buffers[name] = _detached(buffer)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach() if value.grad_fn is not None else value
    if type(value) in (list, tuple):
        return type(value)(map(_detached, value))
    return {key: _detached(one) for key, one in value.items()} if type(value) is dict else value
