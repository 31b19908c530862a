"""Event networks of SpikingJelly, snnTorch and Norse in their own layouts: their weights here, and wrapped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import spikeproof
from spikeproof.errors import SpikeproofError
from spikeproof.models.event_vgg import EventVGG
from spikeproof.models.sew_resnet import SEWResNet
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys, uniform

sj = pytest.importorskip("spikingjelly.activation_based")
from spikingjelly.activation_based import functional, layer, neuron  # noqa: E402
from spikingjelly.activation_based.model import parametric_lif_net, sew_resnet  # noqa: E402

N, T = 5, 4


def grids(size: int = 34) -> Tensor:
    """Binary grids (N,T,2,size,size), one cell in five with an event."""
    return (uniform(image_keys(0, torch.arange(N)), (T, 2, size, size)) < 0.2).float()


def lively(network: nn.Module) -> nn.Module:
    """Batch-norms shifted up and by amounts of their own, so that deep layers fire."""
    for number, norm in enumerate(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        shift = uniform(image_keys(number, torch.zeros(1)), norm.bias.shape)[0]
        norm.bias.data, norm.weight.data = 0.2 + shift, 1.0 + shift
    return network.eval()


@pytest.mark.parametrize(
    ("theirs", "options", "size"),
    [("NMNISTNet", {}, 34), ("CIFAR10DVSNet", {"depth": 4, "hidden": 512, "size": 128}, 128),
     ("DVSGestureNet", {"depth": 5, "hidden": 512, "size": 128, "classes": 11}, 128)],
)  # fmt: skip
def test_weights_of_spikingjelly_s_event_networks_are_taken(theirs: str, options: dict[str, int], size: int) -> None:
    torch.manual_seed(0)
    made = getattr(parametric_lif_net, theirs)(channels=4, spiking_neuron=neuron.ParametricLIFNode, detach_reset=True)
    lively(made)
    for linear in (m for m in made.modules() if isinstance(m, nn.Linear)):
        linear.weight.data *= 4.0
        linear.bias.data += uniform(image_keys(1, torch.zeros(1)), linear.bias.shape)[0] * 2.0
    functional.set_step_mode(made, "m")
    ours = EventVGG(in_channels=2, **{"classes": 10, "width": 4, **options}, neuron=PLIF).eval()
    ours.load_state_dict(made.state_dict())
    x = grids(size)[:2].transpose(0, 1)
    with torch.no_grad():
        expected = made(x).mean(0)
        found = ours.classify(x, exact)
    torch.testing.assert_close(found, expected)
    assert expected.std() > 0


def test_weights_of_its_sew_resnet_with_two_channels_are_taken() -> None:
    torch.manual_seed(0)
    made = sew_resnet.sew_resnet18(num_classes=10, cnf="ADD", spiking_neuron=neuron.IFNode, detach_reset=True)
    made.conv1 = layer.Conv2d(2, 64, 7, 2, 3, bias=False)
    functional.set_step_mode(lively(made), "m")
    ours = SEWResNet(in_channels=2, classes=10, neuron=IF).eval()
    ours.load_state_dict(made.state_dict())
    x = grids(32)[:2].transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(ours.classify(x, exact), made(x).mean(0), rtol=1e-4, atol=1e-5)


def small(*, mode: str) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(detach_reset=True), layer.MaxPool2d(2), layer.Flatten(),
        layer.Linear(4 * 16, 10),
    )  # fmt: skip
    made[0].bias.data += 1.0
    functional.set_step_mode(made, mode)
    return made.eval()


class BatchFirst(nn.Module):
    """Takes recordings first and makes their axes SpikingJelly's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = small(mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x.transpose(0, 1)).mean(0)


def of_spikingjelly(network: nn.Module, x: Tensor, feed: str) -> Tensor:
    functional.reset_net(network)
    if feed == "all_steps":
        return network(x.transpose(0, 1)).mean(0)
    if feed == "batch_first":
        return network(x)
    return torch.stack([network(step) for step in x.unbind(1)]).mean(0)


@pytest.mark.parametrize(
    ("make", "feed"),
    [
        (lambda: small(mode="m"), "all_steps"),
        (lambda: BatchFirst().eval(), "batch_first"),
        (lambda: small(mode="s"), "steps"),
    ],
)
def test_spikingjelly_s_layouts_are_found_and_its_logits_kept(make: object, feed: str) -> None:
    network, x = make(), grids(8)  # type: ignore[operator]
    with torch.no_grad():
        expected = of_spikingjelly(network, x, feed)
    functional.reset_net(network)
    held_to_its_owner(network, x, expected, feed)


def held_to_its_owner(network: nn.Module, x: Tensor, expected: Tensor, feed: str) -> None:
    victim = spikeproof.wrap(network, x)
    assert (victim.steps, victim.takes, victim.in_channels) == (T, "TCHW", 2)
    assert victim.body.feed in (feed, "folded")
    keys = image_keys(0, torch.arange(N))
    torch.testing.assert_close(victim(x, exact, keys), expected)
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(victim(point, ATan(), keys).square().sum(), point)
    assert (slope.abs().flatten(2).sum(2) > 0).any(1).all()
    assert expected.std(0).max() > 0
    with pytest.raises(SpikeproofError, match=r"B,4,C,H,W"):
        victim(x.transpose(0, 1), exact, keys)


def test_snntorch_one_step_a_call() -> None:
    snn = pytest.importorskip("snntorch")
    from snntorch import utils

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(beta=0.9, init_hidden=True), nn.Flatten(), nn.Linear(256, 10),
        snn.Leaky(beta=0.9, init_hidden=True, output=True),
    ).eval()  # fmt: skip
    network[0].bias.data += 1.0
    network[3].weight.data *= 6.0
    x = grids(8)
    utils.reset(network)
    with torch.no_grad():
        expected = torch.stack([network(step)[0] for step in x.unbind(1)]).mean(0)
    utils.reset(network)
    held_to_its_owner(network, x, expected, "steps")


def test_norse_with_a_state_handed_on() -> None:
    norse = pytest.importorskip("norse.torch")
    torch.manual_seed(0)
    rates = norse.LIFParameters(
        tau_mem_inv=torch.tensor(500.0), tau_syn_inv=torch.tensor(500.0), v_th=torch.tensor(0.3)
    )
    network = norse.SequentialState(
        nn.Conv2d(2, 4, 3, padding=1), norse.LIFCell(rates), nn.Flatten(), nn.Linear(256, 10), norse.LICell()
    ).eval()
    network[0].bias.data += 1.0
    x, state, out = grids(8), None, []
    with torch.no_grad():
        for step in x.unbind(1):
            y, state = network(step, state)
            out.append(y)
    held_to_its_owner(network, x, torch.stack(out).mean(0), "steps")
