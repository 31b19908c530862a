"""What all tests share: the oracles on the import path, and property tests that draw the same examples every time."""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path

import torch
from hypothesis import settings

from spikeproof import native

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("spikeproof", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("spikeproof")

# The nets are tiny: two threads that wait for each other at every operation cost far more than they save.
torch.set_num_threads(1)

# Behind nohup or a shell's & it is ignored, and so it would be in every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Found now, for the whole process: a test that hides the compiler behind another PATH may come first.
native.available()


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the collector of cycles need not look at it again and again, nor
    after every 700 new objects at what is new."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_unconfigure() -> None:
    """Frozen, what libraries hold would be left at the end of Python, and some of them complain of that."""
    gc.unfreeze()
