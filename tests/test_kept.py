"""What is made of a weight: once, again of another, and never without the gradient that somebody records."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import torch
from torch import Tensor, nn

from spikeproof.layers.conv import Conv2d
from spikeproof.layers.folded import FoldedConv
from spikeproof.layers.kept import ONCE, Kept


class Doubling:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, weight: Tensor) -> Tensor:
        self.count += 1
        return 2.0 * weight


def test_it_is_made_once_for_each_name_and_again_of_another_weight() -> None:
    kept, make, weight = Kept(), Doubling(), torch.arange(6.0).view(2, 3)
    first = kept.of(weight, "a", make)
    assert kept.of(weight, "a", make) is first
    kept.of(weight, ("b", (1, 1)), make)
    assert make.count == 2
    weight.add_(1.0)
    assert torch.equal(kept.of(weight, "a", make), 2.0 * weight)
    assert torch.equal(kept.of(weight.t(), "a", make), 2.0 * weight.t())  # of the same memory and version
    assert make.count == 4
    for other in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        other.of(weight, "a", make)
    assert make.count == 6
    assert ONCE.of(weight, "a", make) is not ONCE.of(weight, "a", make)
    assert type(pickle.loads(pickle.dumps(ONCE))) is type(ONCE)


def test_what_was_made_of_a_former_weight_is_let_go() -> None:
    kept, weight = Kept(), torch.ones(3)
    former = weakref.ref(kept.of(weight, "a", Doubling()))
    kept.of(weight, "b", Doubling())
    kept.of(torch.zeros(3), "b", Doubling())
    gc.collect()
    assert former() is None


def test_what_inference_mode_asked_for_serves_a_pass_that_is_recorded() -> None:
    """A layer as one matrix, and a stem of doubles by depth."""
    layers = [
        (FoldedConv(Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8).eval()), torch.ones(2, 8, 1, 1)),
        (
            FoldedConv(Conv2d(3, 8, 7, 2, 3).double(), nn.BatchNorm2d(8).double().eval()),
            torch.ones(2, 3, 8, 8).double(),
        ),
    ]
    for layer, x in layers:
        with torch.inference_mode():
            before = layer(x)
        x.requires_grad_()
        out = layer(x)
        torch.testing.assert_close(out.detach(), before.clone())
        assert torch.autograd.grad(out.sum(), x)[0].any()


def test_a_folded_weight_that_wants_a_gradient_has_one() -> None:
    for size in ((1, 1), (4, 4)):
        layer, x = FoldedConv(Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8).eval()), torch.randn(2, 8, *size)
        with torch.no_grad():
            layer(x)
        layer.weight.requires_grad_()
        (found,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
        given = layer.weight.detach().double().requires_grad_()
        out = nn.functional.conv2d(x.double(), given, layer.bias.double(), 1, 1)
        torch.testing.assert_close(
            found.double(), torch.autograd.grad(out.square().sum(), given)[0], rtol=1e-4, atol=1e-4
        )
