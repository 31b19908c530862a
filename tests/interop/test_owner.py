"""`wrap` and `check` answer as the owner's own object does, called its owner's way, or refuse, and leave it be."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from small import digits
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.tensors import exact, image_keys

X, Y, IDS = digits(12)
KEYS = image_keys(0, IDS)
T = 5


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, height: Tensor) -> Tensor:
        ctx.save_for_backward(height)
        return (height > 0).to(height.dtype)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (height,) = ctx.saved_tensors
        return slope / (1 + 4 * height.abs()) ** 2  # type: ignore[no-any-return]


def spikes(height: Tensor) -> Tensor:
    return Spike.apply(height)  # type: ignore[no-any-return, no-untyped-call]


class Layers(nn.Module):
    """Two layers of leaky neurons; `step` takes their membranes and returns the output and the new ones."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 32), nn.Linear(32, 10)

    def step(self, x: Tensor, u: Any, v: Any) -> tuple[Tensor, Tensor, Tensor]:
        u = 0.7 * (0 if u is None else u) + 2 * self.a(x.flatten(1))
        s = spikes(u - 0.4)
        v = 0.8 * (0 if v is None else v) + self.b(s)
        return v - 0.1, u * (1 - s.detach()), v

    def loop(self, x: Tensor, steps: int = T) -> list[Tensor]:
        """The owner's own loop."""
        u = v = None
        found = []
        for _ in range(steps):
            out, u, v = self.step(x, u, v)
            found.append(out)
        return found

    def mean(self, x: Tensor, steps: int = T) -> Tensor:
        return torch.stack(self.loop(x, steps)).mean(0)


def made(kind: type[Layers]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


def logits(victim: Any, x: Tensor = X) -> Tensor:
    with torch.no_grad():
        return victim(x, exact, KEYS[: len(x)])  # type: ignore[no-any-return]


# --- states that are handed over ---


class ByHand(Layers):
    def forward(self, x: Tensor, u: Any = None, v: Any = None) -> Any:
        return self.step(x, u, v)


class Optional(Layers):
    """An argument that is no state stands before the states."""

    def forward(self, x: Tensor, gain: float = 1.0, u: Any = None, v: Any = None) -> Any:
        return self.step(gain * x, u, v)


class OneTuple(Layers):
    def forward(self, x: Tensor, states: Any = None) -> Any:
        out, *states = self.step(x, *(states or (None, None)))
        return out, tuple(states)


class Taken(Layers):
    """One tuple comes back, and two arguments take it."""

    def forward(self, x: Tensor, u: Any = None, v: Any = None) -> Any:
        out, *states = self.step(x, u, v)
        return out, states


class Packed(Layers):
    """Two things come back, and one argument takes both."""

    def forward(self, x: Tensor, states: Any = None) -> Any:
        u, v = states or (None, None)
        return self.step(x, u, v)


class Any_(Layers):
    def forward(self, x: Tensor, *states: Any) -> Any:
        return self.step(x, *(states or (None, None)))


class Keywords(Layers):
    def forward(self, x: Tensor, *, u: Any = None, v: Any = None, verbose: bool = False) -> Any:
        return self.step(x, u, v)


class FromZero(Layers):
    def forward(self, x: Tensor, u: Any = 0.0, v: Any = 0) -> Any:
        return self.step(x, u, v)


class FromNothing(Layers):
    def forward(self, x: Tensor, states: Any = ()) -> Any:
        out, *states = self.step(x, *(states or (None, None)))
        return out, states


class BesideNone(Layers):
    def forward(self, x: Tensor, u: Any = None, v: Any = None) -> Any:
        out, u, v = self.step(x, u, v)
        return out, None, u, v


STATES: list[type[Layers]] = [
    ByHand, Optional, OneTuple, Taken, Packed, Any_, Keywords, FromZero, FromNothing, BesideNone
]  # fmt: skip


@pytest.mark.parametrize("kind", STATES, ids=lambda kind: kind.__name__)
def test_states_are_handed_over_as_its_owner_does(kind: type[Layers]) -> None:
    model = made(kind)
    victim = spikeproof.wrap(model, X, steps=T)
    assert victim.body.feed == "steps"
    assert torch.equal(logits(victim), model.mean(X))
    with pytest.raises(SpikeproofError, match=r"number of steps.*is handed its states.*steps=T, step_mode='s'"):
        spikeproof.wrap(model, X)


class TwoWays(Layers):
    """Which of two returned things is the state, nobody can see."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        out, _, v = self.step(x, None, state)
        return out, v, 2 * v


def test_of_several_ways_with_other_logits_none_is_taken() -> None:
    with pytest.raises(SpikeproofError, match="several ways, with other logits"):
        spikeproof.wrap(made(TwoWays), X, steps=T)
    assert spikeproof.check(made(TwoWays), X, steps=T)["layout"].verdict == "refuse"


class Masked(Layers):
    """An attention comes back beside the logits, and an optional argument that changes them could take it."""

    def forward(self, x: Tensor, mask: Any = None) -> Any:
        out = self.mean(x)
        return out if mask is None else out * mask, out.softmax(1)[:, :1]


class MaskedOnce(Layers):
    """The same without a loop."""

    def forward(self, x: Tensor, mask: Any = None) -> Any:
        out = self.step(x, None, None)[0]
        return out if mask is None else out * mask, out.softmax(1)[:, :1]


class Targeted(Layers):
    """Nothing comes back beside the logits, but for a loss where there is a target."""

    def forward(self, x: Tensor, target: Any = None) -> Any:
        out = self.step(x, None, None)[0]
        return out, None if target is None else (out - target).square().mean()


class Labelled(Layers):
    """The loss comes first where labels are given, as in many libraries."""

    def forward(self, pixels: Tensor, labels: Any = None) -> Any:
        out, hidden, _ = self.step(pixels, None, None)
        return (out, hidden) if labels is None else (out.mean() - labels.mean(), out, hidden)


@pytest.mark.parametrize("kind", [Masked, Targeted, Labelled], ids=lambda kind: kind.__name__)
def test_an_optional_argument_that_is_no_state_is_left_out(kind: type[Layers]) -> None:
    model = made(kind)
    victim = spikeproof.wrap(model, X)
    assert victim.body.feed == "images"
    assert torch.equal(logits(victim), model(X)[0])


@pytest.mark.parametrize(("kind", "steps"), [(MaskedOnce, None), (MaskedOnce, T), (Masked, T)])
def test_what_cannot_be_told_from_a_state_is_refused_by_its_name(kind: type[Layers], steps: int | None) -> None:
    with pytest.raises(SpikeproofError, match=r"got mask: .*does not go on.*forward\(x\) alone"):
        spikeproof.wrap(made(kind), X, steps=steps)


# --- what comes back ---


class Lists(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.loop(x)


class ListOfTwo(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.loop(x, 2)


class Pair(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.loop(x), [out.detach() for out in self.loop(x)]


class TimeSecond(Layers):
    def forward(self, x: Tensor) -> Any:
        return torch.stack(self.loop(x), 1)


class InHalf(Layers):
    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return self.mean(x)


class Fixed(Layers):
    """States of one number of images."""

    size = 6

    def forward(self, x: Tensor) -> Any:
        u = torch.zeros(self.size, 32)
        v = torch.zeros(self.size, 10)
        outs = []
        for _ in range(T):
            out, u, v = self.step(x, u, v)
            outs.append(out)
        return torch.stack(outs).mean(0)


class InPlace(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.mean(x.sub_(0.1).clamp_(min=0.0))


class Reshapes(Layers):
    def forward(self, x: Tensor) -> Any:
        x.unsqueeze_(1)
        return self.mean(x[:, 0])


class Overwrites(Layers):
    def forward(self, x: Tensor) -> Any:
        self._rate = self.mean(x)
        self.kept = {"now": [self._rate]}
        return self._rate


def by_owner(model: Any, x: Tensor = X) -> Tensor:
    """Whatever it returns, by hand; a batch of six at a time where it takes no other."""
    with torch.no_grad():
        if isinstance(model, Fixed):
            return torch.cat([model(part) for part in x.split(Fixed.size)])
        out = model(x.clone())
        if isinstance(model, Pair):
            out = out[0]
        out = torch.stack(out).mean(0) if isinstance(out, list) else out
        return (out.mean(1) if out.dim() == 3 else out).float()  # type: ignore[no-any-return]


RETURNED: list[type[Layers]] = [Lists, ListOfTwo, Pair, TimeSecond, InHalf, Fixed, InPlace, Reshapes, Overwrites]


@pytest.mark.parametrize("kind", RETURNED, ids=lambda kind: kind.__name__)
def test_what_comes_back_is_read_as_it_is_meant(kind: type[Layers]) -> None:
    model = made(kind)
    victim = spikeproof.wrap(model, X)
    assert torch.equal(logits(victim), by_owner(model))
    assert any("first of 2 things" in note for note in victim.notes) == (kind is Pair)
    found = spikeproof.check(model, X)
    assert not found.refused, str(found)
    point = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(victim(point, victim.rule or exact, KEYS).sum(), point)
    assert bool(slope.any())
    assert all(t.grad_fn is None for t in vars(victim.body.network).values() if isinstance(t, Tensor))


@pytest.mark.parametrize("count", [2, T, 11])
def test_time_second_is_told_from_the_batch_where_both_are_as_long(count: int) -> None:
    model = made(TimeSecond)
    assert torch.equal(logits(spikeproof.wrap(model, X[:count]), X[:count]), by_owner(model, X[:count]))


def test_a_fixed_batch_is_found_by_its_message_and_filled_up() -> None:
    model = made(Fixed)
    victim = spikeproof.wrap(model, X[:4])
    assert victim.body.batch == Fixed.size
    assert torch.equal(logits(victim, X[:1]), by_owner(model)[:1])


class Tuple_(Layers):
    def forward(self, x: Tensor) -> Any:
        return tuple(self.loop(x))


class Named(Layers):
    def forward(self, x: Tensor) -> Any:
        return {"logits": self.mean(x), "rate": x.mean()}


class OneNumber(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.mean(x)[:, :1]


class Counts(Layers):
    def forward(self, x: Tensor) -> Any:
        return (self.mean(x) > 0).sum(1, keepdim=True).expand(-1, 3)


class SqueezedOut(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.mean(x).squeeze()


class SqueezedIn(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.mean(x.squeeze().flatten(1))


class Record(NamedTuple):
    hidden: Tensor
    logits: Tensor


class Fields(Layers):
    def forward(self, x: Tensor) -> Any:
        return Record(self.a(x.flatten(1)), self.mean(x))


class OtherFields(Layers):
    def forward(self, x: Tensor) -> Any:
        return Record(self.mean(x), self.mean(x)[None])


class ListOfThreeAxes(Layers):
    def forward(self, x: Tensor) -> Any:
        return [out[None] for out in self.loop(x)]


class ListOfLists(Layers):
    def forward(self, x: Tensor) -> Any:
        return [[out, 0 * out] for out in self.loop(x)]


class StepsAndHidden(Layers):
    def forward(self, x: Tensor) -> Any:
        return [*self.loop(x), self.a(x.flatten(1))]


def test_the_logits_of_a_record_are_read_and_a_list_is_said_to_be_steps() -> None:
    model = made(Fields)
    victim = spikeproof.wrap(model, X)
    assert torch.equal(logits(victim), model(X).logits)
    assert "Record.logits is read, and not the rest" in victim.notes
    assert f"a list of {T} is read as {T} steps" in spikeproof.wrap(made(Lists), X).notes
    assert f"a list of {T} is read as {T} steps" in spikeproof.check(made(Lists), X)["layout"].says


REFUSED: dict[type[Layers], tuple[str, str]] = {
    OtherFields: ("Record of 'hidden', 'logits'", r"readout=lambda out: out\.logits"),
    ListOfThreeAxes: (r"a list of 5 tensors \(1, \d+, 10\)", r"torch\.cat\(out\)\.mean\(0\)"),
    ListOfLists: ("a list of 5, each a list", r"step\[0\] for step in out"),
    StepsAndHidden: ("a list of 6 things of several shapes", r"torch\.stack\(out\[:-1\]\)"),
    Tuple_: ("a tuple of 5 tensors", r"torch\.stack\(out\)\.mean\(0\)"),
    Named: ("dict of 'logits', 'rate'", r"readout=lambda out: out\['logits'\]"),
    OneNumber: (r"two classes or more, got shape", r"readout=lambda z"),
    Counts: ("floating-point numbers, got torch.int64", "spikes themselves"),
    SqueezedOut: (r"\(1,K\).*got shape \(10,\)", r"squeeze\(-1\), not squeeze\(\)"),
    SqueezedIn: ("called on 1 images, got RuntimeError in 'a'", r"squeeze\(-1\)"),
}


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_what_cannot_be_read_is_refused_with_a_mend(kind: type[Layers]) -> None:
    says, mend = REFUSED[kind]
    with pytest.raises(SpikeproofError, match=says) as refused:
        spikeproof.wrap(made(kind), X)
    assert re.search(mend, refused.value.mend), refused.value.mend
    assert spikeproof.check(made(kind), X).refused


def test_the_mend_of_a_refusal_can_be_followed() -> None:
    steps = spikeproof.wrap(made(Tuple_), X, readout=lambda out: torch.stack(out).mean(0))
    named = spikeproof.wrap(made(Named), X, readout=lambda out: out["logits"])
    assert torch.equal(logits(steps), made(Layers).mean(X))
    assert torch.equal(logits(named), made(Layers).mean(X))
    one = spikeproof.wrap(made(OneNumber), X,
                          readout=lambda z: torch.stack([0 * z.flatten(), z.flatten()], 1))  # fmt: skip
    assert logits(one).shape == (12, 2)


# --- hooks, and what lies outside of the module ---


class Whole(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.mean(x)


def test_hooks_that_look_do_not_run_in_copies_and_their_records_stay() -> None:
    model, seen, count = made(Whole), [], 0

    def counts(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal count
        count += 1
        seen.append(output)

    class Monitor:
        def __init__(self) -> None:
            self.rates: dict[int, Tensor] = {}

        def look(self, module: nn.Module, inputs: Any) -> None:
            self.rates[len(self.rates)] = inputs[0]

    monitor, slopes = Monitor(), []
    model.a.register_forward_hook(counts)
    model.b.register_forward_pre_hook(monitor.look)
    model.b.register_full_backward_hook(lambda module, given, got: slopes.append(got))
    want = model(X)
    before = count, len(seen), len(monitor.rates)
    victim = spikeproof.wrap(model, X)
    assert not spikeproof.check(model, X).refused
    spikeproof.sparsity(victim, X, Y)
    assert torch.equal(logits(victim), want)
    assert (count, len(seen), len(monitor.rates), len(slopes)) == (*before, 0)
    model(X)
    assert count == before[0] + T  # they are where they were


def test_hooks_that_answer_are_part_of_the_network() -> None:
    model = made(Whole)
    model.register_forward_pre_hook(lambda module, inputs: ((inputs[0] - 0.2) / 0.7,))
    model.b.register_forward_hook(lambda module, inputs, output: 1.5 * output)
    assert torch.equal(logits(spikeproof.wrap(model, X)), model(X))


class Restless(Whole):
    """Remembers, unless somebody resets it."""

    last: Any = 0.0

    def forward(self, x: Tensor) -> Any:
        out = self.mean(x) + self.last
        self.last = out.detach().mean()
        return out


def test_a_hook_that_resets_is_part_of_the_network() -> None:
    model = made(Restless)
    model.register_forward_pre_hook(lambda module, inputs: setattr(module, "last", 0.0))
    assert torch.equal(logits(spikeproof.wrap(model, X)), model(X))
    with pytest.raises(SpikeproofError):
        spikeproof.wrap(made(Restless), X)


class Registered(Whole):
    """Its reset walks a list of all that were ever made, as some libraries' do, so that it reaches no copy."""

    everyone: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__()
        self.last: Any = 0.0
        Registered.everyone.append(self)

    def forward(self, x: Tensor) -> Any:
        for one in Registered.everyone:
            one.last = 0.0
        first = self.mean(x)
        self.last = self.last + first.detach().mean()
        return self.once_more(x)

    def once_more(self, x: Tensor) -> Tensor:
        for one in Registered.everyone:
            one.last = 0.0
        return self.mean(x.flip(-1)) + self.last


def test_a_copy_that_answers_otherwise_than_the_object_is_refused() -> None:
    model = made(Registered)
    with pytest.raises(SpikeproofError, match=r"the logits of the model itself from a copy of it|remembers"):
        spikeproof.wrap(model, X)
    Registered.everyone.clear()


def test_the_object_is_left_as_it_was() -> None:
    model = made(Whole)
    model.counts, model.note = [1], {"seen": torch.zeros(3)}
    forward = model.forward

    def counting(x: Tensor) -> Any:
        model.counts.append(2)
        model.note["seen"].add_(1.0)
        model.fresh = x
        return forward(x)

    model.forward = counting
    before = {name: copy.deepcopy(value) for name, value in vars(model).items() if name in ("counts", "note")}
    spikeproof.check(model, X)
    assert model.counts == before["counts"]
    assert torch.equal(model.note["seen"], before["note"]["seen"])
    assert not hasattr(model, "fresh")


# --- scripted, compiled, other modes, other types ---


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_compiled_networks_are_taken() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).eval()
    for model in (torch.jit.trace(plain, X), torch.jit.script(plain), torch.compile(plain)):
        victim = spikeproof.wrap(model, X)
        torch.testing.assert_close(logits(victim), plain(X).detach())
        assert not spikeproof.check(model, X).refused
        spikeproof.evaluate(victim, X, Y, tier="smoke", eps=0.05)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_modes_stay_outside(mode: Callable[[], Any]) -> None:
    model = made(Whole)
    victim = spikeproof.wrap(model, X)
    plain = spikeproof.sparsity(victim, X, Y)
    with mode():
        x = X * 1.0
        inside = spikeproof.wrap(model, x)
        assert not spikeproof.check(model, x).refused
        assert spikeproof.sparsity(inside, x, Y) == plain
    assert torch.equal(logits(inside), logits(victim))


def test_weights_of_inference_mode_are_taken() -> None:
    with torch.inference_mode():
        model = made(Whole)
    assert not spikeproof.check(model, X).refused


class OwnBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        raise ZeroDivisionError("never differentiated before")


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return OwnBackward.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.detach()).sqrt() + x


def with_inside(module: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), module, nn.Tanh(), nn.Linear(16, 10)).eval()


def test_what_a_backward_raises_is_a_refusal_with_the_module() -> None:
    model = with_inside(Broken())
    found = spikeproof.check(model, X)["gradient"]
    assert (found.verdict, "ZeroDivisionError in '2' (Broken)" in found.says) == ("refuse", True)
    victim = spikeproof.wrap(model, X)
    y = logits(victim).argmax(1)
    for call in (spikeproof.sparsity, lambda v, x, y: spikeproof.evaluate(v, x, y, tier="smoke", eps=0.1)):
        with pytest.raises(SpikeproofError, match="a backward that runs, got ZeroDivisionError"):
            call(victim, X, y)


def test_a_gradient_that_is_not_finite_is_refused_with_the_module() -> None:
    model = with_inside(Root())
    victim = spikeproof.wrap(model, X)
    y = logits(victim).argmax(1)
    for call in (spikeproof.sparsity, lambda v, x, y: spikeproof.evaluate(v, x, y, tier="smoke", eps=0.1)):
        with pytest.raises(SpikeproofError, match=r"NaN or infinity.*overflows in '2' \(Root\)"):
            call(victim, X, y)
    assert "from '2' (Root)" in spikeproof.check(model, X)["gradient"].says


def test_images_and_labels_are_taken_as_people_have_them() -> None:
    model = made(Whole)
    victim = spikeproof.wrap(model, X.numpy())
    wanted = spikeproof.sparsity(victim, X, Y)
    for labels in (Y.int(), Y.byte(), Y.numpy(), Y.numpy().astype(np.uint16), Y.tolist(), tuple(Y), list(Y)):
        assert spikeproof.sparsity(victim, X.numpy(), labels, ids=IDS.tolist()) == spikeproof.sparsity(
            victim, X, Y, ids=IDS
        )
        assert "accuracy" in str(spikeproof.check(model, X.numpy(), labels))
    assert spikeproof.sparsity(victim, X.numpy(), Y.numpy()) == wanted


def test_labels_of_anything_that_is_an_array_are_taken() -> None:
    class Column:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return Y.numpy()

    victim = spikeproof.wrap(made(Whole), X)
    assert spikeproof.sparsity(victim, X, Column()) == spikeproof.sparsity(victim, X, Y)  # type: ignore[arg-type]


BAD: dict[str, tuple[Any, Any, str]] = {
    "bytes": ((255 * X).byte(), Y, r"images.float\(\) / 255"),
    "bytes, numpy": ((255 * X).byte().numpy(), Y, r"images.float\(\) / 255"),
    "double": (X.double(), Y, r"images.float\(\)"),
    "a list": (list(X), Y, r"torch.stack"),
    "text": (np.array(["a"] * 12), Y, "numbers"),
    "float labels": (X, Y.float(), r"labels.long\(\)"),
    "one hot": (X, nn.functional.one_hot(Y, 10), r"labels.argmax\(1\)"),
    "a column": (X, Y[:, None], r"labels.flatten\(\)"),
    "words": (X, ["seven"] * 12, "whole numbers"),
    "fewer": (X, Y[:5], "one label for each image"),
    "none": (X, None, "whole numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_images_and_labels_are_refused_with_a_mend(case: str) -> None:
    images, labels, says = BAD[case]
    victim = spikeproof.wrap(made(Whole), X)
    for call in (spikeproof.sparsity, lambda v, x, y: spikeproof.evaluate(v, x, y, tier="smoke", eps=0.1)):
        with pytest.raises(SpikeproofError, match=says):
            call(victim, images, labels)


def test_what_is_no_victim_and_no_network_is_refused() -> None:
    for given in (object(), made(Whole), "model.pth", None):
        with pytest.raises(SpikeproofError, match=r"a victim, got .*spikeproof\.wrap"):
            spikeproof.evaluate(given, X, Y)  # type: ignore[arg-type]
        with pytest.raises(SpikeproofError, match="a victim"):
            spikeproof.sparsity(given, X, Y)  # type: ignore[arg-type]
    for given, says in ((object(), "a network, an nn.Module"), (Whole, r"the class Whole.*Whole\(\)")):
        for ask in (spikeproof.wrap, spikeproof.check):
            with pytest.raises(UsageError, match=says):
                ask(given, X)  # type: ignore[operator]


@pytest.mark.parametrize("eps", [1, 1.0, 8, "8", "255/255"])
def test_a_budget_of_the_whole_box_is_refused(eps: Any) -> None:
    victim = spikeproof.wrap(made(Whole), X)
    with pytest.raises(UsageError, match=r"eps below 1 in Linf.*units of \[0,1\]"):
        spikeproof.evaluate(victim, X, Y, eps=eps)


def test_the_owners_accuracy_is_met_or_not() -> None:
    model = made(Whole)
    labels = model(X).argmax(1)
    met = spikeproof.check(model, X, labels, accuracy=0.97)["accuracy"]
    assert (met.verdict, "the 97 % of its owner are met" in met.says) == ("ok", True)
    single = np.float32(0.97)
    assert spikeproof.check(model, X, labels, accuracy=single)["accuracy"].verdict == "ok"  # type: ignore[arg-type]
    missed = spikeproof.check(model, X, (labels + 1) % 10, accuracy=0.97)["accuracy"]
    assert (missed.verdict, "not met" in missed.says) == ("warn", True)
    for given, says in ((97, "0.92 for 92 %"), ("high", "a share")):
        with pytest.raises(UsageError, match=says):
            spikeproof.check(model, X, labels, accuracy=given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="labels with the accuracy"):
        spikeproof.check(model, X, accuracy=0.9)


ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    *[({"steps": steps}, r"steps in 1\.\.") for steps in (-1, 0, 2.5, "4", True, 10**9)],
    *[({"tolerance": given}, "a tolerance in") for given in (None, "a", float("nan"), -1, True)],
    ({"steps": 2, "step_mode": "x"}, "a step_mode, got 'x'"),
    ({"readout": 3}, "a readout, .* got 3"),
]


@pytest.mark.parametrize(("options", "says"), ARGUMENTS, ids=str)
def test_other_arguments_are_refused_before_anything_runs(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        spikeproof.wrap(made(Whole), X, **options)
    if "steps" in options and "step_mode" not in options:
        with pytest.raises(UsageError, match=says):
            spikeproof.check(made(Whole), X, **options)


def test_numbers_of_numpy_are_numbers_of_steps() -> None:
    victim = spikeproof.wrap(made(ByHand), X, steps=np.int64(T))  # type: ignore[arg-type]
    assert torch.equal(logits(victim), made(ByHand).mean(X))
    assert not spikeproof.check(made(ByHand), X, steps=np.int64(T)).refused  # type: ignore[arg-type]


class Viewed(Layers):
    """A batch of six, which it says as one word with another number."""

    def forward(self, x: Tensor) -> Any:
        return self.mean(x.reshape(6, -1))


def test_a_fixed_batch_is_found_in_a_word_with_another_number() -> None:
    model = made(Viewed)
    victim = spikeproof.wrap(model, X[:3])
    assert victim.body.batch == 6
    assert torch.equal(logits(victim, X[:2]), model(X[:6])[:2])
