"""Networks of snnTorch 1 as victims, held against snnTorch's own forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.wrapped import KEYS, X, assert_the_same, examined, stages, trained
from small import untouched
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.smooth_twin import SmoothTwin
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.interop.sites import Own
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.hart import HART
from spikeproof.rules.pdsg import PDSG
from spikeproof.rules.rga import RGA
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.tensors import exact

try:
    import snntorch
    from snntorch import surrogate, utils
except Exception as error:
    pytest.skip(f"snnTorch does not import here: {error!r}", allow_module_level=True)

T = 5


class ByHand(nn.Module):
    """The form of snnTorch's tutorials: states are made, passed and returned by hand; membranes are read out."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.conv, self.hidden = nn.Conv2d(1, 8, 3, padding=1), kind(**options)
        self.fc, self.out = nn.Linear(128, 10), snntorch.Leaky(beta=0.9, spike_grad=options.get("spike_grad"))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        state, mem = self.hidden.reset_mem(), self.out.reset_mem()
        state = state if isinstance(state, tuple) else (state,)
        spikes, mems = [], []
        for _ in range(T):
            hidden, *state = self.hidden(self.conv(x), *state)
            spk, mem = self.out(self.fc(F.max_pool2d(hidden, 2).flatten(1)), mem)
            spikes.append(spk)
            mems.append(mem)
        return torch.stack(mems), torch.stack(spikes)


def by_hand(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)[0].mean(0)  # type: ignore[no-any-return]


NEURONS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "leaky": (snntorch.Leaky, {"beta": 0.8}, ATan()),
    "leaky, reset to zero": (
        snntorch.Leaky,
        {"beta": 0.8, "reset_mechanism": "zero", "threshold": 0.7, "learn_beta": True, "learn_threshold": True,
         "spike_grad": surrogate.sigmoid(slope=5)},
        Sigmoid(alpha=5.0),
    ),
    "a surrogate of theirs": (snntorch.Leaky, {"beta": 0.8, "spike_grad": surrogate.fast_sigmoid(slope=5)}, Own()),
    "synaptic": (snntorch.Synaptic, {"alpha": 0.7, "beta": 0.8}, ATan()),
    "lapicque": (snntorch.Lapicque, {"beta": 0.8, "threshold": 0.3}, ATan()),
}  # fmt: skip


@pytest.mark.parametrize("name", NEURONS)
def test_a_network_is_theirs(name: str) -> None:
    kind, options, rule = NEURONS[name]
    model = trained(lambda: ByHand(kind, **options), by_hand)
    with untouched(model):
        victim = spikeproof.wrap(model, X)
    assert victim.rule == rule
    assert all(note.startswith("the first of 2 things it returns") for note in victim.notes)
    assert_the_same(victim, model, by_hand)


def test_a_recurrent_neuron() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.hidden = nn.Linear(64, 32), snntorch.RLeaky(beta=0.8, linear_features=32)
            self.fc2 = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            spk, mem = self.hidden.reset_mem()
            out = []
            for _ in range(T):
                spk, mem = self.hidden(self.fc1(x.flatten(1)), spk, mem)
                out.append(self.fc2(spk))
            return torch.stack(out)

    def logits(model: nn.Module, x: Tensor) -> Tensor:
        return model(x).mean(0)  # type: ignore[no-any-return]

    model = trained(Recurrent, logits)
    assert_the_same(spikeproof.wrap(model, X), model, logits)


def test_hidden_states_start_from_rest() -> None:
    """snnTorch keeps them in the neuron with init_hidden=True, and its owner resets them before each batch."""

    def make() -> nn.Module:
        leaky = {"beta": 0.8, "init_hidden": True}
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), snntorch.Leaky(**leaky), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10),
            snntorch.Leaky(**leaky, output=True),
        )  # fmt: skip

    def logits(model: nn.Module, x: Tensor) -> Tensor:
        utils.reset(model)
        return torch.stack([model(x)[0] for _ in range(T)]).mean(0)

    model = trained(make, logits)
    victim = spikeproof.wrap(model, X, steps=T, step_mode="s")
    assert victim.body.feed == "steps"
    assert_the_same(victim, model, logits)
    victim(X[:3], exact, KEYS[:3])
    assert_the_same(victim, model, logits)


def test_a_membrane_at_its_threshold_stays_silent() -> None:
    """snnTorch fires above the threshold; this package and SpikingJelly fire at it."""

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.node = snntorch.Leaky(beta=0.5, threshold=1.0)

        def forward(self, x: Tensor) -> Tensor:
            mem, out = self.node.reset_mem(), []
            for _ in range(2):
                spk, mem = self.node(torch.ones_like(x.flatten(1)[:, :3]), mem)
                out.append(spk + 0.0 * x.flatten(1)[:, :3])
            return torch.stack(out)

    model = Counts().eval()
    logits = spikeproof.wrap(model, X)(X, ATan(), KEYS)
    assert torch.equal(logits, model(X).mean(0))
    assert torch.allclose(logits, torch.full_like(logits, 0.5))  # silent at 1 and not reset, fires at 1.5


def test_the_quick_tier_with_its_audits_runs() -> None:
    model = trained(lambda: ByHand(snntorch.Leaky, beta=0.8), by_hand)
    with untouched(model):
        victim = spikeproof.wrap(model, X)
        found = examined(victim)
    assert {"pgd-20 dense twin", "corners-20", "genetic-4000 of 32 after apgd-50 dense twin"} <= set(found.left())
    assert {"sa-pgd-100 assg margin", "square-2000"} <= stages(victim)


def test_what_the_loop_does_not_do_is_refused_by_name() -> None:
    model = trained(lambda: ByHand(snntorch.Leaky, beta=0.8), by_hand)
    victim = spikeproof.wrap(model, X)
    for rule in (BPTR(), HART(), PDSG(), RGA()):
        with pytest.raises(UsageError, match=f"{type(rule).__name__}.*'hidden' gets one step"):
            victim(X, rule, KEYS)
    with pytest.raises(UsageError, match=r"through_reset=True.*the framework's own"):
        victim(X, ATan(through_reset=True), KEYS)
    assert victim.supports(ASSG())
    assert not victim.supports(SmoothTwin())
    undelayed = trained(lambda: ByHand(snntorch.Leaky, beta=0.8, reset_delay=False), by_hand)
    other = spikeproof.wrap(undelayed, X)
    with pytest.raises(UsageError, match="through_reset=False"):
        other(X, ATan(), KEYS)


def test_a_loop_without_delay_passes_gradients_through_its_reset() -> None:
    def make() -> nn.Module:
        model = ByHand(snntorch.Leaky, beta=0.8, reset_delay=False)
        model.out = snntorch.Leaky(beta=0.9, reset_delay=False)
        return model

    model = trained(make, by_hand)
    victim = spikeproof.wrap(model, X)
    assert victim.rule == ATan(through_reset=True)
    assert_the_same(victim, model, by_hand)


def test_a_state_that_nobody_resets_is_refused() -> None:
    class Forgets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.node = nn.Linear(64, 10), snntorch.Leaky(beta=0.9)
            self.mem = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            _, mem = self.node(self.fc(x.flatten(1)), self.mem[: len(x)].expand(len(x), 10))
            self.mem = mem.detach()[:1]
            return mem  # type: ignore[no-any-return]

    with pytest.raises(SpikeproofError, match=r"the number of steps.*keeps its state in between"):
        spikeproof.wrap(Forgets().eval(), X)


def test_a_neuron_that_fires_in_its_own_way_takes_a_rule_where_it_makes_its_spikes() -> None:
    class Fires(snntorch.Leaky):
        def fire(self, mem: Tensor) -> Tensor:
            return super().fire(mem - 0.1)

    model = trained(lambda: ByHand(Fires, beta=0.8), by_hand)
    victim = spikeproof.wrap(model, X)
    assert victim.notes[0] == "a rule gives the slope of 'ATan', found in code whose loop and reset stay"
    assert_the_same(victim, model, by_hand)
    assert victim.supports(WhiteBox(ATan()))
    assert victim.supports(ASSG())


def test_a_reset_that_walks_a_registry_reaches_the_copy_and_nobody_else() -> None:
    class TwoPasses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.node = nn.Linear(64, 10), snntorch.Leaky(beta=0.9, init_hidden=True)

        def once(self, x: Tensor) -> Tensor:
            utils.reset(self)
            return torch.stack([self.node(4 * self.fc(x.flatten(1))) for _ in range(4)]).mean(0)

        def forward(self, x: Tensor) -> Tensor:
            return self.once(x) + self.once(x.flip(-1))

    model, other = TwoPasses().eval(), TwoPasses().eval()
    with torch.no_grad():
        want = model(X)
        other(X[:3])
    before = other.node.mem.clone()
    assert torch.equal(spikeproof.wrap(model, X)(X, exact, KEYS), want)
    assert torch.equal(other.node.mem, before)
