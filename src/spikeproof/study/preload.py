"""Imported once by the server that workers are forked from: whatever a cell may need, and the sources' digests.

So a source that is edited during a long study is neither mixed with the ones that run, nor changes a key. What there is
to import is what lies in the folders: every part, and every module of the package but the commands above, of which a
worker runs its own as the main module.
"""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import suppress

import torch

import spikeproof
from spikeproof.store.keys import code_digest, rows_code
from spikeproof.study.run import run_cell
from spikeproof.training.train import Recipe

__all__: list[str] = []

for _module in pkgutil.walk_packages(spikeproof.__path__, f"{spikeproof.__name__}."):
    if _module.name.startswith(f"{spikeproof.__name__}.commands"):
        continue
    with suppress(ImportError):  # of another framework, or of a GPU, that is not installed here
        importlib.import_module(_module.name)
Recipe().build([torch.zeros(1, requires_grad=True)])  # the first optimiser imports a second's worth of torch
code_digest(run_cell.__module__)
rows_code(run_cell.__module__, frozenset(), panel=True)  # what the sources import, which takes as long as a small cell
