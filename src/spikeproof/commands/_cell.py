"""The configuration of one cell as options of a command."""

from __future__ import annotations

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from spikeproof.study.config import CellConfig, cell_from

__all__ = ["add_cell", "cell_of"]


def add_cell(parser: ArgumentParser) -> None:
    """Every field of a cell as an option, and --config for a file with them."""
    parser.add_argument("--config", action=ActionConfigFile, help="a cell's YAML; later options override it")
    parser.add_class_arguments(CellConfig)


def cell_of(options: Namespace) -> CellConfig:
    """The cell that these options name. Raises UsageError."""
    tree = options.as_dict()
    return cell_from({k: v for k, v in tree.items() if k in CellConfig.__dataclass_fields__})
