"""Every attack of a configuration, played through for a moment on a toy network before anything is trained.

A pair that cannot be (an attack and a norm, a loss and a number of classes, an encoder without a gradient) is refused
by the parts themselves, when they run. So they are run here: the cell's own encoder, rule, loss, estimator, threat and
attack, on a network of one spiking layer that stops the play after a few dozen calls. Nothing is known of any part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError, UsageError, within
from spikeproof.evaluation.judge import Case, proposal
from spikeproof.tensors import exact, image_keys
from spikeproof.training.craft import crafter
from spikeproof.types import Encoder, Neuron, Rule, Threat
from spikeproof.victims.victim import Victim

__all__ = ["rehearse", "rehearse_training", "toy"]

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


def toy(encoder: Encoder, neuron: Neuron, steps: int, *, in_channels: int, classes: int) -> Victim:
    """A victim of one layer, in eval mode, for images of 4x4 pixels; torch's random stream is left alone."""
    return Victim(_Body(neuron, in_channels, classes), encoder, steps).eval()


def _scene(victim: Victim) -> tuple[Tensor, Tensor, Tensor]:
    """Two images, what the toy says of them, and their keys."""
    sizes = {"T": victim.steps, "C": victim.in_channels, "H": _SIDE, "W": _SIDE}
    shape = [2, *(sizes[axis] for axis in victim.takes)]
    x = (torch.arange(math.prod(shape)).view(shape) % 7 + 1).float() / 8.0
    keys = image_keys(0, torch.arange(2))
    with torch.no_grad():
        return x, victim(x, exact, keys).argmax(1), keys


def rehearse(victim: Victim, cases: Mapping[str, Case], threats: Mapping[str, Threat]) -> None:
    """Play each case at the first budget. Raises UsageError whose path is the case's name."""
    threat = next(iter(threats.values()))
    for name, case in cases.items():
        victim.body.calls = 0  # type: ignore[assignment]
        try:
            proposal(victim, *_scene(victim), name, case, threat)
        except _Enough:
            pass
        except SpikeproofError as error:
            with within(name):
                raise _unplayable(f"attack {name!r}", error) from error


def rehearse_training(victim: Victim, case: Case, threat: Threat) -> None:
    """Play the attack of an adversarial training. Raises UsageError."""
    victim.body.calls = 0  # type: ignore[assignment]
    try:
        crafter(victim, case.attack, threat, case.estimator, case.loss)(*_scene(victim))
    except _Enough:
        pass
    except SpikeproofError as error:
        raise _unplayable("the training attack", error) from error


def _unplayable(what: str, error: SpikeproofError) -> UsageError:
    return UsageError(error.expected, error.got, valid=error.valid, mend=error.mend).at(f"{what} cannot be run")
