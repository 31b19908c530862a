"""Spikes by code of the user's own: the forward is theirs to the bit, the slope is the rule's."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import own_neurons
import pytest
import torch
from own_neurons import DECAY, NETWORKS, STEPS, THRESHOLD, Learned, Loop, Straight, Tent, Window
from small import digits, untouched
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.evaluation.tiers import tier_of
from spikeproof.interop._step import Step
from spikeproof.interop.sites import Own
from spikeproof.measures.gradients import gradient_rows
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.gaussian import Gaussian
from spikeproof.rules.rectangle import Rectangle
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.straight_through import StraightThrough
from spikeproof.rules.triangle import Triangle
from spikeproof.study.control_networks import Plain
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch

X, _, IDS = digits(6)
KEYS = image_keys(0, IDS)
WEIGHTS = torch.linspace(-1.0, 1.0, 10)

FIVE = [ATan(), Sigmoid(), Triangle(), Rectangle(alpha=1.5), Gaussian()]


def made(make: Callable[[], nn.Module]) -> Any:
    """Weights that make every layer fire now and then."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear):
                module.weight *= 2.0
    return net


def mean(out: Tensor) -> Tensor:
    return out.mean(0) if out.dim() == 3 else out


def slope(call: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of a fixed sum of them."""
    x = X.clone().requires_grad_()
    logits = mean(call(x))
    return logits.detach(), torch.autograd.grad((logits @ WEIGHTS).sum(), x)[0]


def under(victim: Any, rule: Any) -> tuple[Tensor, Tensor]:
    return slope(lambda x: victim(x, rule, KEYS))


STEP: dict[str, tuple[Step, Any]] = {
    "a loop": (Step(0, THRESHOLD, None, True), Rectangle(alpha=2.0)),
    "(N,T,*)": (Step(0, 0.0, None, True), Triangle(alpha=1.0)),
    "learned thresholds": (Step(0, 0.0, 1, False), Sigmoid(alpha=4.0)),
    "straight through": (Step(0, 0.0, 1, True), Own()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_gradients_are_the_owners(name: str) -> None:
    """In every bit, and to 1e-5 where the owner's surrogate was recognised; nothing of the network's is changed."""
    net = made(NETWORKS[name])
    doors = [vars(kind)["forward"] for kind in (Window, Tent, Learned)]
    with untouched(net):
        victim = spikeproof.wrap(net, X)
        logits, gradient = slope(net)
        assert gradient.abs().max() > 0
        for rule in (Own(), victim.rule, *FIVE):
            found, theirs = under(victim, rule)
            assert torch.equal(found, logits)
            if rule in (Own(), victim.rule):
                assert (theirs - gradient).abs().max() <= 1e-5 * gradient.abs().max()
            else:
                assert not torch.allclose(theirs, gradient, rtol=1e-2)
        assert torch.equal(victim(X, exact, KEYS), logits)
    step, rule = STEP[name]
    assert [spot.step for spot in victim.body.own_spikes.spots()] == [step]
    assert victim.rule == rule
    assert not victim.one_gradient
    assert [vars(kind)["forward"] for kind in (Window, Tent, Learned)] == doors


@pytest.mark.parametrize("name", NETWORKS)
def test_a_rule_around_the_owners_keeps_the_owners_gradient(name: str) -> None:
    """As where layers are watched."""
    net, own = made(NETWORKS[name]), Own()
    _, found = under(spikeproof.wrap(net, X), lambda neuron, currents, site: own(neuron, currents, site))
    assert torch.equal(found, slope(net)[1])


@pytest.mark.parametrize("rule", [ATan(), Own()], ids=str)
def test_gradients_are_measured_where_the_network_has_them(rule: Any) -> None:
    """At the pixels and in the layers; what a rule is asked beside the graph is no place in the network."""
    net = made(Loop)
    victim = spikeproof.wrap(net, X)
    rows = list(gradient_rows(victim, Batch.of(victim, X, X.new_zeros(6).long(), IDS, 0), rule=rule, scalars=("ce",)))
    assert {row["site"] for row in rows} == {"image", "encoded", "network.fc1", "network.fc2"}
    x = X.clone().requires_grad_()
    loss = nn.functional.cross_entropy(victim(x, rule, KEYS), torch.zeros(6).long(), reduction="sum")
    size = torch.autograd.grad(loss, x)[0].abs().flatten(1).sum(1)
    found = torch.tensor([row["summed"]["l1"] for row in rows if row["site"] == "image"])
    torch.testing.assert_close(found.float(), size, rtol=1e-4, atol=1e-6)


def shaped(height: Tensor, derivative: Callable[[Tensor], Tensor], *, strict: bool) -> Tensor:
    """A step in value, `derivative` in gradient; written without what is tested."""
    fires = height > 0 if strict else height >= 0
    linear = derivative(height.detach()) * height
    return fires.to(height) + linear - linear.detach()


def loop(net: Any, x: Tensor, derivative: Callable[[Tensor], Tensor]) -> Tensor:
    mem1 = spike1 = x.new_zeros(len(x), 48)
    mem2 = spike2 = count = x.new_zeros(len(x), 10)
    for _ in range(STEPS):
        mem1 = mem1 * DECAY * (1 - spike1) + net.fc1(x.flatten(1))
        spike1 = shaped(mem1 - THRESHOLD, derivative, strict=True)
        mem2 = mem2 * DECAY * (1 - spike2) + net.fc2(spike1)
        spike2 = shaped(mem2 - THRESHOLD, derivative, strict=True)
        count = count + spike2
    return count / STEPS


def learned(net: Any, x: Tensor, derivative: Callable[[Tensor], Tensor]) -> Tensor:
    mem, out = x.new_zeros(len(x), 48), x.new_zeros(len(x), 10)
    for _ in range(STEPS):
        mem = mem * net.cell.decay.sigmoid() + net.fc1(x.flatten(1))
        spike = shaped(mem - net.cell.threshold, derivative, strict=False)
        mem = mem - spike * net.cell.threshold
        out = out + net.fc2(spike)
    return out / STEPS


def straight(net: Any, x: Tensor, derivative: Callable[[Tensor], Tensor]) -> Tensor:
    mem, out = x.new_zeros(len(x), 48), x.new_zeros(len(x), 10)
    for _ in range(STEPS):
        mem = 0.7 * mem + net.fc1(x.flatten(1))
        spike = 0.6 * shaped(mem - 0.6, derivative, strict=True)
        mem = mem - spike
        out = out + net.fc2(spike)
    return out / STEPS


TWINS = {"a loop": loop, "learned thresholds": learned, "straight through": straight}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("rule", [*FIVE, StraightThrough()], ids=str)
def test_the_slope_is_that_of_the_rule(name: str, rule: Any) -> None:
    """Against the same network with the derivative written into it; what passes through the reset is its own."""
    net = made(NETWORKS[name])
    _, found = under(spikeproof.wrap(net, X), rule)
    derivative = torch.ones_like if isinstance(rule, StraightThrough) else rule.derivative
    _, expected = slope(lambda x: TWINS[name](net, x, derivative))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_sharp_surrogate_masks_nothing_any_more() -> None:
    """Under a rule the gradient of the masked network is that of the honest one, in every bit."""
    honest, rules = made(Plain), [ATan(), Triangle(), Sigmoid()]
    seen = [under(spikeproof.wrap(honest, X), rule) for rule in rules]
    for sharp, scale in ((100.0, 1.0), (1e5, 1.0), (4.0, 1e-12)):
        masked = copy.deepcopy(honest)
        masked.sharp, masked.scale = sharp, scale
        victim = spikeproof.wrap(masked, X)
        assert victim.rule == {100.0: Sigmoid(alpha=sharp), 1e5: ATan(), 4.0: Own()}[sharp]
        mute = (
            "Sigmoid(alpha=100000.0, through_time=True, through_reset=False, fused=True) gives no gradient for 6 of 6"
        )
        assert victim.notes[-1].startswith(mute) == (sharp == 1e5)
        for rule, (logits, gradient) in zip(rules, seen, strict=True):
            found, theirs = under(victim, rule)
            assert torch.equal(found, logits)
            assert torch.equal(theirs, gradient)
        assert (under(victim, Own())[1] - seen[2][1]).abs().max() > 0.1 * seen[2][1].abs().max()


def test_tiers_have_what_needs_a_slope_and_not_what_needs_the_loop() -> None:
    victim = spikeproof.wrap(made(Loop), X)
    names = {stage.name for stage in tier_of("audit", victim, ATan(), Linf(eps=0.1)).stages}
    assert {"sa-pgd-100 assg margin", "pgd-20 dense twin", "apgd-100 straight-through margin"} <= names
    assert victim.supports(ASSG())
    assert not victim.supports(SmoothTwin())
    for rule in (BPTR(), ATan(through_time=False)):
        with pytest.raises(UsageError, match="'Window'"):
            victim(X, rule, KEYS)
    answers = victim(X, exact, KEYS).argmax(1)
    for rule in FIVE[:2]:
        found = spikeproof.evaluate(victim, X[:3], answers[:3], ids=IDS[:3], tier="smoke", eps=0.2, rule=rule)
        assert found.robust.share < found.clean.share == 1.0


def test_assg_remembers_every_call() -> None:
    victim = spikeproof.wrap(made(Loop), X)
    estimator, fresh = ASSG(), {}
    under(victim, estimator._scaled({}, fresh))
    assert sorted(fresh) == sorted(f"Window[{k}]" for k in range(2 * STEPS))
    assert {tuple(memory.shape) for memory, _ in fresh.values()} == {(1, 6, 48), (1, 6, 10)}


def test_two_backwards_through_one_graph_are_the_same() -> None:
    x = X.clone().requires_grad_()
    logits = spikeproof.wrap(made(NETWORKS["learned thresholds"]), X)(x, ATan(), KEYS)
    one, other = (torch.autograd.grad(logits.sum(), x, retain_graph=keep)[0] for keep in (True, False))
    assert torch.equal(one, other)


def test_a_copy_has_sites_of_its_own() -> None:
    victim = spikeproof.wrap(made(Loop), X)
    other = copy.deepcopy(victim)
    assert torch.equal(under(victim, ATan())[1], under(other, ATan())[1])
    assert all(site.switch is other.body.switch is not victim.body.switch for site in other.body.sites())


class Waits(nn.Module):
    """Stops in the middle of its forward until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.pause: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.pause is not None:
            self.pause()
        return own_neurons.window(self.fc(x.flatten(1)))


def test_other_calls_of_the_same_class_keep_their_owners_gradient() -> None:
    """Beside a call of the victim, in another thread, and after one that fails."""
    own = vars(Window)["forward"]
    victim = spikeproof.wrap(made(Waits), X)
    v = torch.tensor([0.2, 0.5, 1.2], requires_grad=True)
    seen = []

    def elsewhere() -> None:
        seen.append(torch.autograd.grad(own_neurons.window(v).sum(), v)[0])

    def beside() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    def fails() -> None:
        raise RuntimeError("stop")

    victim.body.network.pause = beside
    under(victim, ATan())
    victim.body.network.pause = fails
    with pytest.raises(RuntimeError, match="stop"):
        under(victim, ATan())
    elsewhere()
    assert [g.tolist() for g in seen] == [[1.0, 1.0, 0.0]] * 2
    assert vars(Window)["forward"] is own


class Pair(torch.autograd.Function):
    """Spikes and the membrane after them: no step of one argument alone."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(membrane)
        spikes = (membrane > 0.5).float()
        return spikes, membrane * (1 - spikes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] + grads[1]


class Train(torch.autograd.Function):
    """All steps (B,T) in one call, with a memory between them."""

    @staticmethod
    def forward(ctx: Any, currents: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(currents[:, 0]), []
        for t in range(currents.shape[1]):
            v = v + currents[:, t]
            spikes.append((v > 0.5).float())
            v = v * (1 - spikes[-1])
        return torch.stack(spikes, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Rounds(torch.autograd.Function):
    """A quantiser, which makes no spikes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Overwrites(torch.autograd.Function):
    """Writes its spikes into the membrane."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor) -> Tensor:
        ctx.save_for_backward(membrane.clone())
        return membrane.gt_(0.2).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] / (1 + ctx.saved_tensors[0].square())


class Dirty(Overwrites):
    """Says so, and returns it."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor) -> Tensor:
        ctx.save_for_backward(membrane.clone())
        ctx.mark_dirty(membrane)
        return membrane.gt_(0.2)


class Applies(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        out = self.kind.apply(x)
        return out[0] if isinstance(out, tuple) else out


def applied(kind: Any) -> nn.Module:
    return made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Applies(kind), nn.Linear(32, 10)))


@pytest.mark.parametrize("kind", [Pair, Train, Overwrites, Dirty])
def test_what_is_not_found_is_named(kind: Any) -> None:
    net = applied(kind)
    victim = spikeproof.wrap(net, X)
    assert victim.one_gradient
    assert victim.notes == (f"{kind.__name__} keeps its own surrogate: its dynamics are not known",)
    assert torch.equal(under(victim, Triangle())[1], slope(net)[1])
    told = spikeproof.check(net, X)["spikes"]
    assert (told.verdict, kind.__name__ in told.says) == ("warn", True)


def test_what_makes_no_spikes_is_none() -> None:
    victim = spikeproof.wrap(applied(Rounds), X)
    (said,) = victim.notes
    assert said.startswith("no known neuron: every rule gives the network's own gradient; ")
    assert said.endswith("wrap(..., spikes={MySpike: 'v'})")
    assert spikeproof.check(applied(Rounds), X)["spikes"].says.startswith("none")


class Adds(nn.Module):
    """Sums around spikes that are no terms: what is counted, left, gated and passed by."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x.flatten(1))
        spike = own_neurons.window(h)
        rest = 1 - (0 + spike)
        gated = h * (h > 0.1).float() + 0.0 * h
        return self.fc2(spike + rest * gated) + torch.zeros(10)


def test_a_sum_is_no_term_where_its_parts_have_the_spikes_already() -> None:
    victim = spikeproof.wrap(made(Adds), X)
    assert [spot.site.name for spot in victim.body.own_spikes.spots()] == ["Window"]
    assert victim.body.own_spikes.terms == {}


@pytest.mark.parametrize("term", [
    lambda v: (v > 0.2).float() + torch.tanh(v) - torch.tanh(v).detach(),
    lambda v: (torch.ge(v, 0.2).to(v.dtype) - v).detach() + v,
    lambda v: v - (v - torch.lt(torch.tensor(0.2), v) * 1.0).detach(),
    lambda v: (~(v < 0.2)).float() + (p := v.clamp(0, 1)) - p.detach(),
    lambda v: 1 - (v <= 0.2).float() + v.sigmoid() - v.sigmoid().detach(),
])  # fmt: skip
def test_terms_are_found_however_they_are_written(term: Callable[[Tensor], Tensor]) -> None:
    class Fires(nn.Module):
        def forward(self, v: Tensor) -> Tensor:
            return term(v)

    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Fires(), nn.Linear(32, 10)))
    victim = spikeproof.wrap(net, X)
    (spot,) = victim.body.own_spikes.spots()
    assert spot.site.name == "Fires, straight through"
    _, expected = slope(lambda x: net[3](shaped(net[1](x.flatten(1)) - 0.2, ATan().derivative, strict=True)))
    logits, found = under(victim, ATan())
    assert torch.equal(logits, slope(net)[0])
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("squash", [
    lambda h: torch.sigmoid(2000 * h), lambda h: (torch.tanh(50 * h) + 1) / 2, lambda h: (h + 0.5).clamp(0, 1),
    lambda h: 1 / (1 + torch.exp(-9 * h)),
])  # fmt: skip
def test_a_term_that_compares_what_it_squashed_keeps_its_own_slope(squash: Callable[[Tensor], Tensor]) -> None:
    """A rule's slope would be multiplied by the owner's."""

    class Fires(nn.Module):
        def forward(self, v: Tensor) -> Tensor:
            p = squash(v - 0.2)
            return (p > 0.5).float() + p - p.detach()

    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Fires(), nn.Linear(32, 10)))
    victim = spikeproof.wrap(net, X)
    assert victim.notes == ("Fires, straight through keeps its own surrogate: its dynamics are not known",)
    assert torch.equal(under(victim, ATan())[1], slope(net)[1])


def test_a_class_or_a_module_may_be_named() -> None:
    """The same gradient as where they are found; the name of the argument decides."""
    net = made(Loop)
    found = under(spikeproof.wrap(net, X), ATan())[1]
    assert torch.equal(under(spikeproof.wrap(net, X, spikes={Window: "membrane"}), ATan())[1], found)
    net = made(NETWORKS["straight through"])
    found = under(spikeproof.wrap(net, X), ATan())[1]
    named = spikeproof.wrap(net, X, spikes={Straight: "height"})
    assert [site.name for site in named.body.sites()] == ["fire"]
    torch.testing.assert_close(under(named, ATan())[1], found)
    assert torch.equal(under(named, Own())[1], slope(net)[1])
    assert spikeproof.check(net, X, spikes={Straight: "height"})["spikes"].says == "'fire' take any surrogate"


@pytest.mark.parametrize("named", [{"Window": "membrane"}, Window, [Window], {Window.apply: "membrane"}, {Window: 0}])
def test_names_in_another_form_are_refused(named: Any) -> None:
    for ask in (spikeproof.wrap, spikeproof.check):
        with pytest.raises(UsageError, match=r"to mend: spikes=\{MySpike: 'v'\}"):
            ask(made(Loop), X, spikes=named)


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(SpikeproofError, match=r"spikes of two heights in 'Window', the higher where 'v' reaches"):
        spikeproof.wrap(made(Loop), X, spikes={Window: "v"})
    with pytest.raises(UsageError, match=r"classes that the network calls, in spikes, got Tent; valid: Window"):
        spikeproof.wrap(made(Loop), X, spikes={Tent: "height"})
    with pytest.raises(UsageError, match=r"got Straight; valid: Linear, Loop"):
        spikeproof.wrap(made(Loop), X, spikes={Straight: "height"})
    with pytest.raises(SpikeproofError, match=r"two heights in 'fc1'"):
        spikeproof.wrap(made(Loop), X, spikes={nn.Linear: "input"})


def test_a_name_for_what_writes_over_its_membrane_is_refused() -> None:
    with pytest.raises(SpikeproofError, match=r"'Overwrites' beside its argument.*in place"):
        spikeproof.wrap(applied(Overwrites), X, spikes={Overwrites: "membrane"})


class Raises(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return (v > 0.2).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * {}["slope"]


class Nothing(Raises):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return None


@pytest.mark.parametrize(("kind", "got"), [(Raises, "KeyError: 'slope'"), (Nothing, "None for the membrane")])
def test_a_backward_that_does_not_run_is_told_of_with_its_name(kind: Any, got: str) -> None:
    net = applied(kind)
    for named in (None, {kind: "v"}):
        with pytest.raises(SpikeproofError, match=f"backward of {kind.__name__!r}, got {got}; to mend: call"):
            spikeproof.wrap(net, X, spikes=named)
        assert spikeproof.check(net, X, spikes=named).refused


class Halves(nn.Module):
    """Makes half of its spikes, or all, in a thread of its own."""

    def __init__(self, share: int) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as pool:
            there = pool.submit(own_neurons.window, x[:, : self.share])
            return torch.cat([there.result(), own_neurons.window(x[:, self.share :])], 1)


@pytest.mark.parametrize("share", [16, 32])
def test_spikes_of_other_threads_are_not_said_to_take_a_rule(share: int) -> None:
    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Halves(share), nn.Linear(32, 10)))
    victim = spikeproof.wrap(net, X)
    assert victim.notes == ("Window keeps its own surrogate: its dynamics are not known",)
    assert torch.equal(under(victim, Triangle())[1], slope(net)[1])
    with pytest.raises(SpikeproofError, match="no parallel threads"):
        spikeproof.wrap(net, X, spikes={Window: "membrane"})


def test_a_threshold_that_is_changed_afterwards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = spikeproof.wrap(made(Loop), X)
    monkeypatch.setattr(own_neurons, "THRESHOLD", 0.4)
    with pytest.raises(SpikeproofError, match="the spikes of 'Window' that were found when"):
        under(victim, ATan())
    assert under(victim, Own())  # nothing is asked of it there
