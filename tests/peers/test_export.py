"""Victims in the hands of other toolkits: their PGD on the exported module against ours on the victim, and names."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from peers.wrapped import trained
from small import digits, untouched
from small import trained as own
from torch import Tensor, nn

import spikeproof
from spikeproof.attacks.pgd import PGD
from spikeproof.errors import SpikeproofError
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.interop.export import Plain, as_module, spikingjelly_state_dict
from spikeproof.losses import cross_entropy
from spikeproof.models.sew_resnet import SEWResNet
from spikeproof.neurons.plif import PLIF
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import Victim

try:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
except Exception as error:
    pytest.skip(f"SpikingJelly does not import here: {error!r}", allow_module_level=True)

T, EPS, STEPS = 4, 0.1, 10
X, Y, IDS = digits(300)
KEYS = image_keys(0, IDS)


def network() -> nn.Sequential:
    node = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
    made = nn.Sequential(
        layer.Conv2d(1, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.ParametricLIFNode(**node),
        layer.Flatten(), layer.Linear(512, 10),
    )  # fmt: skip
    functional.set_step_mode(made, "m")
    return made


def over_steps(model: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(model)
    return model(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]


@cache
def victim(which: str) -> Victim:
    """A network of SpikingJelly, trained by its own code and wrapped, or one of this package."""
    if which == "ours":
        return own("direct")
    return spikeproof.wrap(trained(network, over_steps), X, steps=T)


@cache
def survivors(which: str) -> Tensor:
    """Under our PGD, without a random start, the last iterate: so do the three peers."""
    attack = PGD(steps=STEPS, step_size=EPS / 4, random_start=False, keep="last")
    scene = Scene(victim(which), X, Y, KEYS, "pixels")
    rule = getattr(victim(which), "rule", None) or ATan()
    return right(which, attack(scene.objective(cross_entropy), X, Linf(EPS), WhiteBox(rule), KEYS))


def right(which: str, x: Tensor) -> Tensor:
    with torch.no_grad():
        return victim(which)(x, exact, KEYS).argmax(1) == Y


def of_torchattacks(module: Plain) -> Tensor:
    torchattacks = pytest.importorskip("torchattacks", reason="the peer torchattacks is not installed here")
    return torchattacks.PGD(module, eps=EPS, alpha=EPS / 4, steps=STEPS, random_start=False)(X, Y)  # type: ignore[no-any-return]


def of_foolbox(module: Plain) -> Tensor:
    foolbox = pytest.importorskip("foolbox", reason="the peer foolbox is not installed here")
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=EPS / 4, steps=STEPS, random_start=False)
    return attack(foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu"), X, Y, epsilons=EPS)[1]  # type: ignore[no-any-return]


def of_art(module: Plain) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports from a namespace that SciPy gives up
        evasion = pytest.importorskip("art.attacks.evasion", reason="the peer ART is not installed here")
        estimators = pytest.importorskip("art.estimators.classification")
    model = estimators.PyTorchClassifier(
        module, loss=nn.CrossEntropyLoss(), input_shape=X.shape[1:], nb_classes=10, clip_values=(0, 1),
        device_type="cpu",
    )  # fmt: skip
    attack = evasion.ProjectedGradientDescent(
        model, norm=np.inf, eps=EPS, eps_step=EPS / 4, max_iter=STEPS, num_random_init=0, batch_size=len(X),
        verbose=False,
    )  # fmt: skip
    return torch.from_numpy(attack.generate(X.numpy(), Y.numpy()))


PEERS: dict[str, Any] = {"torchattacks": of_torchattacks, "foolbox": of_foolbox, "art": of_art}


@pytest.mark.parametrize("which", ["spikingjelly", "ours"])
@pytest.mark.parametrize("peer", PEERS)
def test_their_pgd_and_ours_agree(peer: str, which: str) -> None:
    """Same steps, no random start: within a point of robust accuracy, neither nearly 0 nor nearly 100."""
    with untouched(victim(which)), torch.random.fork_rng(devices=[]):
        broken = PEERS[peer](as_module(victim(which)))
    assert (broken - X).abs().max() <= EPS + 1e-6
    clean = right(which, X)
    found, expected = ((survivors(which) & clean).sum().item() / 3, (right(which, broken) & clean).sum().item() / 3)
    print(f"ours {found:.2f} %, {peer} {expected:.2f} %")
    assert 3 < expected < clean.sum().item() / 3 - 10
    assert abs(found - expected) <= 1.0


def test_the_module_is_the_victim_under_one_rule_and_stays_in_eval_mode() -> None:
    module = as_module(victim("spikingjelly"), ATan(alpha=5.0)).train()
    assert not any(m.training for m in module.modules())
    x, other = X[:20].clone().requires_grad_(), X[:20].clone().requires_grad_()
    logits, expected = module(x), victim("spikingjelly")(other, ATan(alpha=5.0), KEYS[:20])
    assert torch.equal(logits, expected)
    one, two = (torch.autograd.grad(out.sum(), at)[0] for out, at in ((logits, x), (expected, other)))
    assert two.abs().max() > 0
    assert (one - two).abs().max() <= 1e-5 * two.abs().max()
    assert not any(p.requires_grad for p in module.parameters())
    assert torch.equal(module(X[:20]), module(X[:20]))
    with pytest.raises(SpikeproofError, match=r"pixels in \[0,1\]"):
        module(2 * X)


def test_noise_of_a_random_encoder_is_that_of_the_seed() -> None:
    poisson = own("poisson")
    one, again, other = (as_module(poisson, seed=seed)(X[:8]) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_state_dicts_have_spikingjellys_names() -> None:
    """Of a wrapped network, which its owner's code loads strictly, and of ours, which SpikingJelly's does."""
    theirs = network()
    theirs.load_state_dict(spikingjelly_state_dict(victim("spikingjelly")), strict=True)
    assert torch.equal(over_steps(theirs.eval(), X[:20]), victim("spikingjelly")(X[:20], exact, KEYS[:20]))
    try:
        from spikingjelly.activation_based.model import sew_resnet
    except Exception as error:
        pytest.skip(f"SpikingJelly's models do not import here: {error!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = SEWResNet(in_channels=3, classes=10, neuron=PLIF, depth=18)
        peer = sew_resnet.sew_resnet18(num_classes=10, cnf="ADD", spiking_neuron=neuron.ParametricLIFNode)
    given = spikingjelly_state_dict(Victim(body, victim("ours").encoder, 2))
    peer.load_state_dict(given, strict=True)
    assert all(torch.equal(tensor, given[name]) for name, tensor in peer.state_dict().items())
