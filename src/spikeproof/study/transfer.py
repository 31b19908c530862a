"""Transfer: images made for one network, tried on all. One that falls to another's images hides its own way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spikeproof import parts
from spikeproof.attacks.pgd import PGD
from spikeproof.data import Images
from spikeproof.errors import UsageError
from spikeproof.evaluation.judge import clean_verdict, outcomes
from spikeproof.evaluation.stages import plain_case
from spikeproof.losses import margin
from spikeproof.metrics.robustness import Interval, clopper_pearson
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig, rule_of, stored_config
from spikeproof.study.own import own_network
from spikeproof.study.run import Machine, load_images, some_images, trained_victim
from spikeproof.types import Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["of_cells", "transfer_matrix"]


def transfer_matrix(
    victims: Mapping[str, Victim],
    x: Tensor,
    y: Tensor,
    ids: Tensor,
    *,
    threat: Threat,
    rules: Mapping[str, Rule],
    steps: int = 50,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, dict[str, Interval]]:
    """source -> target -> share of images, right on every network when clean, that the source's images break there.

    Images (N,C,H,W), labels and ids (N,); rules: that of training for each source. Each source is attacked by PGD on
    the margin, which goes on after its success, so that what is carried over has the most to carry. The diagonal is the
    white box. Raises UsageError where no image is right on every network, SpikeproofError as `evaluate` does.
    """
    if not victims:
        raise UsageError("victims, one or more", "none")
    frozen = {name: borrowed(victim) for name, victim in victims.items()}
    batch, *_ = [Batch.of(victim, x, y, ids, seed) for victim in frozen.values()]  # labels that all of them know
    right = torch.stack([_right(victim, batch, batch_size) for victim in frozen.values()]).all(0).nonzero()[:, 0]
    if not len(right):
        raise UsageError("an image that every network gets right", "none", mend="give more images")
    matrix: dict[str, dict[str, Interval]] = {}
    for source, looked_at in frozen.items():
        case = replace(plain_case(looked_at, rules[source], threat, steps), attack=PGD(steps=steps), loss=margin)
        matrix[source] = {}
        for target, victim in frozen.items():
            tried = case if source == target else replace(case, encoder=None, source=case.attacked(looked_at))
            pieces = batch.take(right).split(batch_size)
            rows = [row for piece in pieces for row in outcomes(victim, piece, f"from {source}", tried, threat)]
            fooled = sum(row["fooled"] for row in rows)
            matrix[source][target] = clopper_pearson(fooled, len(right))
    return matrix


def of_cells(
    cells: Sequence[Cell], eps: str, images: int, machine: Machine, *, trust: bool = False
) -> dict[str, dict[str, Interval]]:
    """The matrix of finished cells on the first cell's test images.

    Raises UsageError where their data are not the same, and where one names code that is not spikeproof's, unless
    `trust`.
    """
    names = _names(cells)
    configs = [stored_config(cell, trust=trust, weights=str(cell.folder / "model.safetensors")) for cell in cells]
    data = {cell.provenance["data"]["test"] for cell in cells}
    if len(data) > 1:
        raise UsageError("cells on the same test images", names)
    store, test = Store(cells[0].folder.parent.parent), load_images(configs[0], "test")
    victims = {name: _victim(config, store, machine, test) for name, config in zip(names, configs, strict=True)}
    chosen = some_images(test, images)
    x, y, ids = chosen.at(torch.arange(len(chosen)))
    threat = parts.build("threats", {"name": "linf"}, eps=eps, surface="pixels")
    rules = {name: rule_of(config.rule, victims[name].rule) for name, config in zip(names, configs, strict=True)}
    return transfer_matrix(victims, x.to(machine.torch), y.to(machine.torch), ids, threat=threat, rules=rules)


def _names(cells: Sequence[Cell]) -> list[str]:
    """Those of their configurations; where one repeats, with the start of the key."""
    names = [str(cell.config.get("name")) for cell in cells]
    return [
        name if names.count(name) == 1 else f"{name} {cell.key[:8]}" for name, cell in zip(names, cells, strict=True)
    ]


def _victim(config: CellConfig, store: Store, machine: Machine, test: Images) -> Victim:
    """The network of a finished cell; test: images that it is wrapped on, where it is one of somebody's own."""
    if config.network is None:
        return trained_victim(config, store, machine)[0]
    return own_network(config).victim(config, test, machine.torch)


@torch.no_grad()
def _right(victim: Victim, batch: Batch, size: int) -> Tensor:
    """Which images a victim gets right when clean, (N,) bool."""
    return torch.cat([clean_verdict(victim, part).predicted == part.y for part in batch.split(size)])
