"""A cell on the command line: every key of its configuration as an option, dotted where it lies deeper."""

from __future__ import annotations

import functools
import os
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from spikeproof.errors import UsageError, within
from spikeproof.store.yaml_file import text_of
from spikeproof.study.config.parse import cell_from, check_data
from spikeproof.study.config.schema import CellConfig
from spikeproof.study.config.yaml_lines import line_of, yaml_of

__all__ = ["add_cell_arguments", "cell_of"]

_FILE = "a cell's configuration"
_KINDS: dict[str, Any] = get_type_hints(CellConfig)

_OPEN = ("evaluations", "headline", "network")
"""What a configuration completes by what else it says; here it is plain data, which `cell_from` reads."""

_LATER = ("rule", "encoder", "steps", "gradients.layers", "gradients.weight_images")
"""What is another beside a network of one's own where nothing is written: the parser leaves it open for `cell_from`."""

_SECTIONS = ("gradients", "headline", "network")
"""Those in which something is left open."""


class _CellFile(ActionConfigFile):
    """A file of options, or their YAML itself, looked through as a study is before jsonargparse makes objects of it."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        inline = ":" in values and not os.path.exists(values)
        text, place = (values, "the command line") if inline else (text_of(Path(values), _FILE), values)
        tree, lines = yaml_of(text, f"{_FILE} in YAML at {place}")
        try:
            if not isinstance(tree, dict):
                raise UsageError(f"{_FILE} as a mapping", type(tree).__name__)
            check_data(tree)
            for name, value in tree.items():  # jsonargparse would open a file of that name
                if isinstance(value, str) and (name == "config" or is_dataclass(_KINDS.get(name))):
                    with within(name):
                        raise UsageError(f"{name!r} in {_FILE} written out", repr(value))
        except UsageError as error:
            raise error.at(f"{place}:{line_of(lines, error.path)}") from error
        self.apply_config(parser, cfg, self.dest, text)


def add_cell_arguments(parser: ArgumentParser) -> None:
    """The options of a cell, and --config for a file with them. Nothing is checked but types and that it is data."""
    parser.add_argument("--config", action=_CellFile, help="a cell's YAML; later options override it")
    parser.add_class_arguments(CellConfig, skip=set(_OPEN))
    parser.set_defaults(dict.fromkeys(_LATER))
    parser.add_argument("--network.make", type=str | None, default=None, help="your own network: package.module:make")
    parser.add_argument(
        "--network.step_mode", type=Literal["m", "s"] | None, default=None, help="all steps at once, or one a call"
    )
    parser.add_argument(
        "--network.readout", type=str | None, default=None,
        help="package.module:function, from what it returns to logits",
    )  # fmt: skip
    parser.add_argument(
        "--network.tolerance", type=float | None, default=None, help="by how much its logits may differ from its own"
    )
    parser.add_argument("--evaluations", type=list[dict[str, Any]] | None, default=None, help="attacks at budgets")
    parser.add_argument("--headline.evaluation", type=str | None, default=None, help="what the report puts first")
    parser.add_argument("--headline.eps", type=float | str | None, default=None, help="at which budget")


def cell_of(options: Namespace) -> CellConfig:
    """The cell that these options name. Raises UsageError."""
    tree = options.as_dict()
    given = {name: tree[name] for name in CellConfig.__dataclass_fields__}
    for section in _SECTIONS:
        given[section] = {name: value for name, value in given[section].items() if value is not None}
    own = bool(given["network"])
    left_open = {name for name in given if given[name] in (None, {}) or (own and given[name] == _usual()[name])}
    said = {name: value for name, value in given.items() if name not in left_open}
    for name, usual in {"rule": "atan", "encoder": "direct" if own else "phase"}.items():
        if isinstance(said.get(name), dict):  # an option of the usual part alone
            said[name] = {**({} if "name" in said[name] else {"name": usual}), **said[name]}
    return cell_from(said)


@functools.cache
def _usual() -> dict[str, Any]:
    """What the parser says where nothing is written."""
    parser = ArgumentParser(exit_on_error=False)
    add_cell_arguments(parser)
    found: dict[str, Any] = parser.get_defaults().as_dict()
    return found
