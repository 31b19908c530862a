"""The network of an entry with its images, as they were when it was measured; whoever wrote the entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spikeproof.board.entry import Entry
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.files import digest
from spikeproof.study.config import CellConfig, Panel, cell_from, rule_of, threats_of
from spikeproof.study.finished import network_of
from spikeproof.study.run import Machine, load_images, some_images
from spikeproof.trust import stored
from spikeproof.types import Rule, Threat
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim, borrowed

__all__ = ["Subject", "subject"]


@dataclass(frozen=True)
class Subject:
    """victim: in eval mode; batch: its images as the panel had them, keyed for it; rule: of the attacker."""

    victim: Victim
    batch: Batch
    threat: Threat
    evaluation: Panel
    rule: Rule

    @property
    def events(self) -> bool:
        """Whether a cell of its inputs holds an event or none."""
        return self.threat.surface == "events"


def subject(entry: Entry, machine: Machine, *, weights: Path | None, root: Path | None, trust: bool) -> Subject:
    """weights: the file where it is not beside the entry; root: the folder of the data, where they lie elsewhere here.

    Raises UsageError where there are no weights or the entry names code that is not spikeproof's (unless `trust`),
    SpikeproofError where weights or images are others than those of the entry.
    """
    path = _weights(entry, weights)
    with stored(entry.path, trust=trust):
        config = cell_from({**entry["config"], "weights": str(path), **_data(entry["config"], root)})
    evaluation, threat = _asked(entry, config)
    victim = borrowed(network_of(config, path).to(machine.torch))
    images = load_images(config, "test")
    if entry["data"]["digest"] not in (None, found := images.digest()):
        mend = "--root, with the same test images; a data set that was made anew may have another order"
        raise SpikeproofError(f"the images of {entry.path}, digest {entry['data']['digest']}", found, mend=mend)
    images = some_images(images, evaluation.images)
    if {*images.ids.tolist()} != {*entry["outcomes"]["ids"]}:
        raise SpikeproofError(f"outcomes.ids of {entry.path} as its configuration chooses them", "others")
    batch = Batch.of(victim, *images.at(torch.arange(len(images))), config.seed).to(machine.torch)
    return Subject(victim, batch.keyed(evaluation.name), threat, evaluation, rule_of(evaluation.rule, victim.rule))


def _weights(entry: Entry, given: Path | None) -> Path:
    """The file of its weights; refused where it is another."""
    stated = entry["files"]["weights"]
    path = given or (None if stated["file"] is None else entry.path.parent / stated["file"])
    if path is None or not path.is_file():
        got = "no file that the entry names" if path is None else f"no file at {path}"
        raise UsageError(f"the weights of {entry.path}, sha256 {stated['sha256'][:16]}...", got, mend="--weights FILE")
    if (found := digest(path)) != stated["sha256"]:
        raise SpikeproofError(
            f"files.weights.sha256 of {entry.path}, {stated['sha256'][:16]}...", f"{found[:16]}... at {path}"
        )
    return path


def _data(config: Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    if root is None:
        return {}
    if not isinstance(config.get("data"), dict) or "root" not in config["data"]:
        raise UsageError("--root for data that lie in a folder", config.get("data"))
    return {"data": {**config["data"], "root": str(root)}}


def _asked(entry: Entry, config: CellConfig) -> tuple[Panel, Threat]:
    name, eps = entry["threat"]["evaluation"], entry["threat"]["eps_text"]
    for one in config.evaluations:
        if one.name == name and isinstance(one, Panel):
            return one, threats_of({"name": one.norm}, [eps], one.surface)[eps]
    raise SpikeproofError(f"a panel {name!r} in the config of {entry.path}", [one.name for one in config.evaluations])
