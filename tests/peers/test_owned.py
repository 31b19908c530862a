"""The networks of `benchmarks/owned.py`, hardly trained, each held against its owner's object."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from benchmarks.owned import OWNED, trained
from peers.wrapped import KEYS, X, gradient
from small import untouched

import spikeproof


@pytest.mark.parametrize("name", OWNED)
def test_a_network_is_its_owners(name: str) -> None:
    """On images that wrap has not seen, which are as many as those it has, and fewer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            owned = replace(OWNED[name](), batches=4)
    except ImportError as error:
        pytest.skip(f"{name} cannot be had here: {error}")
    network = trained(owned, 0)
    with untouched(network):
        victim = spikeproof.wrap(network, 1.0 - X[:6].flip(-1), **owned.told)
    assert not victim.body.foreign
    for count in (6, len(X)):
        mine, theirs = X[:count].clone().requires_grad_(), X[:count].clone().requires_grad_()
        found, expected = victim(mine, victim.rule, KEYS[:count]), owned.logits(network, theirs)
        assert torch.equal(found, expected)
    one, other = gradient(found, mine), gradient(expected, theirs)
    assert other.abs().max() > 0
    assert (one - other).abs().max() <= 1e-5 * other.abs().max()
