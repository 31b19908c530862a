"""Every attack of a configuration, played through for a moment on a toy network before anything is trained.

A pair that cannot be (an attack and a norm, a loss and a number of classes, an encoder without a gradient) is refused
by the parts themselves, when they run. So they are run here: the cell's own encoder, rule, loss, estimator, threat and
attack, on a network of one spiking layer that stops the play after a few dozen calls. Nothing is known of any part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from spikeproof import parts
from spikeproof.errors import SpikeproofError, UsageError, within
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.evaluation.judge import Case, proposal
from spikeproof.evaluation.tiers import tier_of
from spikeproof.losses import cross_entropy
from spikeproof.study.config.build import cases_of, rule_of, threats_of, training_threat
from spikeproof.study.config.once import once
from spikeproof.study.config.schema import CellConfig, Panel, Paper, Part, Pixels
from spikeproof.tensors import exact, image_keys, on_grid
from spikeproof.training.craft import crafter
from spikeproof.types import Grid, Neuron, Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

__all__ = ["rehearse"]

_CALLS = 40
"""Forward passes of the toy after which a play is over: enough for the first steps of every attack."""

_SIDE = 4


class _Enough(Exception):
    """The toy has been called often enough."""


class _Body(nn.Module):
    """One spiking layer and fixed weights: T steps of C channels to K logits."""

    def __init__(self, neuron: Neuron, in_channels: int, classes: int) -> None:
        super().__init__()
        self.neuron, self.in_channels, self.classes = neuron, in_channels, classes
        self.calls = 0
        inputs = in_channels * _SIDE**2
        self.weight = nn.Parameter(torch.sin(torch.arange(inputs * classes, dtype=torch.float32)).view(inputs, classes))

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        self.calls += 1
        if self.calls > _CALLS:
            raise _Enough
        return rule(self.neuron, 2.0 * z, "toy").flatten(2).mean(0) @ self.weight / math.sqrt(len(self.weight))


def rehearse(cell: CellConfig, *, in_channels: int, classes: int) -> None:
    """Every attack for a moment on a toy of so many channels and classes. Raises UsageError with its path."""
    network = cell.encoder, cell.neuron, cell.steps or 1, in_channels, classes
    if cell.network is None:
        with within("training_attack"):
            _rehearse_training(cell.training_attack, cell.training_threat, cell.rule, network)
    for number, evaluation in enumerate(cell.evaluations):
        with within("evaluations", number):
            _rehearse(evaluation, network)


_Network: TypeAlias = tuple[Part, Part, int, int, int]
"""Encoder, neuron, steps, channels, classes."""


def _toy(network: _Network) -> Victim:
    """A victim of one layer, in eval mode, for images of 4x4 pixels; torch's random stream is left alone."""
    encoder, neuron, steps, in_channels, classes = network
    body = _Body(parts.build("neurons", neuron), in_channels, classes)
    return Victim(body, parts.build("encoders", encoder), steps).eval()


@once
def _rehearse_training(attack: Part, threat: Part, rule: Part | None, network: _Network) -> None:
    own = Case(parts.build("attacks", attack), WhiteBox(rule_of(rule)), cross_entropy)
    victim = _toy(network)
    with _played("the training attack"):
        ball, toys = training_threat(threat), _batch(victim, "pixels")
        craft = crafter(victim, own.attack, ball, own.estimator, own.loss)
        craft(toys.x, toys.y, toys.keys)


@once
def _rehearse(evaluation: Pixels | Paper | Panel, network: _Network) -> None:
    """Each case at the first budget; of a panel, what its tier would run."""
    threats = threats_of({"name": evaluation.norm}, evaluation.eps, evaluation.surface)
    if isinstance(evaluation, Panel):
        for threat in threats.values():
            tier_of(evaluation.tier, _toy(network), rule_of(evaluation.rule), threat)
        return
    threat = next(iter(threats.values()))
    for name, case in cases_of(evaluation, network[0]).items():
        victim = _toy(network)
        with within("attacks", name), _played(f"attack {name!r}"):
            proposal(victim, _batch(victim, threat.surface), name, case, threat)


def _batch(victim: Victim, surface: str) -> Batch:
    """Two images, as a surface takes them, and what the toy says of them."""
    sizes = {"T": victim.steps, "C": victim.in_channels, "H": _SIDE, "W": _SIDE}
    shape = [2, *(sizes[axis] for axis in victim.takes)]
    x = (torch.arange(math.prod(shape)).view(shape) % 7 + 1).float() / 8.0
    if isinstance(there := parts.surface(surface), Grid):
        x = on_grid(x, there.quantum)
    ids = torch.arange(2)
    keys = image_keys(0, ids)
    with torch.no_grad():
        return Batch(x, victim(x, exact, keys).argmax(1), ids, keys)


@contextmanager
def _played(what: str) -> Iterator[None]:
    """Until the toy has been called often enough. What cannot be played is a UsageError."""
    try:
        yield
    except _Enough:
        pass
    except SpikeproofError as error:
        refused = UsageError(error.expected, error.got, valid=error.valid, mend=error.mend)
        raise refused.at(f"{what} cannot be run") from error
