"""What all tests share: the oracles on the import path, and property tests that draw the same examples every time."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read once, as numpy is imported, here and in every process that a test starts. Its products are of tables of a hundred
# numbers a side: where two processes share two cores, a second thread has each of them wait for milliseconds.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from pages import without_drawing, without_pdf

settings.register_profile("spikeproof", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("spikeproof")

# What a process wrote outlives its kill without this too; power cuts are played by `crashes.py`, in another process.
os.fsync = lambda file: None

# Behind nohup or a shell's & it is ignored, and so it would be in every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """What every process that runs tests does once, and not the one that hands them out: it would import torch while
    the others wait for it."""
    if config.getoption("numprocesses", None) and not _works_for_another(config):
        return
    import torch

    from spikeproof import native

    # The nets are tiny: two threads that wait for each other at every operation cost far more than they save.
    torch.set_num_threads(1)
    # Found now, for the whole process: a test that hides the compiler behind another PATH may come first.
    native.available()


def _works_for_another(config: pytest.Config) -> bool:
    """Whether this process gets its tests from pytest-xdist's, beside others whose folders lie next to its own."""
    return hasattr(config, "workerinput")


@pytest.fixture(scope="session", autouse=True)
def _kept_together(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Networks that tests train are kept where all processes of this run of the tests find them."""
    import small

    folder = tmp_path_factory.getbasetemp()
    small.KEPT = folder.parent if _works_for_another(pytestconfig) else folder


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the collector of cycles need not look at it again and again, nor
    after every 700 new objects at what is new."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_unconfigure() -> None:
    """Frozen, what libraries hold would be left at the end of Python, and some of them complain of that."""
    gc.unfreeze()


@pytest.fixture
def no_pdf() -> Iterator[None]:
    with without_pdf():
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    with without_drawing():
        yield
