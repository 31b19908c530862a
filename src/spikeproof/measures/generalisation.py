"""Rows that say how far what a network has learned reaches: under attack on images, and on corrupted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spikeproof.evaluation.judge import Case, attack_rows, clean_verdict
from spikeproof.rows import CorruptionRow, RobustRow, Split
from spikeproof.tensors import fold, image_keys
from spikeproof.types import Corruption, Threat
from spikeproof.victims.scene import check_labels
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["corruption_rows", "robust_rows"]


def robust_rows(
    victim: Victim, x: Tensor, y: Tensor, ids: Tensor, *, split: Split, threats: Mapping[str, Threat],
    cases: Mapping[str, Case], seed: int,
) -> list[RobustRow]:  # fmt: skip
    """The rows of `judge.attack_rows`, of kind 'robust', with the split of the images: no evaluation of a panel or of
    the headline, but the same attack on images the network was trained on and on others."""
    rows = attack_rows(victim, x, y, ids, evaluation="generalisation", threats=threats, cases=cases, seed=seed)
    return [{**row, "kind": "robust", "split": split} for row in rows]


@torch.no_grad()
def corruption_rows(
    victim: Victim, x: Tensor, y: Tensor, ids: Tensor, *, name: str, severities: Sequence[Corruption], seed: int
) -> list[CorruptionRow]:
    """One row per image (B,C,H,W): kind 'corruption', its name, and what is predicted at each severity.

    The draws behind a corruption are the image's own, and the same at every severity. The victim must be in eval mode.
    """
    check_labels(victim, x, y)
    copy = borrowed(victim)
    keys = image_keys(seed, ids).to(x.device)
    found = [clean_verdict(copy, corrupt(x, fold(keys, f"corruption {name}")), y, keys) for corrupt in severities]
    predicted = torch.stack([one.predicted for one in found], 1).tolist()
    columns = zip(ids.tolist(), y.tolist(), predicted, strict=True)
    return [{"kind": "corruption", "corruption": name, "image": i, "label": t, "predicted": p} for i, t, p in columns]
