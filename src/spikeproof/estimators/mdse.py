"""MDSE: several rules of one network, mixed per pixel by coefficients that learn which of them was right."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeproof import rules
from spikeproof.errors import UsageError
from spikeproof.estimators._backward import backward
from spikeproof.tensors import per_image
from spikeproof.types import Carry, Objective, Rule, Score

__all__ = ["MDSE"]


@dataclass(frozen=True)
class MDSE:
    """G = sum_m a_m g_m over the members: `rule` and, by name and with their defaults, `others`; a_m (B,*) from 1.

    After the paper's rule (MDSE: mixing estimators for spiking networks and vision transformers), in which the slope of
    the step sign(G), taken as that of tanh(lam G), tells how a coefficient moves the next point x':

        a_m <- a_m + rho dF/dx' g_m / cosh(lam G)^2, with g_m and G of the step before, dF/dx' = sum_m g_m(x').

    So only coordinates whose members disagree are learnt, and a coefficient falls where its member pointed down the
    slope that was then met. Departures: F is the attacked loss itself, to be raised, for every member, where the paper
    lowers clamped margins; x' is the point that the attack went to, where the paper looks one step ahead and pays a
    second gradient for it; every g_m is divided by the mean |g_m| of its image, so that rho, which stands for the
    paper's rho lambda eta, and lam have no unit, and an image does not depend on its batch.
    Costs as many gradients as there are members. The coefficients are the carry of one attack run.
    """

    rule: Rule
    others: tuple[str, ...] = ("triangle", "sigmoid", "straight_through")
    rho: float = 0.1
    lam: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.rho < torch.inf or not 0 <= self.lam < torch.inf:
            raise UsageError("finite rho and lam >= 0", f"rho={self.rho}, lam={self.lam}")
        self.members()

    def members(self) -> list[Rule]:
        """The rules, each once; UsageError for a name that is none."""
        return list(dict.fromkeys([self.rule, *(_rule(name) for name in self.others)]))

    def init(self, x: Tensor) -> Carry:
        shape = (len(self.members()), *x.shape)
        return torch.ones(shape).to(x), torch.zeros(shape).to(x)

    def of(self, carry: Carry, index: Tensor) -> Carry:
        a, before = carry
        return a[:, index], before[:, index]

    def __call__(self, f: Objective, x: Tensor, carry: Carry, salt: int) -> tuple[Score, Tensor, Carry]:
        """Score, the mixed gradient (B,*), and this step's coefficients and gradients (M,B,*) each."""
        a, before = carry
        found = [backward(f, x, member, salt) for member in self.members()]
        g = torch.stack([_in_units(gradient) for _, gradient in found])
        a = a + self.rho * g.sum(0) * before / torch.cosh((self.lam * (a * before).sum(0)).clamp(-40, 40)).square()
        return found[0][0], (a * g).sum(0), (a, g)


def _in_units(gradient: Tensor) -> Tensor:
    """Gradient (B,*) in units of its image's mean size; all zeros stay zeros."""
    mean = gradient.flatten(1).abs().mean(1)
    return gradient / per_image(gradient, mean.clamp(min=torch.finfo(gradient.dtype).tiny))


def _rule(name: str) -> Rule:
    """A rule of this package by its file's name, with its defaults."""
    known = sorted(m.name for m in pkgutil.iter_modules(rules.__path__) if not m.name.startswith("_"))
    if name not in known:
        raise UsageError("a rule in MDSE's others", repr(name), valid=known)
    module = importlib.import_module(f"spikeproof.rules.{name}")
    made: Rule = getattr(module, module.__all__[0])()
    return made
