"""Defences and neurons against the numbers of their authors' own functions, run on these weights and images.

Each number was printed by the released function named beside it, of the repository at that commit, called on the waves
below: a linear layer of 6, a neuron, a linear layer of 3, mean over T = 4, in float64 except for the spikes. The
released surrogate is the triangle of width 1, and the reset stays in the graph, so the rule here is `through_reset`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeproof.defences.dsd import DSD
from spikeproof.defences.mart import MART
from spikeproof.defences.mppd import MPPD
from spikeproof.defences.rat import RAT
from spikeproof.defences.sr import SR
from spikeproof.defences.trades import TRADES
from spikeproof.encoders.direct import Direct
from spikeproof.encoders.low_pass import LowPass
from spikeproof.neurons.dlif import DLIF
from spikeproof.neurons.if_ import IF
from spikeproof.neurons.step_leak import StepLeak
from spikeproof.rules.triangle import Triangle
from spikeproof.tensors import image_keys
from spikeproof.victims.victim import Victim

T = 4
RULE = Triangle(through_reset=True)
PACE = [1.0, 1.5, 0.7, 1.1]


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    """sin(a (k + 1) + b^2 + 0.3 k^2) at entry k."""
    values = [math.sin(a * (k + 1) + b * b + 0.3 * k * k) for k in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float64).view(shape)


X = 0.5 + 0.3 * wave(5, 1, 3, 4, a=0.7)
AWAY = X + 0.08 * wave(5, 1, 3, 4, a=1.9, b=1.0)
Y = torch.tensor([0, 1, 2, 0, 1])
KEYS = image_keys(0, torch.arange(5))


class Net(nn.Module):
    in_channels, classes = 1, 3

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.one, self.sn, self.two = nn.Linear(12, 6, bias=False), neuron, nn.Linear(6, 3, bias=False)
        self.double()
        with torch.no_grad():
            self.one.weight.copy_(0.9 * wave(6, 12, a=1.3))
            self.two.weight.copy_(1.1 * wave(3, 6, a=0.4, b=2.0))

    def classify(self, z: Tensor, rule: Any) -> Tensor:
        return self.two(rule(self.sn, self.one(z.flatten(2)), "sn")).mean(0)  # type: ignore[no-any-return]


def paced(kind: Any, pace: list[float], **options: Any) -> Any:
    neuron = kind(steps=T, **options).double()
    with torch.no_grad():
        neuron.pace.copy_(torch.tensor(pace))
    return neuron


# Loss, norm of the gradient of the first layer's weights, its entry (3,4), norm of the second layer's.
LOSSES = {
    # train_reg in utils.py of putshua/gradient_reg_defense 2e0fc369, lamb 0.3, h 0.05: 1.25370008 + 0.3 * 9.21704630
    "sr": (SR(weight=0.3, h=0.05), (4.01881396868512, 4.2006488155, -0.0281332711, 2.2687482379)),
    # trades_loss in trades.py of yaodongyu/TRADES 6e8e11b7, beta 6, no inner step
    "trades": (TRADES(beta=6.0), (1.4022868277, 0.8679560168, -0.0240194371, 0.4073697957)),
    # mart_loss in mart.py of YisenWang/MART 2d83e17b, beta 5, no inner step
    "mart": (MART(beta=5.0), (1.8938443083, 1.9060577160, -0.0643661808, 0.4872891096)),
    # simple_dynamic, dlif_forward_for_V and LyapunovFunction of DingJianhao/stable-snn 049dbbc2, tau 0.8, alpha 3
    "mppd": (MPPD(weight=3.0), (1.4058921420, 1.6281553338, -0.3157773474, 0.2095297654)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_are_those_of_the_released_code(name: str) -> None:
    """To what single precision in their spikes leaves of it."""
    defence, expected = LOSSES[name]
    neuron = paced(DLIF, PACE, leak=0.8) if name == "mppd" else IF()
    net = Net(neuron)
    loss: Tensor = defence(Victim(net, Direct(), T), X, Y, RULE, KEYS, lambda *_, **__: AWAY)  # type: ignore[operator]
    one, two = torch.autograd.grad(loss, [net.one.weight, net.two.weight])
    found = (float(loss.detach()), float(one.norm()), float(one[3, 4]), float(two.norm()))
    assert found == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(("power", "penalty"), [(2, 0.050575229216), (1, 0.170354879786)])
def test_mppd_has_the_released_penalty(power: Any, penalty: float) -> None:
    """stable-snn 049dbbc2: the mean square of what `simple_dynamic` gives, and its mean size, at weights off 1."""
    values = []
    for weight in (1.0, 0.0):
        victim = Victim(Net(paced(DLIF, PACE, leak=0.8)), Direct(), T)
        values.append(float(MPPD(weight=weight, power=power)(victim, X, Y, RULE, KEYS, lambda *_, **__: AWAY).detach()))
    assert values[0] - values[1] == pytest.approx(penalty, rel=1e-7)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3), nn.Linear(5, 3)
        self.double()


CONV, LINEAR = 0.5 * wave(4, 2, 3, 3, a=0.9), 0.8 * wave(3, 5, a=1.7)


def digest(w: Tensor) -> tuple[float, float, float]:
    w = w.detach().flatten()
    return float(w.norm()), float(w @ wave(len(w), a=2.1)), float(w[0])


def test_a_retraction_is_the_released_one() -> None:
    """orthogonal_retraction in utils.py of putshua/SNN-RAT d73f1056, beta 0.05."""
    net = Two()
    with torch.no_grad():
        net.conv.weight.copy_(CONV)
        net.fc.weight.copy_(LINEAR)
    RAT(strength=0.05).after_step(net)
    assert digest(net.conv.weight) == pytest.approx((2.748201705286, -1.849887239893, 0.393872858779), rel=1e-10)
    assert digest(net.fc.weight) == pytest.approx((1.817090853864, 1.251838415966, 0.752148637195), rel=1e-10)


def test_a_deflation_is_the_released_one() -> None:
    """DSD in utils/tvc.py of Apple26419/SNN_DSD 4a12b21a."""
    net = Two()
    net.conv.weight.grad, net.fc.weight.grad = CONV.clone(), LINEAR.clone()
    net.fc.bias.grad = wave(3, a=1.0)
    DSD().after_backward(net)
    assert net.conv.weight.grad is not None
    assert net.fc.weight.grad is not None
    assert digest(net.conv.weight.grad) == pytest.approx((2.358238740355, -1.553301801191, 0.579905831322), rel=1e-9)
    assert digest(net.fc.weight.grad) == pytest.approx((1.193007396158, 1.566036747328, 0.031895008774), rel=1e-9)
    assert torch.equal(net.fc.bias.grad, wave(3, a=1.0))


# Sum of spikes, their product with a wave, norm of its gradient at the currents, that gradient with a wave, and its
# gradient at each step's constant.
NEURONS = {
    # DLIFSpike in models/layers.py of DingJianhao/stable-snn 049dbbc2, tau 0.8
    "dlif": (
        paced(DLIF, PACE, leak=0.8),
        (36, 2.9627648292, 4.1730875908, 0.5519661776, 1.5083310855, -0.9891118350, -0.6244500835, -0.4073902778),
    ),
    # LIFSpikeTau in models/layers.py of zju-bmi-lab/FEEL_SNN c57d5677, its leaks alike in all six places and summed
    "step_leak": (
        paced(StepLeak, [0.8 * p for p in PACE]),
        (36, 6.3739694816, 4.5205286531, 0.6581295718, 0.0, 0.9447009647, -0.6917976945, 0.6274842164),
    ),
}


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_and_their_gradients_are_those_of_the_released_code(name: str) -> None:
    neuron, expected = NEURONS[name]
    currents = (0.4 + 0.9 * wave(T, 5, 6, a=0.8, b=0.4)).requires_grad_()
    spikes = RULE(neuron, currents, "sn")
    product = (spikes * wave(T, 5, 6, a=0.6, b=1.5)).sum()
    x, pace = torch.autograd.grad(product, [currents, neuron.pace])
    along = float((x * wave(T, 5, 6, a=1.1)).sum())
    found = (float(spikes.detach().sum()), float(product.detach()), float(x.norm()), along, *pace.tolist())
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_faithful_filter_is_the_released_one() -> None:
    """make_filter_0 in functions.py and ft in models/layers.py of zju-bmi-lab/FEEL_SNN c57d5677, half-widths 4 to 1."""
    image = 0.5 + 0.45 * wave(2, 1, 8, 8, a=0.37)
    z = LowPass(drop=0.25, window="faithful")(image, 4, image_keys(0, torch.arange(2)))
    norms = [float(step.norm()) for step in z]
    assert norms == pytest.approx([6.581903818341, 6.136010361534, 5.720616101726, 5.522499865107], rel=1e-10)
    assert float((z.flatten() * wave(z.numel(), a=0.9)).sum()) == pytest.approx(-10.056267064543, rel=1e-9)
    assert float(z[3, 1, 0, 2, 5]) == pytest.approx(0.481608003184, rel=1e-10)
