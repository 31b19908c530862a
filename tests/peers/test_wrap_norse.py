"""Networks of Norse 1.1 as victims, held against Norse's own forward and backward."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from peers.wrapped import KEYS, X, assert_the_same, examined, gradient, stages, trained
from small import untouched
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.interop.sites import Own
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import graft

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is written for a torch whose jit was not deprecated
        import norse.torch as norse
except Exception as error:
    pytest.skip(f"Norse does not import here: {error!r}", allow_module_level=True)

T = 6


def constants(kind: Any = norse.LIFParameters, **options: Any) -> Any:
    return kind(tau_mem_inv=torch.tensor(500.0), tau_syn_inv=torch.tensor(500.0), v_th=torch.tensor(0.3), **options)


def cells(**options: Any) -> nn.Module:
    """Single steps, and a recurrent layer in the middle."""
    return norse.SequentialState(
        nn.Conv2d(1, 8, 3, padding=1), norse.LIFCell(constants(**options)), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 32), norse.LIFRecurrentCell(32, 32, constants(**options)), nn.Linear(32, 10), norse.LICell(),
    )  # fmt: skip


def lifted(**options: Any) -> nn.Module:
    """All steps at once."""
    return norse.SequentialState(
        norse.Lift(nn.Conv2d(1, 8, 3, padding=1)), norse.LIF(constants(**options)), norse.Lift(nn.MaxPool2d(2)),
        nn.Flatten(2), nn.Linear(128, 10), norse.LI(),
    )  # fmt: skip


class Loops(nn.Module):
    """The state by hand, in a loop of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.net = cells(**options)

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for _ in range(T):
            y, state = self.net(x, state)
            out.append(y)
        return torch.stack(out)


def step_by_step(model: nn.Module, x: Tensor) -> Tensor:
    state, out = None, []
    for step in x.expand(T, *x.shape):
        y, state = model(step, state)
        out.append(y)
    return torch.stack(out).mean(0)


def at_once(model: nn.Module, x: Tensor) -> Tensor:
    return model(x.expand(T, *x.shape))[0].mean(0)  # type: ignore[no-any-return]


def in_its_loop(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).mean(0)  # type: ignore[no-any-return]


FORMS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "s": (cells, step_by_step, {"steps": T, "step_mode": "s"}),
    "m": (lifted, at_once, {"steps": T}),
    "own loop": (Loops, in_its_loop, {}),
}


@pytest.mark.parametrize("method", ["super", "triangle", "tanh"])
@pytest.mark.parametrize("form", FORMS)
def test_a_network_is_theirs(form: str, method: str) -> None:
    make, logits, how = FORMS[form]
    model = trained(lambda: make(method=method, alpha=torch.tensor(1.0)), logits)
    with untouched(model):
        victim = spikeproof.wrap(model, X, **how)
    # Norse passes gradients through the reset of a LIF and not of a recurrent one: no one rule is both.
    one_rule = method == "triangle" and form == "m"
    assert victim.rule == (Triangle(through_reset=True) if one_rule else Own())
    assert all(note.startswith("the first of 2 things it returns") for note in victim.notes)
    assert_the_same(victim, model, logits)


def test_a_reset_without_a_gradient_is_the_rules_choice() -> None:
    """Norse's LIF has no such option: held against a copy of its dynamics written out here."""
    model = trained(lambda: lifted(method="triangle", alpha=torch.tensor(1.0)), at_once)
    victim = spikeproof.wrap(model, X, steps=T)

    def by_hand(x: Tensor, rule: Any) -> Tensor:
        v = i = u = j = torch.zeros(())
        out = []
        for _ in range(T):
            i = i + model[0].lifted_module(x)  # type: ignore[index,union-attr,operator]
            v = v + 0.5 * (i - v)
            i = 0.5 * i
            s = graft((v > 0.3).to(x), rule.primitive(v - 0.3))
            v = v * (1 - s.detach())
            pooled = nn.functional.max_pool2d(s, 2).flatten(1)
            j = j + model[4](pooled)  # type: ignore[index,operator]
            u = u + 0.1 * (j - u)
            j = 0.8 * j
            out.append(u)
        return torch.stack(out).mean(0)

    for rule in (ATan(), Triangle(alpha=0.5)):
        mine, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
        found, expected = victim(mine, rule, KEYS), by_hand(theirs, rule)
        assert torch.allclose(found, expected, atol=1e-5)
        one, other = gradient(found, mine), gradient(expected, theirs)
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()
        attached = gradient(victim(mine, type(rule)(alpha=rule.alpha, through_reset=True), KEYS), mine)
        assert (one - attached).abs().max() > 1e-3 * other.abs().max()


@pytest.mark.parametrize("form", ["s", "m"])
def test_the_quick_tier_with_its_audits_runs(form: str) -> None:
    make, logits, how = FORMS[form]
    model = trained(make, logits)
    with untouched(model):
        victim = spikeproof.wrap(model, X, **how)
        found = examined(victim)
    assert {"pgd-20 dense twin", "corners-20", "genetic-4000 of 32 after apgd-50 dense twin"} <= set(found.left())
    assert {"sa-pgd-100 assg margin", "square-2000"} <= stages(victim)


def test_what_the_loop_does_not_do_is_refused_by_name() -> None:
    victim = spikeproof.wrap(trained(Loops, in_its_loop), X)
    with pytest.raises(UsageError, match=r"BPTR.*'net\.1' gets one step"):
        victim(X, BPTR(), KEYS)
    with pytest.raises(UsageError, match=r"through_reset=True.*'net\.5'"):
        victim(X, ATan(through_reset=True), KEYS)
    assert victim.supports(ASSG())


def test_a_step_without_the_threshold_takes_a_rule_where_it_makes_its_spikes() -> None:
    """A refractory cell fires inside the step of another cell."""

    def make() -> nn.Module:
        refractory = norse.LIFRefracParameters(lif=constants())
        return norse.SequentialState(
            nn.Flatten(), nn.Linear(64, 32), norse.LIFRefracCell(refractory), nn.Linear(32, 10), norse.LICell()
        )

    model = trained(make, step_by_step)
    victim = spikeproof.wrap(model, X, steps=T, step_mode="s")
    assert victim.body.foreign == ()
    assert_the_same(victim, model, step_by_step)
    assert victim.supports(ASSG())
