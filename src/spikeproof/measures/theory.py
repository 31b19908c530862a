"""Rows that hold first-order theory against a network. Derivations and proofs: docs/theory.md.

What attack and noise do to a probability, how far the loss rises, and how dense the gradient of a weight is beside what
can be proved of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from spikeproof.evaluation.judge import short
from spikeproof.losses import cross_entropy
from spikeproof.measures.gradients import scalar_of
from spikeproof.metrics.sparsity import l1, l2
from spikeproof.rows import Scalar, SupportRow, TheoryRow, Tightness
from spikeproof.tensors import exact, fold, image_keys, uniform
from spikeproof.types import Attack, Estimator, Rule, Threat
from spikeproof.victims.scene import Scene, check_labels
from spikeproof.victims.taps import live_taps, tapped
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["rho", "support_bounds", "support_rows", "theory_rows"]

Function = Callable[[Tensor], Tensor]


@torch.no_grad()
def rho(
    f: Function, x: Tensor, eps: float, candidates: list[Tensor], keys: Tensor, draws: int
) -> tuple[Tensor, Tensor]:
    """rho_adv and rho_rand (B,) of a function (B,*) -> (B,) at x: the largest and the mean squared change of f in the
    L-inf ball.

    The mean is over `draws` points uniform in the ball, drawn by keys (B,). The largest is over these and the
    candidates (each (B,*), within the ball), so it is a lower bound, and never below the mean.
    """
    start = f(x)
    largest = torch.stack([(f(point) - start).square() for point in candidates]).amax(0)
    total = torch.zeros_like(start)
    for draw in range(draws):
        noise = eps * (2.0 * uniform(fold(keys, f"noise {draw}"), x.shape[1:]).to(x) - 1.0)
        change = (f(x + noise) - start).square()
        total, largest = total + change, torch.maximum(largest, change)
    return largest, total / draws


def theory_rows(
    victim: Victim, x: Tensor, y: Tensor, ids: Tensor, *, rule: Rule, threat: Threat, eps_text: str, attack: Attack,
    estimator: Estimator, draws: int, seed: int,
) -> list[TheoryRow]:  # fmt: skip
    """One row per image (B,C,H,W) of kind 'theory', at the image moved into [eps, 1 - eps], so that its ball is whole.

    l1, l2, l0: of the gradient, under `rule`, of the true class's probability; ce_l1: of the cross-entropy. rho_adv,
    rho_rand: see `rho`, of the exact forward; candidates are the two sign steps and what `attack` finds, up and down.
    rise: how far the attack raises the cross-entropy (at least 0). A stochastic encoder keeps one draw throughout.
    `threat` is an L-inf ball on pixels; the victim must be in eval mode.
    """
    check_labels(victim, x, y)
    lent = borrowed(victim)
    eps = threat.eps
    x = x.clamp(eps, 1.0 - eps)
    keys = fold(image_keys(seed, ids).to(x.device), "theory")

    def value(name: Scalar, r: Rule = exact) -> Function:
        return lambda point: scalar_of(name, lent(point, r, keys), y)

    g, slope = (_gradient(value(name, rule), x) for name in ("probability", "ce"))
    scene = Scene(lent, x, y, keys, "pixels")
    losses = (cross_entropy, lambda logits, labels: -cross_entropy(logits, labels))
    up, down = (attack(scene.ascent(loss), x, threat, estimator, keys).detach() for loss in losses)
    candidates = [threat.project(x + eps * g.sign(), x), threat.project(x - eps * g.sign(), x), up, down]
    rho_adv, rho_rand = rho(value("probability"), x, eps, candidates, keys, draws)
    with torch.no_grad():
        rise = torch.stack([value("ce")(point) for point in candidates]).amax(0) - value("ce")(x)
    columns = (l1(g), l2(g), (g != 0).flatten(1).sum(1), l1(slope), rho_adv, rho_rand, rise.clamp(min=0.0))
    numbers = (short(column.double()) for column in columns)
    rounded = float(f"{eps:.9g}")
    return [
        {"kind": "theory", "eps": rounded, "eps_text": eps_text, "image": image, "label": label, "l1": one, "l2": two,
         "l0": nonzero, "ce_l1": steep, "rho_adv": adversarial, "rho_rand": random, "rise": rose}
        for image, label, one, two, nonzero, steep, adversarial, random, rose
        in zip(ids.tolist(), y.tolist(), *numbers, strict=True)
    ]  # fmt: skip


def _gradient(f: Function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (g,) = torch.autograd.grad(f(x).sum(), x)
    return g


def support_bounds(layer: nn.Conv2d | nn.Linear, entered: Tensor, delta: Tensor) -> dict[str, int]:
    """How many entries of dL/dW can differ from 0, for one image: `entered` (N,*) goes into the layer and `delta` (N,*)
    is the gradient at what comes out of it, N the steps (and whatever else shares the weights).

    support: weights some non-zero input of which meets a non-zero delta, which is where dL/dW can live at all; product:
    rows with a delta times columns with an input; count: meetings, a weight as often as it has one. dL/dW has at most
    `support` entries that are not zero, and support <= product and support <= count.
    """
    inputs, deltas = (entered != 0).float(), (delta != 0).float()
    meetings = _meetings(layer, inputs, deltas).round()
    columns = _meetings(layer, inputs, torch.ones_like(deltas)) > 0.5
    rows = deltas.flatten(2).any(2).any(0) if isinstance(layer, nn.Conv2d) else deltas.flatten(0, -2).any(0)
    return {
        "support": int((meetings > 0).sum()),
        "product": int(columns[rows].sum()),
        "count": int(meetings.double().sum()),
    }


def _meetings(layer: nn.Conv2d | nn.Linear, entered: Tensor, delta: Tensor) -> Tensor:
    """sum over N and places of delta times the input that each weight met: the shape of the weight."""
    if isinstance(layer, nn.Linear):
        return delta.flatten(0, -2).T @ entered.flatten(0, -2)
    return conv2d_weight(  # type: ignore[no-any-return, no-untyped-call]
        entered, list(layer.weight.shape), delta, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def support_rows(victim: Victim, x: Tensor, y: Tensor, ids: Tensor, *, rule: Rule, seed: int) -> Iterator[SupportRow]:
    """One row per image (B,C,H,W) of kind 'support', of its cross-entropy; for each convolution and linear layer:

    size: weights that can ever meet a pixel; density: the share of them whose gradient is not exactly 0; support,
    product, count: the bounds of `support_bounds`, as shares of size too (a count above 1 says nothing, and is 1);
    delta: the share of entries of the gradient at the layer's output that are not 0. The victim must be in eval mode.
    """
    check_labels(victim, x, y)
    lent = borrowed(victim)
    modules = {n: m for n, m in lent.body.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    weights = [m.weight.requires_grad_() for m in modules.values()]
    keys = fold(image_keys(seed, ids).to(x.device), "measure")
    for i, (image, label) in enumerate(zip(ids.tolist(), y.tolist(), strict=True)):
        one = slice(i, i + 1)
        with torch.enable_grad(), tapped(lent, rule) as (watched, taps):
            loss = scalar_of("ce", lent(x[one], watched, keys[one]), y[one]).sum()
        seen = {(tap.site, tap.side): tap.tensor for tap in taps if tap.site in modules}
        found = torch.autograd.grad(loss, [*weights, *(seen[name, "output"] for name in modules)])
        parts = zip(modules.items(), found[: len(weights)], found[len(weights) :], strict=True)
        layers = {name: _tightness(m, seen[name, "input"].detach(), w, d) for (name, m), w, d in parts}
        yield {"kind": "support", "image": image, "label": label, "layers": layers}


def _tightness(layer: nn.Conv2d | nn.Linear, entered: Tensor, weight: Tensor, delta: Tensor) -> Tightness:
    size = weight.numel()
    if isinstance(layer, nn.Conv2d):
        size = int(live_taps(layer, *entered.shape[-2:]).sum()) * weight[..., 0, 0].numel()
    bounds = support_bounds(layer, entered, delta)
    return {
        "size": size,
        "support": _rounded(min(1.0, bounds["support"] / size)),
        "product": _rounded(min(1.0, bounds["product"] / size)),
        "count": _rounded(min(1.0, bounds["count"] / size)),
        "density": _rounded(int((weight != 0).sum()) / size),
        "delta": _rounded(float((delta != 0).double().mean())),
    }


def _rounded(share: float) -> float:
    return float(f"{share:.6g}")
