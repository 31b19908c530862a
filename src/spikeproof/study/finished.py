"""The network of a finished cell, from the folder that the cell is in."""

from __future__ import annotations

from pathlib import Path

import torch

from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.store.store import Cell, Store
from spikeproof.study.config import CellConfig, stored_config
from spikeproof.study.own import own_network
from spikeproof.study.trained import build_victim, load_images
from spikeproof.tensors import image_keys, uniform
from spikeproof.training.checkpoint import load_into, read_tensors
from spikeproof.training.facts import facts_of
from spikeproof.victims.victim import Victim

__all__ = ["network_of", "trained"]


def trained(folder: str | Path, *, trust: bool = False) -> Victim:
    """The network that a finished cell examined, on the CPU, in eval mode.

    folder: that of the cell, cells/KEY with its config.yaml and model.safetensors; the weights are loaded strictly.
    trust: also run parts that are not spikeproof's own, which its configuration names by a dotted path. Raises
    UsageError where there are such parts without `trust`, and where the folder is no finished cell; SpikeproofError
    where the cell is damaged.
    """
    cell = _cell(Path(folder))
    weights = cell.folder / "model.safetensors"
    # A cell that was given its weights has a copy of them, and the file that they came from may be gone.
    return network_of(stored_config(cell, trust=trust, weights=str(weights)), weights)


def network_of(config: CellConfig, weights: Path) -> Victim:
    """What a cell's configuration describes, with the weights of that file, strictly: on the CPU, in eval mode.

    Raises SpikeproofError where the weights do not fit.
    """
    tensors, header = read_tensors(weights)
    facts = facts_of(header, weights)
    shape, classes = facts.get("input_shape"), facts.get("classes")
    if config.network is not None and shape and classes:
        tried = uniform(image_keys(0, torch.arange(8)), shape)  # the cell's own images may be elsewhere
        return own_network(config).wrapped(config, tried, len(classes))
    # Of frames (T,C,H,W), as of images (C,H,W), the channels stand third from the end.
    in_channels, count = (shape[-3], len(classes)) if shape and shape[2:] and classes else _of_data(config)
    victim = build_victim(config, in_channels, count)
    load_into(victim.body, tensors, weights)
    return victim.eval()


def _of_data(config: CellConfig) -> tuple[int, int]:
    """Channels and classes, where the weights are another program's and do not say."""
    images = load_images(config, "train")
    return images.channels, len(images.classes)


def _cell(folder: Path) -> Cell:
    """The finished, whole cell in a folder."""
    wanted = "the folder of a finished cell"
    if not folder.is_dir():
        raise UsageError(wanted, f"no folder at {folder}")
    root = folder.parent if folder.name == "cells" else folder
    if cells := Store(root).folders():
        raise UsageError(wanted, f"{folder}, which holds cells", valid=[one.folder for one in cells])
    if folder.suffix == ".partial":
        raise UsageError(wanted, f"{folder}, which is being made", mend="run its study again: it goes on from there")
    if not (folder / "config.yaml").is_file():
        raise UsageError(wanted, f"{folder}, which has no config.yaml")
    cell = Cell(_key(folder), folder)
    if damage := cell.damage():
        raise SpikeproofError(f"a whole cell at {folder}", damage, mend="run its study again: it is redone")
    return cell


def _key(folder: Path) -> str:
    """The cell's own, by whatever name its folder goes."""
    try:
        return str(Cell(folder.name, folder).summary["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name  # which `damage` then says more of
