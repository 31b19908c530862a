"""Sites against the neurons of this package run as a whole: a loop of single steps must be no other network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.interop._foreign import Foreign
from spikeproof.interop.export import spikingjelly_state_dict
from spikeproof.interop.sites import AllSteps, Heights, OneStep, Own, Switch, keep, known, strict
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.gaussian import Gaussian
from spikeproof.rules.hart import HART
from spikeproof.rules.pdsg import PDSG
from spikeproof.rules.rectangle import Rectangle
from spikeproof.rules.rga import RGA
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.straight_through import StraightThrough
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import exact, graft, heaviside, image_keys, normal
from spikeproof.victims.victim import Victim

T, B = 6, 5
CURRENTS = (0.5 + normal(image_keys(0, torch.arange(T)), (B, 7))).contiguous()
WEIGHTS = normal(image_keys(1, torch.arange(T)), (B, 7))

RULES: dict[str, Any] = {
    "atan": ATan(),
    "atan through the reset": ATan(through_reset=True),
    "triangle, not through time": Triangle(through_time=False),
    "straight-through": StraightThrough(),
    "own": Own(),
    "exact": exact,
}


def neuron(make: Any) -> Any:
    unit = make()
    keep(unit, own=ATan(alpha=3.0).primitive, detach_reset=False)
    return unit


def run(site: nn.Module, switch: Switch, rule: Any, *, at_once: bool) -> tuple[Tensor, Tensor | None]:
    x = CURRENTS.clone().requires_grad_()
    with switch.bound(rule, T):
        spikes = site(x) if at_once else torch.stack([site(step) for step in x])
    g = torch.autograd.grad((spikes * WEIGHTS).sum(), x)[0] if spikes.requires_grad else None
    return spikes.detach(), g


@pytest.mark.parametrize("make", [IF, LIF, PLIF, lambda: LIF(tau=3.0, v_reset=None, decay_input=False)])
@pytest.mark.parametrize("rule", RULES)
def test_single_steps_are_the_whole_train(make: Any, rule: str) -> None:
    switch, unit = Switch(), neuron(make)
    whole = run(AllSteps("n", unit, switch, folded=False), switch, RULES[rule], at_once=True)
    single = run(OneStep("n", unit, switch), switch, RULES[rule], at_once=False)
    assert torch.equal(whole[0], single[0])
    assert 0.05 < whole[0].mean() < 0.95
    if rule == "exact":
        assert whole[1] is single[1] is None
    else:
        assert torch.allclose(whole[1], single[1], rtol=1e-5, atol=1e-7)  # type: ignore[arg-type]


def test_a_folded_train_is_the_train() -> None:
    switch, unit = Switch(), neuron(LIF)
    folded = AllSteps("n", unit, switch, folded=True)
    with switch.bound(ATan(), T):
        spikes = folded(CURRENTS.flatten(0, 1))
    assert torch.equal(spikes.unflatten(0, (T, B)), exact(unit, CURRENTS, "n"))


def test_assg_remembers_every_step_of_a_site() -> None:
    """Two gradient calls, the second with the memory of the first: as on the neuron as a whole."""
    found = []
    for at_once in (True, False):
        switch, unit = Switch(), neuron(LIF)
        site = AllSteps("n", unit, switch, folded=False) if at_once else OneStep("n", unit, switch)
        estimator, memory = ASSG(), {}
        for _ in range(3):
            fresh: dict[str, tuple[Tensor, Tensor]] = {}
            found.append(run(site, switch, estimator._scaled(memory, fresh), at_once=at_once)[1])
            memory = fresh
        assert len(memory) == (1 if at_once else T)
    for whole, single in zip(found[:3], found[3:], strict=True):
        assert torch.allclose(whole, single, rtol=1e-5, atol=1e-7)  # type: ignore[arg-type]
    assert not torch.allclose(found[3], found[5])  # type: ignore[arg-type]


class Loop(nn.Module):
    """A framework's loop: it charges and resets itself, and asks a site for the spikes."""

    def __init__(self, site: nn.Module) -> None:
        super().__init__()
        self.site = site

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for current in x:
            v = 0.5 * v + 0.5 * current
            s = self.site(v - 1.0)
            v = (1 - s.detach()) * v
            out.append(s)
        return torch.stack(out)


def test_a_spike_function_in_a_foreign_loop_is_the_neuron() -> None:
    switch = Switch()
    site = Heights("n", heaviside, switch, strict=False, detach_reset=True)
    for rule in (ATan(), Triangle(), StraightThrough()):
        theirs = run(Loop(site), switch, rule, at_once=True)
        mine = run(AllSteps("n", LIF(), switch, folded=False), switch, rule, at_once=True)
        assert torch.equal(theirs[0], mine[0])
        assert torch.allclose(theirs[1], mine[1], rtol=1e-5, atol=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("silent", [False, True])
def test_the_tie_is_the_frameworks(silent: bool) -> None:
    """Exactly at the threshold; the gradient is the rule's all the same."""
    switch = Switch()
    site = Heights("n", heaviside, switch, strict=silent, detach_reset=True)
    x = torch.tensor([-0.1, 0.0, 0.1], requires_grad=True)
    with switch.bound(ATan(), 1):
        spikes = site(x)
    assert spikes.tolist() == [0.0, 0.0 if silent else 1.0, 1.0]
    assert torch.allclose(torch.autograd.grad(spikes.sum(), x)[0], ATan().derivative(x.detach()))


@pytest.mark.parametrize("rule", [BPTR(), HART(), PDSG(), RGA()])
@pytest.mark.parametrize("kind", ["steps", "heights"])
def test_rules_of_the_whole_train_are_refused_by_name(rule: Any, kind: str) -> None:
    """Asked of the network; and without being asked, at the site, all those that look at more than their step."""
    switch = Switch()
    site: nn.Module = (
        OneStep("n", neuron(LIF), switch)
        if kind == "steps"
        else Heights("n", heaviside, switch, strict=False, detach_reset=True)
    )
    body = Foreign(site, "steps", None, 1)
    assert type(rule).__name__ in str(body.objection(rule))
    with pytest.raises(UsageError, match=f"{type(rule).__name__}.*one step at a time"):
        body.classify(CURRENTS, rule)
    if not isinstance(rule, PDSG):
        with switch.bound(rule, T), pytest.raises(UsageError):
            site(CURRENTS[0])


def test_a_loop_has_one_way_to_reset() -> None:
    for detach_reset, fits in ((True, ATan()), (False, ATan(through_reset=True))):
        site = Heights("n", heaviside, Switch(), strict=True, detach_reset=detach_reset)
        assert site.fits(fits)
        assert not site.fits(ATan(through_reset=detach_reset))
        assert not site.fits(ATan(through_reset=not detach_reset, through_time=False))
        assert Heights("n", heaviside, Switch(), strict=True, detach_reset=detach_reset, either=True).fits(ATan())


@pytest.mark.parametrize("detach_reset", [True, False])
def test_a_loop_takes_a_rule_that_does_not_say_how_gradients_pass(detach_reset: bool) -> None:
    """One with half of it is asked about that half alone."""
    site = Heights("n", heaviside, Switch(), strict=True, detach_reset=detach_reset)
    assert site.fits(lambda neuron, currents, name: currents)
    assert site.fits(PDSG(through_reset=not detach_reset))
    assert not site.fits(PDSG(through_reset=detach_reset))


@pytest.mark.parametrize("shape", [ATan, Sigmoid, Triangle, Rectangle, Gaussian])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 7.5])
def test_a_known_surrogate_is_recognised_by_its_derivative(shape: Any, alpha: float) -> None:
    assert known(shape(alpha=alpha).primitive, through_reset=True) == shape(alpha=alpha, through_reset=True)


def test_what_is_not_known_stays_unknown() -> None:
    assert known(lambda x: x / (1 + x.abs()), through_reset=False) is None
    assert known(heaviside, through_reset=False) is None
    assert known(lambda x: graft(heaviside(x), -x), through_reset=False) is None


def test_a_spike_function_must_be_a_step() -> None:
    assert strict(lambda x: (x > 0).float(), "n")
    assert not strict(heaviside, "n")
    with pytest.raises(SpikeproofError, match="in 'n'"):
        strict(torch.sigmoid, "n")


def test_a_site_is_silent_outside_a_call_and_a_call_is_one() -> None:
    switch = Switch()
    site = OneStep("n", neuron(IF), switch)
    with pytest.raises(SpikeproofError, match="through its victim"):
        site(CURRENTS[0])
    with switch.bound(exact, T), pytest.raises(SpikeproofError, match="one call"), switch.bound(exact, T):
        pass
    with switch.bound(exact, T):
        site(CURRENTS[0])
    assert switch.membranes == switch.met == {}
    assert switch.rule is None


class Own(nn.Module):
    """Modules of somebody's own with the names that wrapping uses, and a site."""

    def __init__(self, switch: Switch) -> None:
        super().__init__()
        self.neuron = nn.Sequential(nn.Linear(7, 7), nn.ModuleDict({"neuron": nn.Linear(7, 7)}))
        self.network = nn.Linear(7, 7)
        self.node = AllSteps("node", neuron(PLIF), switch, folded=False)


def test_exported_names_lose_the_words_of_sites_and_no_others() -> None:
    of_its_owner = {"neuron.0", "neuron.1.neuron", "network"}
    names = {f"{layer}.{tensor}" for layer in of_its_owner for tensor in ("weight", "bias")} | {"node.w"}
    network = Own(Switch())
    assert set(spikingjelly_state_dict(Victim(Foreign(network, "all_steps", None, 1), Direct(), T))) == names
    assert set(spikingjelly_state_dict(Victim(network, Direct(), T))) == names
    alone = Foreign(AllSteps("network", neuron(PLIF), Switch(), folded=False), "all_steps", None, 1)
    assert set(spikingjelly_state_dict(Victim(alone, Direct(), T))) == {"w"}


def test_nan_in_a_membrane_is_refused() -> None:
    switch = Switch()
    site = OneStep("n", neuron(IF), switch)
    with pytest.raises(SpikeproofError, match="NaN or infinity in 'n'"), switch.bound(exact, 1):
        site(torch.full((2, 3), float("nan")))
    assert switch.rule is None
