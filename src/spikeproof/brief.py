"""Three lines' worth of help for a script: weights into a network, sparsity in one call, a report as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from spikeproof.interop._load import weighted
from spikeproof.measure import gradient_rows
from spikeproof.panel import Examination
from spikeproof.rules.atan import ATan
from spikeproof.types import Rule, SpikeproofError, refusal
from spikeproof.victim import Victim

__all__ = ["Sparsity", "load", "report_of", "sparsity"]

Sparsity = dict[str, dict[str, float | None]]
"""'image' and 'encoded' -> measure -> its mean over images; None where it exists for none of them."""


def load(model: Callable[..., Any], weights: str | Path) -> Any:
    """The same network with weights from a safetensors file or a torch state dict, strictly; no code in it is run.

    Raises SpikeproofError for files that hold more than tensors, and for names, shapes or values that do not fit.
    """
    weighted(model, Path(weights))
    return model


def sparsity(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    rule: Rule | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
) -> Sparsity:
    """How sparse the input gradient of the cross-entropy is, at the pixels and behind the encoder (summed over time).

    images (N,C,H,W) in [0,1], labels (N,); rule as in `evaluate`. The measures are those of
    `spikeproof.metrics.sparsity`, each the mean over images. Raises SpikeproofError as `evaluate` does, and for a
    network that can only be asked.
    """
    if not victim.differentiable:
        mend = "wrap the nn.Module itself, not a function that calls it"
        raise SpikeproofError(refusal("a network with a gradient", "one that can only be asked", mend=mend))
    found: dict[str, dict[str, list[float]]] = {}
    rows = gradient_rows(
        victim, images, labels, torch.arange(len(images)) if ids is None else ids,
        rule=rule or getattr(victim, "rule", None) or ATan(), seed=seed, scalars=("ce",), layers=False,
    )  # fmt: skip
    for row in rows:
        place = found.setdefault(row["site"], {})
        for name, value in row["summed"].items():
            place.setdefault(name, []).extend([] if value is None else [value])
    return {site: {name: fmean(v) if v else None for name, v in names.items()} for site, names in found.items()}


def report_of(found: Examination, sparse: Mapping[str, Mapping[str, float | None]] | None = None) -> str:
    """What `evaluate` found, and what `sparsity` did, as one text: verdict, accuracies, audits, gradients."""
    lines = [str(found)]
    for site, names in (sparse or {}).items():
        values = (f"{name} {'undefined' if value is None else f'{value:.4g}'}" for name, value in names.items())
        lines.append(f"input gradient at the {site}: {', '.join(values)}")
    return "\n".join(lines)
