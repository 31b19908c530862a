"""What is timed: `job(contender, kind, work, ...)` gives a function of no arguments that does it once.

Kinds: input_gradient (of the summed cross-entropy at the image), pgd20 (no image is dropped), pgd20_survivors (fooled
images leave the batch, where the contender can do that), training_step (Adam, all gradients, train-mode batch-norm),
quick (a panel of the tier `quick`, spikeproof alone), hard (the attacks of that tier again on images that it leaves).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from benchmarks import networks
from spikeproof.attacks.pgd import PGD
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.panel import Asked, Panel
from spikeproof.losses import cross_entropy
from spikeproof.native import keep_memory
from spikeproof.rows import AttackRow, of_kind
from spikeproof.rules.atan import ATan
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.training.train import Recipe
from spikeproof.victims.batch import Batch
from spikeproof.victims.frozen import freeze
from spikeproof.victims.scene import Scene
from spikeproof.victims.victim import borrowed

__all__ = ["EPS", "job"]

EPS = {"W1": 1 / 255, "W2": 0.1}
"""W1 is untrained, and breaks at once at any budget; of W2's images some break late, some never."""

Job = Callable[[], Any]


def job(contender: str, kind: str, work: str, batch: int, steps: int) -> Job:
    """One thing to time; a contender that has no such thing raises KeyError."""
    x = networks.pixels(work, batch)
    makers: dict[tuple[str, str], Callable[[], Job]] = {
        ("spikeproof", "input_gradient"): lambda: _our_gradient(work, steps, x),
        ("spikeproof", "pgd20"): lambda: _our_pgd(work, steps, x, survivors=False),
        ("spikeproof", "pgd20_survivors"): lambda: _our_pgd(work, steps, x, survivors=True),
        ("spikeproof", "training_step"): lambda: _our_step(work, steps, x),
        ("spikeproof", "quick"): lambda: _quick(work, steps, x),
        ("spikeproof", "hard"): lambda: _hard(work, steps, batch),
        ("torchattacks", "pgd20"): lambda: _their_pgd(work, steps, x),
        ("floor", "input_gradient"): lambda: _Floor(work, steps, x),
        ("paper", "input_gradient"): lambda: _paper(work, steps, x),
        ("spikingjelly", "training_step"): lambda: _their_step(networks.spikingjelly(work, steps), x),
    }
    peers: dict[str, Callable[[], nn.Module]] = {
        "spikingjelly": lambda: networks.spikingjelly(work, steps),
        "snntorch": lambda: networks.looped(work, steps, "snntorch"),
        "norse": lambda: networks.looped(work, steps, "norse"),
        "norse_folded": lambda: networks.norse_folded(work, steps),
    }
    if kind == "input_gradient" and contender in peers:
        return _their_gradient(peers[contender](), x)
    return makers[contender, kind]()


def _keys(x: Tensor) -> Tensor:
    return image_keys(0, torch.arange(len(x)))


def _our_gradient(work: str, steps: int, x: Tensor) -> Job:
    victim, keys, rule = freeze(networks.ours(work, steps)), _keys(x), ATan()
    y = victim(x, exact, keys).argmax(1)

    def once() -> Tensor:
        point = x.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(victim(point, rule, keys), y, reduction="sum"), point)[0]

    return once


def _their_gradient(model: nn.Module, x: Tensor) -> Job:
    model.requires_grad_(False)
    y = model(x).argmax(1)

    def once() -> Tensor:
        point = x.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(point), y, reduction="sum"), point)[0]

    return once


def _paper(work: str, steps: int, x: Tensor) -> Job:
    """Train-mode batch-norm, and `loss.backward()` with every weight's gradient; the image is the leaf here."""
    model = networks.spikingjelly(work, steps).train()
    y = torch.arange(len(x)) % 10

    def once() -> Tensor | None:
        point = x.clone().requires_grad_()
        model.zero_grad()
        F.cross_entropy(model(point), y).backward()  # type: ignore[no-untyped-call]
        return point.grad

    return once


def _our_pgd(work: str, steps: int, x: Tensor, *, survivors: bool) -> Job:
    victim, keys = freeze(networks.ours(work, steps)), _keys(x)
    y = victim(x, exact, keys).argmax(1)
    threat, attack, estimator = Linf(EPS[work]), PGD(steps=20), WhiteBox(ATan())

    def once() -> Tensor:
        scene = Scene(victim, x, y, keys, "pixels", survivors=survivors)
        return attack(scene.objective(cross_entropy), scene.start, threat, estimator, keys)

    return once


def _their_pgd(work: str, steps: int, x: Tensor) -> Job:
    import torchattacks

    model = networks.spikingjelly(work, steps).requires_grad_(False)
    y = model(x).argmax(1)
    attack = torchattacks.PGD(model, eps=EPS[work], alpha=EPS[work] / 8, steps=20)
    return lambda: attack(x, y)


def _our_step(work: str, steps: int, x: Tensor) -> Job:
    keep_memory()  # as `train` does
    victim, keys, rule = networks.ours(work, steps).train(), _keys(x), ATan()
    y, optimiser = torch.arange(len(x)) % 10, Recipe(lr=1e-3, weight_decay=1e-3).build([*victim.parameters()])

    def once() -> None:
        loss = F.cross_entropy(victim(x, rule, keys), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return once


def _their_step(model: nn.Module, x: Tensor) -> Job:
    model.train()
    y, optimiser = torch.arange(len(x)) % 10, torch.optim.Adam(model.parameters(), 1e-3, weight_decay=1e-3)

    def once() -> None:
        loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return once


def _quick(work: str, steps: int, x: Tensor) -> Job:
    victim = networks.ours(work, steps)
    y = victim(x, exact, _keys(x)).argmax(1)
    return lambda: spikeproof.evaluate(victim, x, y, tier="quick", eps=0.1)


def _hard(work: str, steps: int, batch: int) -> Job:
    """On the same ten hard images, each as often as it takes for a batch, with other keys: what an image costs with few
    and with many beside it."""
    victim, x = borrowed(networks.ours(work, steps)), networks.pixels(work, 64)
    y = victim(x, exact, _keys(x)).argmax(1)

    def attacked(images: Tensor) -> list[AttackRow]:
        given = Batch.of(victim, x[images], y[images], torch.arange(len(images)), 0)
        found: list[AttackRow] = []
        for piece in Panel(victim, given, Asked("quick", Linf("0.05"), "0.05", ATan())).run():
            if found and piece[0]["kind"] != "attack":  # the audits behind them
                break
            found += of_kind(piece, AttackRow)
        return found

    fell = {row["image"] for row in attacked(torch.arange(64)) if row["fooled"]}
    hard = torch.tensor([image for image in range(64) if image not in fell][:10])
    assert len(hard) == 10, f"ten images that `quick` leaves, got {len(hard)}"
    return lambda: attacked(hard.repeat(-(-batch // 10))[:batch])


class _Floor:
    """The convolutions of the network alone, forward and backward to their input, each in its better layout.

    The choice of layout is made once, by the least of three trials.
    """

    def __init__(self, work: str, steps: int, x: Tensor) -> None:
        import time

        victim, met = networks.ours(work, steps), []
        hooks = [
            m.register_forward_hook(lambda m, i, o: met.append((m, i[0].shape)))
            for m in victim.body.modules()
            if isinstance(m, nn.Conv2d)
        ]
        with torch.no_grad():
            victim(x, exact, _keys(x))
        for hook in hooks:
            hook.remove()
        self.layers = []
        for conv, shape in met:
            trials = []
            for layout in (torch.contiguous_format, torch.channels_last):
                weight = conv.weight.detach().contiguous(memory_format=layout)
                given = torch.rand(shape).contiguous(memory_format=layout).requires_grad_()
                one = (weight, given, conv.stride, conv.padding)
                self._pass(*one)
                spent = []
                for _ in range(3):
                    start = time.perf_counter()
                    self._pass(*one)
                    if given.is_cuda:
                        torch.cuda.synchronize()
                    spent.append(time.perf_counter() - start)
                trials.append((min(spent), one))
            self.layers.append(min(trials, key=lambda trial: trial[0])[1])

    @staticmethod
    def _pass(weight: Tensor, given: Tensor, stride: Any, padding: Any) -> None:
        out = F.conv2d(given, weight, None, stride, padding)
        torch.autograd.grad(out, given, out.detach())

    def __call__(self) -> None:
        for one in self.layers:
            self._pass(*one)
