"""Networks of SpikingJelly 2 as victims, held against SpikingJelly's own forward and backward."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peers.wrapped import IDS, KEYS, X, Y, assert_the_same, examined, gradient, stages, trained
from small import untouched
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.estimators.assg import ASSG
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.interop.sites import Own
from spikeproof.measures.gradients import gradient_rows
from spikeproof.rules.atan import ATan
from spikeproof.rules.bptr import BPTR
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import exact
from spikeproof.victims.batch import Batch

try:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
except Exception as error:
    pytest.skip(f"SpikingJelly does not import here: {error!r}", allow_module_level=True)

T = 4


def network(kind: Any = neuron.IFNode, mode: str = "m", **options: Any) -> nn.Sequential:
    options = {"surrogate_function": surrogate.ATan(), "detach_reset": True, **options}
    made = nn.Sequential(
        layer.Conv2d(1, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), kind(**options), layer.MaxPool2d(2),
        layer.Flatten(), layer.Linear(128, 10), kind(**options),
    )  # fmt: skip
    functional.set_step_mode(made, mode)
    return made


def over_steps(model: nn.Module, x: Tensor) -> Tensor:
    """As SpikingJelly's examples do it."""
    functional.reset_net(model)
    z = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
    if any(getattr(m, "step_mode", "s") == "m" for m in model.modules()):
        return model(z).mean(0)  # type: ignore[no-any-return]
    return torch.stack([model(step) for step in z]).mean(0)


def on_images(model: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(model)
    return model(x)  # type: ignore[no-any-return]


NODES: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "if": (neuron.IFNode, {}, ATan()),
    "if, soft, attached": (neuron.IFNode, {"v_reset": None, "detach_reset": False}, ATan(through_reset=True)),
    "lif": (neuron.LIFNode, {"surrogate_function": surrogate.Sigmoid(alpha=4.0)}, Sigmoid()),
    "lif, not decayed": (neuron.LIFNode, {"decay_input": False, "v_reset": -0.2, "tau": 3.0}, ATan()),
    "plif": (neuron.ParametricLIFNode, {"surrogate_function": surrogate.PiecewiseQuadratic()}, Triangle()),
    "plif, attached": (neuron.ParametricLIFNode, {"detach_reset": False}, ATan(through_reset=True)),
    "a surrogate of theirs": (neuron.LIFNode, {"surrogate_function": surrogate.SoftSign()}, Own()),
}


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("name", NODES)
def test_a_network_is_theirs(name: str, mode: str) -> None:
    kind, options, rule = NODES[name]
    model = trained(lambda: network(kind, mode, **options), over_steps)
    model(X.expand(T, *X.shape) if mode == "m" else X)  # a membrane with its graph is left in it
    with untouched(model):
        victim = spikeproof.wrap(model, X, steps=T)
    assert victim.rule == rule
    assert victim.notes == ()
    assert victim.body.feed == {"m": "all_steps", "s": "folded"}[mode]
    assert_the_same(victim, model, over_steps)


AROUND = [
    pytest.param(lambda model: torch.compile(model, backend="eager"), id="compiled"),
    pytest.param(
        nn.DataParallel, id="parallel",
        marks=pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs it wants its weights on them"),
    ),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # what torch.compile says of code that it cannot compile
@pytest.mark.parametrize("around", AROUND)
def test_a_network_in_a_wrapper_of_torch_is_rewired_too(around: Any) -> None:
    """Also where its owner has called the wrapper, which has compiled the code of the nodes themselves."""
    model = trained(network, over_steps)
    whole = around(model).eval()
    over_steps(whole, X)
    functional.reset_net(model)
    victim = spikeproof.wrap(whole, X, steps=T)
    assert len(victim.body.sites()) == 2
    assert_the_same(victim, model, over_steps)
    bare = spikeproof.wrap(model, X, steps=T)
    for rule in (ATan(alpha=7.0), Triangle()):
        mine, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
        torch.testing.assert_close(gradient(victim(mine, rule, KEYS), mine), gradient(bare(theirs, rule, KEYS), theirs))


class Repeats(nn.Module):
    """The form of SpikingJelly's tutorials: an image in, its own steps inside."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.inner, self.mode = network(neuron.LIFNode, mode), mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "m":
            return self.inner(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]
        return sum(self.inner(x) for _ in range(T)) / T  # type: ignore[return-value]


@pytest.mark.parametrize("mode", ["m", "s"])
def test_a_network_that_makes_its_own_steps(mode: str) -> None:
    model = trained(lambda: Repeats(mode), on_images)
    victim = spikeproof.wrap(model, X)
    assert victim.rule == ATan()
    assert_the_same(victim, model, on_images)
    assert victim.supports(WhiteBox(BPTR())) == (mode == "m")
    assert victim.supports(ASSG())


def recurrent() -> nn.Module:
    node = neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True)
    return nn.Sequential(
        layer.Flatten(), layer.Linear(64, 32), layer.LinearRecurrentContainer(node, 32, 32), layer.Linear(32, 10)
    )


def test_a_recurrent_network_goes_step_by_step() -> None:
    """Its steps cannot be one batch; rules that want them all are refused by name."""
    model = trained(recurrent, over_steps)
    victim = spikeproof.wrap(model, X, steps=T)
    assert victim.body.feed == "steps"
    assert_the_same(victim, model, over_steps)
    with pytest.raises(UsageError, match=r"BPTR.*'2\.sub_module' gets one step"):
        victim(X, BPTR(), KEYS)


def test_single_steps_inside_a_container_of_many() -> None:
    """A multi-step network whose node is looped over by SpikingJelly."""

    def make() -> nn.Module:
        node = neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True)
        inner = layer.MultiStepContainer(layer.Linear(64, 10), layer.Dropout(), node)
        return nn.Sequential(layer.Flatten(step_mode="m"), inner)

    model = trained(make, over_steps)
    victim = spikeproof.wrap(model, X, steps=T)
    assert victim.body.feed == "all_steps"
    assert_the_same(victim, model, over_steps)
    assert not victim.supports(WhiteBox(BPTR()))


def test_dropout_does_not_keep_steps_apart() -> None:
    def make() -> nn.Module:
        return nn.Sequential(*network(mode="s")[:-2], layer.Dropout(0.2), *network(mode="s")[-2:])

    model = trained(make, over_steps)
    victim = spikeproof.wrap(model, X, steps=T)
    assert victim.body.feed == "folded"
    assert_the_same(victim, model, over_steps)


@pytest.mark.parametrize("family", ["sew", "spiking", "vgg"])
def test_its_own_architectures(family: str) -> None:
    """Untrained, on batch-norms of one batch, so that deep layers fire."""
    try:
        from spikingjelly.activation_based.model import sew_resnet, spiking_resnet, spiking_vgg
    except Exception as error:
        pytest.skip(f"SpikingJelly's models do not import here: {error!r}")
    options = {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "sew":
            model = sew_resnet.sew_resnet18(num_classes=10, cnf="ADD", **options)
        elif family == "spiking":
            model = spiking_resnet.spiking_resnet18(num_classes=10, **options)
        else:
            model = spiking_vgg.spiking_vgg11_bn(num_classes=10, **options)
        functional.set_step_mode(model, "m")
        images = torch.rand(3, 3, 32, 32)
        for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
            norm.bias.data += 1.0
            norm.momentum = None
        model(images.expand(2, -1, -1, -1, -1))
    functional.reset_net(model.eval())
    victim = spikeproof.wrap(model, images, steps=2)
    mine, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    found, expected = victim(mine, victim.rule, KEYS[:3]), model(theirs.expand(2, -1, -1, -1, -1)).mean(0)
    assert torch.equal(found, expected)
    assert found.std() > 0
    one, other = (torch.autograd.grad(z.logsumexp(1).sum(), x)[0] for z, x in ((found, mine), (expected, theirs)))
    assert other.abs().max() > 0
    assert (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize("mode", ["m", "s"])
def test_the_quick_tier_with_its_audits_runs(mode: str) -> None:
    model = trained(lambda: network(neuron.LIFNode, mode), over_steps)
    with untouched(model):
        victim = spikeproof.wrap(model, X, steps=T)
        found = examined(victim)
    assert {"pgd-20 dense twin", "corners-20", "genetic-4000 of 32 after apgd-50 pdsg"} <= set(found.left())
    assert {"sa-pgd-100 assg margin", "square-2000"} <= stages(victim)


RARE: dict[str, Any] = {
    "EIFNode": {}, "QIFNode": {}, "IzhikevichNode": {}, "KLIFNode": {}, "HalfThresholdIFNode": {}, "LIAFNode": {
        "act": torch.relu, "threshold_related": True}, "ComplementaryLIFNode": {}, "TernaryLIFNode": {}, "RAFNode": {},
    "ActivationAwareIFNode": {},
}  # fmt: skip


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("kind", RARE)
def test_a_rarer_node_takes_every_surrogate_and_keeps_its_forward(kind: str, mode: str) -> None:
    node = getattr(neuron, kind)(surrogate_function=surrogate.ATan(), step_mode=mode, **RARE[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(layer.Flatten(step_mode=mode), layer.Linear(64, 48, step_mode=mode), node).eval()
    with torch.no_grad():
        model[1].weight *= 6
    victim = spikeproof.wrap(model, X, steps=T, step_mode=mode)
    assert victim.body.foreign == ()
    assert victim.rule == ATan()
    functional.reset_net(model)
    owners = [model(X) for _ in range(T)] if mode == "s" else model(X.expand(T, *X.shape))
    expected = torch.stack(owners).mean(0) if mode == "s" else owners.mean(0)
    found = []
    for rule in (Own(), ATan(), ATan(alpha=5.0), Triangle(), Sigmoid()):
        x = X.clone().requires_grad_()
        logits = victim(x, rule, KEYS)
        assert torch.equal(logits, expected)
        found.append(torch.autograd.grad(logits.sum(), x)[0])
    assert (found[0] - found[1]).abs().max() <= 1e-5 * found[0].abs().max()
    assert all((g - found[0]).abs().max() > 0.01 * found[0].abs().max() for g in found[2:])


def test_a_tier_leaves_out_what_a_network_cannot_have(caplog: pytest.LogCaptureFixture) -> None:
    """A node that counts its spikes keeps its surrogate; ASSG, which must see it, is left out with a message."""
    model = trained(lambda: nn.Sequential(*network(), neuron.ILIFNode(step_mode="m")), over_steps)
    victim = spikeproof.wrap(model, X, steps=T)
    assert victim.notes == ("7 keeps its own surrogate: its dynamics are not known",)
    assert_the_same(victim, model, over_steps)
    assert not any("assg" in name for name in stages(victim))
    assert any("sa-pgd-100 assg margin is left out" in record.getMessage() for record in caplog.records)
    with pytest.raises(UsageError, match=r"cannot have WhiteBox\(rule=BPTR"):
        spikeproof.evaluate(victim, X, Y, tier="smoke", rule=BPTR())


def test_gradients_are_measured_layer_by_layer() -> None:
    model = trained(network, over_steps)
    victim = spikeproof.wrap(model, X, steps=T)
    rows = list(gradient_rows(victim, Batch.of(victim, X[:4], Y[:4], IDS[:4], 0), rule=ATan(), scalars=("ce",)))
    assert {"image", "encoded", "network.0", "2", "network.3", "6"} <= {row["site"] for row in rows}


class Old(neuron.LIFNode):
    def neuronal_fire(self) -> Any:
        return None


class Derived(neuron.LIFNode):
    pass


class Twice(nn.Module):
    """One node at two places: its second use starts where the first ended."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.fc = layer.Flatten(step_mode="m"), layer.Linear(64, 10, step_mode="m")
        self.node = neuron.IFNode(step_mode="m")

    def forward(self, z: Tensor) -> Tensor:
        return self.node(self.node(self.fc(5 * self.flat(z))))  # type: ignore[no-any-return]


class Reads(nn.Module):
    """Reads the membrane of a node that never fires."""

    def __init__(self, v_threshold: float) -> None:
        super().__init__()
        self.flat, self.fc = layer.Flatten(step_mode="m"), layer.Linear(64, 10, step_mode="m")
        self.node = neuron.LIFNode(v_threshold=v_threshold, step_mode="m")

    def forward(self, z: Tensor) -> Tensor:
        self.node(self.fc(self.flat(z)))
        return self.node.v  # type: ignore[no-any-return]


def test_nodes_that_are_not_what_they_seem_are_refused_or_stay() -> None:
    with pytest.raises(SpikeproofError, match=r"'2'.*Old, whose neuronal_fire"):
        spikeproof.wrap(network(Old).eval(), X, steps=T)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for model in (Twice().eval(), Reads(1.0).eval()):  # taken as they are; a rule decides where they make spikes
            victim = spikeproof.wrap(model, X, steps=T)
            assert torch.equal(victim(X, exact, KEYS), on_images_of_steps(model, X).mean(0, keepdim=False)
                               if isinstance(model, Twice) else on_images_of_steps(model, X))  # fmt: skip
            assert victim.body.foreign == ()
            assert "a rule gives the slope of '_SurrogateSpike'" in victim.notes[0]
    assert spikeproof.wrap(network(Derived).eval(), X, steps=T).body.foreign == ()


class Looks(nn.Module):
    """Its forward looks into a node, and does something else where it does not find what it looks for."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.fc = layer.Flatten(step_mode="m"), layer.Linear(64, 10, step_mode="m")
        self.node = neuron.IFNode(step_mode="m")

    def forward(self, z: Tensor) -> Tensor:
        return self.node(5 * self.fc(self.flat(z))) * getattr(self.node, "v_threshold", 1.5)  # type: ignore[no-any-return]


def test_a_node_that_is_looked_into_stays_and_other_logits_are_noted() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Looks().eval()
    kept = spikeproof.wrap(model, X, steps=T)
    assert kept.apart == 0
    assert kept.notes[0] == "a rule gives the slope of '_SurrogateSpike', found in code whose loop and reset stay"
    victim = spikeproof.wrap(model, X, steps=T, tolerance=0.6)
    assert victim.notes == ("logits differ from the model's own by up to 0.5 of their size",)


def test_a_membrane_that_is_only_read_stays() -> None:
    model = trained(lambda: Reads(float("inf")), on_images_of_steps)
    victim = spikeproof.wrap(model, X, steps=T)
    assert torch.equal(victim(X, exact, KEYS), on_images_of_steps(model, X))
    assert victim.body.foreign == ("node",)


def on_images_of_steps(model: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(model)
    return model(x.expand(T, *x.shape))  # type: ignore[no-any-return]


def test_weights_stay_the_users_and_copies_stand_alone() -> None:
    """What the user trains on is seen; a copy of the victim has sites, switch and constants of its own."""
    model = trained(lambda: network(neuron.ParametricLIFNode), over_steps)
    victim = spikeproof.wrap(model, X, steps=T)
    other = copy.deepcopy(victim)
    before = victim(X, exact, KEYS)
    with torch.no_grad():
        model[2].w += 1.0
        model[5].weight += 0.1
    assert torch.equal(victim(X, exact, KEYS), over_steps(model, X))
    assert torch.equal(other(X, exact, KEYS), before)
    assert not torch.equal(victim(X, exact, KEYS), before)
    assert all(site.switch is other.body.switch is not victim.body.switch for site in other.body.sites())


def test_layers_in_a_loop_of_their_own_are_not_measured_as_if_they_met_all_steps() -> None:
    model = trained(lambda: Repeats("m"), on_images)
    victim = spikeproof.wrap(model, X)
    batch = Batch.of(victim, X[:5], Y[:5], IDS[:5], 0)
    assert len(list(gradient_rows(victim, batch, rule=ATan(), layers=False))) == 5 * 3 * 2
    with pytest.raises(SpikeproofError, match="layers=False"):
        list(gradient_rows(victim, batch, rule=ATan()))
