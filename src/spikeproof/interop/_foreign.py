"""A foreign network as the body of a victim: a rewired copy, fed and read as its owner does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.mdse import MDSE
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.estimators.spsa import SPSA
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

Feed = Literal["images", "all_steps", "folded", "steps"]
"""How a network gets its input: pixels once; all steps at once; all steps as one batch; one step after the other."""

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

    rule: how it was trained, None where nothing is known; foreign: neurons that keep their surrogate under every rule;
    mute: what is to be said of a surrogate of training that has no gradient, so that another stands for it.
    """

    def __init__(
        self, network: nn.Module, feed: Feed, readout: Readout | None, in_channels: int, *, rewired: bool = True
    ) -> None:
        super().__init__()
        self.network, self.feed, self.readout = network, feed, readout
        self.in_channels, self.classes = in_channels, 0  # the first logits tell the classes
        self.hand_state = feed == "steps" and len(inspect.signature(network.forward).parameters) > 1
        self.switch = Switch()
        self.frameworks = frameworks_of(network)
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
                    site = framework.site(name, module, self.switch, folded=self.feed == "folded")
                    stay += [name] if site is None else []
                    stand_ins[module] = module if site is None else site
        for parent in list(self.modules()):
            for name, child in parent.named_children():
                parent.add_module(name, stand_ins.get(child, child))
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
        try:
            with self.switch.bound(rule, len(z)), self.own_spikes.asking(rule):
                return self._read(self._run(z), z.shape[1])
        finally:
            self._rest()

    def raw(self, z: Tensor) -> Any:
        """(T,B,C,H,W) -> what the network returns, as it is, of a network that is not rewired."""
        try:
            returned = self._run(z)
            return _first(returned) if self.readout is None else self.readout(returned)
        finally:
            self._rest()

    def _rest(self) -> None:
        for framework in self.frameworks:
            framework.rest(self.network)

    def _run(self, z: Tensor) -> Any:
        if self.feed == "images":
            return self.network(z[0])
        if self.feed == "all_steps":
            return self.network(z)
        if self.feed == "folded":
            return _first(self.network(z.flatten(0, 1))).unflatten(0, (len(z), -1))
        outputs: list[Tensor] = []
        state: tuple[Any, ...] = ()
        for step in z:
            returned = self.network(step, *state)
            if self.hand_state and isinstance(returned, tuple):
                state = (returned[1],)
            outputs.append(_first(returned))
        return torch.stack(outputs)

    def _read(self, returned: Any, size: int) -> Tensor:
        out = _first(returned) if self.readout is None else self.readout(returned)
        if isinstance(out, Tensor) and out.dim() == 3 and out.shape[1] == size and self.readout is None:
            out = out.mean(0)
        if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != size:
            got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise SpikeproofError(
                f"logits ({size},K) or (T,{size},K) from the model",
                got,
                mend="time first, then the batch; or give wrap a readout, from what the model returns to (B,K)",
            )
        return out


def _first(returned: Any) -> Any:
    """The output, of a network that returns a state beside it."""
    return returned[0] if isinstance(returned, tuple | list) else returned
