"""`wrap` on what needs no framework: networks of nothing but torch, callables, and everything that must be refused."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from small import built, digits, untouched
from subjects import brief
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from spikeproof.attacks.square import Square
from spikeproof.encoders.latency import Latency
from spikeproof.errors import CutGraph, SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.spsa import SPSA
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation import panel as panel_file
from spikeproof.evaluation.judge import Case, outcomes
from spikeproof.evaluation.tiers import tier_of
from spikeproof.interop.sites import Own
from spikeproof.losses import margin
from spikeproof.metrics.robustness import summarise
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, graft, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.victims.batch import Batch
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim, borrowed

X, Y, IDS = digits(12)
KEYS = image_keys(0, IDS)


def seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def layers(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10), *last)


class HandMade(nn.Module):
    """A spiking network with a loop and a surrogate of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(144, 10)

    def forward(self, x: Tensor) -> Tensor:
        v, out = torch.zeros(()), []
        for _ in range(4):
            v = 0.5 * v + self.conv(x)
            s = graft((v > 0.3).to(x.dtype), torch.sigmoid(4 * (v - 0.3)))
            v = v * (1 - s.detach())
            out.append(self.fc(s.flatten(1)))
        return torch.stack(out)


def gradient(logits: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(F.cross_entropy(logits, Y), x)[0]


NO_SPIKES = (
    "no known neuron: every rule gives the network's own gradient; spikes of your own code can be named, "
    "wrap(..., spikes={MySpike: 'v'})"
)
FOUND = "a rule gives the slope of 'HandMade, straight through', found in code whose loop and reset stay"


@pytest.mark.parametrize(("make", "rule", "note"), [(layers, None, NO_SPIKES), (HandMade, Own(), FOUND)])
def test_a_plain_module_is_itself(make: Any, rule: Any, note: str) -> None:
    """Logits and input gradient in every bit, under every rule if it has no spikes; the module is left as it was."""
    model = seeded(make)
    with untouched(model):
        victim = spikeproof.wrap(model, X)
        mine, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
        logits, expected = victim(mine, rule or ATan(), KEYS), model(theirs)
        expected = expected.mean(0) if expected.dim() == 3 else expected
        assert torch.equal(logits, expected)
        assert torch.equal(gradient(logits, mine), gradient(expected, theirs))
    assert (victim.in_channels, victim.classes, victim.steps, victim.rule) == (1, 10, 1, rule)
    assert victim.notes == (note,)
    assert all(a is b for a, b in zip(victim.parameters(), model.parameters(), strict=True))
    assert all(a is b for a, b in zip(victim.buffers(), model.buffers(), strict=True))


WRAPPERS = [
    pytest.param(lambda model: torch.compile(model, backend="eager"), id="compiled"),
    pytest.param(
        nn.DataParallel, id="parallel",
        marks=pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs it wants its weights on them"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("make", [layers, HandMade])
@pytest.mark.filterwarnings("ignore")  # what torch.compile says of code that it cannot compile
@pytest.mark.parametrize("around", WRAPPERS)
def test_a_module_in_a_wrapper_of_torch_is_the_module(make: Any, around: Any) -> None:
    model = seeded(make)
    victim = spikeproof.wrap(around(model).eval(), X)
    mine, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
    logits, expected = victim(mine, Own(), KEYS), model(theirs)
    expected = expected.mean(0) if expected.dim() == 3 else expected
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(gradient(logits, mine), gradient(expected, theirs))
    assert all(a is b for a, b in zip(victim.parameters(), model.parameters(), strict=True))


def test_a_tier_runs_on_a_plain_module() -> None:
    model = seeded(layers)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for k in range(20):
        x, y, _ = digits(64, first=64 * k, split="train")
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    model.zero_grad()
    with untouched(model):
        found = spikeproof.evaluate(spikeproof.wrap(model, X), X, Y, ids=IDS, tier="smoke", eps=0.3)
    assert found.verdict.word != "not evaluated"
    assert found.robust.share < 0.5 < found.clean.share


def test_encoded_steps_go_through_a_module_at_once_or_one_by_one() -> None:
    """'m' and 's' of a layer that does not care for time are the same mean."""
    model = seeded(layers)

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, z: Tensor) -> Tensor:
            return self.inner(z.flatten(0, 1)).unflatten(0, (len(z), -1))  # type: ignore[no-any-return]

    whole = spikeproof.wrap(Timed().eval(), X, steps=3, encoder=Latency())
    single = spikeproof.wrap(model, X, steps=3, encoder=Latency(), step_mode="s")
    z = Latency()(X, 3, KEYS)
    assert torch.allclose(whole(X, exact, KEYS), torch.stack([model(step) for step in z]).mean(0), atol=1e-6)
    assert torch.allclose(whole(X, exact, KEYS), single(X, exact, KEYS), atol=1e-6)


def test_a_readout_decides_what_the_logits_are() -> None:
    model = seeded(HandMade)
    victim = spikeproof.wrap(model, X, readout=lambda out: out.sum(0))
    assert torch.equal(victim(X, exact, KEYS), model(X).sum(0))


def test_a_callable_is_attacked_as_a_black_box() -> None:
    """Square works; a gradient is refused as a cut graph; a tier is what only asks, and never 'supported'."""
    model = seeded(layers)
    victim = spikeproof.wrap(lambda x: model(x), X)
    copy = borrowed(victim)
    threat = Linf(eps=0.3, surface="pixels")
    right = (copy(X, exact, KEYS).argmax(1) == Y).nonzero()[:, 0]
    batch = Batch.of(copy, X, Y, IDS, 0).take(right)
    rows = outcomes(copy, batch, "square", Case(Square(20), SPSA(), margin), threat)
    assert len(rows) == len(right)
    scene = Scene(copy, X, Y, KEYS, "pixels")
    with pytest.raises(CutGraph):
        WhiteBox(ATan())(scene.objective(margin), X, None, 0)
    found = spikeproof.evaluate(victim, X, Y, tier="quick", eps=0.3)
    assert list(found.left()) == ["corners-20", "genetic-4000 of 32 after square-100"]
    assert found.verdict.word == "unsettled"
    assert found.verdict.red == ("attacks",)  # not D10: no white box has been led astray
    open_box = spikeproof.evaluate(spikeproof.wrap(model, X), X, Y, tier="quick", eps=0.3)
    assert found.clean == open_box.clean
    assert found.robust.share >= open_box.robust.share
    assert "can only be asked" in str(found)


def test_a_network_without_known_neurons_is_attacked_once_with_its_one_gradient() -> None:
    """Every rule gives it the same gradient, so a sweep over rules would be one attack under many names."""
    victim = spikeproof.wrap(seeded(layers), X)
    assert victim.one_gradient
    for tier in ("quick", "standard", "audit"):
        of = tier_of(tier, victim, ATan(), Linf(eps=0.1))
        assert "surrogates" in of.unfit
        assert "surrogates" not in of.audits
        cases = [stage.case for stage in of.stages]
        assert not [case for i, case in enumerate(cases) if case in cases[:i]]
        assert not [case for case in cases if isinstance(case.estimator, ASSG)]
        assert not [stage.name for stage in of.stages if "assg" in stage.name or "atan" in stage.name]
        assert (tier == "audit") == any(stage.name.startswith("sa-pgd") for stage in of.stages)
    found = spikeproof.evaluate(victim, X, Y, tier="quick", eps=0.1)
    (of_rules,) = [row for row in found.findings if row["code"] == "D8"]
    assert (of_rules["colour"], of_rules["says"]) == ("not run", "every rule gives this network's own gradient")


def test_a_stage_that_a_network_cannot_have_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Picky(Victim):
        def supports(self, estimator: object) -> bool:
            return not isinstance(estimator, ASSG)

    own = built().eval()
    threat = Linf(eps=0.1, surface="pixels")
    every = tier_of("audit", own, ATan(), threat).stages
    some = tier_of("audit", Picky(own.body, own.encoder, own.steps), ATan(), threat).stages
    gone = [stage for stage in every if isinstance(stage.case.estimator, ASSG)]
    assert len(gone) > 3
    assert [stage for stage in every if stage not in some] == gone
    assert [record.getMessage().split(" is left out")[0] for record in caplog.records] == [s.name for s in gone]


def test_what_is_left_out_is_said_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the verdict, in the text, and among the rows, where the page finds it."""

    class Picky(Victim):
        def supports(self, estimator: object) -> bool:
            return not isinstance(estimator, ASSG)

    monkeypatch.setattr(panel_file, "tier_of", lambda *given: brief(tier_of(*given), audits=["one_step"]))
    own = built().eval()
    picky = Picky(own.body, own.encoder, own.steps).eval()
    told, silent = (spikeproof.evaluate(v, X, Y, tier="audit", eps=0.1) for v in (picky, own))
    (row,) = [row for row in told.findings if row["code"] == "attacks"]
    assert row["colour"] == "not run"
    assert all("assg" in name or name == "fab-t-100" for name in row["detail"]["stages"])
    assert len(row["detail"]["stages"]) > 3
    assert "attacks" in told.verdict.absent
    assert "sa-pgd-100 assg margin" in str(told)
    assert not [row for row in silent.findings if row["code"] == "attacks"]
    panels = summarise(told.rows)["panels"]
    assert row["says"] in [audit["says"] for audit in panels[0]["audits"]]


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        out = x + 0.1 * self.last
        self.last = x.detach().mean(0)
        return out


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Prints(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print(x.shape)
        return x


class KeepsGraphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def with_(module: nn.Module) -> nn.Module:
    return layers(module).eval()


def diverged() -> nn.Module:
    model = layers().eval()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = float("nan")
    return model


BAD: dict[str, tuple[Any, str]] = {
    "train mode": (lambda: layers().train(), "eval mode, got the model"),
    "half precision": (lambda: layers().eval().half(), r"float16 on cpu: 'weight' of '0' \(Conv2d\)"),
    "one layer in double": (lambda: with_(nn.Linear(10, 10).double()), r"float64 on cpu: 'weight' of '5' \(Linear\)"),
    "another device": (lambda: with_(nn.Linear(10, 10, device="meta")), r"on meta: 'weight' of '5' \(Linear\)"),
    "softmax": (lambda: with_(nn.Softmax(1)), "probabilities"),
    "prints": (lambda: with_(Prints()), r"from '5' \(Prints\)"),
    "keeps graphs": (lambda: with_(KeepsGraphs()), r"graph that pile up in '5' \(KeepsGraphs\)"),
    "remembers": (lambda: with_(Remembers()), r"'5' \(Remembers\) remembers"),
    "draws noise": (lambda: with_(Noisy()), "noise is drawn"),
    "NaN weights": (lambda: diverged(), r"finite numbers in the weights, got NaN or infinity: 'weight' of '0'"),
    "no logits": (lambda: nn.Conv2d(1, 3, 3).eval(), r"got shape \(7, 3, 6, 6\)"),
    "fails": (lambda: nn.Linear(3, 3).eval(), "RuntimeError"),
    "cannot be copied": (lambda: with_(Locked()), "deepcopy"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_evaluated_is_refused_with_the_name_of_the_module(name: str) -> None:
    make, message = BAD[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
        with pytest.raises(SpikeproofError, match=message):
            spikeproof.wrap(model, X)


def test_one_layer_in_train_mode_is_named() -> None:
    model = seeded(layers)
    model[1].train()
    with pytest.raises(SpikeproofError, match=r"'1' \(BatchNorm2d\) in train mode"):
        spikeproof.wrap(model, X)


def test_less_than_single_precision_is_refused_of_images_too() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(SpikeproofError, match=rf"float32 or float64, got {dtype}.*images.float\(\) and model"):
            spikeproof.wrap(seeded(layers).to(dtype), X.to(dtype))
    assert spikeproof.wrap(seeded(layers).double(), X.double())(X.double(), exact, KEYS).dtype == torch.float64


class Counts(nn.Module):
    """Counts its calls, in a buffer and in a plain tensor, which no logit depends on."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.also = torch.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.also += 1
        return x


def test_what_the_model_writes_to_is_its_own_and_its_statistics_are_shared() -> None:
    counter = Counts()
    model = seeded(lambda: layers(counter))
    victim = spikeproof.wrap(model, X)
    victim(X, exact, KEYS)
    assert (float(counter.count), float(counter.also.sum())) == (0.0, 0.0)
    other = seeded(lambda: layers(Counts()))
    with torch.no_grad():
        other[1].running_mean.fill_(0.5)
    model.load_state_dict(other.state_dict())
    assert torch.equal(victim(X, exact, KEYS), other(X))


def test_options_that_do_not_fit_are_refused() -> None:
    model = seeded(layers)
    with pytest.raises(UsageError, match="steps with an encoder"):
        spikeproof.wrap(model, X, encoder=Latency())
    with pytest.raises(UsageError, match="steps with an encoder"):
        spikeproof.wrap(model, X, step_mode="s")
    for images in (X[:1], X[0], X.flatten(1)):
        with pytest.raises(SpikeproofError, match=r"two images \(B,C,H,W\)"):
            spikeproof.wrap(model, images)
    with pytest.raises(SpikeproofError, match="floating-point pixels"):
        spikeproof.wrap(model, (255 * X).to(torch.uint8))
    with pytest.raises(SpikeproofError, match=r"float64 on cpu, got torch\.float32"):
        spikeproof.wrap(model, X.double())
    with pytest.raises(SpikeproofError, match=r"pixels in \[0,1\]"):
        spikeproof.wrap(model, 255 * X)


def test_a_graph_that_the_model_holds_from_before_is_no_obstacle() -> None:
    """SpikingJelly and snnTorch keep the last membrane with its graph, which copy.deepcopy refuses."""
    model = with_(nn.Identity())
    model.state = model(X)  # type: ignore[assignment]
    victim = spikeproof.wrap(model, X)
    assert victim.body.network.state.grad_fn is None  # type: ignore[union-attr]
    assert model.state.grad_fn is not None


def test_a_call_that_fails_leaves_nothing_bound() -> None:
    victim = spikeproof.wrap(seeded(layers), X)
    with pytest.raises(RuntimeError):
        victim.classify(torch.zeros(1, 2, 1, 3, 3), exact)
    assert victim.body.switch.rule is None
    assert victim.classify(X[None], exact).shape == (12, 10)
