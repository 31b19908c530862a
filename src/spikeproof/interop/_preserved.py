"""A user's own network is called, and afterwards it is what it was: its attributes, and what its hooks wrote."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["HOOKS", "preserved"]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where torch keeps the hooks of a module."""

_LARGE = 2**22
"""Elements of a tensor that a hook reaches and that is not the network's: larger ones are a data set, not a record."""


@contextlib.contextmanager
def preserved(network: nn.Module, others: Iterable[Any] = ()) -> Iterator[None]:
    """Puts back what the network and the `others` remember, and what their hooks have written where they write.

    Reached are attributes of modules and of plain objects in them, containers, tensors, arrays, and of hooks also the
    variables that they close over and the containers they name in their module.
    """
    memory = _Memory()
    for root in (network, *others):
        memory.take(root)
    try:
        yield
    finally:
        memory.restore()


class _Memory:
    """What was where: for everything reachable the way back."""

    def __init__(self) -> None:
        self.met: dict[int, Any] = {}  # holds what it has met, or another object could get its identity
        self.back: list[Callable[[], None]] = []

    def restore(self) -> None:
        for undo in self.back:
            undo()

    def take(self, root: Any) -> None:
        """Everything that can be reached from a root, each thing once."""
        ahead = [root]
        while ahead:
            value = ahead.pop()
            if id(value) not in self.met and not isinstance(value, str | bytes | int | float | type | ModuleType):
                self.met[id(value)] = value
                ahead.extend(self._kept(value))

    def _kept(self, value: Any) -> Iterable[Any]:
        """Remembers one thing, and says what it leads to."""
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, dict):
            return self._container(value, value.update, dict(value), value.values())
        elif isinstance(value, list | deque):
            return self._container(value, value.extend, list(value), value)
        elif isinstance(value, set):
            return self._container(value, value.update, set(value), ())
        elif isinstance(value, tuple):
            return value
        elif isinstance(value, FunctionType | MethodType):
            return self._function(value)
        elif isinstance(value, torch.jit.ScriptModule):
            return [*value.parameters(), *value.buffers()]
        elif isinstance(value, nn.Module) or _plain(value):
            return [vars(value)]
        return ()

    def _container(self, held: Any, refill: Callable[[Any], None], was: Any, leads: Iterable[Any]) -> list[Any]:
        def undo() -> None:
            held.clear()
            refill(was)

        self.back.append(undo)
        return list(leads)

    def _tensor(self, tensor: Tensor) -> None:
        if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_inference() or tensor.is_quantized:
            return
        was = tensor.detach().clone()

        def undo() -> None:
            if tensor.shape != was.shape:
                tensor.data = was
            elif not torch.equal(tensor.detach(), was):
                tensor.data.copy_(was)

        self.back.append(undo)

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        if array.dtype != object and array.size < _LARGE and array.flags.writeable:
            was = array.copy()
            self.back.append(lambda: np.copyto(array, was))

    def _function(self, function: Any) -> list[Any]:
        """A hook's own object, the variables it closes over, and the containers it names in its module."""
        if isinstance(function, MethodType):
            return [function.__self__]
        found = [self._cell(cell) for cell in function.__closure__ or ()]
        named = [function.__globals__.get(name) for name in function.__code__.co_names]
        held = [value for value in named if isinstance(value, list | dict | set | deque | Tensor | np.ndarray)]
        return [*found, *(value for value in held if not isinstance(value, Tensor) or value.numel() < _LARGE)]

    def _cell(self, cell: CellType) -> Any:
        try:
            was = cell.cell_contents
        except ValueError:  # nothing in it yet
            return None

        def undo() -> None:
            cell.cell_contents = was

        self.back.append(undo)
        return None if isinstance(was, Tensor) and was.numel() >= _LARGE else was


def _plain(value: Any) -> bool:
    """Somebody's own object with attributes, not one of a library that has a life of its own."""
    home = type(value).__module__.split(".")[0]
    return hasattr(value, "__dict__") and home not in _LIBRARIES


_LIBRARIES = ("builtins", "torch", "numpy", "io", "logging", "threading", "_thread", "multiprocessing", "functools")
