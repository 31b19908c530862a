"""One trained SpikingJelly network, attacked by torchattacks' PGD as users do it today, and by spikeproof.

    PYTHONPATH=tests python -m peers.compare_torchattacks

Each row is PGD of torchattacks with the same budget and steps, around a wrapper as users write it. 'as reported' is the
accuracy that its author would report, scored through the same wrapper; 'as deployed' scores the same adversarial images
through the network from rest in eval mode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from peers.wrapped import trained
from small import digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

import spikeproof
from spikeproof.metrics.robustness import clopper_pearson

__all__ = ["ROWS", "SEED", "attacked", "network", "table"]

T, EPS, STEPS, COUNT, SEED = 4, 0.1, 20, 200, 0
X, Y, IDS = digits(COUNT)


def network() -> nn.Module:
    """Trained by SpikingJelly's own code, reset before each batch."""

    def make() -> nn.Sequential:
        node = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
        made = nn.Sequential(
            layer.Conv2d(1, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.LIFNode(**node),
            layer.Flatten(), layer.Linear(512, 10), neuron.LIFNode(**node),
        )  # fmt: skip
        functional.set_step_mode(made, "m")
        return made

    return trained(make, lambda model, x: Reset(model)(x))


class Kept(nn.Module):
    """Images -> rates, averaged over time; the membranes go on where the batch before ended."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]


class Reset(Kept):
    """The same from rest."""

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.net)
        return super().forward(x)


class Swapped(Kept):
    """(N,T,*) where the network takes (T,N,*): SpikingJelly accepts it."""

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.net)
        return self.net(x.unsqueeze(1).repeat(1, T, 1, 1, 1)).mean(1)  # type: ignore[no-any-return]


class Softmax(Reset):
    """Probabilities instead of logits."""

    def forward(self, x: Tensor) -> Tensor:
        return (20 * super().forward(x)).softmax(1)


def sharp(net: nn.Module) -> nn.Module:
    """Another surrogate at the attack than in training, a steep one."""
    for node in [m for m in net.modules() if isinstance(m, neuron.LIFNode)]:
        node.surrogate_function = surrogate.ATan(alpha=100.0)
    return Reset(net)


ROWS: dict[str, tuple[Callable[[nn.Module], nn.Module], bool]] = {
    "reset in forward, eval mode: as it should be": (Reset, False),
    "no reset (nothing raises: it calls autograd.grad)": (Kept, False),
    "train mode, as once advised: batch statistics": (Reset, True),
    "(N,T,*) instead of (T,N,*)": (Swapped, False),
    "softmax in the output": (Softmax, False),
    "a steep surrogate, ATan 100": (sharp, False),
}


def attacked(net: nn.Module, around: Callable[[nn.Module], nn.Module], train: bool) -> tuple[Tensor, Tensor]:
    """Which images survive (N,) bool: as reported through the same wrapper, and as deployed."""
    import torchattacks  # type: ignore[import-untyped]

    functional.reset_net(net)
    model = around(copy.deepcopy(net)).train(train)
    attack: Any = torchattacks.PGD(model, eps=EPS, alpha=EPS / 4, steps=STEPS)
    if train:
        attack.set_model_training_mode(model_training=True, batchnorm_training=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        broken = attack(X, Y)
    with torch.no_grad():
        reported = model(broken).argmax(1) == Y
        functional.reset_net(net)
        deployed = [Reset(net)(x).argmax(1) == Y for x in (X, broken)]
    return reported, deployed[0] & deployed[1]


def percent(alive: Tensor) -> str:
    share = clopper_pearson(int(alive.sum()), len(alive))
    return f"{100 * share.share:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def table() -> str:
    """Markdown."""
    net = network()
    victim = spikeproof.wrap(net, X, steps=T)
    lines = [
        f"Digits, n = {COUNT} test images, L-inf {EPS}, PGD-{STEPS} with steps of eps/4, one random start, seed "
        f"{SEED}, torch {torch.__version__}, {date.today()}.",
        "",
        "| how it was attacked | as reported | as deployed |",
        "| --- | --- | --- |",
    ]
    for name, (around, train) in ROWS.items():
        reported, deployed = attacked(net, around, train)
        lines.append(f"| torchattacks PGD; {name} | {percent(reported)} | {percent(deployed)} |")
    found = spikeproof.evaluate(victim, X, Y, ids=IDS, tier="quick", eps=EPS, seed=SEED)
    plain = found.left()
    worst = f"{100 * found.robust.share:.1f} % [{100 * found.robust.low:.1f}, {100 * found.robust.high:.1f}]"
    lines.append(f"| spikeproof, tier quick, worst case ({found.verdict.word}) | {worst} | {worst} |")
    lines += ["", f"Clean: {100 * found.clean.share:.1f} %. Left after each attack of the tier: "
              + ", ".join(f"{name} {100 * share:.1f} %" for name, share in plain.items()) + "."]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
