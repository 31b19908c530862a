"""Budgets that papers attack events with, as evaluations of a configuration, each with its source.

They are what stands in papers and scripts, and no advice: a budget means something for one binning, one number of steps
and one data set alone. Numbers over other victims, binnings or subsets are not comparable with the papers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from spikeproof.errors import UsageError

__all__ = ["PUBLISHED", "Published", "published"]


@dataclass(frozen=True)
class Published:
    """One attack at its budgets. source: whose they are; of: the data, the steps T, and which recordings."""

    source: str
    of: str
    norm: str
    eps: tuple[int, ...]
    attack: Mapping[str, Any]


_RETIMING = "Spike-Retiming Attacks, ICLR 2026 (arXiv 2602.03284), the budgets of its scripts and tables"
_NMNIST = "N-MNIST, T 10 by number, binary; the first 1,000 right when clean of the test set in file order"
_GESTURE = "DVS128-Gesture, 128x128, T 10 by number, binary; the whole test set"
_PDSG: Final = {"rule": {"name": "pdsg"}}


def _retiming(norm: str, eps: tuple[int, ...], of: str) -> Published:
    """20 steps where each event is bounded and 40 where a sum is, under PDSG."""
    attack = {"name": "retiming", "steps": 20 if norm == "retime_binf" else 40, "using": _PDSG}
    return Published(_RETIMING, of, norm, eps, attack)


PUBLISHED: Final[Mapping[str, Published]] = {
    "retiming-nmnist-binf": _retiming("retime_binf", (1, 2, 3), _NMNIST),
    "retiming-nmnist-b1": _retiming("retime_b1", (500, 750, 1000), _NMNIST),
    "retiming-nmnist-b0": _retiming("retime_b0", (200, 300, 400), _NMNIST),
    "retiming-gesture-binf": _retiming("retime_binf", (1, 2, 3), _GESTURE),
    "retiming-gesture-b1": _retiming("retime_b1", (2000, 4000, 8000), _GESTURE),
    "retiming-gesture-b0": _retiming("retime_b0", (1000, 2000, 4000, 8000), _GESTURE),
    "sda-cifar10dvs": Published(
        "Lun et al., CVPR 2025, and its script: success at fewer than 800 flips, ten moves tried in the first round",
        "CIFAR10-DVS, T 10, binary; the first 100 right when clean of a shuffled order",
        "flips",
        (799,),
        {"name": "sparse_dynamic", "steps": 500, "first": 10, "using": {**_PDSG, "loss": "margin"}},
    ),
    "spikefool": Published(
        "Buechel et al. 2022, as a public implementation has it: 4 rounds, at most 1,000 cells",
        "N-MNIST and DVS128-Gesture, binary",
        "flips",
        (1000,),
        {"name": "spike_fool", "rounds": 4, "steps": 10, "overshoot": 0.02, "reach": 2.0},
    ),
    "sea": Published(
        "Mukhoty et al., ICLR 2025: one gradient, five flips, of the encoded input there",
        "CIFAR-10 in rate code, T 4",
        "flips",
        (5,),
        {"name": "top_events", "steps": 1},
    ),
}
"""By name: attack and data set, and the budget's kind where there are several."""


def published(name: str, **changes: Any) -> dict[str, Any]:
    """The evaluation of that name, as it stands under `evaluations` in a configuration, with some of its keys changed.

    Raises UsageError for a name that is none.

    >>> published("retiming-nmnist-b0")["eps"]
    [200, 300, 400]
    """
    if name not in PUBLISHED:
        raise UsageError("published budgets", repr(name), valid=PUBLISHED)
    of = PUBLISHED[name]
    evaluation = {"name": name, "norm": of.norm, "surface": "events", "eps": list(of.eps)}
    return {**evaluation, "attacks": {str(of.attack["name"]): dict(of.attack)}, **changes}
