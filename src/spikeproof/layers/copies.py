"""Copies of networks, which every attack and every batch of an adversarial training begins with."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from torch import nn

__all__ = ["copied"]

M = TypeVar("M", bound=nn.Module)


def copied(network: M, known: Mapping[int, object] = MappingProxyType({})) -> M:
    """What copy.deepcopy makes of a network, in little more than half the time; known: what to use in the place of
    things, by their id.

    Most of what a module holds are empty tables of hooks: that they are new and empty need not be worked out for each.
    """
    held = (each for module in network.modules() for each in vars(module).values())
    empty = {id(each): type(each)() for each in held if type(each) in (dict, OrderedDict, set) and not each}
    return copy.deepcopy(network, {**empty, **known})
