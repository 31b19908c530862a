"""What is wrong with a command, said in a line or two, with the nearest name, before anything slow is imported."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from jsonargparse import ArgumentError, ArgumentParser

from spikeproof import parts
from spikeproof.errors import UsageError

__all__ = ["check_parts", "misused", "said"]


def said(error: UsageError) -> str:
    """The error, and the nearest of the values that would do."""
    meant = _meant(error.got or "", error.valid or ())
    return f"{error}\n{meant}" if meant else str(error)


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word.strip("'"), list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def check_parts(arguments: Sequence[str]) -> None:
    """Refuse a part that is nowhere (--rule.name=atn), which building the configuration would find seconds later."""
    for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        option, equals, value = word.partition("=")
        found = re.fullmatch(r"--(\w+)[\w.]*\.name", option)
        name, folder = value if equals else following, found and _folder_of(found[1])
        if folder and re.fullmatch(r"[\w-]+", name):
            parts.check_name(folder, name)


def _folder_of(field: str) -> str | None:
    """Where the part lies that a field of a configuration names: training_attack -> attacks."""
    word = field.rpartition("_")[2]
    return next((folder for folder in parts.FOLDERS if folder in (word, f"{word}s")), None)


def misused(verb: str, parser: ArgumentParser, error: ArgumentError) -> UsageError:
    """What the parser of a verb does not take, without its usage, which for a cell is fifty lines."""
    text = " ".join(str(error).split())
    unknown = text.removeprefix("unrecognized arguments: ")
    if unknown == text:
        return UsageError(f"{verb}: {text}")
    known = re.findall(r"--(\w[\w.]*)", parser.format_usage())
    given = re.match(r"(?:--)?([\w.]*)", unknown)  # without dashes, which are alike in all of them
    mend = _meant(given[1] if given else "", known) or f"spikeproof {verb} --help lists the options"
    return UsageError(f"an option of {verb}", repr(unknown), mend=mend)
