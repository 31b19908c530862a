"""What a study will do, before it does it: every cell's key, and everything that can be refused without training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from spikeproof.errors import UsageError, within
from spikeproof.store.store import Store
from spikeproof.study.config import CellConfig, rehearse
from spikeproof.study.kept import Called
from spikeproof.study.own import own_network
from spikeproof.study.run import code_of, key_of_cell
from spikeproof.study.trained import Machine, Reader, key_of_model, wants_training

__all__ = ["Planned", "plan", "refuse_other_versions"]


@dataclass(frozen=True)
class Planned:
    """A cell with the names of its folders in the store; model is None where its weights are given.

    code: of the sources that decide its rows.
    """

    config: CellConfig
    key: str
    model: str | None
    code: str

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """Its whole configuration as plain data, to be read."""
        return self.config.resolved()

    @property
    def called(self) -> Called:
        return Called(self.config.name, self.key, self.model, self.config.recipe.epochs)


@dataclass(frozen=True)
class _Seen:
    """What a cell's key and its attacks depend on of the data; the images themselves are let go."""

    train: str
    test: str
    in_channels: int
    classes: int


def plan(
    cells: Sequence[CellConfig], machine: Machine, refused: Callable[[str, UsageError], Exception]
) -> list[Planned]:
    """Every cell with its key, in order. Each data set is read once.

    What cannot be run on its data raises `refused(name of the cell, error)`: no such data, other numbers of classes and
    channels than an attack, a loss or an encoder can take.
    """
    seen: dict[str, _Seen] = {}
    planned = []
    for config in cells:
        try:
            data = json.dumps([config.data, config.train_images, config.test_images, wants_training(config)])
            if data not in seen:
                seen[data] = _look(config)
            planned.append(_planned(config, seen[data], machine))
        except UsageError as error:
            raise refused(config.name, error) from error
    return planned


def _look(config: CellConfig) -> _Seen:
    with within("data"):
        train, test = Reader()(config)
    if train.channels != test.channels or train.classes != test.classes:
        got = f"{train.channels} and {test.channels} channels, classes {train.classes} and {test.classes}"
        raise UsageError("training and test images of the same channels and classes", got)
    return _Seen(train.digest(), test.digest(), train.channels, len(train.classes))


def _planned(config: CellConfig, seen: _Seen, machine: Machine) -> Planned:
    rehearse(config, in_channels=seen.in_channels, classes=seen.classes)
    own = None if config.network is None else own_network(config)
    key = key_of_cell(config, {"train": seen.train, "test": seen.test}, machine.device, own)
    given = config.weights is not None or own is not None
    model = None if given else key_of_model(config, seen.train, machine.device)
    return Planned(config, key, model, code_of(config))


def refuse_other_versions(planned: Sequence[Planned], store: Store) -> None:
    """Raises UsageError where the store has finished cells of these names, made by other sources than those running.

    They would not be used, but the folder would then hold two versions of one study.
    """
    known = {one.config.name: one for one in planned}
    keys = {one.key for one in planned}
    for cell in store.folders():
        if cell.key in keys or cell.damage() is not None:
            continue
        one, provenance = known.get(cell.config.get("name", "")), cell.provenance
        if one is not None and provenance.get("code") != one.code:
            version, code = provenance.get("spikeproof"), provenance.get("code")
            got = f"cell {one.config.name!r} ({cell.key}) of spikeproof {version}, code {code}"
            mend = "another --out, or --anyway to leave those cells there and run the study anew"
            raise UsageError(f"cells of this version, code {one.code}, in {store.root}", got, mend=mend)
