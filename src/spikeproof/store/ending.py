"""Ending at a batch: a scheduler says with a signal that time is nearly up, and what is being made is written first.

The signal is kept until a batch has been written (`check`). Work that writes none in the time of grace, such as a long
epoch of training, ends where it is, as a kill would end it: what lies in the store is whole all the same.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SIGNALS", "Stopped", "check", "heard", "listening"]

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""SIGTERM of whoever ends jobs; SIGUSR1 of a scheduler that is told to warn before a limit."""

_AGAIN = 1.0
"""Seconds until work is ended once more, where something caught the first time."""

_heard: signal.Signals | None = None


class Stopped(BaseException):
    """This process was told to end; not an Exception, so that nothing takes it for a fault of a cell."""


@contextmanager
def listening(grace: float) -> Iterator[None]:
    """Inside, a signal of `SIGNALS` ends the work of this process: at a batch, or after `grace` seconds."""
    global _heard

    def hear(number: int, _: FrameType | None) -> None:
        global _heard
        if _heard is None:
            _heard = signal.Signals(number)
            signal.setitimer(signal.ITIMER_REAL, max(grace, 1e-3), _AGAIN)

    def end(_: int, __: FrameType | None) -> None:
        raise Stopped

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, end)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        _heard = None


def heard() -> signal.Signals | None:
    """The signal that came first, if one did."""
    return _heard


def check() -> None:
    """Raises Stopped where this process was told to end; called when a batch has been written."""
    if _heard is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Stopped
