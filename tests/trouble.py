"""Defences of a user that go wrong in ways a study must survive; and one that waits for ever and says who it is."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinycell

__all__ = ["Dies", "Raises", "Waits"]


@dataclass(frozen=True)
class Raises:
    def __call__(self, *_: Any) -> Any:
        raise RuntimeError("nothing of spikeproof's own")


@dataclass(frozen=True)
class Dies:
    def __call__(self, *_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Waits:
    """Writes its process down beside the trace."""

    def __call__(self, *_: Any) -> Any:
        Path(os.environ[tinycell.TRACE]).with_name(f"pid-{os.getpid()}").touch()
        time.sleep(120)
