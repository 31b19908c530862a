"""The configuration of one cell as options of a command."""

from __future__ import annotations

from jsonargparse import ActionConfigFile, ArgumentParser

from spikeproof.study.config import add_cell_arguments

__all__ = ["add_cell"]


def add_cell(parser: ArgumentParser) -> None:
    """Every field of a cell as an option, and --config for a file with them."""
    parser.add_argument("--config", action=ActionConfigFile, help="a cell's YAML; later options override it")
    add_cell_arguments(parser)
