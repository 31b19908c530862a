"""Kullback-Leibler divergence between two answers, which TRADES and MART share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["divergence"]


def divergence(clean: Tensor, moved: Tensor) -> Tensor:
    """KL(p || q) in nats of softmaxes p and q of two logits (B,K) -> (B,) >= 0; with graph on both sides."""
    p, q = torch.log_softmax(clean, 1), torch.log_softmax(moved, 1)
    return (p.exp() * (p - q)).sum(1)
