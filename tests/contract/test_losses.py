"""Every attack loss: one finite number an image, by that image alone, larger where the class is less likely."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.tensors import image_keys, normal

each_loss = pytest.mark.parametrize("name", parts.names("losses"))
B, K = 40, 6
LOGITS = 3 * normal(image_keys(6, torch.arange(B)), (K,)).double()
LABELS = torch.arange(B) % K


def value(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """A targeted loss is aimed at the strongest other class."""
    target: Any = parts.find("losses", name)
    if len(inspect.signature(target).parameters) == 2:
        return target(logits, labels)  # type: ignore[no-any-return]
    others = logits.detach().scatter(1, labels[:, None], float("-inf"))
    return target(logits, labels, others.argmax(1))  # type: ignore[no-any-return]


@each_loss
def test_one_finite_number_an_image(name: str) -> None:
    loss = value(name, LOGITS, LABELS)
    assert loss.shape == (B,)
    assert loss.dtype == LOGITS.dtype
    assert torch.isfinite(loss).all()


@each_loss
def test_images_do_not_know_of_each_other(name: str) -> None:
    whole, order = value(name, LOGITS, LABELS), image_keys(0, torch.arange(B)).argsort()
    torch.testing.assert_close(value(name, LOGITS[order], LABELS[order]), whole[order], rtol=1e-14, atol=0)
    for i in range(B):
        torch.testing.assert_close(value(name, LOGITS[i : i + 1], LABELS[i : i + 1]), whole[i : i + 1])
    x = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(name, x, LABELS)[3], x)
    assert gradient[3].abs().max() > 0
    assert not torch.cat([gradient[:3], gradient[4:]]).any()


@each_loss
def test_it_grows_as_a_right_answer_weakens(name: str) -> None:
    right = LOGITS.argmax(1)
    x = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(name, x, right).sum(), x)
    assert (gradient.gather(1, right[:, None]) < 0).all()


@each_loss
def test_tied_logits_and_a_single_winner_give_finite_gradients(name: str) -> None:
    """Spike counts tie often, and a silent network gives equal logits to all classes."""
    two_winners = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]] * 2)
    for logits in (torch.zeros(2, K), torch.eye(K)[:2], 100 * torch.eye(K)[:2], two_winners):
        x = logits.clone().requires_grad_()
        loss = value(name, x, torch.tensor([0, 1]))
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()


@each_loss
def test_the_logits_are_left_alone(name: str) -> None:
    before = LOGITS.clone()
    value(name, LOGITS, LABELS)
    assert torch.equal(LOGITS, before)
