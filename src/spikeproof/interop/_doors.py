"""Standing at the door of somebody's `autograd.Function` while it is called, and leaving it as it was.

`MySpike.apply` is often bound to another name when its module is imported, so that nothing that is put in its place
would be called. But torch looks up `forward` (or `setup_context`, where that is apart) on the class at every call. For
the time of a call of a wrapped network one of these is a function that runs the owner's and tells a visitor; calls from
elsewhere, and from other threads, pass through it unseen.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.autograd import Function

__all__ = ["Kind", "Visitor", "apart", "watched"]

Kind = type[Function]
"""A class of functions: torch makes no instances of it."""

Visitor = Callable[[Kind, Any, tuple[Any, ...], Any], None]
"""(class, context, arguments, what it returned): told inside the call, which has no gradients of its own."""

_LOCK = threading.Lock()
_OPEN: dict[Kind, _Door] = {}
_HERE = threading.local()


def apart(kind: Kind) -> bool:
    """Whether its forward takes no context, so that `setup_context` is told instead."""
    return kind.setup_context is not Function.setup_context


class _Door:
    """What stands at one class, and for how many."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.name, self.guests = kind, "setup_context" if apart(kind) else "forward", 0
        self.own = vars(kind).get(self.name)
        self.owners: Callable[..., Any] = _behind(kind, self.name)

    def open(self) -> None:
        setattr(self.kind, self.name, staticmethod(self._set_up if apart(self.kind) else self._forward))

    def close(self) -> None:
        if self.own is None:
            delattr(self.kind, self.name)
        else:
            setattr(self.kind, self.name, self.own)

    def _forward(self, context: Any, *args: Any) -> Any:
        returned = self.owners(context, *args)
        self._tell(context, args, returned)
        return returned

    def _set_up(self, context: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.owners(context, inputs, output)
        self._tell(context, inputs, output)

    def _tell(self, context: Any, args: tuple[Any, ...], returned: Any) -> None:
        visitor = getattr(_HERE, "visitors", {}).get(self.kind)
        if visitor is not None:
            visitor(self.kind, context, args, returned)


def _behind(kind: Kind, name: str) -> Callable[..., Any]:
    """The owner's method, also where another class stands at a door of its own that it inherits."""
    for base in kind.__mro__:
        if base in _OPEN and _OPEN[base].name == name:
            return _OPEN[base].owners
        if name in vars(base):
            break
    method: Callable[..., Any] = getattr(kind, name)
    return method


@contextlib.contextmanager
def watched(kinds: Iterable[Kind], visitor: Visitor) -> Iterator[None]:
    """Every call of one of these classes from this thread is told to the visitor, and to no earlier one."""
    before: dict[Kind, Visitor] = getattr(_HERE, "visitors", {})
    kinds = tuple(kinds)
    with _LOCK:
        for kind in kinds:
            door = _OPEN.get(kind) or _Door(kind)
            door.guests += 1
            if kind not in _OPEN:
                door.open()
                _OPEN[kind] = door
    _HERE.visitors = before | dict.fromkeys(kinds, visitor)
    try:
        yield
    finally:
        _HERE.visitors = before
        with _LOCK:
            for kind in kinds:
                _OPEN[kind].guests -= 1
                if not _OPEN[kind].guests:
                    _OPEN.pop(kind).close()
