"""Kernel taps that never get a gradient in the networks are those that only meet padding: no more and no fewer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oracles import conv_taps
from spikeproof.models.sew_resnet import SEWResNet
from spikeproof.neurons.if_ import IF
from spikeproof.rules.atan import ATan


def network(depth: int, width: int = 64) -> SEWResNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)  # torch draws initial weights from its own stream
        return SEWResNet(in_channels=3, classes=10, neuron=IF, depth=depth, width=width)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_number_of_parameters(depth: int) -> None:
    """Full width: 11,181,642 / 21,289,802 / 23,528,522, convolutions without bias."""
    count = conv_taps.count(depth)
    sizes = {"conv": 0, "norm": 0, "linear": 0}
    kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.Linear: "linear"}
    for module in network(depth).modules():
        for kind, name in kinds.items():
            if isinstance(module, kind):
                sizes[name] += sum(p.numel() for p in module.parameters())
    assert sizes == {"conv": count.conv, "norm": count.norm, "linear": count.linear}


def reached(model: nn.Module) -> dict[str, Tensor]:
    """Per convolution, the taps (kernel, kernel) that got a gradient other than 0 for some pair of channels."""
    return {
        name: (module.weight.grad != 0).flatten(0, 1).any(0)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.weight.grad is not None
    }


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_taps_without_a_gradient_are_those_that_only_meet_padding(depth: int) -> None:
    """Narrow networks: the taps depend on the map sizes alone."""
    model = network(depth, width=4)
    generator = torch.Generator().manual_seed(1)
    z = torch.rand(4, 4, 3, 32, 32, generator=generator)
    logits = model.classify(z, ATan())
    (logits * torch.randn(logits.shape, generator=generator)).sum().backward()
    convs, _ = conv_taps.resnet(depth)
    taps = reached(model)
    expected = sorted(len(conv_taps.live_taps(c.size, c.kernel, c.stride, c.padding)) / c.kernel**2 for c in convs)
    assert sorted(mask.float().mean().item() for mask in taps.values()) == pytest.approx(expected)
    alive = [mask for mask in taps.values() if mask.shape == (3, 3) and mask.sum() == 1]
    assert len(alive) == sum(c.size == 1 and c.kernel == 3 for c in convs)
    assert all(mask[1, 1] for mask in alive)
