"""Two images of a finished cell for people to look at, chosen by a rule, attacked once more, with the gradient's maps.

The rule: at the headline, where that is a panel, in the order of the test set, the first image that was right when
clean and fell, and the first that stood. The one is shown as the attack left it that broke it first, the other as the
plain attack did. Both points are made again, as all that an attack draws is keyed by its image; one that falls no more,
by a rounding, is passed over. No row and no key depends on this file.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from spikeproof.evaluation.judge import proposal
from spikeproof.evaluation.stages import Stage
from spikeproof.evaluation.tiers import tier_of
from spikeproof.measures.gradients import scalar_of
from spikeproof.rows import AttackRow, of_kind
from spikeproof.store.pictures import LARGEST, Layer, Picture, Pictures, write_pictures
from spikeproof.store.store import Cell
from spikeproof.study.config import CellConfig, Panel, rule_of, threats_of
from spikeproof.study.finished import network_of
from spikeproof.study.trained import Machine, Reader
from spikeproof.tensors import fold
from spikeproof.types import Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.frozen import freeze
from spikeproof.victims.scene import Scene
from spikeproof.victims.taps import tapped
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["keep_pictures"]

_LOG = logging.getLogger(__name__)
_TRIED = 8
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_Outcome = Literal["fell", "stood"]


class _At(NamedTuple):
    """What is looked at: the panel of the headline at its budget, and the network and images of the cell."""

    panel: Panel
    eps_text: str
    threat: Threat
    victim: Victim
    batch: Batch
    rule: Rule
    stages: dict[str, Stage]


def keep_pictures(cell: Cell, config: CellConfig, machine: Machine, read: Reader | None = None) -> None:
    """Write them beside the rows of a cell that has none yet. A cell whose headline is no panel, whose network has no
    gradient or whose threat has no image to show keeps none; nor does one whose pictures fail, which is logged: its
    numbers are finished."""
    if (cell.folder / "pictures.json").exists() or (asked := _asked(config)) is None:
        return
    try:
        rows = [
            row
            for row in of_kind(cell.rows(), AttackRow)
            if (row["evaluation"], row["eps_text"]) == (asked[0].name, asked[1])
        ]
        if rows and (at := _at(cell, config, asked, rows, machine, read or Reader())) is not None:
            write_pictures(cell.folder, Pictures(at.panel.name, at.eps_text, [*_pictures(at, rows)]))
    except Exception as error:  # whatever a network, a driver or a full disk does a second time
        _LOG.warning("no pictures of %s: %s: %s", cell.folder, type(error).__name__, error)


def _asked(config: CellConfig) -> tuple[Panel, str] | None:
    """The panel of the headline, and its budget as the configuration writes it."""
    named = config.resolved().get("headline") or {}
    for one in config.evaluations:
        if isinstance(one, Panel) and one.name == named.get("evaluation"):
            for text in map(str, one.eps):
                if Fraction(text) == Fraction(str(named.get("eps"))):
                    return one, text
    return None


def _at(
    cell: Cell, config: CellConfig, asked: tuple[Panel, str], rows: Sequence[AttackRow], machine: Machine, read: Reader
) -> _At | None:
    panel, text = asked
    victim = borrowed(network_of(config, cell.folder / "model.safetensors").to(machine.torch))
    threat = threats_of({"name": panel.norm}, [text], panel.surface)[text]
    if not victim.differentiable or threat.surface == "encoded":
        return None
    _, test = read(config)
    ids = {row["image"] for row in rows}
    index = torch.tensor([n for n, id in enumerate(test.ids.tolist()) if id in ids], dtype=torch.int64)
    batch = Batch.of(victim, *test.at(index), config.seed).to(machine.torch).keyed(panel.name)
    rule = rule_of(panel.rule, victim.rule)
    stages = {stage.name: stage for stage in tier_of(panel.tier, victim, rule, threat, {}, None).stages}
    return _At(panel, text, threat, victim, batch, rule, stages)


def _pictures(at: _At, rows: Sequence[AttackRow]) -> Iterator[Picture]:
    """The first that fell and the first that stood, as far as there are such."""
    broke: dict[int, str] = {}
    right = {row["image"] for row in rows if row["predicted"] == row["label"]}
    for row in rows:
        if row["fooled"]:
            broke.setdefault(row["image"], row["attack"])
    plain = next(name for name, stage in at.stages.items() if stage.role == "plain")
    places = {id: n for n, id in enumerate(at.batch.ids.tolist()) if id in right}
    fell = [(n, broke[id]) for id, n in places.items() if id in broke]
    stood = [(n, plain) for id, n in places.items() if id not in broke]
    tried: list[tuple[_Outcome, list[tuple[int, str]]]] = [("fell", fell), ("stood", stood)]
    for outcome, some in tried:
        made = (_picture(at, at.batch.take(torch.tensor([n])), name, outcome) for n, name in some[:_TRIED])
        yield from [one for one in [next((one for one in made if one is not None), None)] if one is not None]


def _picture(at: _At, batch: Batch, name: str, outcome: _Outcome) -> Picture | None:
    """One image under one attack; None where the outcome is not the same again."""
    stage = at.stages[name]
    scene, point = proposal(freeze(at.victim), batch, stage.key, stage.case, at.threat)
    if point.shape != batch.x.shape:
        return None
    judged = Scene(at.victim, batch.x, batch.y, scene.keys, at.threat.surface).judge(point, stage.key)
    answer, label = int(judged.predicted[0]), int(batch.y[0])
    if (answer != label) != (outcome == "fell"):
        return None
    clean, attacked = batch.x[0].detach().cpu(), point[0].detach().cpu()
    layers = {"clean": _seen(clean), "attacked": _seen(attacked), "change": _change(attacked - clean)}
    for place, map_ in _maps(at, batch).items():
        layers[place] = _magnitude(map_)
    return {
        "outcome": outcome, "image": int(batch.ids[0]), "label": label, "clean": label, "attacked": answer,
        "attack": name, "events": clean.dim() == 4 and clean.shape[1] == 2, "layers": layers,
    }  # fmt: skip


def _maps(at: _At, batch: Batch) -> dict[str, Tensor]:
    """Place -> the magnitude (H,W) of the gradient of the cross-entropy that enters it, summed over time first, then
    over channels: at the image, behind the encoder, and at the first pool."""
    copy = borrowed(at.victim)
    pools = {name for name, module in copy.body.named_modules() if isinstance(module, _POOLS)}
    x = batch.x.detach().requires_grad_()
    with torch.enable_grad(), tapped(copy, at.rule) as (watched, taps):
        z = copy.encode(x, fold(batch.keys, "measure"))
        logits = copy.classify(z, watched)
        found = {"image": x, "encoded": z}
        if (pool := next((t.tensor for t in taps if t.site in pools and t.side == "input"), None)) is not None:
            found["pool"] = pool
        gradients = torch.autograd.grad(scalar_of("ce", logits, batch.y).sum(), [*found.values()], allow_unused=True)
    maps = {}
    for place, g in zip(found, gradients, strict=True):
        if g is not None and g.dim() >= 4 and bool(torch.isfinite(g).all()):
            maps[place] = g.reshape(-1, *g.shape[-3:]).sum(0).abs().sum(0).cpu()
    return maps


def _frames_joined(x: Tensor) -> Tensor:
    """(C,H,W), or frames (T,C,H,W) summed over time."""
    return x.sum(0) if x.dim() == 4 else x


def _seen(x: Tensor) -> Layer:
    """An image in [0,1]; of frames their sum, as a share of its largest pixel."""
    joined = _frames_joined(x)
    scale = max(float(joined.max()), 1e-12) if x.dim() == 4 else 1.0
    return _layer(_small(joined) / scale * 255, scale)


def _change(d: Tensor) -> Layer:
    """A difference around 128, which is none."""
    joined = _frames_joined(d)
    scale = float(joined.abs().max())
    up, down = (adaptive_max_pool2d(part, _size(part)) for part in (joined.clamp(min=0), (-joined).clamp(min=0)))
    shown = torch.where(up >= down, up, -down)
    return _layer(128 + 127 * shown / max(scale, 1e-12), scale)


def _magnitude(g: Tensor) -> Layer:
    """A map >= 0; 0 is what is exactly zero, and nothing else is."""
    scale = float(g.max())
    shown = adaptive_max_pool2d(g[None], _size(g))
    steps = (255 * shown / max(scale, 1e-45)).round().clamp(1, 255)
    return _layer(torch.where(shown > 0, steps, torch.zeros_like(steps)), scale)


def _size(x: Tensor) -> tuple[int, int]:
    return min(x.shape[-2], LARGEST), min(x.shape[-1], LARGEST)


def _small(x: Tensor) -> Tensor:
    return x if _size(x) == tuple(x.shape[-2:]) else adaptive_avg_pool2d(x, _size(x))


def _layer(x: Tensor, scale: float) -> Layer:
    data = x.round().clamp(0, 255).to(torch.uint8)
    return {
        "shape": list(data.shape),
        "scale": float(f"{scale:.6g}"),
        "bytes": base64.b64encode(data.contiguous().numpy().tobytes()).decode(),
    }
