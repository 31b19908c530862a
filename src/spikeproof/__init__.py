"""spikeproof: how robust a spiking neural network really is, and how sparse its input gradients are."""

import logging
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = ["__version__", "check", "evaluate", "load", "report_of", "sparsity", "wrap"]

logging.getLogger("spikeproof").addHandler(logging.NullHandler())

_HOMES = {
    "check": "spikeproof.interop.check",
    "evaluate": "spikeproof.evaluation.panel",
    "load": "spikeproof.interop.load",
    "report_of": "spikeproof.evaluation.panel",
    "sparsity": "spikeproof.measures.gradients",
    "wrap": "spikeproof.interop.wrap",
}
"""Where the names of the package live: loaded when first asked for, because torch takes seconds."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spikeproof' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
