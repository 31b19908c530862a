"""The memory of an attack does not grow with its number of steps: what malloc has given out, read at every call."""

from __future__ import annotations

import ctypes
import inspect
from typing import Any

import pytest
import torch
from small import digits, moves_events, retimes, trained
from torch import Tensor

from spikeproof import parts
from spikeproof.estimators.white_box import WhiteBox
from spikeproof.losses import margin
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys
from spikeproof.threats.flips import Flips
from spikeproof.threats.l1 import L1
from spikeproof.threats.linf import Linf
from spikeproof.threats.retime_b1 import RetimeB1
from spikeproof.types import Objective, Rule, Score
from spikeproof.victims.scene import Scene

LIBC = ctypes.CDLL(None)
X0 = torch.full((2, 1, 128, 128), 0.5, dtype=torch.float64)
POINT = X0.nbytes
MEGABYTE = 2**20
pytestmark = pytest.mark.skipif(not hasattr(LIBC, "mallinfo2"), reason="what is in use is asked of glibc 2.33 or newer")


class Mallinfo2(ctypes.Structure):
    """Of glibc's malloc.h, over all arenas."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    ]


if hasattr(LIBC, "mallinfo2"):
    LIBC.mallinfo2.restype = Mallinfo2


def held() -> int:
    """Bytes that this process has asked for and not freed, of tensors and graphs alike. Its size would not do: freed
    memory is kept for the next pass."""
    info = LIBC.mallinfo2()
    return int(info.uordblks + info.hblkhd)


class Weighed:
    """A bent objective, pixels their own code, that notes what the process holds in every call."""

    final, classes = False, 4

    def __init__(self) -> None:
        self.keys, self.sizes = image_keys(0, torch.arange(2)), list[int]()

    def __call__(self, x: Tensor, rule: Rule, salt: int) -> Score:
        self.sizes.append(held())
        loss = (x - 0.3).square().flatten(1).mean(1) - 1
        return Score(loss, torch.zeros(len(x), dtype=torch.bool))

    def of(self, index: Tensor) -> Objective:
        return self

    def aimed(self, rank: int) -> Objective:
        return self

    difference = aimed

    def encode(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1)

    def encoded(self) -> Objective:
        return Behind(self)  # type: ignore[return-value]


class Behind:
    """The same behind the code."""

    def __init__(self, front: Weighed) -> None:
        self.front = front
        self.keys, self.final, self.classes = front.keys, front.final, front.classes

    def __call__(self, z: Tensor, rule: Rule, salt: int) -> Score:
        return self.front(z.squeeze(1), rule, salt)


def growth(sizes: list[int]) -> int:
    """From the highest of the calls in the second fifth to the highest of the last, in bytes."""
    fifth = len(sizes) // 5
    assert fifth >= 5
    return max(sizes[-fifth:]) - max(sizes[fifth : 2 * fifth])


def test_a_hoarder_would_be_seen() -> None:
    f, kept = Weighed(), []
    for k in range(30):
        f(X0, None, k)  # type: ignore[arg-type]
        kept.append(X0 + k)
    assert growth(f.sizes) > 10 * POINT


def threats_of(name: str) -> tuple[Any, ...]:
    if not moves_events(name):
        return Linf(0.1), L1(50.0)
    return (RetimeB1(50),) if retimes(name) else (Flips(50), RetimeB1(50)) if name == "swap_search" else (Flips(50),)


MANY = [
    (name, threat)
    for name in parts.names("attacks")
    for threat in threats_of(name)
    if {"steps", "queries", "draws"} & set(inspect.signature(parts.find("attacks", name)).parameters)
    and (threat.norm != "L1" or name in ("apgd", "fab", "pgd"))
]


@pytest.mark.parametrize(("name", "threat"), MANY, ids=str)
def test_no_attack_hoards(name: str, threat: Any) -> None:
    """Thirty calls or more; each would keep a point's size, 18 in all, if it kept the point alone."""
    accepts = inspect.signature(parts.find("attacks", name)).parameters
    queries = 60 if moves_events(name) else 30  # a search over swaps asks for a swap and for a move back in one pass
    draws = 1 if "steps" in accepts else 30
    wanted = {"steps": 30, "queries": queries, "draws": draws, "restarts": 1, "levels": 15}
    wanted |= dict.fromkeys(("width", "first", "population", "children"), 1)  # points in a pass
    attack = parts.build("attacks", {"name": name, **{k: v for k, v in wanted.items() if k in accepts}})
    f = Weighed()
    x0 = torch.zeros_like(X0) if moves_events(name) else X0
    if isinstance(threat, RetimeB1):
        x0 = x0.view(2, 16, 32, 32)
        x0[:, 3, :, :4] = 1.0
    attack(f, x0, threat, WhiteBox(ATan()), f.keys)
    assert len(f.sizes) >= 30
    assert growth(f.sizes) < 3 * POINT


@pytest.mark.parametrize("name", ["white_box", "assg", "mdse", "smooth_twin", "eot"])
def test_no_estimator_hoards_through_a_network(name: str) -> None:
    """Thirty gradients through time, whose graphs are half a MiB each: 9 MiB in all, if each were kept."""
    x, y, ids = digits(20)
    scene = Scene(trained("phase"), x, y, image_keys(0, ids), "pixels")
    f: Any = scene.objective(margin)
    few = {"draws": 3} if name == "eot" else {}  # graphs at a time, of which it could keep some
    estimator = parts.build("estimators", {"name": name, **few}, rule=ATan())
    sizes, carry = [], estimator.init(x)
    for salt in range(30):
        _, _, carry = estimator(f, x, carry, salt)
        sizes.append(held())
    assert growth(sizes) < MEGABYTE / 4
