"""From a list of words to a verb, its options and an exit code.

YAML in, dotted overrides, unknown keys refused. Exit codes: 0 done, 1 failed, 2 usage, 3 a number that cannot be
trusted: a panel whose verdict is not 'supported', a network that `check` refuses; 75 (EX_TEMPFAIL) not done, since
another command is at it: nothing is lost, and the same command may be started again later.
"""

from __future__ import annotations

import ast
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from jsonargparse import ArgumentError, ArgumentParser, Namespace

import spikeproof
from spikeproof.commands import _typos
from spikeproof.errors import Locked, SpikeproofError, UsageError
from spikeproof.files import refused_by_disk

__all__ = ["main", "parsed"]

_HOME = "spikeproof.commands"

LOCKED = 75
"""EX_TEMPFAIL of sysexits.h, which Windows has no name for; schedulers start such a job again."""


class _Verb(Protocol):
    """The file of a verb."""

    def options(self, parser: ArgumentParser) -> None: ...

    def run(self, options: Namespace) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        print(end="", flush=True)  # here, where whoever reads it no more is known, and not when the process ends
        return code
    except UsageError as error:
        print(f"spikeproof: {_typos.said(error)}", file=sys.stderr)
        return 2
    except Locked as error:
        print(f"spikeproof: {error}", file=sys.stderr)
        return LOCKED
    except SpikeproofError as error:
        print(f"spikeproof: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `spikeproof parts | head -1`: whoever reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE  # what a shell says of a command that a pipe has ended
    except OSError as error:  # a full disk, a folder that may not be written: what is finished is on disk
        place = f"to use {error.filename}" if error.filename else "a working disk"
        print(f"spikeproof: {refused_by_disk(place, error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("spikeproof: stopped; the same command goes on from here", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str]) -> int:
    given = parsed(arguments)
    return _verb(given.verb).run(given[given.verb])


def parsed(arguments: Sequence[str]) -> Namespace:
    """The options of a command line, its verb under 'verb' and the verb's own under its name; nothing is run.

    Raises UsageError for what no verb, option or part is called, and for values of another type.
    """
    helps = _verbs()
    asked = next((word for word in arguments if not word.startswith("-")), None)
    if asked not in helps and not (asked is None and {"-h", "--help", "--version"} & {*arguments}):
        raise UsageError("a verb", "none" if asked is None else repr(asked), valid=helps)
    _typos.check_parts(arguments)
    own = ArgumentParser(exit_on_error=False)
    if asked is not None:
        _verb(asked).options(own)
    try:
        return _parser(helps, asked, own).parse_args(list(arguments))
    except ArgumentError as error:
        raise _typos.misused(str(asked), own, error) from error


def _verbs() -> dict[str, str]:
    """Every verb with its help, read from the first line of its file: importing all of them would take seconds."""
    files = {path.stem: path for home in import_module(_HOME).__path__ for path in Path(home).glob("[!_]*.py")}
    return {name: _first_line(files[name]) for name in sorted(files)}


@cache
def _first_line(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _verb(name: str) -> _Verb:
    return cast(_Verb, import_module(f"{_HOME}.{name}"))


def _parser(helps: Mapping[str, str], asked: str | None, own: ArgumentParser) -> ArgumentParser:
    """All verbs by name and help; the one that is asked for with its own parser."""
    parser = ArgumentParser(
        prog="spikeproof", description="How robust a spiking network is, and how sparse its input gradients are.",
        version=spikeproof.__version__, exit_on_error=False,
    )  # fmt: skip
    folder = parser.add_subcommands(dest="verb", required=True)
    for name, text in helps.items():
        one = own if name == asked else ArgumentParser()
        one.description = text
        folder.add_subcommand(name, one, help=text)
    return parser
