"""The adversarial inputs of a cell, which it does not keep, made again: all that an attack draws is keyed by its image.

Of each image the attack that broke it first is run once more, on such images alone. Images do not depend on those
beside them but for rounding; so what comes out is judged, and what does not break any more is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeproof.board.inputs import Kind, as_bytes, values, write_inputs
from spikeproof.board.subject import Subject
from spikeproof.board.verify import broken, within
from spikeproof.errors import SpikeproofError
from spikeproof.evaluation.judge import proposal
from spikeproof.evaluation.stages import Stage
from spikeproof.evaluation.tiers import tier_of
from spikeproof.files import digest
from spikeproof.victims.batch import Batch
from spikeproof.victims.frozen import freeze

__all__ = ["keep", "made_again"]


def made_again(of: Subject, tree: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """ids (n,) and points (n,*) float32 on the CPU of the images that the panel of an entry broke, in its order, as
    far as their points break them again."""
    stages = {
        stage.name: stage for stage in tier_of(of.evaluation.tier, of.victim, of.rule, of.threat, {}, None).stages
    }
    found: dict[int, Tensor] = {}
    for number, attack in enumerate(tree["attacks"]):
        fell = [
            id for id, one in zip(tree["outcomes"]["ids"], tree["outcomes"]["fallen"], strict=True) if one == number
        ]
        if fell and attack["attack"] not in stages:
            mend = "install the version of spikeproof that the entry names"
            raise SpikeproofError(f"the attack {attack['attack']!a} in tier {of.evaluation.tier!r}", "none", mend=mend)
        if fell:
            found |= _points(of, stages[attack["attack"]], _of(of.batch, fell))
    ids = [id for id in tree["outcomes"]["ids"] if id in found]
    points = torch.stack([found[id] for id in ids]) if ids else of.batch.x[:0].cpu()
    return torch.tensor(ids, dtype=torch.int64), points


def keep(of: Subject, tree: Mapping[str, Any], path: Path, kind: Kind) -> dict[str, Any]:
    """Write the inputs that break, as this kind, into `path`; returns what an entry says of them. Of bytes and bits
    those alone are kept that break as such."""
    ids, points = made_again(of, tree)
    if kind == "bits" and not of.events:
        raise SpikeproofError("inputs of the surface 'events' as bits", of.threat.surface, mend="bytes or floats")
    batch = _of(of.batch, ids.tolist())
    room = of.threat.eps if of.threat.norm == "Linf" else 0.0
    data = points if kind == "floats" else as_bytes(points, batch.x.cpu(), of.events, room)
    given = (points if kind == "floats" else values(data, of.events)).to(batch.x.device)
    near = within(of.threat.distance(given, batch.x), of)
    still = {*broken(of, batch, given, "kept")[0]} if len(ids) else set()
    kept = torch.tensor(
        [id in still and bool(one) for id, one in zip(ids.tolist(), near.tolist(), strict=True)], dtype=torch.bool
    )
    write_inputs(path, data[kept], ids[kept], bits=kind == "bits")
    return {"file": path.name, "sha256": digest(path), "kind": kind, "images": int(kept.sum())}


def _of(batch: Batch, ids: list[int]) -> Batch:
    place = {id: number for number, id in enumerate(batch.ids.tolist())}
    return batch.take(torch.tensor([place[id] for id in ids], dtype=torch.int64))


def _points(of: Subject, stage: Stage, batch: Batch) -> dict[int, Tensor]:
    """Of each image that is broken by it the point of one stage: crafted on the frozen twin, as the judge has it, and
    where that does not do on the network itself."""
    found: dict[int, Tensor] = {}
    twin = freeze(of.victim)
    for victim in (twin,) if twin is of.victim else (twin, of.victim):
        left = [id for id in batch.ids.tolist() if id not in found]
        for part in _of(batch, left).split(of.evaluation.batch_size):
            point = proposal(victim, part, stage.key, stage.case, of.threat)[1]
            fell, _ = broken(of, part, point, stage.key)
            found |= {id: one for id, one in _pairs(part, point) if id in fell}
    return found


def _pairs(batch: Batch, points: Tensor) -> Iterator[tuple[int, Tensor]]:
    return zip(batch.ids.tolist(), points.cpu(), strict=True)
