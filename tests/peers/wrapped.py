"""What the tests of `wrap` share: a training loop on digits, and a victim held against the code it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from small import digits, untouched
from torch import Tensor, nn
from torch.nn import functional as F

import spikeproof
from spikeproof.evaluation.examination import Examination
from spikeproof.evaluation.tiers import tier_of
from spikeproof.tensors import exact, image_keys
from spikeproof.threats.linf import Linf
from spikeproof.victims.victim import borrowed

X, Y, IDS = digits(20)
KEYS = image_keys(0, IDS)

Logits = Callable[[nn.Module, Tensor], Tensor]
"""How its owner calls a model on images (B,C,H,W), state and all."""


def trained(make: Callable[[], nn.Module], logits: Logits) -> nn.Module:
    """Sixty batches, then eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for k in range(60):
            x, y, _ = digits(32, first=(32 * k) % 1400, split="train")
            optimiser.zero_grad()
            F.cross_entropy(4 * logits(model, x), y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    model.zero_grad()
    return model.eval()


def gradient(logits: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(F.cross_entropy(logits, Y), x)[0]


def assert_the_same(victim: Any, model: nn.Module, logits: Logits) -> None:
    """Logits in every bit, also on a borrowed copy; the input gradient under the rule of training to 1e-5."""
    mine, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
    found, expected = victim(mine, victim.rule, KEYS), logits(model, theirs)
    assert torch.equal(found, expected)
    assert torch.equal(borrowed(victim)(X, exact, KEYS), expected)
    assert (expected.argmax(1) == Y).float().mean() > 0.4
    one, other = gradient(found, mine), gradient(expected, theirs)
    assert other.abs().max() > 0
    assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def examined(victim: Any, tier: str = "quick", **options: Any) -> Examination:
    """A tier with its audits, which must leave the victim as it was."""
    with untouched(victim):
        found = spikeproof.evaluate(victim, X, Y, ids=IDS, tier=tier, eps=0.15, **options)
    assert found.verdict.word != "not evaluated"
    assert found.robust.share < found.clean.share
    return found


def stages(victim: Any) -> set[str]:
    """The names of what the deepest tier would try on it."""
    return {stage.name for stage in tier_of("audit", victim, victim.rule, Linf(eps=0.15, surface="pixels")).stages}
