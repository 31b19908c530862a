"""Imported once by the server that workers are forked from: all that a cell may need, and the sources' digests.

So a source that is edited during a long study is neither mixed with the ones that run, nor changes a key.
"""

from __future__ import annotations

import torch

from spikeproof import parts
from spikeproof.store.keys import AFTER_TRAINING, code_digest
from spikeproof.training.train import Recipe

__all__: list[str] = []

for _folder in parts.FOLDERS:
    for _name in parts.names(_folder):
        parts.find(_folder, _name)
Recipe().build([torch.zeros(1, requires_grad=True)])  # the first optimiser imports a second's worth of torch
code_digest()
code_digest(*AFTER_TRAINING)
