"""SpikingJelly 2 on the same weights and inputs: spikes and logits bit for bit, gradients to rounding, names strictly.

Wants an environment of its own with spikingjelly >= 2 and the torchvision that its models import; skipped elsewhere.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.networks import spikingjelly_of
from torch import Tensor, nn

from spikeproof.encoders.direct import Direct
from spikeproof.encoders.latency import Latency
from spikeproof.encoders.phase import Phase
from spikeproof.models.sew_resnet import SEWResNet
from spikeproof.models.small_sew_resnet import SmallSEWResNet
from spikeproof.models.spiking_resnet import SpikingResNet
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.lif import LIF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.atan import ATan
from spikeproof.rules.sigmoid import Sigmoid
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.types import Neuron
from spikeproof.victims.victim import Victim

try:
    from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate
    from spikingjelly.activation_based.model import sew_resnet, spiking_resnet
except Exception as error:  # a broken torchvision fails in many ways, and none of them is this package's
    pytest.skip(f"SpikingJelly's models do not import here: {error!r}", allow_module_level=True)

T, B, CLASSES = 4, 2, 10

NEURONS = {
    "if": (IF, neuron.IFNode),
    "lif": (LIF, neuron.LIFNode),
    "plif": (PLIF, neuron.ParametricLIFNode),
}
RULES = {"atan": (ATan, surrogate.ATan, 2.0), "sigmoid": (Sigmoid, surrogate.Sigmoid, 4.0)}


def theirs(kind: str, rule: str, detach_reset: bool, **options: Any) -> Any:
    """A SpikingJelly neuron over several steps."""
    _, shape, alpha = RULES[rule]
    return NEURONS[kind][1](surrogate_function=shape(alpha=alpha), detach_reset=detach_reset, step_mode="m", **options)


def ours(rule: str, detach_reset: bool, *, fused: bool = True) -> Any:
    cls, _, alpha = RULES[rule]
    return cls(alpha=alpha, through_reset=not detach_reset, fused=fused)


def bodies(
    family: str, depth: int, *, kind: str, rule: str, detach_reset: bool, pool: str, neuron_options: dict[str, Any],
    **options: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """The same network twice, untrained, with the names of its weights unmatched yet: ours, theirs."""
    ours_neuron, theirs_neuron = NEURONS[kind]
    cls = {"sew": SEWResNet, "spiking": SpikingResNet}[family]
    build = getattr({"sew": sew_resnet, "spiking": spiking_resnet}[family], f"{family}_resnet{depth}")
    mine = cls(
        in_channels=3, classes=CLASSES, neuron=lambda: ours_neuron(**neuron_options), depth=depth, pool=pool, **options
    )
    _, shape, alpha = RULES[rule]
    peer = build(
        num_classes=CLASSES,
        spiking_neuron=theirs_neuron,
        surrogate_function=shape(alpha=alpha),
        detach_reset=detach_reset,
        **neuron_options,
        **({"cnf": options["connect"]} if family == "sew" else {}),
    )
    if pool == "avg":
        peer.maxpool = layer.AvgPool2d(3, 2, 1)
    functional.set_step_mode(peer, "m")
    return mine, peer


def enliven(body: nn.Module, z: Tensor, rule: Any) -> None:
    """Batch-norms upwards and with the statistics of one batch, so that the deepest layer still fires; eval mode."""
    norms = [m for m in body.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for number, norm in enumerate(norms):
            keys = image_keys(number, torch.arange(2))
            norm.weight += uniform(keys[:1], norm.weight.shape)[0]
            norm.bias += 0.3 + uniform(keys[1:], norm.bias.shape)[0]
            norm.momentum = None
        body.train()
        body.classify(z, rule)  # type: ignore[operator]
    body.eval()


def encoded() -> Tensor:
    return uniform(image_keys(0, torch.arange(B)), (T, 3, 32, 32)).transpose(0, 1).contiguous()


def run_ours(body: Any, z: Tensor, rule: Any) -> tuple[Tensor, dict[str, Tensor]]:
    spikes: dict[str, Tensor] = {}

    def watched(unit: Neuron, currents: Tensor, site: str) -> Tensor:
        out = rule(unit, currents, site)
        spikes[site] = out.detach()
        return out  # type: ignore[no-any-return]

    return body.classify(z, watched), spikes


def run_theirs(peer: Any, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    spikes: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: spikes.__setitem__(name, output.detach())

    nodes = [(name, m) for name, m in peer.named_modules() if isinstance(m, neuron.BaseNode)]
    handles = [m.register_forward_hook(keep(name)) for name, m in nodes]
    functional.reset_net(peer)
    try:
        return peer(z).mean(0), spikes
    finally:
        for handle in handles:
            handle.remove()


def gradient(logits: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    loss = nn.functional.cross_entropy(logits, torch.arange(len(logits)))
    return list(torch.autograd.grad(loss, wanted))


def assert_close(mine: Tensor, peer: Tensor, share: float = 1e-5) -> None:
    """Apart by no more than a share of the largest entry."""
    assert peer.abs().max() > 0
    assert (mine - peer).abs().max() <= share * peer.abs().max()


USUAL: dict[str, Any] = {
    "kind": "if", "rule": "atan", "detach_reset": True, "pool": "max", "neuron_options": {},
}  # fmt: skip
SEW: dict[str, Any] = {**USUAL, "connect": "ADD"}

NETWORKS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "sew-18": ("sew", 18, SEW),
    "sew-18-and": ("sew", 18, {**SEW, "connect": "AND"}),
    "sew-18-iand": ("sew", 18, {**SEW, "connect": "IAND"}),
    "sew-18-avg": ("sew", 18, {**SEW, "pool": "avg"}),
    "sew-18-attached": ("sew", 18, {**SEW, "detach_reset": False}),
    "sew-18-sigmoid": ("sew", 18, {**SEW, "rule": "sigmoid"}),
    "sew-18-soft": ("sew", 18, {**SEW, "neuron_options": {"v_reset": None}}),
    "sew-18-soft-attached": ("sew", 18, {**SEW, "neuron_options": {"v_reset": None}, "detach_reset": False}),
    "sew-18-lif": ("sew", 18, {**SEW, "kind": "lif"}),
    "sew-18-lif-plain": ("sew", 18, {**SEW, "kind": "lif", "neuron_options": {"decay_input": False}}),
    "sew-18-plif": ("sew", 18, {**SEW, "kind": "plif"}),
    "sew-18-plif-attached": ("sew", 18, {**SEW, "kind": "plif", "detach_reset": False}),
    "sew-34": ("sew", 34, SEW),
    "sew-50": ("sew", 50, SEW),
    "sew-50-and": ("sew", 50, {**SEW, "connect": "AND"}),
    "sew-50-iand": ("sew", 50, {**SEW, "connect": "IAND"}),
    "spiking-18": ("spiking", 18, {**USUAL, "detach_reset": False}),
    "spiking-18-avg": ("spiking", 18, {**USUAL, "pool": "avg"}),
    "spiking-18-plif": ("spiking", 18, {**USUAL, "kind": "plif"}),
    "spiking-34": ("spiking", 34, USUAL),
    "spiking-50": ("spiking", 50, {**USUAL, "detach_reset": False}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_theirs(name: str) -> None:
    """Weights go both ways strictly; spikes at every neuron and logits are equal in every bit; gradients to 1e-5."""
    family, depth, options = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mine, peer = bodies(family, depth, **options)
    rule = ours(options["rule"], options["detach_reset"])
    enliven(mine, encoded(), rule)
    peer.load_state_dict(mine.state_dict(), strict=True)
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    mine.load_state_dict(peer.state_dict(), strict=True)
    assert list(before) == list(peer.state_dict())
    assert all(torch.equal(before[key], value) for key, value in mine.state_dict().items())
    peer.eval()

    found = []
    for run in (lambda z: run_ours(mine, z, rule), lambda z: run_theirs(peer, z)):
        z = encoded().requires_grad_()
        logits, spikes = run(z)
        found.append((logits, spikes, z))
    (logits, spikes, z), (peer_logits, peer_spikes, peer_z) = found
    assert spikes.keys() == peer_spikes.keys()
    different = [site for site in spikes if not torch.equal(spikes[site], peer_spikes[site])]
    assert different == []
    assert all(s.any() for s in spikes.values())  # equal because alive, not because silent
    assert torch.equal(logits, peer_logits)

    weights = [(mine.conv1.weight, peer.conv1.weight), (mine.fc.weight, peer.fc.weight)]
    if options["kind"] == "plif":
        weights.append((mine.sn1.w, peer.sn1.w))
    got = gradient(logits, [z, *(a for a, _ in weights)])
    expected = gradient(peer_logits, [peer_z, *(b for _, b in weights)])
    for one, other in zip(got, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, None, -0.5])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("if", {}),
        ("if", {"v_threshold": 0.7}),
        ("lif", {"tau": 2.0}),
        ("lif", {"tau": 3.7}),
        ("lif", {"tau": 2.0, "decay_input": False}),
        ("plif", {"init_tau": 2.0}),
        ("plif", {"init_tau": 3.7}),
        ("plif", {"init_tau": 2.0, "decay_input": False}),
    ],
)
def test_a_neuron_is_theirs(
    kind: str, options: dict[str, Any], rule: str, v_reset: float | None, detach_reset: bool, fused: bool
) -> None:
    """Spikes bit for bit, and the gradients of the currents and of the learnt time constant, in float32."""
    unit = NEURONS[kind][0](v_reset=v_reset, **options)
    node = theirs(kind, rule, detach_reset, v_reset=v_reset, **options)
    node.load_state_dict(unit.state_dict(), strict=True)
    assert unit.state_dict().keys() == node.state_dict().keys()
    gain = options.get("tau", options.get("init_tau", 1.0)) if options.get("decay_input", True) else 1.0
    currents = gain * (0.6 + 1.2 * normal(image_keys(1, torch.arange(8)), (50, 7))).permute(1, 0, 2)  # (T,B,*)
    weights = normal(image_keys(2, torch.arange(8)), (50, 7)).permute(1, 0, 2)
    results = []
    for run in (lambda x: ours(rule, detach_reset, fused=fused)(unit, x, "site"), node):
        x = currents.clone().requires_grad_()
        spikes = run(x)
        wanted = [x, *(unit if run is not node else node).parameters()]
        results.append((spikes, torch.autograd.grad((spikes * weights).sum(), wanted)))
    (spikes, mine), (peer_spikes, peer) = results
    assert torch.equal(spikes, peer_spikes)
    assert 0.05 < spikes.mean() < 0.95
    for one, other in zip(mine, peer, strict=True):
        # The time constant's gradient is a float32 sum of thousands of terms, whose order the processor decides.
        assert_close(one, other, 1e-5 if one.dim() else 3e-5)


def test_plif_starts_at_their_parameter() -> None:
    for tau in (1.5, 2.0, 5.0):
        assert PLIF(init_tau=tau).w.item() == pytest.approx(neuron.ParametricLIFNode(init_tau=tau).w.item(), abs=1e-7)


@pytest.mark.parametrize("planes", [1, 4, 8])
def test_weighted_phase_code_is_theirs(planes: int) -> None:
    """They encode v / 2^K, this package pixels v / (2^K - 1): the level v decides, for every one of them."""
    levels = torch.arange(2**planes, dtype=torch.float32)
    encoder = encoding.WeightedPhaseEncoder(K=planes)
    train = torch.stack([encoder(levels / 2**planes) for _ in range(planes + 3)])
    mine = Phase(planes=planes, reach=1)(levels[None] / (2**planes - 1), planes + 3, image_keys(0, torch.zeros(1)))
    assert torch.equal(mine[:, 0], train)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 16])
def test_linear_latency_code_is_theirs(steps: int) -> None:
    x = torch.cat([torch.arange(256) / 255, uniform(image_keys(0, torch.arange(1)), (1000,))[0]])
    encoder = encoding.LatencyEncoder(steps, enc_function="linear")
    train = torch.stack([encoder(x) for _ in range(steps)])
    mine = Latency()(x[None], steps, image_keys(0, torch.zeros(1)))
    assert torch.equal(mine[:, 0], train)


@pytest.mark.parametrize("width", [4, 16])
@pytest.mark.parametrize("kind", ["small", "deep"])
def test_the_benchmarks_network_of_any_width_is_ours(kind: str, width: int) -> None:
    """What `benchmarks` attacks in SpikingJelly: the same logits and the same gradient at the image."""
    torch.manual_seed(0)
    shape = (1, 8, 8) if kind == "small" else (3, 32, 32)
    given: dict[str, Any] = {"in_channels": shape[0], "classes": CLASSES, "neuron": IF, "width": width}
    body: nn.Module = SmallSEWResNet(**given) if kind == "small" else SEWResNet(**given)
    victim = Victim(body, Direct() if kind == "small" else Phase(gradient="straight"), T)
    keys = image_keys(0, torch.arange(B))
    with torch.no_grad():
        for _ in range(10):  # to statistics at which neurons fire
            victim(uniform(keys, shape), ATan(), keys)
    theirs, found = spikingjelly_of(victim.eval()), []
    for forward in (lambda x: victim(x, ATan(), keys), theirs):
        x = uniform(keys, shape).requires_grad_()
        logits = forward(x)
        found.append((logits.detach(), torch.autograd.grad(logits[:, 1].sum(), x)[0]))
    (logits, gradient), (their_logits, their_gradient) = found
    assert float(gradient.abs().max()) > 0
    torch.testing.assert_close(logits, their_logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))
