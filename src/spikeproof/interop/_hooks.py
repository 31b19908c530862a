"""Hooks that a user has put on a network: those that only look are for the user's own calls, and copies go without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import SpikeproofError
from spikeproof.interop._borrowing import twin
from spikeproof.interop._preserved import HOOKS

__all__ = ["lookers"]

_FORWARD = HOOKS[:2]


def lookers(model: nn.Module, answers: Callable[[nn.Module], list[Tensor]]) -> frozenset[int]:
    """Identities of the hooks that only look: none of them answers, and a copy without them answers as the model does.

    answers: a few logits of a network. What hooks do to gradients is not the network's either: those go in any case.
    """
    of_gradients = {id(hook) for _, _, hook in _hooks(model, HOOKS[2:])}
    if not any(True for _ in _hooks(model, _FORWARD)):
        return frozenset(of_gradients)
    with _watched(model) as answering:
        own = answers(model)
    silent = {id(hook) for _, _, hook in _hooks(model, _FORWARD)} - answering
    try:
        without = answers(twin(model, without=silent | of_gradients))
    except SpikeproofError:
        return frozenset(of_gradients)
    same = len(own) == len(without) and all(map(torch.equal, own, without))
    return frozenset(silent | of_gradients if same else of_gradients)


def _hooks(model: nn.Module, kinds: tuple[str, ...]) -> Iterator[tuple[dict[int, Any], int, Any]]:
    """The user's hooks, each with the dictionary and the key it is under; torch's own make weights, and stay."""
    for module in model.modules():
        for kind in kinds:
            held: dict[int, Any] = vars(module).get(kind) or {}
            for key, hook in list(held.items()):
                if not _of_torch(hook):
                    yield held, key, hook


def _of_torch(hook: Any) -> bool:
    home = hook.__module__ if hasattr(hook, "__module__") else type(hook).__module__
    return str(home).split(".")[0] == "torch"


@contextmanager
def _watched(model: nn.Module) -> Iterator[set[int]]:
    """Identities of the hooks that return something while this lasts."""
    answering: set[int] = set()
    found = list(_hooks(model, _FORWARD))

    def watching(hook: Any) -> Any:
        def watch(*args: Any, **named: Any) -> Any:
            answer = hook(*args, **named)
            if answer is not None:
                answering.add(id(hook))
            return answer

        return watch

    for held, key, hook in found:
        held[key] = watching(hook)
    try:
        yield answering
    finally:
        for held, key, hook in found:
            held[key] = hook
