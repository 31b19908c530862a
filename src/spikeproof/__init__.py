"""spikeproof: how robust a spiking neural network really is, and how sparse its input gradients are."""

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikeproof.errors import SpikeproofError, UsageError
    from spikeproof.evaluation.panel import evaluate, report_of
    from spikeproof.interop.check import check
    from spikeproof.interop.load import load
    from spikeproof.interop.wrap import wrap
    from spikeproof.measures.gradients import sparsity
    from spikeproof.study.finished import trained

__version__ = "0.2.0"

__all__ = [
    "SpikeproofError", "UsageError", "__version__", "check", "evaluate", "load", "report_of", "sparsity", "trained",
    "wrap",
]  # fmt: skip

logging.getLogger("spikeproof").addHandler(logging.NullHandler())

_HOMES = {
    "SpikeproofError": "spikeproof.errors",
    "UsageError": "spikeproof.errors",
    "check": "spikeproof.interop.check",
    "evaluate": "spikeproof.evaluation.panel",
    "load": "spikeproof.interop.load",
    "report_of": "spikeproof.evaluation.panel",
    "sparsity": "spikeproof.measures.gradients",
    "trained": "spikeproof.study.finished",
    "wrap": "spikeproof.interop.wrap",
}
"""Where the names of the package live: loaded when first asked for, because torch takes seconds."""

if not TYPE_CHECKING:  # a checker would take it to give any name whatever

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        if not name.startswith("_") and find_spec(f"spikeproof.{name}"):
            return import_module(f"spikeproof.{name}")
        raise AttributeError(f"module 'spikeproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
