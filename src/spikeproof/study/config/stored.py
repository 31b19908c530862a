"""The configuration beside the results of a finished cell: data, whoever wrote it."""

from __future__ import annotations

from spikeproof.store.store import Cell
from spikeproof.study.config.parse import cell_from
from spikeproof.study.config.schema import CellConfig
from spikeproof.trust import stored

__all__ = ["again_config", "stored_config"]


def stored_config(cell: Cell, *, trust: bool, **changes: object) -> CellConfig:
    """The configuration of a finished cell, its top keys replaced by `changes`.

    Raises UsageError, with nothing imported, where a part is not spikeproof's own (a dotted path), unless `trust`.
    """
    with stored(cell.folder / "config.yaml", trust=trust):
        return cell_from({**cell.config, **changes})


def again_config(cell: Cell, *, trust: bool) -> CellConfig:
    """The same, to be run again: a network of one's own with the weights that lie beside its results, in whatever file
    they had come."""
    changes = {"weights": str(cell.folder / "model.safetensors")} if "network" in cell.config else {}
    return stored_config(cell, trust=trust, **changes)
