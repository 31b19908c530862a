"""A cell on the command line: every key of its configuration as an option, dotted where it lies deeper."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser, Namespace

from spikeproof.study.config.parse import cell_from
from spikeproof.study.config.schema import CellConfig

__all__ = ["add_cell_arguments", "cell_of"]

_OPEN = ("evaluations", "headline")
"""What a configuration completes by what else it says; here it is plain data, which `cell_from` reads."""


def add_cell_arguments(parser: ArgumentParser) -> None:
    """The options of a cell. Nothing in them is checked but types."""
    parser.add_class_arguments(CellConfig, skip=set(_OPEN))
    parser.add_argument("--evaluations", type=list[dict[str, Any]] | None, default=None, help="attacks at budgets")
    parser.add_argument("--headline.evaluation", type=str | None, default=None, help="what the report puts first")
    parser.add_argument("--headline.eps", type=float | str | None, default=None, help="at which budget")


def cell_of(options: Namespace) -> CellConfig:
    """The cell that these options name. Raises UsageError."""
    tree = options.as_dict()
    given = {name: tree[name] for name in CellConfig.__dataclass_fields__}
    return cell_from({name: value for name, value in given.items() if name not in _OPEN or value is not None})
