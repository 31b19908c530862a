"""A victim in other toolkits' hands: what is the same in every call of the module, and what is drawn anew."""

from __future__ import annotations

import torch
from small import adapted, digits, trained
from torch import Tensor

from spikeproof.encoders.phase import Phase
from spikeproof.interop.export import Plain, as_module
from spikeproof.tensors import exact, image_keys
from spikeproof.victims.victim import Victim

X, _, IDS = digits(8)


def asked(module: Plain) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of their first: one call."""
    x = X.clone().requires_grad_()
    logits = module(x)
    return logits.detach(), torch.autograd.grad(logits[:, 0].sum(), x)[0]


def phase(gradient: str, reach: int = 38) -> Victim:
    return Victim(adapted("phase", steps=8).body, Phase(gradient=gradient, reach=reach), 8).eval()  # type: ignore[arg-type]


def test_a_secant_is_drawn_anew_in_every_call_and_the_logits_stay() -> None:
    """A new module of the same seed draws the same ones in the same order; another seed other ones."""
    victim = phase("secant")
    module, again, other = as_module(victim), as_module(victim), as_module(victim, seed=1)
    calls = [asked(module) for _ in range(3)]
    for logits, _ in calls:
        assert torch.equal(logits, victim(X, exact, image_keys(0, IDS)))
    gradients = [gradient for _, gradient in calls]
    assert not torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[1], gradients[2])
    assert all(torch.equal(asked(again)[1], gradient) for gradient in gradients)
    assert not torch.equal(asked(other)[1], gradients[0])


def test_a_gradient_without_a_draw_is_the_same_in_every_call() -> None:
    for victim in (phase("straight"), phase("secant", reach=1), trained("direct")):
        module = as_module(victim)
        assert torch.equal(asked(module)[1], asked(module)[1])


def test_the_noise_of_a_random_encoder_is_the_same_in_every_call() -> None:
    module = as_module(trained("poisson"))
    one, two = asked(module), asked(module)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
